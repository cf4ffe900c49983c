"""Convolution over one, two, three or more spatial axes."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, rounded, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.window import Window, resolve_window
from bessemer.te import Expr, Tensor


def check_conv(x: TensorType, w: TensorType, bias: TensorType | None, group: int) -> None:
    """Checks ranks and channels of x [n, c, *spatial], w [m, c / group, *kernel], bias [m]."""
    if x.shape is None or w.shape is None:
        return
    if x.rank < 3 or x.rank != w.rank:
        raise ShapeError(f"x has rank {x.rank} and w rank {w.rank}; equal ranks >= 3 expected")
    if group < 1:
        raise ShapeError(f"group is {group}; at least 1 expected")
    same_dim("channels of x and group * channels of w", x.dims[1], w.dims[1] * group)
    filters = w.dims[0]
    if isinstance(filters, int) and filters % group:
        raise ShapeError(f"{filters} filters cannot be split into {group} groups")
    if bias is not None and bias.shape is not None:
        if bias.rank != 1:
            raise ShapeError(f"bias has rank {bias.rank}; 1 expected")
        same_dim("filters and bias", filters, bias.dims[0])


def convolve(x: Array, w: Array, window: Window, group: int, fill: Any = 0) -> Array:
    """Grouped convolution in the arrays' own type: [n, c, *spatial] -> [n, m, *out]."""
    views = window.view(x, fill)
    batch, channels = views.shape[:2]
    out = views.shape[2 : 2 + window.rank]
    filters = w.shape[0]
    split = views.reshape(batch, group, channels // group, *out, *window.kernel)
    # [group, batch, *out, channels / group, *kernel] as one matrix per group.
    spatial = tuple(range(3, 3 + window.rank))
    kernel = tuple(range(3 + window.rank, 3 + 2 * window.rank))
    moved = split.transpose(1, 0, *spatial, 2, *kernel)
    count, depth = int(np.prod((batch, *out))), int(np.prod(w.shape[1:]))
    rows = moved.reshape(group, count, depth)
    columns = w.reshape(group, filters // group, depth).transpose(0, 2, 1)
    result = (rows @ columns).reshape(group, batch, *out, filters // group)
    order = (1, 0, 2 + window.rank, *range(2, 2 + window.rank))
    return result.transpose(order).reshape(batch, filters, *out)


def channel_index(filters: Dim, per_filter: Dim, group: int, oc: Expr, ic: Expr) -> Expr:
    """Input channel for filter `oc` and channel `ic` within its group."""
    if group == 1:
        return ic
    if per_filter == 1 and filters == group:
        return oc
    return oc // (filters // group) * per_filter + ic


def conv_sum(
    x: Tensor, w: Tensor, window: Window, group: int, load_x: Any = load, load_w: Any = load
) -> Tensor:
    """The sum over channels and window of x * w as one compute, in the type of the products."""
    filters, per_filter = w.shape[:2]
    fill = 0 if window.reaches_outside(x.shape[2:]) else None
    axes = [te.reduce_axis(per_filter, "ic")] + [te.reduce_axis(k, "k") for k in window.kernel]

    def body(n: Expr, oc: Expr, *outer: Expr) -> Expr:
        ic, *inner = axes
        channel = channel_index(filters, per_filter, group, oc, ic)
        value = load_x(x.at(n, channel, *window.positions(outer, inner), fill=fill))
        return te.sum_(value * load_w(w[(oc, ic, *inner)]), *axes)

    dtype = load_x(x.at(*(0,) * x.rank)).dtype
    return te.compute(dtype, (x.shape[0], filters, *window.out), body, "conv")


def conv_window(op: Any, x: tuple[Dim, ...], w: tuple[Dim, ...]) -> Window:
    """The resolved window of a convolution operator for shapes of x and w.

    Raises: ShapeError if the kernel extents are not known or the window does not fit.
    """
    kernel = tuple(k for k in w[2:] if isinstance(k, int))
    if len(kernel) != len(w) - 2:
        raise ShapeError(f"the kernel extents of w {w} must be known")
    if op.kernel_shape and op.kernel_shape != kernel:
        raise ShapeError(f"kernel_shape {op.kernel_shape} does not match w {w}")
    return resolve_window(x[2:], kernel, op.strides, op.dilations, op.pads, op.auto_pad)


@operator("Conv")
class Conv(Operator):
    """Convolution (cross-correlation) with pads, strides, dilations and groups.

    Shapes: x [n, c, *spatial], w [m, c / group, *kernel], bias [m] -> y [n, m, *out].
    Source: ONNX Conv-22.
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.COMPLEX_OUT

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        check_floats(x, w, bias)
        check_conv(x, w, bias, self.group)
        if x.shape is None or w.shape is None:
            return x.with_shape(None)
        return x.with_shape((x.dims[0], w.dims[0], *conv_window(self, x.dims, w.dims).out))

    def reference(self, x: Array, w: Array, bias: Array | None = None) -> Array:
        result = convolve(widen(x), widen(w), conv_window(self, x.shape, w.shape), self.group)
        if bias is not None:
            result = result + widen(bias).reshape(-1, *(1,) * (x.ndim - 2))
        return narrow(result, x.dtype)

    def lower(self, x: Tensor, w: Tensor, bias: Tensor | None = None, **_: Any) -> Tensor:
        total = conv_sum(x, w, conv_window(self, x.shape, w.shape), self.group)
        if bias is None:
            return rounded(total, x.dtype)
        given = bias
        return te.compute(
            x.dtype, total.shape,
            lambda n, c, *s: te.cast(total[(n, c, *s)] + load(given[c]), x.dtype), "biased",
        )

    samples = (
        sample("f32[1,3,7,5]", "f32[4,3,3,3]", "f32[4]", pads=(1, 1, 1, 1)),
        sample("f32[2,4,8,9]", "f32[6,4,1,1]"),
        sample(
            "f32[1,4,9,8]", "f32[6,2,3,2]", "f32[6]", group=2, strides=(2, 3), pads=(0, 1, 2, 0)
        ),
        sample("f32[2,5,6,7]", "f32[5,1,3,3]", "f32[5]", group=5, pads=(1, 1, 1, 1)),
        sample("f32[1,3,6,7]", "f32[6,1,3,3]", group=3, strides=(2, 2), auto_pad="SAME_UPPER"),
        sample("f32[1,2,9,11]", "f32[3,2,3,3]", dilations=(2, 3), auto_pad="SAME_LOWER"),
        sample("f32[1,2,9,11]", "f32[3,2,2,3]", strides=(2, 1), auto_pad="VALID"),
        sample("f32[2,3,11]", "f32[4,3,3]", "f32[4]", strides=(2,), pads=(1, 0)),
        sample("f32[1,2,4,5,6]", "f32[3,2,2,3,2]", pads=(0, 1, 0, 1, 1, 1), strides=(1, 2, 1)),
        sample("f16[1,3,5,5]", "f16[2,3,3,3]", "f16[2]", pads=(1, 1, 1, 1)),
        sample("f64[1,3,5,5]", "f64[2,3,3,3]", kernel_shape=(3, 3)),
        sample("f32[0,3,5,5]", "f32[2,3,3,3]"),
    )
