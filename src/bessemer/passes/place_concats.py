"""Places the pieces of Concat, Split and Slice inside one memory, so that nothing is copied."""

from bessemer.core.shapes import Dim
from bessemer.ir.graph import Graph, Node, Placement, Value
from bessemer.ir.layout import Layout
from bessemer.ir.operator import FusionClass
from bessemer.ir.placement import needs_no_copy, storage_of
from bessemer.ir.types import TensorType
from bessemer.ops.reshape import RESHAPES
from bessemer.passes.graph_pass import GraphPass, graph_pass, label
from bessemer.passes.match import attribute, dims, is_op, slice_range


@graph_pass("place-concats")
class PlaceConcats(GraphPass):
    """Sets `Value.placement` so that producers write into the result of a Concat.

    The results of Split, and of Slice along one axis, become views of their input. The nodes stay;
    `ir.placement.needs_no_copy` says which of them have become free.
    Runs when layouts are chosen; pieces and whole must have the same layout.
    """

    def run(self, graph: Graph) -> bool:
        before = sum(value.placement is not None for value in graph.values())
        # The last Concat first: where each one repeats the inputs of the one before and adds
        # some (dense networks), all earlier ones are pieces of the last.
        for node in reversed(graph.nodes):
            if is_op(node, "Concat"):
                self._place_concat(graph, node)
        for node in graph.nodes:
            if is_op(node, "Split"):
                self._place_split(graph, node)
            elif is_op(node, "Slice"):
                self._place_slice(graph, node)
        for node in graph.nodes:
            if needs_no_copy(node):
                self.note(f"{node.op} {label(node)} copies nothing")
        return sum(value.placement is not None for value in graph.values()) != before

    def _place_concat(self, graph: Graph, node: Node) -> None:
        whole, pieces = node.output, [value for value in node.inputs if value is not None]
        axis = _axis(node, whole)
        if axis is None:
            return
        reason = _foreign(graph, whole)
        # Producers may write straight into the caller's memory of an output.
        if reason and not graph.is_output(whole):
            self.no(node, f"{whole.name} {reason}")
            return
        if not graph.is_output(whole) and self._place_as_part(graph, node, pieces, axis):
            return
        if len({id(piece) for piece in pieces}) != len(pieces):
            self.no(node, "it has one input twice")
            return
        placements = []
        start: Dim = 0
        for piece in pieces:
            reason = _misfit(graph, piece, whole, axis, start)
            if reason:
                self.no(node, f"{piece.name}: {reason}")
                return
            placements.append((piece, Placement(whole, axis, start)))
            start += piece.tensor.dims[axis]
        for piece, placement in placements:
            piece.placement = placement

    def _place_as_part(self, graph: Graph, node: Node, pieces: list[Value], axis: int) -> bool:
        """Places the result where its inputs already lie one behind the other."""
        whole = node.output
        if any(piece.placement is None for piece in pieces) or whole.placement is not None:
            return False
        root, _, start = storage_of(pieces[0])
        position: Dim = start
        for piece in pieces:
            found, along, where = storage_of(piece)
            if found is not root or along != axis or where != position:
                return False
            position += piece.tensor.dims[axis]
        if _misfit(graph, whole, root, axis, start):
            return False
        whole.placement = Placement(root, axis, start)
        return True

    def _place_split(self, graph: Graph, node: Node) -> None:
        whole = node.inputs[0]
        axis = _axis(node, whole)
        if whole is None or axis is None or self._refuses_root(graph, node, whole):
            return
        self._share_storage(graph, node, whole, axis)
        start: Dim = 0
        for piece in node.outputs:
            reason = _misfit(graph, piece, whole, axis, start)
            if not reason:
                piece.placement = Placement(whole, axis, start)
            elif storage_of(piece)[0] is not storage_of(whole)[0]:
                self.no(node, f"{piece.name}: {reason}")
            start += piece.tensor.dims[axis]

    def _share_storage(self, graph: Graph, node: Node, whole: Value, axis: int) -> None:
        """Lets the input of a Split and the Concat that takes its last (first) piece overlap.

        Before: a, b, c = Split(x); y = Concat(c, d).
        After: one memory [a b c d]; x is its beginning, y its end.
        """
        for piece, is_last in ((node.outputs[-1], True), (node.outputs[0], False)):
            place = piece.placement
            if place is None or place.axis != axis or whole.placement is not None:
                continue
            root = place.root
            length, cut = root.tensor.dims[axis], piece.tensor.dims[axis]
            at_edge = place.start == 0 if is_last else place.start + cut == length
            if not at_edge or root.placement is not None or root.layout != whole.layout:
                continue
            if any(other.placement is not None for other in node.outputs if other is not piece):
                continue
            total = whole.tensor.dims[axis] + length - cut
            extents = list(root.tensor.dims)
            extents[axis] = total
            storage = Value(
                graph.unique_name(f"{root.name}.storage"),
                TensorType(root.tensor.dtype, tuple(extents)),
            )
            storage.layout = root.layout
            ahead = whole.tensor.dims[axis] - cut
            whole.placement = Placement(storage, axis, 0 if is_last else length - cut)
            root.placement = Placement(storage, axis, ahead if is_last else 0)
            return

    def _place_slice(self, graph: Graph, node: Node) -> None:
        whole, piece = node.inputs[0], node.output
        found = slice_range(node)
        if whole is None or found is None or self._refuses_root(graph, node, whole):
            return
        axis, start = found
        reason = _misfit(graph, piece, whole, axis, start)
        if reason:
            self.no(node, f"{piece.name}: {reason}")
            return
        piece.placement = Placement(whole, axis, start)

    def _refuses_root(self, graph: Graph, node: Node, whole: Value) -> bool:
        """True (with the reason recorded) if nothing may lie inside `whole`."""
        reason = _foreign(graph, whole)
        if reason:
            self.no(node, f"{whole.name} {reason}")
        return bool(reason)


