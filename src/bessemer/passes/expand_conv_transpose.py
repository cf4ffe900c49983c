"""Computes a transposed convolution as a convolution and a rearrangement of pixels."""

import itertools
from dataclasses import dataclass
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
    every s-th row and column of the turned window. Where all have as many taps, the s * s of them
    are channels of one Conv; else there are s * s of them, as padded ones would multiply a NaN
    of x by the zeros.
    Shapes: w constant [c, m/group, kh, kw] -> w' [m*s*s, c/group, th, tw], t = k / s.
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
        if min(spread.kernel) < stride:
            return self.no(node, "no window reaches some of its outputs")
        found = _window(spread, x[2:], stride)
        if found is None:
            return self.no(node, "its pads depend on extents that are not known")
        made = self._convolved(node, graph, op.group, stride, found)
        return self._crop(graph, node, made, found.starts)

    def _convolved(
        self, node: Node, graph: Graph, group: int, stride: int, window: "_Window"
    ) -> Value:
        """The picture of all outputs, before it is cropped."""
        weights = constant(node.inputs[1])
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        assert weights is not None

        joint = all(extent % stride == 0 for extent in weights.shape[2:])
        copies = stride * stride if joint else 1
        shared = [] if bias is None else [graph.add_constant(
            graph.unique_name(f"{node.name}.bias"), np.repeat(bias, copies))]

        def conv(filters: Array) -> Value:
            kernel = graph.add_constant(graph.unique_name(f"{node.name}.weight"), filters)
            made = make("Conv", group=group, pads=window.pads(filters.shape[2:]))
            return self.build(graph, node, made, [node.inputs[0], kernel, *shared]).output

        if joint:
            made = conv(_split(weights, group, stride))
            if stride == 1:
                return made
            rearranged = make("DepthToSpace", blocksize=stride, mode="CRD")
            return self.build(graph, node, rearranged, [made]).output
        parts = [
            conv(_split(weights[:, :, row::stride, column::stride], group, 1))
            for row, column in itertools.product(range(stride), repeat=2)
        ]
        joined = self.build(graph, node, make("Concat", axis=1), parts).output
        rearranged = make("DepthToSpace", blocksize=stride, mode="DCR")
        return self.build(graph, node, rearranged, [joined]).output

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


@dataclass(frozen=True)
class _Window:
    """The first row and column that the convolutions make, zeros behind x, start of the output."""

    firsts: tuple[int, int]
    highs: tuple[int, int]
    starts: tuple[int, int]

    def pads(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        """Pads of a convolution with so many taps: lows, then highs."""
        return (*(t - 1 - first for t, first in zip(taps, self.firsts, strict=True)), *self.highs)


def _window(spread: Spread, extents: Shape, stride: int) -> _Window | None:
    """The geometry of the convolutions; None if it depends on extents that are not known."""
    found: list[tuple[int, int, int]] = []
    for axis, extent in enumerate(extents):
        low, out = spread.lows[axis], spread.out[axis]
        if isinstance(low, Sym):
            return None
        # Output o is row (o + low) // stride of the convolution; rows before `first` are not made.
        first = min(low // stride, spread.kernel[axis] // stride - 1)
        behind = (low + out - 1) // stride + 1 - extent
        if isinstance(behind, Sym):
            return None
        found.append((first, max(0, behind), low - stride * first))
    (first, high, start), (other_first, other_high, other_start) = found
    return _Window((first, other_first), (high, other_high), (start, other_start))


def _end(start: int, wanted: Dim, found: Dim) -> int:
    """The end of the slice of so many elements, counted from the back if they are not known."""
    if isinstance(wanted, int):
        return start + wanted
    behind = found - wanted - start
    assert isinstance(behind, int)
    return -behind if behind else np.iinfo(np.int64).max


def _split(weights: Array, group: int, stride: int) -> Array:
    """Weights [c, m/g, kh, kw] -> [m * s * s, c/g, kh/s, kw/s], taps turned around."""
    channels, filters, *kernel = weights.shape
    taps = [extent // stride for extent in kernel]
    parts = weights.reshape(
        group, channels // group, filters, taps[0], stride, taps[1], stride
    )[:, :, :, ::-1, :, ::-1]
    # To group, filter, remainders, channel, taps.
    ordered = parts.transpose(0, 2, 4, 6, 1, 3, 5)
    return np.ascontiguousarray(
        ordered.reshape(group * filters * stride * stride, channels // group, *taps)
    )
