"""Moves the Reshapes behind a Split in front of it, so that its pieces can be views."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value
from bessemer.passes.match import (
    attribute,
    ints,
    is_op,
    make,
    merge_sources,
    rank,
    shape,
    used_once,
)


@graph_pass("reshape-before-split")
class ReshapeBeforeSplit(GraphPass):
    """Split(x, last axis), each piece reshaped to [..., h, d] -> Split(Reshape(x, [..., H, d])).

    Shapes: x [..., H * d] with pieces [..., h * d]; d is the same for all pieces (the heads of
    queries, keys and values). A strided piece cannot be reshaped in place, but it can be read.
    """

    def run(self, graph: Graph) -> bool:
        changed = False
        for node in list(graph.nodes):
            if is_op(node, "Split"):
                changed |= self._hoist(graph, node)
        return changed

    def _hoist(self, graph: Graph, node: Node) -> bool:
        x, extents = node.inputs[0], shape(node.inputs[0])
        if x is None or not extents or int(attribute(node, "axis")) % len(extents) != (
            len(extents) - 1
        ):
            return False
        reshapes = [_reshape_of(graph, piece) for piece in node.outputs]
        found = [item for item in reshapes if item is not None]
        if not found:
            return False
        depth = (shape(found[0].output) or (0,))[-1]
        if len(found) < len(reshapes) or any(not _splits_last(item, depth) for item in found):
            self.no(node, "its pieces are not all reshaped to heads of one size")
            return False
        sources = merge_sources(*found)
        heads = np.array((*extents[:-1], extents[-1] // depth, depth), np.int64)
        wide = graph.add_node(
            make("Reshape"), [x, graph.add_constant(f"{node.name}.heads", heads)],
            name=f"{node.name}.reshape", sources=sources, before=node,
        )
        sizes = [(shape(item.output) or ())[-2] for item in found]
        counts = graph.add_constant(f"{node.name}.counts", np.array(sizes, np.int64))
        made = graph.add_node(
            make("Split", axis=len(extents) - 1), [wide.output, counts], name=node.name,
            sources=node.sources, before=node,
            outputs=[f"{item.output.name}.piece" for item in found],
        )
        for item, piece in zip(found, made.outputs, strict=True):
            replace_value(graph, item.output, piece, keep_name=True)
            remove_dead(graph, item)
        self.note(f"reshaped {x.name} before Split {label(node)}")
        return True


def _reshape_of(graph: Graph, piece: Value) -> Node | None:
    """The Reshape that alone uses a piece."""
    if not used_once(graph, piece):
        return None
    user = piece.users[0][0]
    return user if is_op(user, "Reshape") and ints(user.inputs[1]) is not None else None


def _splits_last(node: Node, depth: int) -> bool:
    """True if a Reshape only cuts the last axis into [h, depth]."""
    before, after = shape(node.inputs[0]), shape(node.output)
    if before is None or after is None or depth < 1 or rank(node.output) != len(before) + 1:
        return False
    return after[:-2] == before[:-1] and after[-1] == depth and after[-2] * depth == before[-1]
