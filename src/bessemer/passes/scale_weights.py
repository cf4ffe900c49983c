"""Scales and shifts the output channels of a Conv, ConvTranspose or Gemm in its weights."""

import re

import numpy as np

from bessemer.ir.graph import Graph, Node
from bessemer.passes.match import Array, attribute, constant, merge_sources


def scale_producer(
    graph: Graph, before: Node, node: Node, scale: Array, shift: Array
) -> Node | None:
    """A node that computes `before(x) * scale + shift` per output channel, placed before `node`.

    Shapes: scale and shift [c] or [1].
    Returns None if weights or bias are not constant, scale or shift do not fit the channels (where
    ranks are unknown nobody checked), or the values would leave the dtype's range.
    """
    weights = constant(before.inputs[1])
    if weights is None or before.inputs[1] is None or not before.inputs[1].tensor.dtype.is_float:
        return None
    bias_value = before.inputs[2] if len(before.inputs) > 2 else None
    bias = constant(bias_value)
    if bias_value is not None and bias is None:
        return None
    fitting = ((), (1,), (output_channels(before),))
    if scale.shape not in fitting or shift.shape not in fitting:
        return None
    # The product of two f32 is rounded once; in f64 it would take five times as long.
    wide = weights if weights.dtype == np.float64 else weights.astype(np.float32, copy=False)
    if before.op.op_name == "Gemm":
        folded = _scale_gemm(before, wide, bias, scale, shift)
    else:
        folded = _scale_conv(before, wide, bias, scale, shift)
    if folded is None:
        return None
    new_weights, new_bias = (item.astype(weights.dtype, copy=False) for item in folded)
    if not (np.isfinite(new_weights).all() and np.isfinite(new_bias).all()):
        return None
    # A weight that was folded before is named after the model's, not after the last folding.
    stem = re.sub(r"(\.\d+)+$", "", before.inputs[1].name)
    bias_name = bias_value.name if bias_value is not None else f"{before.name}.bias"
    bias_name = re.sub(r"(\.\d+)+$", "", bias_name)
    is_same = new_weights is weights
    scaled = before.inputs[1] if is_same else graph.add_constant(stem, new_weights)
    inputs = [before.inputs[0], scaled, graph.add_constant(bias_name, new_bias)]
    return graph.add_node(
        before.op, inputs, name=before.name, sources=merge_sources(before, node), before=node
    )


def output_channels(node: Node) -> int | None:
    """The number of output channels of a Conv, ConvTranspose or Gemm with constant weights."""
    weights = constant(node.inputs[1])
    if weights is None:
        return None
    match node.op.op_name:
        case "Conv":
            return int(weights.shape[0])
        case "ConvTranspose":
            return int(weights.shape[1]) * int(attribute(node, "group"))
        case "Gemm":
            return int(weights.shape[0 if attribute(node, "transB") else 1])
    return None


def _scale_conv(
    node: Node, weights: Array, bias: Array | None, scale: Array, shift: Array
) -> tuple[Array, Array] | None:
    channels = output_channels(node)
    assert channels is not None
    factors, old = np.broadcast_to(scale, (channels,)), np.zeros(channels)
    if bias is not None:
        old = bias.astype(np.float64)
    new_bias = old * factors + np.broadcast_to(shift, (channels,))
    if np.all(scale == 1):
        return weights, new_bias
    factors = factors.astype(weights.dtype)
    tail = (1,) * (weights.ndim - 2)
    if node.op.op_name == "Conv":
        scaled = weights * factors.reshape(-1, 1, *tail)
    else:
        # ConvTranspose weights are [c, m / group, *kernel]; channels of c belong to groups.
        group = int(attribute(node, "group"))
        split = weights.reshape(group, -1, *weights.shape[1:])
        scaled = (split * factors.reshape(group, 1, -1, *tail)).reshape(weights.shape)
    return scaled, new_bias


def _scale_gemm(
    node: Node, weights: Array, bias: Array | None, scale: Array, shift: Array
) -> tuple[Array, Array] | None:
    channels = output_channels(node)
    assert channels is not None
    beta = float(attribute(node, "beta"))
    if beta == 0.0:
        return None
    factors = np.broadcast_to(scale, (channels,))
    scaled = weights
    if not np.all(scale == 1):
        small = factors.astype(weights.dtype)
        scaled = weights * (small[:, None] if attribute(node, "transB") else small)
    old = bias.astype(np.float64) if bias is not None else np.zeros(channels)
    # y = alpha * a @ b + beta * c, so what is added to c is divided by beta.
    return scaled, old * factors + np.broadcast_to(shift, (channels,)) / beta
