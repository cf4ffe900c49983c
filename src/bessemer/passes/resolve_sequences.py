"""Takes away sequences and optionals whose parts are known: their readers read the parts."""

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.types import OptionalType, SequenceType, TensorType
from bessemer.passes.graph_pass import Replacement, RewritePass, graph_pass
from bessemer.passes.match import attribute, constant, is_op, make, producer, shape

_LONGEST = 1024


@graph_pass("resolve-sequences")
class ResolveSequences(RewritePass):
    """SequenceAt(SequenceConstruct(a, b), 0) -> a; likewise all that reads known sequences.

    SplitToSequence of known parts -> Split; ConcatFromSequence -> Concat; SequenceLength and
    OptionalHasElement -> constants; OptionalGetElement -> the element.
    """

    def run(self, graph: Graph) -> bool:
        inside = self.run_inside(graph)
        return super().run(graph) or inside

    def rewrite(self, node: Node, graph: Graph) -> Replacement:
        match node.op.op_name:
            case "SplitToSequence":
                return self._split(node, graph)
            case "SequenceAt":
                return self._at(node)
            case "SequenceLength":
                items = known_items(node.inputs[0])
                return None if items is None else graph.add_constant(
                    node.output.name, np.array(len(items), np.int64))
            case "ConcatFromSequence":
                return self._concat(node, graph)
            case "OptionalHasElement":
                known = _has_element(node.inputs[0] if node.inputs else None)
                return None if known is None else graph.add_constant(
                    node.output.name, np.array(known))
            case "OptionalGetElement":
                return _element(node.inputs[0])
        return None

    def _split(self, node: Node, graph: Graph) -> Value | None:
        x, extents = node.inputs[0], shape(node.inputs[0])
        lengths = _part_lengths(node, extents)
        if extents is None or lengths is None or len(lengths) > _LONGEST:
            return self.no(node, "the number of its parts is not known")
        axis = int(attribute(node, "axis")) % len(extents)
        single = len(node.inputs) < 2 or node.inputs[1] is None
        given = graph.add_constant(f"{node.name}.lengths", np.array(lengths, np.int64))
        parts = self.build(
            graph, node, make("Split", axis=axis), [x, given], outputs=len(lengths)
        ).outputs if len(lengths) > 1 else [x]
        if single and not attribute(node, "keepdims"):
            where = graph.add_constant(f"{node.name}.axis", np.array([axis], np.int64))
            parts = [self.build(graph, node, "Squeeze", [part, where]).output for part in parts]
        return self.build(graph, node, "SequenceConstruct", parts).output

    def _at(self, node: Node) -> Value | None:
        items, position = known_items(node.inputs[0]), constant(node.inputs[1])
        if items is None or position is None:
            return None
        place = int(position.reshape(-1)[0])
        if not -len(items) <= place < len(items):
            return self.no(node, f"there is no position {place} in {len(items)} elements")
        return items[place]

    def _concat(self, node: Node, graph: Graph) -> Value | None:
        items = known_items(node.inputs[0])
        if not items:
            return None
        pieces, axis = items, int(attribute(node, "axis"))
        try:
            if attribute(node, "new_axis"):
                where = graph.add_constant(f"{node.name}.axis", np.array([axis], np.int64))
                pieces = [self.build(graph, node, "Unsqueeze", [x, where]).output for x in items]
            if len(pieces) == 1:
                return pieces[0]
            return self.build(graph, node, make("Concat", axis=axis), pieces).output
        except ShapeError as error:
            return self.no(node, f"its parts do not fit together: {error}")


def known_items(sequence: Value | None) -> list[Value] | None:
    """The elements of a sequence, if all of them and their order are known."""
    changes: list[Node] = []
    value = sequence
    while True:
        node = producer(value)
        if is_op(node, "SequenceInsert", "SequenceErase"):
            assert node is not None
            changes.append(node)
        elif not is_op(node, "Identity"):
            break
        assert node is not None
        value = node.inputs[0]
    if not is_op(node, "SequenceConstruct", "SequenceEmpty") or len(changes) > _LONGEST:
        return None
    assert node is not None
    items = [item for item in node.inputs if item is not None]
    for change in reversed(changes):
        place = _place(change, len(items))
        if place is None:
            return None
        if is_op(change, "SequenceErase"):
            del items[place]
            continue
        added = change.inputs[1]
        if added is None:
            return None
        items.insert(place, added)
    return items


def _place(change: Node, length: int) -> int | None:
    """The position that an insertion or removal names; None if unknown or out of range."""
    insert = is_op(change, "SequenceInsert")
    at = 2 if insert else 1
    given = change.inputs[at] if len(change.inputs) > at else None
    if given is None:
        place = length if insert else length - 1
        return place if place >= 0 else None
    known = constant(given)
    if known is None:
        return None
    place = int(known.reshape(-1)[0])
    end = length + 1 if insert else length
    if not -length <= place < end:
        return None
    return place + length if place < 0 else place


def _part_lengths(node: Node, extents: tuple[int, ...] | None) -> list[int] | None:
    axis = int(attribute(node, "axis"))
    if extents is None or not -len(extents) <= axis < len(extents):
        return None
    extent = extents[axis]
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return [1] * extent if extent else None
    lengths = constant(given)
    if lengths is None:
        return None
    if lengths.ndim:
        parts = [int(length) for length in lengths]
        return parts if parts and sum(parts) == extent and min(parts) >= 0 else None
    step = int(lengths)
    if step < 1 or not extent:
        return None
    return [min(step, extent - start) for start in range(0, extent, step)]


def _has_element(value: Value | None) -> bool | None:
    """Whether an optional has an element, None if that is not known."""
    if value is None:
        return False
    if isinstance(value.type, TensorType | SequenceType):
        return True
    node = producer(value, "Optional")
    if node is None:
        return None
    return _has_element(node.inputs[0] if node.inputs else None)


def _element(value: Value | None) -> Value | None:
    """The element of an optional, if it is known which value that is."""
    if value is None:
        return None
    if not isinstance(value.type, OptionalType):
        return value
    node = producer(value, "Optional")
    return _element(node.inputs[0]) if node is not None and node.inputs else None
