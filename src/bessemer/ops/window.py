"""Sliding windows: pads, strides, dilations and output extents of convolution and pooling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.bounds import at_most
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape
from bessemer.ops.dims import Array
from bessemer.te import Expr


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes; all defaults are resolved.

    `lows` and `highs` are the pads before and after each axis, `out` the output extents. They are
    integers when the input extents are.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    lows: Shape
    highs: Shape
    out: Shape

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def spans(self) -> tuple[int, ...]:
        """Extent of the window on the input, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pad_lows(self) -> tuple[int, ...]:
        """The pads before each axis as integers."""
        return tuple(int(p) for p in self.lows)  # type: ignore[arg-type]

    @property
    def pad_highs(self) -> tuple[int, ...]:
        """The pads after each axis as integers."""
        return tuple(int(p) for p in self.highs)  # type: ignore[arg-type]

    def reaches_outside(self, extents: Sequence[Dim]) -> bool:
        """True if some window position lies outside the unpadded input."""
        for axis, extent in enumerate(extents):
            last = (self.out[axis] - 1) * self.strides[axis] - self.lows[axis] + self.spans[axis]
            if self.lows[axis] != 0 or not at_most(last, extent):
                return True
        return False

    def meets_input(self, extents: Sequence[Dim]) -> bool:
        """True if every window surely holds what is next to the padding that it reaches into."""
        for axis, extent in enumerate(extents):
            start = (self.out[axis] - 1) * self.strides[axis] - self.lows[axis]
            if self.dilations[axis] != 1 or not at_most(self.lows[axis], self.kernel[axis] - 1) \
                    or not at_most(start, extent - 1) or not at_most(0, extent - 1):
                return False
        return True

    def positions(self, outer: Sequence[Expr], inner: Sequence[Expr]) -> list[Expr]:
        """Input index per spatial axis for output indices and window indices."""
        return [
            o * s + k * d - low
            for o, k, s, d, low in zip(
                outer, inner, self.strides, self.dilations, self.lows, strict=True
            )
        ]

    def view(self, x: Array, fill: Any) -> Array:
        """The windows of x [n, c, *spatial] as [n, c, *out, *kernel], `fill` in the padding."""
        pads = [(0, 0), (0, 0)]
        for axis, extent in enumerate(x.shape[2:]):
            need = (int(self.out[axis]) - 1) * self.strides[axis] + self.spans[axis]  # type: ignore[arg-type]
            pads.append((self.pad_lows[axis], max(0, need - extent - self.pad_lows[axis])))
        padded = np.pad(x, pads, constant_values=fill) if any(map(any, pads)) else x
        axes = tuple(range(2, 2 + self.rank))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.spans, axes)
        outer = tuple(
            slice(0, (int(n) - 1) * s + 1, s) if n else slice(0, 0)  # type: ignore[arg-type]
            for n, s in zip(self.out, self.strides, strict=True)
        )
        inner = tuple(slice(None, None, d) for d in self.dilations)
        return windows[(slice(None), slice(None), *outer, *inner)]


def one_each(name: str, values: tuple[int, ...], count: int, default: int) -> tuple[int, ...]:
    """The values, or the default for each axis. Raises ShapeError on a wrong number."""
    if not values:
        return (default,) * count
    if len(values) != count:
        raise ShapeError(f"{name} has {len(values)} entries, expected {count}")
    return values


def resolve_window(
    extents: Sequence[Dim],
    kernel: Sequence[int],
    strides: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Window:
    """The window with defaults filled in, `auto_pad` turned into pads, and output extents.

    Raises: ShapeError if attributes have wrong lengths or values, or the window does not fit.
    """
    rank = len(extents)
    kernel = one_each("kernel_shape", tuple(kernel), rank, 1)
    strides = one_each("strides", strides, rank, 1)
    dilations = one_each("dilations", dilations, rank, 1)
    given = one_each("pads", pads, 2 * rank, 0)
    if min((*kernel, *strides, *dilations), default=1) < 1:
        raise ShapeError(f"kernel {kernel}, strides {strides}, dilations {dilations} must be >= 1")
    if auto_pad in ("NOTSET", "") and min(given, default=0) < 0:
        raise ShapeError(f"pads {given} must not be negative")
    rows = []
    for axis, extent in enumerate(extents):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        pair = (given[axis], given[axis + rank])
        rows.append(_resolve_axis(extent, span, strides[axis], pair, auto_pad, ceil_mode))
        out = rows[-1][2]
        if isinstance(out, int) and out < 1 and extent != 0:
            raise ShapeError(
                f"window of extent {span} does not fit spatial axis {axis} of extent {extent} "
                f"with pads {rows[-1][:2]}"
            )
    lows, highs, outs = (tuple(column) for column in zip(*rows, strict=True)) if rows else ((),) * 3
    return Window(kernel, strides, dilations, lows, highs, outs)


def _at_least_zero(total: Dim, span: int, stride: int) -> Dim:
    """max(total, 0) of the pads of SAME, which lie between span - stride and span - 1."""
    if isinstance(total, int):
        return max(total, 0)
    if span >= stride:
        return total
    # Each of the divisions counts 1 if the total is at least that number.
    return sum(((total + stride - least) // stride for least in range(1, span)), 0)


def _resolve_axis(
    extent: Dim, span: int, stride: int, pads: tuple[int, int], auto_pad: str, ceil_mode: int
) -> tuple[Dim, Dim, Dim]:
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        out = (extent + stride - 1) // stride
        total = (out - 1) * stride + span - extent
        total = _at_least_zero(total, span, stride)
        less = total // 2
        more = total - less
        return (less, more, out) if auto_pad == "SAME_UPPER" else (more, less, out)
    if auto_pad not in ("NOTSET", "VALID", ""):
        known = "NOTSET, SAME_UPPER, SAME_LOWER or VALID"
        raise ShapeError(f"auto_pad is {auto_pad!r}; {known} expected")
    low, high = (0, 0) if auto_pad == "VALID" else pads
    if not ceil_mode:
        return low, high, (extent + low + high - span) // stride + 1
    # Windows that would start in the padding after the input are dropped; both limits have the
    # form floor((extent + constant) / stride), so the smaller constant decides.
    reach = low + min(high - span + 2 * stride - 1, stride - 1)
    return low, high, (extent + reach) // stride
