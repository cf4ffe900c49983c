"""ONNX's own backend tests: those that passed keep passing.

`passing.txt` lists them. It is written by
`python tests/conformance/run_backend.py --suite all --engine compiled --passing FILE`.
Here a part runs that is the same every time; `-m slow` runs all of them.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from run_backend import run_suite

from bessemer import onnx_backend
from bessemer.core.errors import BessemerError, InputError, ModelFormatError, TargetError

LISTED = [line.split() for line in
          (Path(__file__).parent / "passing.txt").read_text().splitlines()]
SUITES = sorted({suite for suite, _ in LISTED})
EVERY = {"node": 80, "pytorch-converted": 14, "pytorch-operator": 5, "simple": 4, "real": 100}


def names_of(suite):
    return [name for listed, name in LISTED if listed == suite]


def failures(suite, names):
    results = run_suite("compiled", suite, names=names, limit=60)
    missing = set(names) - set(results)
    bad = [f"{name}: {r['status']}: {r['message']}" for name, r in results.items()
           if r["status"] != "pass"]
    # A newer onnx may have dropped or renamed a test.
    return bad, missing


@pytest.mark.parametrize("suite", [s for s in SUITES if s != "real"])
def test_part_of_suite(suite):
    names = names_of(suite)[:: EVERY[suite]]
    bad, missing = failures(suite, names)
    assert not bad
    assert len(missing) < len(names) / 4


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_whole_suite(suite):
    bad, _ = failures(suite, names_of(suite))
    assert not bad


def test_own_checks_hold():
    """What ONNX's comparison cannot tell: random results, and sequences of scalars."""
    names = ["test_bernoulli", "test_bernoulli_seed", "test_bernoulli_double_expanded",
             "test_loop16_seq_none"]
    results = run_suite("compiled", "node", names=names, limit=60)
    # The comparison of two short random draws may succeed.
    assert {r["status"] for r in results.values()} <= {"checked", "pass"}, results
    assert results["test_loop16_seq_none"]["status"] == "checked"


# -- the module itself ------------------------------------------------------------------------


def test_run_node():
    node = helper.make_node("Add", ["a", "b"], ["c"])
    a, b = np.float32([1, 2]), np.float32([3, 4])
    assert onnx_backend.run_node(node, [a, b])[0].tolist() == [4, 6]
    assert onnx_backend.run_node(node, {"b": b, "a": a}).c.tolist() == [4, 6]
    old = helper.make_node("Add", ["a", "b"], ["c"], broadcast=1, axis=0)
    column = onnx_backend.run_node(old, [a.reshape(2, 1), b], opset_version=6)[0]
    assert column.tolist() == [[4], [6]]
    with pytest.raises(ModelFormatError, match="names 2 inputs, got 1"):
        onnx_backend.run_node(node, [a])


def symbolic():
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_symbolic_dimensions():
    prepared = onnx_backend.prepare(symbolic())
    for rows in (3, 1, 0, 3):
        x = np.full((rows, 2), -1, np.float32)
        assert prepared.run([x])[0].shape == (rows, 2)
        assert prepared.run(x)["y"].shape == (rows, 2)
    with pytest.raises(InputError, match="takes 1 inputs"):
        prepared.run([x, x])
    with pytest.raises(BessemerError):
        prepared.run([np.zeros((2, 5), np.float32)])
    with pytest.raises(BessemerError):
        prepared.run([])


def test_device_and_compatible():
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA:0")
    with pytest.raises(TargetError, match="'CUDA' is not supported"):
        onnx_backend.prepare(symbolic(), "CUDA")
    assert onnx_backend.is_compatible(symbolic())
    model = symbolic()
    model.graph.node[0].op_type = "Unheard"
    assert not onnx_backend.is_compatible(model)
    assert not onnx_backend.is_compatible(onnx.ModelProto())
