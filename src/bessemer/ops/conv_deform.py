"""Convolutions with a twist: DeformConv (learned offsets), CausalConvWithState (streaming)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import elements, load, narrow, rounded, wide, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.conv import channel_index, check_conv
from bessemer.ops.dims import Array
from bessemer.ops.window import Window, resolve_window
from bessemer.te import Expr, Tensor


def sample_linear(image: Array, places: Sequence[Array]) -> Array:
    """Linear interpolation of image [c, *spatial] at coordinates, 0 outside -> [c, *places]."""
    floors = [np.floor(place) for place in places]
    result = np.zeros((image.shape[0], *places[0].shape), image.dtype)
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight = np.ones(places[0].shape, image.dtype)
        inside = np.ones(places[0].shape, bool)
        index: list[Any] = [slice(None)]
        for place, base, step, extent in zip(
            places, floors, corner, image.shape[1:], strict=True
        ):
            spot = base.astype(np.int64) + step
            weight = weight * (place - base if step else 1 - (place - base))
            inside &= (spot >= 0) & (spot < extent)
            index.append(np.clip(spot, 0, extent - 1))
        result = result + weight * np.where(inside, image[tuple(index)], 0)
    return result


def linear_at(x: Tensor, before: Sequence[Expr], places: Sequence[Expr]) -> Expr:
    """Linear interpolation of x at float coordinates of its last axes, 0 outside."""
    floors = [te.floor(place) for place in places]
    total: Expr | None = None
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight: Expr | None = None
        for place, base, step in zip(places, floors, corner, strict=True):
            part = place - base if step else 1.0 - (place - base)
            weight = part if weight is None else weight * part
        spots = [te.index(base) + step for base, step in zip(floors, corner, strict=True)]
        value = load(x.at(*before, *spots, fill=0))
        assert weight is not None
        term = te.cast(weight, value.dtype) * value
        total = term if total is None else total + term
    assert total is not None
    return total


@operator("DeformConv")
class DeformConv(Operator):
    """Convolution whose sampling positions are moved by offsets and weighted by a mask.

    Shapes: x [n, c, *spatial], w [m, c / group, *kernel], offset [n, og * k * d, *out], bias [m],
    mask [n, og * k, *out] (k window elements, d spatial axes) -> y [n, m, *out].
    Source: ONNX DeformConv-22.
    """

    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    offset_group: int = 1
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.COMPLEX_OUT

    def _window(self, x: tuple[Any, ...], w: tuple[Any, ...]) -> Window:
        kernel = tuple(k for k in w[2:] if isinstance(k, int))
        if len(kernel) != len(w) - 2:
            raise ShapeError(f"the kernel extents of w {w} must be known")
        return resolve_window(x[2:], kernel, self.strides, self.dilations, self.pads)

    def infer(
        self, x: TensorType, w: TensorType, offset: TensorType, bias: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> TensorType:
        check_conv(x, w, bias, self.group)
        if x.shape is None or w.shape is None:
            return x.with_shape(None)
        window = self._window(x.dims, w.dims)
        taps = elements(window.kernel) * self.offset_group
        for name, given, expected in (("offset", offset, taps * window.rank), ("mask", mask, taps)):
            if given is not None and given.shape is not None:
                same_dim(f"channels of {name}", given.dims[1], expected)
        return x.with_shape((x.dims[0], w.dims[0], *window.out))

    def _sampled(self, x: Array, offset: Array, mask: Array | None, window: Window) -> Array:
        """Sampled values [n, c, *kernel, *out]."""
        rank, groups = window.rank, self.offset_group
        out = offset.shape[2:]
        moved = offset.reshape(x.shape[0], groups, *window.kernel, rank, *out)
        result = np.zeros((*x.shape[:2], *window.kernel, *out), x.dtype)
        size = x.shape[1] // groups
        for n, g in itertools.product(range(x.shape[0]), range(groups)):
            places = []
            for axis in range(rank):
                view = [1] * (2 * rank)
                view[axis] = -1
                inner = np.arange(window.kernel[axis]).reshape(view) * window.dilations[axis]
                view = [1] * (2 * rank)
                view[rank + axis] = -1
                outer = np.arange(out[axis]).reshape(view) * window.strides[axis]
                every: tuple[Any, ...] = (slice(None),) * rank
                at: tuple[Any, ...] = (n, g, *every, axis)
                places.append(outer + inner - window.pad_lows[axis] + moved[at])
            channels = slice(g * size, (g + 1) * size)
            result[n, channels] = sample_linear(x[n, channels], places)
        if mask is not None:
            weight = mask.reshape(x.shape[0], groups, 1, *window.kernel, *out)
            split = result.reshape(x.shape[0], groups, size, *window.kernel, *out)
            result = (split * weight).reshape(result.shape)
        return result

    def reference(
        self, x: Array, w: Array, offset: Array, bias: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        window = self._window(x.shape, w.shape)
        out = offset.shape[2:]
        sampled = self._sampled(
            widen(x), widen(offset), widen(mask) if mask is not None else None, window
        )
        columns = sampled.reshape(x.shape[0], self.group, -1, math.prod(out))
        weights = widen(w).reshape(self.group, w.shape[0] // self.group, -1)
        result = (weights @ columns).reshape(x.shape[0], w.shape[0], *out)
        if bias is not None:
            result = result + widen(bias).reshape(-1, *(1,) * window.rank)
        return narrow(result, x.dtype)

    def lower(
        self, x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None,
        mask: Tensor | None = None, **_: Any,
    ) -> Tensor:
        window = self._window(x.shape, w.shape)
        rank, (filters, per_filter) = window.rank, w.shape[:2]
        size = x.shape[1] // self.offset_group
        dtype = wide(x.dtype)
        axes = [te.reduce_axis(per_filter, "ic")] + [te.reduce_axis(k) for k in window.kernel]

        def sampled_body(n: Expr, c: Expr, *rest: Expr) -> Expr:
            inner, outer = rest[:rank], rest[rank:]
            tap = c // size
            for k, extent in zip(inner, window.kernel, strict=True):
                tap = tap * extent + k
            places = [
                te.cast(base, dtype) + te.cast(offset[(n, tap * rank + axis, *outer)], dtype)
                for axis, base in enumerate(window.positions(outer, inner))
            ]
            value = linear_at(x, (n, c), places)
            return value * load(mask[(n, tap, *outer)]) if mask is not None else value

        sampled = te.compute(
            dtype, (*x.shape[:2], *window.kernel, *window.out), sampled_body, "sampled"
        )

        def body(n: Expr, oc: Expr, *outer: Expr) -> Expr:
            ic, *inner = axes
            channel = channel_index(filters, per_filter, self.group, oc, ic)
            value = sampled[(n, channel, *inner, *outer)]
            return te.sum_(value * load(w[(oc, ic, *inner)]), *axes)

        total = te.compute(dtype, (x.shape[0], filters, *window.out), body, "conv")
        if bias is None:
            return rounded(total, x.dtype)
        given = bias
        return te.compute(
            x.dtype, total.shape,
            lambda n, c, *s: te.cast(total[(n, c, *s)] + load(given[c]), x.dtype), "biased",
        )

    samples = (
        sample("f32[1,2,5,6]", "f32[3,2,2,3]", "f32[1,12,4,4]", low=-1, high=1),
        sample(
            "f32[2,4,5,5]", "f32[4,2,3,3]", "f32[2,36,3,3]", "f32[4]", "f32[2,18,3,3]", group=2,
            offset_group=2, pads=(1, 1, 1, 1), strides=(2, 2),
        ),
        sample("f32[1,2,7]", "f32[2,2,3]", "f32[1,3,3]", dilations=(2,)),
        sample("f64[1,2,7]", "f64[2,2,3]", "f64[1,3,3]", dilations=(2,)),
    )


@operator("CausalConvWithState")
class CausalConvWithState(Operator):
    """Depthwise convolution over the past and present only, with a state carried between calls.

    Shapes: x [n, c, l], w [c, 1, k], bias [c], past [n, c, k - 1] -> y [n, c, l],
    present [n, c, k - 1].
    Source: ONNX CausalConvWithState-27.
    """

    activation: str = "none"

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, w: TensorType, bias: TensorType | None = None,
        past: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        check_floats(x, w, bias, past)
        if self.activation not in ("none", "silu", "swish"):
            raise ShapeError(f"activation is {self.activation!r}; none, silu or swish expected")
        if x.shape is None or w.shape is None:
            return x.with_shape(None), x.with_shape(None)
        if x.rank != 3 or w.rank != 3:
            raise ShapeError(f"x and w have ranks {x.rank} and {w.rank}; 3 expected")
        same_dim("channels of x and w", x.dims[1], w.dims[0])
        return x.without_value(), x.with_shape((*x.dims[:2], w.dims[2] - 1))

    def reference(
        self, x: Array, w: Array, bias: Array | None = None, past: Array | None = None
    ) -> tuple[Array, Array]:
        width = w.shape[2]
        head = past if past is not None else np.zeros((*x.shape[:2], width - 1), x.dtype)
        line = np.concatenate([head, x], axis=2)
        length = x.shape[2]
        total = sum(
            widen(line[:, :, k : k + length]) * widen(w[:, :, k]) for k in range(width)
        )
        if bias is not None:
            total = total + widen(bias)[:, None]
        if self.activation != "none":
            total = total / (1 + np.exp(-total))
        return narrow(total, x.dtype), line[:, :, line.shape[2] - (width - 1) :]

    def lower(
        self, x: Tensor, w: Tensor, bias: Tensor | None = None, past: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        width, length = w.shape[2], x.shape[2]

        def line(n: Expr, c: Expr, t: Expr) -> Expr:
            """Element of the past followed by x, at position t - (width - 1)."""
            now = x.at(n, c, t - (width - 1), fill=0)
            if past is None or width == 1:
                return now
            return te.where(t < width - 1, past.at(n, c, t, fill=0), now)

        k = te.reduce_axis(width)
        total = te.compute(
            wide(x.dtype), x.shape,
            lambda n, c, t: te.sum_(load(line(n, c, t + k)) * load(w[c, 0, k]), k), "conv",
        )

        def finish(n: Expr, c: Expr, t: Expr) -> Expr:
            value = total[n, c, t]
            if bias is not None:
                value = value + load(bias[c])
            if self.activation != "none":
                value = value * te.sigmoid(value)
            return te.cast(value, x.dtype)

        y = te.compute(x.dtype, x.shape, finish, "causal")
        present = te.compute(
            x.dtype, (*x.shape[:2], width - 1), lambda n, c, t: line(n, c, t + length), "present"
        )
        return y, present

    samples = (
        sample("f32[2,3,7]", "f32[3,1,4]", "f32[3]", "f32[2,3,3]", outputs=2, activation="silu"),
        sample("f32[1,3,2]", "f32[3,1,4]", None, "f32[1,3,3]", outputs=2),
        sample("f32[1,2,5]", "f32[2,1,3]", outputs=2), sample("f32[1,2,5]", "f32[2,1,1]"),
    )
