"""A copy of a graph that also gives intermediate values, to see them from outside."""

from collections.abc import Collection

from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType


def with_extra_outputs(graph: Graph, names: Collection[str] | None = None) -> Graph:
    """A clone whose outputs are followed by the named node outputs (all tensors if None).

    Values that lie inside another value's memory keep doing so.
    """
    copy = graph.clone()
    for node in copy.nodes:
        for value in node.outputs:
            wanted = isinstance(value.type, TensorType) and (names is None or value.name in names)
            if wanted and not copy.is_output(value):
                copy.outputs.append(value)
    return copy
