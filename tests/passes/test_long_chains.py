"""A pass that looks far back along a chain of nodes must not use up the stack."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from bessemer.core.dtypes import f32
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.ir.verifier import verify
from bessemer.passes.graph_pass import PASSES, GraphPass
from bessemer.passes.match import make
from bessemer.passes.runner import run_pass


def row_of_a_product(length: int) -> Graph:
    """Slice(Tanh(... Tanh(MatMul(x, w)))), the first of three rows, with `length` Tanh."""
    graph = Graph("g")
    x = graph.add_input("x", TensorType(f32, (3, 2)))
    weights = graph.add_constant("w", np.eye(2, dtype=np.float32))
    value = graph.add_node(make("MatMul"), [x, weights], name="product").output
    for index in range(length):
        value = graph.add_node(make("Tanh"), [value], name=f"t{index}").output
    bounds = [graph.add_constant(name, np.array([number], np.int64))
              for name, number in (("start", 0), ("end", 1), ("axis", 0))]
    graph.outputs.append(graph.add_node(make("Slice"), [value, *bounds], name="first").output)
    return graph


@pytest.fixture
def hoist() -> GraphPass:
    return PASSES.get("hoist-slices")()


@pytest.fixture
def low_limit() -> Iterator[int]:
    """A small stack, so that short chains show what long ones would do; in frames."""
    before, limit = sys.getrecursionlimit(), 400
    sys.setrecursionlimit(limit)
    yield limit
    sys.setrecursionlimit(before)


def test_a_slice_far_behind_its_product_moves_to_the_front(hoist: GraphPass, low_limit: int
                                                           ) -> None:
    graph = row_of_a_product(low_limit)
    assert run_pass(graph, hoist).changed
    verify(graph)
    assert [node.op.op_name for node in graph.nodes] == ["Slice", "MatMul", *["Tanh"] * low_limit]
