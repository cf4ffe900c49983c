"""Inputs whose contents decide shapes are found, and graphs with them fixed are static."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from bessemer import onnx_backend
from bessemer.core.errors import InputError
from bessemer.ir.contents import fix_contents, form_inputs
from bessemer.ir.parser import parse_graph


def names(text):
    return [value.name for value in form_inputs(parse_graph(text))]


def test_axes_are_found():
    assert names("""graph g(%x: f32[2,3], %axes: i64[1]) -> (%y) {
      %y = ReduceSum(%x, %axes)
    }""") == ["axes"]


def test_found_through_other_nodes():
    assert names("""graph g(%x: f32[2,3], %a: i64[], %b: i64[1]) -> (%y) {
      %c = Add(%a, %b)
      %y = Reshape(%x, %c)
    }""") == ["a", "b"]


def test_data_is_no_form():
    # The content of %x decides the shape too, but as data: no engine could be kept for it.
    assert names("""graph g(%x: i64[4], %big: i64[3,100], %k: i64[1]) -> (%y, %z) {
      %y = NonZero(%x)
      %most = ReduceMax(%big, keepdims=0)
      %sum = Add(%most, %k)
      %z = ConstantOfShape(%sum)
    }""") == []


def test_shapes_need_no_content():
    assert names("""graph g(%x: f32[3], %y: f32[6]) -> (%z) {
      %s = Shape(%x)
      %t = Concat(%s, %s, axis=0)
      %u = ReduceSum(%t, keepdims=1)
      %z = Reshape(%y, %u)
    }""") == []


def test_fixed():
    graph = parse_graph("""graph g(%x: f32[2,3], %axes: i64[1]) -> (%y) {
      %y = ReduceSum(%x, %axes, keepdims=0)
    }""")
    fixed = fix_contents(graph, {"axes": np.array([1])})
    assert [value.name for value in fixed.inputs] == ["x"]
    assert fixed.outputs[0].tensor.static_shape == (2,)
    assert len(graph.inputs) == 2
    with pytest.raises(InputError, match="input 'axes': expected i64"):
        fix_contents(graph, {"axes": np.array([1], np.int32)})


def test_backend_builds_for_contents():
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
             helper.make_tensor_value_info("axes", TensorProto.INT64, [1])]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    model = helper.make_model(helper.make_graph([node], "g", infos, [out]),
                              opset_imports=[helper.make_opsetid("", 21)])
    prepared = onnx_backend.prepare(model)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for axis in (0, 1, -1, 0):
        assert np.array_equal(prepared.run([x, np.array([axis])])[0], x.sum(axis))
    assert len(prepared.engines) == 3
    with pytest.raises(InputError, match="axes"):
        prepared.run([x, np.array([1.0])])
