"""Kernels write into their results and nowhere beside them, whatever is left of the last vector."""

import numpy as np
import pytest

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import DTYPES
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.ops.cast import Cast
from bessemer.ops.conv_integer import QLinearConv
from bessemer.ops.reduce import ReduceSum
from bessemer.targets import get_target

GUARD, ROWS = 4096, 3


TARGETS = ("x86-avx512", "x86-avx2")


def _check(graph, target, data, expected):
    """Runs a graph of input x and output y into the middle of guarded memory."""
    chosen = get_target(target)
    if not set(chosen.requires) <= set(get_target("host").requires):
        pytest.skip(f"this machine cannot run {target}")
    engine = compile_graph(graph, BuildOptions((chosen,), strict=True)).engine
    memory = np.full(2 * GUARD + expected.nbytes, 0x55, np.uint8)
    inside = slice(GUARD, GUARD + expected.nbytes)
    found = memory[inside].view(expected.dtype).reshape(expected.shape)
    engine.run({"x": data}, outputs={"y": found})
    assert np.array_equal(found, expected)
    memory[inside] = 0x55
    assert np.all(memory == 0x55)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("source", "result"), [
    ("i32", "i8"), ("i32", "u8"), ("i32", "i16"), ("i64", "i32"), ("i64", "u8"), ("f32", "i8"),
    ("f64", "f32"), ("f32", "f16"), ("f32", "bf16"), ("f32", "bool"), ("f64", "i32"),
])
@pytest.mark.parametrize("count", [1, 9, 17, 33, 35, 63])
def test_sums_converted(target, source, result, count):
    graph = Graph("g")
    x = graph.add_input("x", TensorType(DTYPES[source], (ROWS, 4, count)))
    axes = graph.add_constant("axes", np.array([1]))
    total = graph.add_node(ReduceSum(keepdims=0), [x, axes], name="total")
    graph.outputs = graph.add_node(Cast(to=result), total.outputs, outputs=["y"]).outputs
    data = (np.arange(ROWS * 4 * count).reshape(ROWS, 4, count) % 25).astype(DTYPES[source].numpy)
    _check(graph, target, data, data.sum(axis=1).astype(DTYPES[result].numpy))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("side", [5, 7, 15])
def test_quantised_convolution(target, dtype, side):
    """Extents of one more than whole vectors, whose last lane LLVM once stored with its neighbours.

    The input is 1 everywhere, the weights are 1: each result is the number of channels.
    """
    graph = Graph("g")
    x = graph.add_input("x", TensorType.of(np.zeros((1, 16, side, side), dtype), False))
    one, zero = np.array(1, np.float32), np.array(0, dtype)
    parameters = (one, zero, np.ones((8, 16, 1, 1), np.int8), one, np.array(0, np.int8), one, zero)
    constants = [graph.add_constant(f"c{k}", array) for k, array in enumerate(parameters)]
    graph.outputs = graph.add_node(QLinearConv(), [x, *constants], outputs=["y"]).outputs
    data = np.ones((1, 16, side, side), dtype)
    _check(graph, target, data, np.full((1, 8, side, side), 16, dtype))