def _foreign(graph: Graph, value: Value) -> str:
    """Why a value's memory is not ours to arrange; empty if it is."""
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        return "has no known shape"
    if value.is_constant:
        return "is a constant"
    if value.producer is None:
        return "is a graph input, whose memory is the caller's"
    if graph.is_output(value):
        return "is a graph output, whose memory is the caller's"
    return ""


def _misfit(graph: Graph, piece: Value, whole: Value, axis: int, start: Dim) -> str:
    """Why `piece` cannot lie at `start` along `axis` of `whole`; empty if it can."""
    foreign = _foreign(graph, piece)
    if foreign:
        return foreign
    if piece.placement is not None:
        return f"already lies in {piece.placement.root.name}"
    if whole.placement is not None and whole.placement.axis != axis:
        return f"{whole.name} itself lies along another axis"
    if piece.layout != whole.layout:
        return f"its layout {piece.layout} differs from {whole.layout} of {whole.name}"
    extents = piece.tensor.dims
    length = extents[axis]
    if not isinstance(start, int) or not isinstance(length, int):
        return f"its place {start} and length {length} along the axis are symbolic"
    if 0 in extents:
        return "is empty"
    if piece.layout is not None:
        if piece.layout.halo[axis] != (0, 0):
            return "has a halo along the axis"
        block = piece.layout.block_of(axis)
        if start % block or length % block:
            return f"start {start} and extent {length} are no multiples of block {block}"
    if piece.producer is not None and piece.producer.op.op_name in RESHAPES:
        return f"it is the memory of its source, which {piece.producer.op} only names anew"
    return "" if _is_dense(piece, axis) else _needs_dense(piece)


def _is_dense(piece: Value, axis: int) -> bool:
    """True if a piece cut along the axis lies in one stretch of the whole's memory."""
    extents = piece.tensor.dims
    layout = piece.layout or Layout.plain(len(extents))
    outer = [part.axis for part in layout.parts].index(axis)
    return all(extent == 1 for extent in layout.physical_shape(extents)[:outer])


def _needs_dense(piece: Value) -> str:
    """Why a value must lie in one stretch of memory; empty if it need not.

    Views that change the shape, and operators that run on the host, know no strides.
    """
    for node in (piece.producer, *(user for user, _ in piece.users)):
        if node is None:
            continue
        if node.op.op_name in RESHAPES:
            return f"{node.op} {node.name} needs it in one stretch"
        if not type(node.op).has_lowering() or node.op.fusion is FusionClass.OPAQUE:
            return f"{node.op} {node.name} runs on the host"
    return ""


def _axis(node: Node, whole: Value | None) -> int | None:
    extents = dims(whole)
    return int(attribute(node, "axis")) % len(extents) if extents else None
