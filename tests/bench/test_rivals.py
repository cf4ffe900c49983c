"""ONNX Runtime behind the rival interface, and comparison of all values with it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bessemer.bench.rivals import load_rival, rival_version
from bessemer.core.errors import ModelFormatError, SettingsError
from bessemer.debug.compare import compare_graph
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph_values

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.rivals


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    w = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], "fc"),
         helper.make_node("Relu", ["h"], ["r"], "act"),
         helper.make_node("Add", ["r", "r"], ["y"], "sum")],
        "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True)],
    )
    path = tmp_path_factory.mktemp("rivals") / "small.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(path))
    return path


INPUTS = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}


def test_runs_and_gives_named_outputs(model):
    rival = load_rival("onnxruntime", model, threads=1)
    assert rival.output_names == ["y"]
    assert rival.run(INPUTS)["y"].shape == (3, 5)
    assert rival.version == rival_version("onnxruntime")


def test_all_values_agree_with_the_reference(model):
    def interpret(graph, inputs):
        return run_graph_values(graph, inputs, keep=())

    comparison = compare_graph(
        import_model(model), INPUTS, interpret, against="onnxruntime", model=model, all_values=True
    )
    assert {item.name for item in comparison.differences} == {"y", "h", "r"}
    assert comparison.agrees
    assert comparison.missing == ()


def test_errors_are_ours(model, tmp_path):
    with pytest.raises(SettingsError, match="known: onnxruntime"):
        load_rival("tensorsomething", model)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"garbage")
    with pytest.raises(ModelFormatError, match="onnxruntime refuses"):
        load_rival("onnxruntime", bad)
    with pytest.raises(ModelFormatError, match="onnxruntime refuses"):
        load_rival("onnxruntime", tmp_path / "none.onnx")
