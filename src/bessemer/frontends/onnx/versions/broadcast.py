"""Before opset 7 an operator broadcast its second input along a stated axis."""

import numpy as np

from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.table import until


@until(6, "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
def broadcast_axis(node: SourceNode, writer: Writer) -> SourceNode:
    """Add(a[2,3,4,5], b[3,4], axis=1) -> Add(a, Unsqueeze(b, 2))."""
    broadcast, axis = node.pop("broadcast", 0), node.pop("axis")
    if broadcast and axis is not None:
        _align(node, writer, axis)
    return node


@until(6, "PRelu")
def slope_per_channel(node: SourceNode, writer: Writer) -> SourceNode:
    """PRelu(x[N,C,H,W], slope[C]) -> PRelu(x, slope[C,1,1])."""
    slope = node.tensor(1)
    if slope.rank == 1 and slope.dims[0] != 1 and node.tensor(0).rank > 2:
        _align(node, writer, 1)
    return node


def _align(node: SourceNode, writer: Writer, axis: int) -> None:
    """Adds trailing dimensions to input 1, so that its first one meets `axis` of input 0."""
    rank, small = node.tensor(0).rank, node.tensor(1).rank
    trailing = rank - (axis % max(rank, 1)) - small
    if trailing > 0:
        axes = np.arange(small, small + trailing, dtype=np.int64)
        node.inputs[1] = writer.add(
            node, "Unsqueeze", [node.inputs[1], writer.constant(node, "axes", axes)]
        )


@until(6, "Gemm")
def gemm_broadcast(node: SourceNode, writer: Writer) -> SourceNode:
    """Gemm always broadcasts c today."""
    node.pop("broadcast")
    return node
