"""Rows that would meet in one set of the cache lie a line further apart; answers stay the same."""

import numpy as np
import pytest

import bessemer
from bessemer.ir.interpreter import run_graph


def feed_forward(rows, length, also=""):
    """x [rows, 24] times weights [24, length], GELU, times weights [length, 20]."""
    rng = np.random.default_rng(3)
    up, down = (rng.normal(size=shape).astype(np.float32) for shape in ((24, length), (length, 20)))
    network = bessemer.Builder().create_network()
    hidden = network.add("MatMul", network.add_input("x", "f32", (rows, 24)), up)
    active = network.add("Gelu", hidden, name="gelu", outputs=["g"])
    if also == "output":
        network.mark_output(active)
    elif also == "softmax":
        network.mark_output(network.add("Softmax", active))
    elif also == "reshape":
        active = network.add("Reshape", active, np.array([-1, 1024]))
    network.mark_output(network.add("MatMul", active, down[:1024] if also == "reshape" else down))
    return network.graph


def run(graph, rows, **options):
    """The names of what lies in the arena, and the outputs, which are right."""
    x = np.random.default_rng(4).normal(size=(rows, 24)).astype(np.float32)
    engine = bessemer.build(graph, **options)
    found = list(engine.run([x]).values())
    for array, right in zip(found, run_graph(graph, [x]), strict=True):
        np.testing.assert_allclose(array, right, rtol=1e-5, atol=1e-4)
    return {row.value for row in engine.memory.table}, found


@pytest.mark.parametrize("also", ["", "softmax"])
@pytest.mark.parametrize(("rows", "length"), [(9, 1024), (16, 2048), ("n", 1024)])
def test_long_rows_are_moved_apart(rows, length, also):
    graph = feed_forward(rows, length, also)
    names, found = run(graph, 11 if rows == "n" else rows)
    assert "g.rows" in names
    names, same = run(graph, 11 if rows == "n" else rows, disable=["pad-rows"])
    assert "g" in names
    for array, right in zip(found, same, strict=True):
        np.testing.assert_array_equal(array, right)


@pytest.mark.parametrize(("rows", "length", "also"), [
    (7, 1024, ""), (9, 1040, ""), (9, 512, ""), (9, 1024, "output"), (4, 2048, "reshape")])
def test_others_stay(rows, length, also):
    names, _ = run(feed_forward(rows, length, also), rows)
    assert not any(name.endswith(".rows") for name in names)
