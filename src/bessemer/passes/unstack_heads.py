"""Takes queries, keys and values straight from their product instead of from a transposed copy."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.cancel_transposes import Perm, perm_of
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    ints,
    is_op,
    make,
    merge_sources,
    producer,
    shape,
    sole_producer,
)


@graph_pass("unstack-heads")
class UnstackHeads(RewritePass):
    """One index of a stacked axis after a Transpose -> a Slice before it.

    Before: Reshape(Slice(Transpose(Reshape(x, [b, s, 3, h, d]), p), i)) with the sliced axis 3.
    After: Transpose(Slice(Reshape(x, [b, s, 3*h, d]), i*h : (i+1)*h), q).
    The Slice is then a view, and the Transpose reads only what it needs.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        cut = sole_producer(graph, node.inputs[0], "Slice") if is_op(node, "Reshape") else None
        turn = producer(cut.inputs[0], "Transpose") if cut is not None else None
        stack = producer(turn.inputs[0], "Reshape") if turn is not None else None
        if cut is None or turn is None or stack is None:
            return None
        found, perm, extents = _one_index(cut), perm_of(turn), shape(stack.output)
        if found is None or perm is None or extents is None:
            return None
        axis, index = perm[found[0]], found[1]
        if axis + 1 >= len(extents):
            return self.no(node, "the stacked axis is the last one")
        left = tuple(q - (q > axis) for q in perm if q != axis)
        kept = (*extents[:axis], *extents[axis + 1 :])
        if shape(node.output) != tuple(kept[q] for q in left):
            return self.no(node, "it does more than drop the sliced axis")
        sources = merge_sources(stack, turn, cut, node)
        piece = self._slice(graph, node, stack, extents, axis, index)
        op = make("Transpose", perm=left)
        return self.build(graph, node, op, [piece], sources=sources).output

    def _slice(
        self, graph: Graph, node: Node, stack: Node, extents: tuple[int, ...], axis: int, index: int
    ) -> Value:
        heads = extents[axis + 1]
        flat = (*extents[:axis], extents[axis] * heads, *extents[axis + 2 :])
        wanted = graph.add_constant(f"{stack.name}.flat", np.array(flat, np.int64))
        wide = self.build(graph, node, "Reshape", [stack.inputs[0], wanted], sources=stack.sources)
        bounds = [
            graph.add_constant(f"{node.name}.{what}", np.array([number], np.int64))
            for what, number in (
                ("start", index * heads), ("end", (index + 1) * heads), ("axis", axis)
            )
        ]
        return self.build(graph, node, make("Slice"), [wide.output, *bounds]).output


def _one_index(node: Node) -> tuple[int, int] | None:
    """(axis, index) of a Slice that keeps one index of one axis."""
    extents, result = shape(node.inputs[0]), shape(node.output)
    starts = ints(node.inputs[1])
    axes: Perm | None = ints(node.inputs[3]) if len(node.inputs) > 3 else (0,)
    if extents is None or result is None or starts is None or axes is None or len(axes) != 1:
        return None
    axis = axes[0] % len(extents)
    # A step does not matter where one element is kept.
    if result[axis] != 1 or extents[axis] == 1:
        return None
    return axis, starts[0] % extents[axis]
