"""Checks of our own for backend tests of ONNX whose outcome ONNX's comparison cannot tell.

Two kinds: results that are random by definition, which are checked by shape, type, range and
distribution; and sequences of scalars, which ONNX's comparison asks for their length.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

DRAWS = 200
"""How often a random model is run."""
DEVIATIONS = 5
"""A sum of draws further than this from its expectation is a failure (1 in 2 million by chance)."""


def own_check(case: Any, prepare: Any) -> str:
    """What was checked instead, if this case needs an own check and holds; else "".

    `case` is a TestCase of onnx, `prepare` that of the backend.
    """
    model = case.model or onnx.load(str(Path(case.model_dir) / "model.onnx"))
    if "bernoulli" in case.name:
        _check_bernoulli(model, prepare, *_data(case, model)[0])
        return f"random: shape, type, range and distribution of {DRAWS} draws hold"
    if any(value.type.HasField("sequence_type") for value in model.graph.output):
        for inputs, expected in _data(case, model):
            for found, wanted in zip(prepare(model).run(inputs), expected, strict=True):
                _check_sequence(found, wanted, case.rtol, case.atol)
        return "a sequence of scalars: equal element by element"
    return ""


def _check_bernoulli(model: Any, prepare: Any, inputs: Any, expected: Any) -> None:
    rep = prepare(model)
    draws = [np.asarray(rep.run(inputs)[0]) for _ in range(DRAWS)]
    for draw in draws:
        assert draw.dtype == expected[0].dtype
        assert draw.shape == expected[0].shape
        assert np.isin(draw, (0, 1)).all()
    # A model with a seed draws the same each time: then there is one draw to look at.
    different = {draw.tobytes(): draw for draw in draws}
    independent = draws if len(different) > 1 else draws[:1]
    chance = np.asarray(inputs[0], np.float64)
    if any(node.op_type == "Greater" for node in model.graph.node):
        # The function body that ONNX gives for Bernoulli asks whether a uniform draw is greater
        # than the input, so that it gives 1 with the opposite probability.
        chance = 1 - chance
    excess = sum(draw.astype(np.float64) - chance for draw in independent)
    spread = np.sqrt(len(independent) * chance * (1 - chance))
    assert (np.abs(excess) <= DEVIATIONS * spread + 1e-9).all(), (excess, spread)
    assert abs(excess.sum()) <= DEVIATIONS * np.sqrt((spread**2).sum())


def _check_sequence(found: Any, wanted: Any, rtol: float, atol: float) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def _data(case: Any, model: Any) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs of each data set; older releases of onnx keep them in files."""
    if case.data_sets:
        return [(list(inputs), list(outputs)) for inputs, outputs in case.data_sets]
    folders = sorted(Path(case.model_dir).glob("test_data_set_*"))
    return [
        (_read(folder, "input", model.graph.input), _read(folder, "output", model.graph.output))
        for folder in folders
    ]


def _read(folder: Path, kind: str, values: Any) -> list[Any]:
    return [
        _value((folder / f"{kind}_{i}.pb").read_bytes(), value.type)
        for i, value in enumerate(values)
    ]


def _value(data: bytes, declared: Any) -> Any:
    if declared.HasField("optional_type"):
        optional = onnx.OptionalProto.FromString(data)
        return numpy_helper.to_optional(optional)
    if declared.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))
