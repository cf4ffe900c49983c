"""Transposed convolution: ConvTranspose."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, rounded, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array, Known
from bessemer.ops.window import one_each
from bessemer.te import Expr, Tensor


@dataclass(frozen=True)
class Spread:
    """Resolved geometry: input element i writes outputs i * stride + k * dilation - low."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    lows: Shape
    out: Shape

    def _steps(self, axis: int) -> tuple[int, int]:
        """Every how many window elements one can meet an input element, and how far that moves."""
        common = math.gcd(self.strides[axis], self.dilations[axis])
        return self.strides[axis] // common, self.dilations[axis] // common

    def taps(self, axis: int) -> int:
        """How many window elements at most meet an input element, for one output element."""
        return -(-self.kernel[axis] // self._steps(axis)[0])

    def overshoots(self) -> bool:
        """True if the last tap can lie beyond the window."""
        return any(
            extent % self._steps(axis)[0] or math.gcd(self.strides[axis], self.dilations[axis]) > 1
            for axis, extent in enumerate(self.kernel)
        )

    def meeting(self, value: Expr, pairs: list[tuple[Expr, Expr]]) -> Expr:
        """The value where all taps lie in the window, else 0: NaN times no weight is not NaN."""
        if self.overshoots():
            for extent, (_, tap) in zip(self.kernel, pairs, strict=True):
                value = te.where(tap < extent, value, te.const(0, value.dtype))
        return value

    def met(self, weight: Expr, pairs: list[tuple[Expr, Expr]], spatial: Shape) -> Expr:
        """The weight where its input element exists, else 0: NaN times nothing is not NaN."""
        for extent, (place, _) in zip(spatial, pairs, strict=True):
            inside = (place >= 0) & (place < te.index(extent))
            weight = te.where(inside, weight, te.const(0, weight.dtype))
        return weight

    def place(self, axis: int, o: Expr, j: Expr) -> tuple[Expr, Expr]:
        """Input index and window index of tap `j` of output `o`; either may lie outside.

        Window element k meets an input element if o + low - k * dilation is a multiple of the
        stride. Only those are visited: they start at `first` and repeat every `step`.
        """
        stride, dilation = self.strides[axis], self.dilations[axis]
        reach = o + te.index(self.lows[axis])
        step, move = self._steps(axis)
        common = stride // step
        # k = first solves k * move = reach / common (modulo step).
        first = (reach // common) * pow(move, -1, step) % step if step > 1 else te.index(0)
        tap = first + j * step
        if common > 1:
            # Outputs between the multiples meet nothing: send them outside the window.
            tap = te.where(te.equal(reach % common, 0), tap, te.index(self.kernel[axis]))
        return (reach - tap * dilation) // stride, tap


@operator("ConvTranspose")
class ConvTranspose(Operator):
    """The gradient of a convolution: every input element writes a window of outputs.

    Shapes: x [n, c, *spatial], w [c, m / group, *kernel], bias [m] -> y [n, m, *out].
    Source: ONNX ConvTranspose-22.
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.COMPLEX_OUT

    def spread(self, x: Shape, w: Shape) -> Spread:
        """The resolved geometry for shapes of x and w. Raises ShapeError on misfit."""
        rank = len(x) - 2
        kernel = tuple(k for k in w[2:] if isinstance(k, int))
        if len(kernel) != rank:
            raise ShapeError(f"the kernel extents of w {w} must be known and as many as x has")
        if self.kernel_shape and self.kernel_shape != kernel:
            raise ShapeError(f"kernel_shape {self.kernel_shape} does not match w {w}")
        strides = one_each("strides", self.strides, rank, 1)
        dilations = one_each("dilations", self.dilations, rank, 1)
        if min((*kernel, *strides, *dilations)) < 1:
            raise ShapeError(
                f"kernel {kernel}, strides {strides}, dilations {dilations} must be >= 1"
            )
        extra = one_each("output_padding", self.output_padding, rank, 0)
        pads = one_each("pads", self.pads, 2 * rank, 0)
        wished = one_each("output_shape", self.output_shape[-rank:], rank, -1)
        lows: list[Dim] = []
        outs: list[Dim] = []
        for axis in range(rank):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            full = (x[2 + axis] - 1) * strides[axis] + extra[axis] + span
            low, out = self._axis(
                full, x[2 + axis] * strides[axis], wished[axis], pads[axis], pads[axis + rank]
            )
            if isinstance(out, int) and out < 1 and x[2 + axis] != 0:
                raise ShapeError(f"output extent {out} of spatial axis {axis} is not positive")
            lows.append(low)
            outs.append(out)
        return Spread(kernel, strides, dilations, tuple(lows), tuple(outs))

    def _axis(self, full: Dim, same: Dim, wished: int, low: int, high: int) -> tuple[Dim, Dim]:
        """Padding before and output extent of one axis; `full` is the extent without padding."""
        if wished < 0 and self.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
            if self.auto_pad == "VALID":
                low = high = 0
            return low, full - low - high
        out = wished if wished >= 0 else same
        # Below 0 where the output is larger than all windows reach: zeros on both sides.
        total = full - out
        less = total // 2
        return (less if self.auto_pad == "SAME_UPPER" else total - less), out

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        check_floats(x, w, bias)
        if x.shape is None or w.shape is None:
            return x.with_shape(None)
        if x.rank < 3 or x.rank != w.rank:
            raise ShapeError(f"x has rank {x.rank} and w {w.rank}; equal ranks >= 3 expected")
        if self.group < 1:
            raise ShapeError(f"group is {self.group}; at least 1 expected")
        same_dim("channels of x and of w", x.dims[1], w.dims[0])
        channels = x.dims[1]
        if self.group < 1 or (isinstance(channels, int) and channels % self.group):
            raise ShapeError(f"{channels} channels cannot be split into {self.group} groups")
        filters = w.dims[1] * self.group
        if bias is not None and bias.shape is not None:
            same_dim("filters and bias", filters, bias.dims[0])
        return x.with_shape((x.dims[0], filters, *self.spread(x.dims, w.dims).out))

    def reference(self, x: Array, w: Array, bias: Array | None = None) -> Array:
        spread = self.spread(x.shape, w.shape)
        out = tuple(int(n) for n in spread.out)  # type: ignore[arg-type]
        lows = tuple(int(n) for n in spread.lows)  # type: ignore[arg-type]
        batch, channels = x.shape[:2]
        spatial, group = x.shape[2:], self.group
        values = widen(x).reshape(batch, group, channels // group, math.prod(spatial))
        weights = widen(w).reshape(group, channels // group, w.shape[1], *spread.kernel)
        # Negative pads: zeros before the first window.
        shift = tuple(max(-low, 0) for low in lows)
        extents = [
            max((n - 1) * s + (k - 1) * d + 1, low + o) + max(-low, 0)
            for n, s, k, d, low, o in zip(
                spatial, spread.strides, spread.kernel, spread.dilations, lows, out, strict=True
            )
        ]
        full = np.zeros((batch, group * w.shape[1], *extents), values.dtype)
        for place in itertools.product(*(range(k) for k in spread.kernel)):
            at: tuple[Any, ...] = (slice(None), slice(None), slice(None), *place)
            tap = weights[at].transpose(0, 2, 1)
            part = (tap @ values).reshape(batch, group * w.shape[1], *spatial)
            where = tuple(
                slice(b + k * d, b + k * d + (n - 1) * s + 1, s)
                for b, k, d, n, s in zip(
                    shift, place, spread.dilations, spatial, spread.strides, strict=True)
            )
            full[(slice(None), slice(None), *where)] += part
        crop = tuple(
            slice(b + low, b + low + n) for b, low, n in zip(shift, lows, out, strict=True))
        result = full[(slice(None), slice(None), *crop)]
        if bias is not None:
            result = result + widen(bias).reshape(-1, *(1,) * len(out))
        return narrow(result, x.dtype)

    def lower(
        self, x: Tensor, w: Tensor, bias: Tensor | None = None, *, known: Known = (), **_: Any
    ) -> Tensor:
        weights = known[1] if len(known) > 1 else None
        is_finite = weights is not None and bool(np.isfinite(widen(weights)).all())
        spread = self.spread(x.shape, w.shape)
        per_group = x.shape[1] // self.group
        filters = w.shape[1]
        axes = [te.reduce_axis(per_group, "ic")]
        axes += [te.reduce_axis(spread.taps(axis)) for axis in range(len(spread.kernel))]

        def body(n: Expr, oc: Expr, *outer: Expr) -> Expr:
            ic, *inner = axes
            channel = ic if self.group == 1 else oc // filters * per_group + ic
            pairs = [spread.place(axis, o, j) for axis, (o, j) in enumerate(zip(outer, inner))]
            value = x.at(n, channel, *(place for place, _ in pairs), fill=0)
            row = oc if self.group == 1 else oc % filters
            fill = 0 if spread.overshoots() else None
            weight = load(w.at(channel, row, *(tap for _, tap in pairs), fill=fill))
            if not is_finite:
                weight = spread.met(weight, pairs, x.shape[2:])
            return te.sum_(spread.meeting(load(value), pairs) * weight, *axes)

        shape = (x.shape[0], filters * self.group, *spread.out)
        dtype = load(x.at(*(0,) * x.rank)).dtype
        total = te.compute(dtype, shape, body, "convtranspose")
        if bias is None:
            return rounded(total, x.dtype)
        given = bias
        return te.compute(
            x.dtype, shape,
            lambda n, c, *s: te.cast(total[(n, c, *s)] + load(given[c]), x.dtype), "biased",
        )

    samples = (
        sample("f32[1,3,4,5]", "f32[3,2,3,3]", "f32[2]"),
        sample("f32[2,3,4,5]", "f32[3,2,3,3]", strides=(2, 3), pads=(1, 0, 1, 2)),
        sample(
            "f32[1,4,4,3]", "f32[4,3,3,2]", "f32[6]", group=2, strides=(2, 2),
            output_padding=(1, 0), pads=(1, 1, 1, 1),
        ),
        sample("f32[1,2,3,4]", "f32[2,2,3,3]", dilations=(2, 2), strides=(1, 2)),
        sample("f32[1,2,3,4]", "f32[2,1,3,3]", strides=(2, 2), auto_pad="SAME_UPPER"),
        sample("f32[1,2,3,4]", "f32[2,1,3,3]", strides=(2, 2), auto_pad="SAME_LOWER"),
        sample("f32[1,2,3,3]", "f32[2,1,3,3]", strides=(3, 2), output_shape=(10, 8)),
        sample("f32[1,2,5]", "f32[2,3,3]", strides=(2,)),
        sample("f32[1,1,2,3,2]", "f32[1,2,2,2,2]", strides=(2, 1, 2)),
        sample("f32[1,4,3,3]", "f32[4,1,2,2]", group=4, strides=(2, 2)),
        sample("f32[1,1,5]", "f32[1,1,4]", strides=(2,), dilations=(2,)),
        sample("f32[1,1,5]", "f32[1,2,5]", strides=(3,), dilations=(2,), pads=(1, 2)),
        sample("f32[1,1,4]", "f32[1,1,3]", strides=(4,), dilations=(6,), pads=(2, 0)),
        sample("f16[1,2,3,3]", "f16[2,2,3,3]", "f16[2]"),
        sample("f32[1,1,2,3]", "f32[1,2,1,1]", strides=(3, 2), auto_pad="SAME_UPPER"),
        sample("f32[1,1,2,3]", "f32[1,2,1,1]", strides=(4, 2), auto_pad="SAME_LOWER"),
        sample(
            np.array([[[np.inf, 1.0, np.nan, -2.0]]], np.float32), "f32[1,1,3]",
            strides=(2,), pads=(1, 0),
        ),
        sample(
            "f32[1,1,4]", np.array([[[np.nan, 1.0, np.inf]]], np.float32), strides=(2,),
            pads=(1, 1),
        ),
    )
