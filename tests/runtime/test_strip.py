"""Loops whose iterations run as one native call."""

import numpy as np
import pytest

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import f32
from bessemer.core.shapes import symbol
from bessemer.ir.graph import Graph
from bessemer.ir.operator import operator_class
from bessemer.ir.types import TensorType
from bessemer.ops.control import Scan
from bessemer.runtime.strip import Strip
from bessemer.targets import get_target


def engine(width, rows=1, axis=0, turned=0):
    """h = tanh(h / 2 + x + p), over all x, with h and -h as results."""
    row = TensorType(f32, (rows, width))
    body = Graph("step")
    h, x, p = (body.add_input(name, row) for name in "hxp")
    half = body.add_constant("half", np.float32(0.5))

    def op(name, *inputs):
        return body.add_node(operator_class(name)(), list(inputs)).output

    fresh = op("Tanh", op("Add", op("Add", op("Mul", h, half), x), p))
    body.outputs = [fresh, op("Neg", fresh)]
    graph = Graph("loop")
    dims = [rows, width]
    dims.insert(axis, symbol("T"))
    inputs = [graph.add_input("h", row), graph.add_input("x", TensorType(f32, tuple(dims))),
              graph.add_input("p", row)]
    scan = Scan(body=body, captured=1, scan_input_axes=(axis,), scan_input_directions=(turned,),
                scan_output_axes=(axis,), scan_output_directions=(turned,))
    graph.outputs = graph.add_node(scan, inputs, outputs=["last", "all"]).outputs
    return compile_graph(graph, BuildOptions((get_target("host"),), store=False)).engine


def feed_of(length, width, rows, axis):
    rng = np.random.default_rng(length)
    shape = [rows, width]
    shape.insert(axis, length)
    return {"h": rng.standard_normal((rows, width)).astype(np.float32),
            "x": rng.standard_normal(shape).astype(np.float32),
            "p": rng.standard_normal((rows, width)).astype(np.float32)}


def expected(feed, axis, turned):
    h, rows = feed["h"], []
    lines = np.moveaxis(feed["x"], axis, 0)
    for x in lines[::-1] if turned else lines:
        h = np.tanh(h * np.float32(0.5) + x + feed["p"])
        rows.append(-h)
    return h, np.stack(rows[::-1] if turned else rows, axis)


@pytest.fixture
def strips(monkeypatch):
    """How many iterations were run at once, one number for each loop."""
    seen = []
    run = Strip.run

    def counted(self, pointers, count):
        seen.append(count)
        run(self, pointers, count)

    monkeypatch.setattr(Strip, "run", counted)
    return seen


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_all_iterations_are_one_call(strips, axis, turned, threads):
    made = engine(32, 3, axis, turned)
    with made.create_context(threads=threads) as context:
        for length in (1, 2, 7, 3, 2500):
            feed = feed_of(length, 32, 3, axis)
            last, rows = context.run(feed).values()
            want, all_rows = expected(feed, axis, turned)
            np.testing.assert_allclose(last, want, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(rows, all_rows, rtol=1e-4, atol=1e-5)
    assert strips == [1, 2, 7, 3, 2500]


def test_results_are_not_written_again(strips):
    with engine(32).create_context() as context:
        first = context.run(feed_of(9, 32, 1, 0))
        kept = {name: array.copy() for name, array in first.items()}
        context.run(feed_of(8, 32, 1, 0))
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])


def test_rows_that_lie_badly_are_iterated(strips):
    with engine(5).create_context() as context:
        feed = feed_of(6, 5, 1, 0)
        last, rows = context.run(feed).values()
    want, all_rows = expected(feed, 0, 0)
    np.testing.assert_allclose(last, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows, all_rows, rtol=1e-4, atol=1e-5)
    assert not strips


def test_no_iteration_at_all(strips):
    with engine(16).create_context() as context:
        feed = feed_of(0, 16, 1, 0)
        last, rows = context.run(feed).values()
    np.testing.assert_array_equal(last, feed["h"])
    assert rows.shape == (0, 1, 16)
    assert not strips
