"""Where values lie when they live inside another value's memory."""

from bessemer.core.errors import VerifyError
from bessemer.core.shapes import Dim
from bessemer.ir.graph import Node, Value


def storage_of(value: Value) -> tuple[Value, int, Dim]:
    """(root, axis, start): the value whose memory holds this one, and where along which axis.

    An unplaced value is its own root, at start 0 of axis -1. A root need not be computed by a
    node: it can be a mere storage for values that overlap.
    Raises: VerifyError if placements along different axes are nested.
    """
    root, axis = value, -1
    start: Dim = 0
    while root.placement is not None:
        if axis not in (-1, root.placement.axis):
            raise VerifyError(
                f"{value.name!r} lies in {root.name!r} along axis {axis}, which lies in "
                f"{root.placement.root.name!r} along axis {root.placement.axis}"
            )
        axis, start = root.placement.axis, start + root.placement.start
        root = root.placement.root
    return root, axis, start


def needs_no_copy(node: Node) -> bool:
    """True for a Concat, Split or Slice whose results already lie where they belong.

    Such a node needs no kernel: its producer wrote into, or its consumer reads from, one memory.
    """
    match node.op.op_name:
        case "Concat":
            whole, pieces = node.output, list(node.inputs)
        case "Split" | "Slice":
            if node.inputs[0] is None:
                return False
            whole, pieces = node.inputs[0], list(node.outputs)
        case _:
            return False
    root, _, base = storage_of(whole)
    start: Dim = base
    for piece in pieces:
        if piece is None or piece.placement is None:
            return False
        found, axis, position = storage_of(piece)
        if node.op.op_name == "Slice":
            # It starts where its placement says, unless a Concat placed it beside its input.
            return piece.placement.root is whole
        if found is not root or position != start:
            return False
        start = position + piece.tensor.dims[axis]
    return True
