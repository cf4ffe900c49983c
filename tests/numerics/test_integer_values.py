"""Integers: overflow wraps, division truncates, remainders of both conventions, shifts, casts."""

import numpy as np
import pytest
from both_ways import FLOATS, INTEGERS, BothWays, values
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from bessemer.core.dtypes import DTYPES
from bessemer.debug.random_graphs.models import onnx_dtype

BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "GreaterOrEqual",
          "BitwiseAnd", "BitwiseOr", "BitwiseXor")


def numbers(dtype, size):
    """Small integers, and those next to the ends of the type."""
    info = np.iinfo(DTYPES[dtype].numpy)
    edges = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2, 0, 1, 2, 3, 7]
    item = st.sampled_from([*edges, *([-1, -2, -3] if info.min < 0 else [])]) | st.integers(
        info.min, info.max)
    return st.lists(item, min_size=size, max_size=size).map(
        lambda items: np.array(items, DTYPES[dtype].numpy))


@pytest.fixture(scope="module", params=INTEGERS)
def arithmetic(request):
    dtype = request.param
    kind = DTYPES[dtype].numpy
    a, b = np.ones((6, 1), kind), np.ones((1, 9), kind)
    nodes = [helper.make_node(op, ["a", "b"], [f"y{op}"]) for op in BINARY]
    nodes += [helper.make_node("Mod", ["a", "b"], ["yMod"]),
              helper.make_node("Mod", ["a", "b"], ["yFmod"], fmod=1),
              helper.make_node("Abs", ["a"], ["yAbs"]), helper.make_node("Sign", ["a"], ["ySign"]),
              helper.make_node("BitwiseNot", ["a"], ["yNot"])]
    if dtype[0] == "i":
        nodes.append(helper.make_node("Neg", ["a"], ["yNeg"]))
    else:
        nodes += [helper.make_node("BitShift", ["a", "b"], [f"y{way}"], direction=way)
                  for way in ("LEFT", "RIGHT")]
    return dtype, BothWays(nodes, {"a": a, "b": b})


@values
@given(data=st.data())
def test_arithmetic(arithmetic, data):
    """Zero divisors, the smallest number over -1, and shifts beyond the width are among them."""
    dtype, graph = arithmetic
    a, b = data.draw(numbers(dtype, 6)), data.draw(numbers(dtype, 9))
    graph.check({"a": a.reshape(6, 1), "b": b.reshape(1, 9)})


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_is_defined_everywhere(dtype):
    kind = DTYPES[dtype].numpy
    info = np.iinfo(kind)
    signed = dtype[0] == "i"
    a = np.array([7, -7 if signed else 5, info.min, 9, 0], kind)
    b = np.array([2, 2, -1 if signed else 1, 0, 0], kind)
    nodes = [helper.make_node("Div", ["a", "b"], ["q"]), helper.make_node("Mod", ["a", "b"], ["r"]),
             helper.make_node("Mod", ["a", "b"], ["f"], fmod=1)]
    found = {name: got for name, got, _ in BothWays(nodes, {"a": a, "b": b})({"a": a, "b": b})}
    # Toward zero; the smallest over -1 wraps to itself; over 0 gives 0.
    want = [3, -3 if signed else 2, info.min, 0, 0]
    assert found["q"].tolist() == want
    assert found["f"].tolist()[:3] == [1, -1 if signed else 1, 0]
    assert found["r"].tolist()[:3] == [1, 1, 0]


@pytest.mark.parametrize("dtype", ["u8", "u16", "u32", "u64"])
def test_shifts_beyond_the_width_give_zero(dtype):
    kind = DTYPES[dtype].numpy
    width = np.iinfo(kind).bits
    a = np.array([255, 255, 255, 1], kind)
    b = np.array([width - 1, width, min(width + 1, 255), 0], kind)
    nodes = [helper.make_node("BitShift", ["a", "b"], [way], direction=way)
             for way in ("LEFT", "RIGHT")]
    graph = BothWays(nodes, {"a": a, "b": b})
    graph.check({"a": a, "b": b})
    for _, got, _ in graph({"a": a, "b": b}):
        assert got.tolist()[1:3] == [0, 0]


@pytest.mark.parametrize("source", INTEGERS)
def test_casts_of_integers(source):
    """To integers the low bits are kept, to floats the nearest number is taken."""
    info = np.iinfo(DTYPES[source].numpy)
    x = np.array([info.min, info.max, info.max - 1, info.max // 3, 0, 1, 77],
                 DTYPES[source].numpy)
    nodes = [helper.make_node("Cast", ["x"], [f"y{to}"], to=onnx_dtype(to))
             for to in (*INTEGERS, *FLOATS, "bool")]
    BothWays(nodes, {"x": x}).check({"x": x}, ulps=0.0)


@pytest.mark.parametrize("dtype", ["i8", "i32", "i64", "u8"])
def test_reductions_of_integers_wrap(dtype):
    kind = DTYPES[dtype].numpy
    info = np.iinfo(kind)
    x = np.array([[info.max, 2, 3], [info.min, 5, info.max]], kind)
    axes = np.array([1])
    ops = ["ReduceSum", "ReduceMax", "ReduceMin"] if dtype in ("i32", "i64") else [
        "ReduceMax", "ReduceMin"]
    ops += ["ReduceProd", "ReduceSumSquare", "ReduceL1"] if dtype in ("i32", "i64") else []
    nodes = [helper.make_node(op, ["x", "axes"], [f"y{op}"]) for op in ops]
    BothWays(nodes, {"x": x}, {"axes": axes}).check({"x": x})


@pytest.mark.parametrize("dtype", ["i32", "i64", "u32"])
def test_products_of_matrices_wrap(dtype):
    kind = DTYPES[dtype].numpy
    info = np.iinfo(kind)
    a = np.array([[info.max, 3, 1], [2, info.max // 2, 5]], kind)
    b = np.array([[2, 1], [info.max, 7], [1, info.min]], kind)
    graph = BothWays([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b})
    graph.check({"a": a, "b": b})
