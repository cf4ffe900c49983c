"""Nodes whose result is their input's memory under another name."""

from bessemer.ir.graph import Node, Value
from bessemer.ir.layout import Layout
from bessemer.ir.types import TensorType
from bessemer.ops.reshape import RESHAPES


def is_alias(node: Node) -> bool:
    """True if the node's result is its input's memory under another shape or layout name."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.constant is not None or len(node.outputs) != 1:
        return False
    y = node.output
    if not isinstance(x.type, TensorType) or not isinstance(y.type, TensorType) \
            or x.type.shape is None or y.type.shape is None \
            or x.placement is not None or y.placement is not None:
        return False
    if x.layout is None or y.layout is None or x.type.dtype.kind == "string":
        return False
    if node.op.op_name == "bessemer.Reorder":
        return not x.layout.has_halo and x.producer is not None \
            and x.layout.same_bytes(y.layout, x.type.shape) \
            and not y.layout.has_padding(x.type.shape)
    return node.op.op_name in RESHAPES and (
        (x.layout.is_plain and y.layout.is_plain) or _keeps_blocks(x, y))


def _keeps_blocks(x: Value, y: Value) -> bool:
    """True if two tensors of the same batch and channels lie in the same blocks of channels."""
    if x.tensor.rank < 2 or y.tensor.rank < 2 or x.layout is None or y.layout is None:
        return False
    block = x.layout.block_of(1)
    return x.tensor.dims[:2] == y.tensor.dims[:2] and all(
        value.layout == Layout.blocked(value.tensor.rank, 1, block) for value in (x, y))
