"""Computes a transposed convolution as a convolution and a rearrangement of pixels."""

from typing import Any

import numpy as np

from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ops.conv_transpose import ConvTranspose, Spread
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import constant, dims, make

Array = np.ndarray[Any, Any]


@graph_pass("expand-conv-transpose")
class ExpandConvTranspose(RewritePass):
    """ConvTranspose(x, w, b) -> Slice(DepthToSpace(Conv(x, w', b'))).

    Outputs whose places leave the same remainder by the stride s are one convolution of x with
    every s-th row and column of the turned window; the s * s of them are channels of one Conv.
    Shapes: w constant [c, m/group, kh, kw] -> w' [m*s*s, c/group, th, tw], t = ceil(k / s).
    Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?".
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        op = node.op
        if not isinstance(op, ConvTranspose):
            return None
        x, weights = dims(node.inputs[0]), constant(node.inputs[1])
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if x is None or len(x) != 4 or 0 in x or weights is None:
            return self.no(node, "its input is no picture, or w is computed")
        if not np.isfinite(weights).all():
            return self.no(node, "its weights are not finite: zeros around x would give NaN")
        if bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
            return self.no(node, "its bias is computed")
        spread = op.spread(x, weights.shape)
        if spread.dilations != (1, 1) or spread.strides[0] != spread.strides[1]:
            return self.no(node, "it is dilated, or its strides differ")
        stride = spread.strides[0]
        found = _window(spread, x[2:], stride)
        if found is None:
            return self.no(node, "its pads depend on extents that are not known")
        pads, starts = found
        inputs = [node.inputs[0], graph.add_constant(
            graph.unique_name(f"{node.name}.weight"), _split(weights, op.group, stride))]
        if bias is not None:
            inputs.append(graph.add_constant(
                graph.unique_name(f"{node.name}.bias"), np.repeat(bias, stride * stride)))
        made = self.build(graph, node, make("Conv", group=op.group, pads=pads), inputs).output
        if stride > 1:
            rearranged = make("DepthToSpace", blocksize=stride, mode="CRD")
            made = self.build(graph, node, rearranged, [made]).output
        return self._crop(graph, node, made, starts)

    def _crop(
        self, graph: Graph, node: Node, made: Value, starts: tuple[int, int]
    ) -> Value:
        """The part of the picture that is the node's output."""
        found, wanted = dims(made), dims(node.output)
        assert found is not None
        assert wanted is not None
        if found == wanted:
            return made
        ends = tuple(map(_end, starts, wanted[2:], found[2:]))
        operands = [
            graph.add_constant(graph.unique_name(f"{node.name}.{what}"), np.array(data, np.int64))
            for what, data in (("starts", starts), ("ends", ends), ("axes", (2, 3)))
        ]
        return self.build(graph, node, "Slice", [made, *operands]).output


def _window(
    spread: Spread, extents: Shape, stride: int
) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """Pads of the convolution (lows, then highs), and where the output starts in its picture.

    None if they are no integers.
    """
    lows, highs, starts = [], [], []
    for axis, extent in enumerate(extents):
        low, out = spread.lows[axis], spread.out[axis]
        if isinstance(low, Sym):
            return None
        taps = -(-spread.kernel[axis] // stride)
        # Output o is row (o + low) // stride of the convolution; rows before `first` are not made.
        first = min(low // stride, taps - 1)
        rows = (low + out - 1) // stride - first + 1
        behind = rows - extent + first
        if isinstance(behind, Sym):
            return None
        lows.append(taps - 1 - first)
        highs.append(max(0, behind))
        starts.append(low - stride * first)
    return (*lows, *highs), (starts[0], starts[1])


def _end(start: int, wanted: Dim, found: Dim) -> int:
    """The end of the slice of so many elements, counted from the back if they are not known."""
    if isinstance(wanted, int):
        return start + wanted
    behind = found - wanted - start
    assert isinstance(behind, int)
    return -behind if behind else np.iinfo(np.int64).max


def _split(weights: Array, group: int, stride: int) -> Array:
    """Weights [c, m/g, kh, kw] -> [m * s * s, c/g, th, tw], taps turned around."""
    channels, filters, *kernel = weights.shape
    taps = [-(-extent // stride) for extent in kernel]
    padded = np.zeros((channels, filters, taps[0] * stride, taps[1] * stride), weights.dtype)
    padded[:, :, : kernel[0], : kernel[1]] = weights
    parts = padded.reshape(
        group, channels // group, filters, taps[0], stride, taps[1], stride
    )[:, :, :, ::-1, :, ::-1]
    # To group, filter, remainders, channel, taps.
    ordered = parts.transpose(0, 2, 4, 6, 1, 3, 5)
    return np.ascontiguousarray(
        ordered.reshape(group * filters * stride * stride, channels // group, *taps)
    )
