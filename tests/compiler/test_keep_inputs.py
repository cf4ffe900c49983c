"""Initializers are constants, unless the user wants to give them in each run."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bessemer
from bessemer.core.errors import InputError, SettingsError
from bessemer.frontends import import_model

X = np.arange(3, dtype=np.float32)


def scaled(listed, ir_version=8):
    """y = x * s + t; the initializer s is listed as an input as well, if `listed`."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Mul", ["x", "s"], ["m"]), helper.make_node("Add", ["m", "t"], ["y"])]
    more = [value("s", TensorProto.FLOAT, [1])] if listed else []
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [3]), *more],
        [value("y", TensorProto.FLOAT, [3])],
        [numpy_helper.from_array(np.float32([2]), "s"),
         numpy_helper.from_array(np.float32([1]), "t")],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=ir_version,
                             opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("ir_version", [3, 8])
def test_constant_by_default(ir_version):
    engine = bessemer.build(scaled(True, ir_version))
    assert [binding.name for binding in engine.inputs] == ["x"]
    assert engine.run({"x": X})["y"].tolist() == [1, 3, 5]
    with pytest.raises(InputError, match=r"unknown input 's'.*keep_inputs"):
        engine.run({"x": X, "s": np.float32([3])})


@pytest.mark.parametrize("listed", [True, False])
def test_given_in_each_run(listed):
    engine = bessemer.build(scaled(listed), keep_inputs=["s"])
    assert [binding.name for binding in engine.inputs] == ["x", "s"]
    for factor in (3, -1):
        y = engine.run({"x": X, "s": np.float32([factor])})["y"]
        assert y.tolist() == (X * factor + 1).tolist()
    with pytest.raises(InputError, match="missing input 's'"):
        engine.run({"x": X})


def test_several_and_misspelt():
    graph = import_model(scaled(True), keep_inputs=("t", "s"))
    assert [value.name for value in graph.inputs] == ["x", "s", "t"]
    with pytest.raises(SettingsError, match="no initializer 'tt'; did you mean 't'"):
        import_model(scaled(True), keep_inputs=("tt",))
    with pytest.raises(SettingsError, match="for model files"):
        import_model(graph, keep_inputs=("s",))
