"""Takes a tensor itself where a Concat puts neighbouring pieces of it together again."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import attribute, dims, is_op, make, slice_range

Piece = tuple[Value, int, int]
"""A tensor, and the first and the last index (exclusive) along the axis that is cut."""


@graph_pass("join-pieces")
class JoinPieces(RewritePass):
    """Concat(.., Slice(x, 0, n), Slice(x, n, end), ..) -> Concat(.., x, ..).

    Also with the results of Split. All of `x` must be there, in order.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        extents = dims(node.output) if is_op(node, "Concat") else None
        if extents is None:
            return None
        axis = int(attribute(node, "axis")) % len(extents)
        values = list(node.inputs)
        pieces = [_piece(value, axis) for value in values]
        joined: list[Value | None] = []
        k = 0
        while k < len(values):
            end = _whole(pieces, k, axis)
            piece = pieces[k]
            joined.append(piece[0] if end > k and piece is not None else values[k])
            k = max(end, k + 1)
        if len(joined) == len(values):
            return None
        if len(joined) == 1:
            return joined[0]
        return self.build(graph, node, make("Concat", axis=axis), joined).output


def _whole(pieces: list[Piece | None], start: int, axis: int) -> int:
    """The place behind the pieces from `start` that make up one whole tensor; else `start`."""
    first = pieces[start]
    if first is None or first[1] != 0:
        return start
    whole, _, end = first
    length = (dims(whole) or ())[axis]
    k = start + 1
    while end != length and k < len(pieces):
        piece = pieces[k]
        if piece is None or piece[0] is not whole or piece[1] != end:
            return start
        end, k = piece[2], k + 1
    return k if end == length and k > start + 1 else start


def _piece(value: Value | None, axis: int) -> Piece | None:
    """What a value is a piece of, cut along that axis."""
    made = value.producer if value is not None else None
    whole = made.inputs[0] if made is not None and made.inputs else None
    if value is None or made is None or whole is None:
        return None
    start: int | None = None
    if is_op(made, "Slice"):
        found = slice_range(made)
        start = found[1] if found is not None and found[0] == axis else None
    elif is_op(made, "Split") and int(attribute(made, "axis")) % (len(dims(whole) or ()) or 1) \
            == axis:
        start = 0
        for other in made.outputs[: made.outputs.index(value)]:
            length = (dims(other) or ())[axis]
            if not isinstance(length, int):
                return None
            start += length
    size = (dims(value) or (None,) * (axis + 1))[axis]
    if start is None or not isinstance(size, int):
        return None
    return whole, start, start + size
