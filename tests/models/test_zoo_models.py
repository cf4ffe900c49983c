"""Every architecture of the zoo against ONNX Runtime: scaled down always, full size if slow."""

import numpy as np
import onnx
import pytest
from against_onnxruntime import assert_agree, expected_outputs, session

import bessemer
from bessemer.core.errors import SettingsError
from bessemer.zoo import ZooOptions, make_model, model_names, sample_inputs
from bessemer.zoo.__main__ import main

_SCALED = {
    "bert_base": ZooOptions(width=0.25, layers=2, size=32),
    "gpt2_prefill": ZooOptions(width=0.25, layers=2, size=32),
    "vit_b16": ZooOptions(width=0.25, layers=2, size=64),
    "distilbert": ZooOptions(width=0.25, layers=2, size=32),
    "inception_v3": ZooOptions(width=0.25, size=96),
    "mlp": ZooOptions(width=0.25),
    "lstm": ZooOptions(width=0.25, size=8),
    "bilstm": ZooOptions(width=0.25, size=8),
}


def scaled(name):
    return _SCALED.get(name, ZooOptions(width=0.25, size=64))


def check(model):
    inputs = sample_inputs(model)
    found = bessemer.build(model).run(inputs)
    assert_agree(expected_outputs(session(model.SerializeToString()), inputs), found)


@pytest.mark.parametrize("name", model_names())
def test_scaled_agrees(name):
    check(make_model(name, scaled(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names())
def test_full_size_agrees(name):
    check(make_model(name))


@pytest.mark.parametrize("name", ["resnet18", "bert_base", "bilstm"])
def test_batch_agrees(name):
    options = scaled(name)
    check(make_model(name, ZooOptions(3, options.width, options.layers, options.size)))


@pytest.mark.parametrize("name", model_names())
def test_model_is_valid_and_repeatable(name):
    model = make_model(name, scaled(name))
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    again = make_model(name, scaled(name))
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("name", model_names())
def test_outputs_depend_on_inputs(name):
    """Seeded weights must not lead every input to the same answer, or comparing says little."""
    model = make_model(name, scaled(name))
    reference = session(model.SerializeToString())
    first, second = (
        expected_outputs(reference, sample_inputs(model, seed)) for seed in (1, 2)
    )
    for output, values in first.items():
        assert np.isfinite(values).all()
        assert 0.05 < values.std() < 50
        assert np.linalg.norm(values - second[output]) > 0.02 * np.linalg.norm(values)


def test_command_writes_a_file(tmp_path, capsys):
    path = tmp_path / "mlp.onnx"
    assert main(["mlp", str(path), "--batch", "2", "--width", "0.25"]) == 0
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert main(["mpl", str(path)]) == 1
    assert "did you mean mlp" in capsys.readouterr().err


def test_wrong_options_are_refused():
    with pytest.raises(SettingsError, match="batch is 0"):
        ZooOptions(batch=0)
    with pytest.raises(SettingsError, match="width is 0"):
        ZooOptions(width=0)
