"""Element-wise operators on NaN, infinities, signed zeros, subnormals and the largest numbers."""

import numpy as np
import pytest
from both_ways import FLOATS, BothWays, assert_same, specials, values
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from bessemer.core.dtypes import DTYPES
from bessemer.debug.random_graphs.models import onnx_dtype

EXACT = ("Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Relu", "Identity", "IsNaN", "IsInf")
ROUNDED = ("Sqrt", "Reciprocal")
FUNCTIONS = ("Exp", "Log", "Sin", "Cos", "Tan", "Tanh", "Sigmoid", "Erf", "Sinh", "Cosh", "Asin",
             "Acos", "Atan", "Asinh", "Acosh", "Atanh", "Softsign", "Softplus", "HardSigmoid",
             "HardSwish", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Mish", "Gelu",
             "Shrink")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "Greater", "LessOrEqual",
          "GreaterOrEqual")

# What cancels inside carries an error of the size of the last place of 1.
CANCELLING = ("HardSwish", "Mish", "Gelu", "Acosh")
# numpy gives +0 for -0, the machine's max and sign give -0: both are 0.
ANY_ZERO = ("Sign", "Relu")


def numbers(dtype, size):
    """Arrays of special and ordinary numbers."""
    odd = st.sampled_from([float(x) for x in specials(dtype)])
    plain = st.floats(-20, 20, width=32)
    with np.errstate(all="ignore"):
        return st.lists(odd | odd | plain, min_size=size, max_size=size).map(
            lambda items: np.array(items).astype(DTYPES[dtype].numpy))


SIZE = 37


@pytest.fixture(scope="module", params=FLOATS)
def unary(request):
    dtype = request.param
    x = np.zeros(SIZE, DTYPES[dtype].numpy)
    names = [op for op in (*EXACT, *ROUNDED, *FUNCTIONS) if (op, dtype) != ("Shrink", "bf16")]
    nodes = [helper.make_node(op, ["x"], [f"y{op}"]) for op in names]
    return dtype, BothWays(nodes, {"x": x}, opset=25)


@values
@given(data=st.data())
def test_functions_of_one_number(unary, data):
    dtype, graph = unary
    x = data.draw(numbers(dtype, SIZE))
    for name, got, want in graph({"x": x}):
        op = name[1:]
        ulps = 0.0 if op in EXACT else 1.0 if op in ROUNDED else 4.0
        assert_same(got, want, ulps, 4.0 if op in CANCELLING else 0.0, f"{op} of {x}",
                    op in EXACT and op not in ANY_ZERO)


@pytest.fixture(scope="module", params=FLOATS)
def binary(request):
    dtype = request.param
    kind = DTYPES[dtype].numpy
    a, b = np.zeros((5, 1), kind), np.zeros((1, 7), kind)
    nodes = [helper.make_node(op, ["a", "b"], [f"y{op}"]) for op in BINARY]
    nodes += [helper.make_node("Mod", ["a", "b"], ["yFmod"], fmod=1),
              helper.make_node("Clip", ["a", "lo", "hi"], ["yClip"]),
              helper.make_node("PRelu", ["a", "s"], ["yPRelu"]),
              helper.make_node("Where", ["yLess", "a", "b"], ["yWhere"])]
    constants = {"lo": np.array(-1.5, kind), "hi": np.array(2.0, kind), "s": np.array([0.25], kind)}
    return dtype, BothWays(nodes, {"a": a, "b": b}, constants)


@values
@given(data=st.data())
def test_functions_of_two_numbers(binary, data):
    dtype, graph = binary
    a, b = data.draw(numbers(dtype, 5)), data.draw(numbers(dtype, 7))
    graph.check({"a": a.reshape(5, 1), "b": b.reshape(1, 7)}, ulps=1.0,
                zeros=("yAdd", "ySub", "yMul", "yDiv", "yWhere", "yFmod"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype):
    kind = DTYPES[dtype].numpy
    grid = specials(dtype)
    bases, exponents = np.meshgrid(grid, grid, indexing="ij")
    nodes = [helper.make_node("Pow", ["a", "b"], ["y"])]
    graph = BothWays(nodes, {"a": bases.astype(kind), "b": exponents.astype(kind)})
    graph.check({"a": bases, "b": exponents}, ulps=8.0)


@pytest.mark.parametrize("source", FLOATS)
def test_casts_between_floats(source):
    x = specials(source)
    nodes = [helper.make_node("Cast", ["x"], [f"y{to}"], to=onnx_dtype(to)) for to in FLOATS]
    nodes.append(helper.make_node("Cast", ["x"], ["ybool"], to=onnx_dtype("bool")))
    BothWays(nodes, {"x": x}).check({"x": x}, ulps=0.0, zeros=[f"y{to}" for to in FLOATS])


@pytest.mark.parametrize("source", FLOATS)
def test_casts_of_floats_to_integers_that_hold_them(source):
    x = np.array([0.0, -0.0, 1.9, -1.9, 0.5, -0.5, 99.5, -99.5, 127.0]).astype(
        DTYPES[source].numpy)
    signed = [helper.make_node("Cast", ["x"], [f"y{to}"], to=onnx_dtype(to))
              for to in ("i8", "i16", "i32", "i64")]
    BothWays(signed, {"x": x}).check({"x": x})
    positive = np.abs(x)
    unsigned = [helper.make_node("Cast", ["x"], [f"y{to}"], to=onnx_dtype(to))
                for to in ("u8", "u16", "u32", "u64")]
    BothWays(unsigned, {"x": positive}).check({"x": positive})


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_round_to_even(dtype):
    x = np.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 0.49999, 126.5, -126.5]).astype(
        DTYPES[dtype].numpy)
    graph = BothWays([helper.make_node("Round", ["x"], ["y"])], {"x": x})
    graph.check({"x": x}, ulps=0.0, zeros=("y",))


def test_subnormals_are_kept():
    """Sums and products of subnormals are not flushed to zero."""
    x = np.array([1e-40, -1e-40, 1e-45, 3e-39], np.float32)
    nodes = [helper.make_node("Add", ["x", "x"], ["sum"]),
             helper.make_node("Mul", ["x", "h"], ["half"]),
             helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
             helper.make_node("MatMul", ["x", "x1"], ["dot"])]
    graph = BothWays(nodes, {"x": x, "h": np.full(4, 0.5, np.float32),
                             "x1": np.ones(4, np.float32)})
    graph.check({"x": x, "h": np.full(4, 0.5, np.float32), "x1": np.ones(4, np.float32)}, ulps=1.0)
