"""Folds per-channel arithmetic into the weights of what computes its input."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    Array,
    constant,
    is_op,
    rank,
    same_type,
    sole_producer,
    split_constant,
)
from bessemer.passes.scale_weights import output_channels, scale_producer


@graph_pass("fold-scale-bias")
class FoldScaleBias(RewritePass):
    """Mul|Div|Add|Sub(Conv|ConvTranspose|Gemm(x, w, b), c) -> Conv(x, w', b'), c per channel.

    Before: y = conv(x, w) * c. After: y = conv(x, w * c); y = conv(x, w) + c gets the bias c.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Mul", "Div", "Add", "Sub"):
            return None
        operands = split_constant(node)
        if operands is None:
            return None
        x, c = operands
        before = sole_producer(graph, x, "Conv", "ConvTranspose", "Gemm")
        if before is None or not same_type(x, node.output):
            return None
        channels = output_channels(before)
        data = constant(c)
        if channels is None or data is None:
            return self.no(node, f"the weights of {before.op} {before.name} are not constant")
        vector = _per_channel(data, rank(x) or 0, channels)
        if vector is None:
            return self.no(node, f"{c.name} {c.type} is not one number per channel")
        scale, shift = _affine(node, vector, constant_first=node.inputs[0] is c)
        if scale is None or shift is None:
            return self.no(node, "it divides by a computed value or by zero")
        made = scale_producer(graph, before, node, scale, shift)
        if made is None:
            return self.no(node, f"the weights of {before.op} {before.name} cannot take it")
        self._made.append(made)
        return made.output


def _per_channel(data: Array, dims: int, channels: int) -> Array | None:
    """The constant as [1] or [channels], if it varies along axis 1 alone."""
    if data.size == 1:
        return data.reshape(1).astype(np.float64)
    if data.ndim > dims:
        return None
    full = (1,) * (dims - data.ndim) + data.shape
    if full == (1, channels, *(1,) * (dims - 2)):
        return data.reshape(channels).astype(np.float64)
    return None


def _affine(node: Node, c: Array, constant_first: bool) -> tuple[Array | None, Array | None]:
    """Y = x * scale + shift for the node's operator and constant."""
    zero, one = np.zeros(1), np.ones(1)
    match node.op.op_name:
        case "Mul":
            return c, zero
        case "Add":
            return one, c
        case "Sub":
            return (-one, c) if constant_first else (one, -c)
        case "Div" if not constant_first and np.all(c != 0):
            return 1.0 / c, zero
    return None, None
