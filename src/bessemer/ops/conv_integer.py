"""Integer convolutions: ConvInteger and QLinearConv."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import dtype_from_numpy, f32, i32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, scalar
from bessemer.ops.conv import channel_index, check_conv, conv_window, convolve
from bessemer.ops.dims import Array, Known
from bessemer.ops.elementwise import own_index
from bessemer.ops.quantize import require_compiled, saturate_array, saturate_expr
from bessemer.ops.window import Window
from bessemer.te import Expr, Tensor


def _centred(x: Array, zero: Array | None, rank: int) -> Array:
    """X minus its zero point (a scalar or one per filter) in float64, where sums are exact."""
    if zero is None:
        return x.astype(np.float64)
    offset = zero.reshape(-1, *(1,) * (rank - 1)) if zero.size > 1 else zero.reshape(())
    return np.asarray(x.astype(np.float64) - offset.astype(np.float64))


def integer_conv(
    x: Array, w: Array, x_zero: Array | None, w_zero: Array | None, window: Window, group: int
) -> Array:
    """The i32 convolution of x and w minus their zero points; padding counts as zero."""
    left, right = _centred(x, x_zero, x.ndim), _centred(w, w_zero, w.ndim)
    return narrow(convolve(left, right, window, group).astype(np.int64), np.int32)


def integer_conv_sum(
    x: Tensor, w: Tensor, x_zero: Tensor | None, w_zero: Tensor | None, window: Window,
    group: int, known_zero: Array | None,
) -> Tensor:
    """The i32 convolution; if the zero point of x is a constant it is also the padding."""
    filters, per_filter = int(w.shape[0]), int(w.shape[1])  # type: ignore[arg-type]
    pads = window.reaches_outside(x.shape[2:])
    source, zero = x, int(known_zero.reshape(-1)[0]) if known_zero is not None else 0
    if x_zero is not None and known_zero is None:
        place = (0,) * x_zero.rank
        given = x_zero
        source = te.compute(
            i32, x.shape, lambda *i: te.cast(x[i], i32) - te.cast(given[place], i32), "centred"
        )
    axes = [te.reduce_axis(per_filter, "ic")] + [te.reduce_axis(k, "k") for k in window.kernel]

    def body(n: Expr, oc: Expr, *outer: Expr) -> Expr:
        ic, *inner = axes
        channel = channel_index(filters, per_filter, group, oc, ic)
        fill = zero if pads else None
        value = te.cast(source.at(n, channel, *window.positions(outer, inner), fill=fill), i32)
        weight = te.cast(w[(oc, ic, *inner)], i32)
        if w_zero is not None:
            weight = weight - te.cast(w_zero[_per_filter(w_zero, oc)], i32)
        return te.sum_((value - zero if zero else value) * weight, *axes)

    return te.compute(i32, (x.shape[0], filters, *window.out), body, "conv")


def _per_filter(parameter: Tensor, oc: Expr) -> tuple[Expr | int, ...]:
    return (own_index(oc, parameter.shape[0]),) if parameter.rank else ()


def _infer(op: Any, x: TensorType, w: TensorType) -> tuple[Dim, ...] | None:
    check_conv(x, w, None, op.group)
    if x.shape is None or w.shape is None:
        return None
    return (x.dims[0], w.dims[0], *conv_window(op, x.dims, w.dims).out)


@operator("ConvInteger")
class ConvInteger(Operator):
    """Convolution of x and w minus their zero points, in i32.

    Shapes: x [n, c, *spatial], w [m, c / group, *kernel], x zero [], w zero [] or [m]
    -> y [n, m, *out] i32.
    Source: ONNX ConvInteger-10.
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, w: TensorType, x_zero: TensorType | None = None,
        w_zero: TensorType | None = None,
    ) -> TensorType:
        return TensorType(i32, _infer(self, x, w))

    def reference(
        self, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None
    ) -> Array:
        window = conv_window(self, x.shape, w.shape)
        return integer_conv(x, w, x_zero, w_zero, window, self.group)

    def lower(
        self, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None,
        known: Known = (), **_: Any,
    ) -> Tensor:
        window = conv_window(self, x.shape, w.shape)
        constant = known[2] if len(known) > 2 else None
        return integer_conv_sum(x, w, x_zero, w_zero, window, self.group, constant)

    samples = (
        sample("u8[1,3,7,5]", "i8[4,3,3,3]", pads=(1, 1, 1, 1), low=-99, high=99),
        sample(
            "u8[1,4,6,5]", "u8[4,2,3,3]", scalar(7, "u8"), scalar(3, "u8"), group=2,
            pads=(1, 0, 1, 2),
            low=0, high=255,
        ),
        sample("u8[1,2,6,5]", "i8[3,2,2,2]", "u8[]", "i8[3]", pads=(1, 1, 1, 1), low=0, high=9),
    )


@operator("QLinearConv")
class QLinearConv(Operator):
    """The convolution of quantised tensors, quantised again.

    Shapes: x [n, c, *spatial], w [m, c / group, *kernel], w scale and zero [] or [m], bias i32 [m]
    -> y [n, m, *out] in the dtype of the y zero point.
    Source: ONNX QLinearConv-10.
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, x_scale: TensorType, x_zero: TensorType, w: TensorType,
        w_scale: TensorType, w_zero: TensorType, y_scale: TensorType, y_zero: TensorType,
        bias: TensorType | None = None,
    ) -> TensorType:
        if bias is not None and bias.dtype != i32:
            raise ShapeError(f"bias is {bias.dtype}; i32 expected")
        return TensorType(y_zero.dtype, _infer(self, x, w))

    def reference(
        self, x: Array, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, w_zero: Array,
        y_scale: Array, y_zero: Array, bias: Array | None = None,
    ) -> Array:
        window = conv_window(self, x.shape, w.shape)
        total = integer_conv(x, w, x_zero, w_zero, window, self.group)
        along = (-1, *(1,) * (x.ndim - 2))
        if bias is not None:
            total = total + bias.reshape(along)
        factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
        factor = factor.reshape(along) if factor.size > 1 else factor.reshape(())
        values = np.rint(total.astype(np.float32) * factor) + y_zero.astype(np.float32).reshape(())
        return saturate_array(values, dtype_from_numpy(y_zero.dtype))

    def lower(
        self, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor,
        w_zero: Tensor, y_scale: Tensor, y_zero: Tensor, bias: Tensor | None = None,
        known: Known = (), **_: Any,
    ) -> Tensor:
        require_compiled(self, x.dtype, w.dtype, y_zero.dtype)
        window = conv_window(self, x.shape, w.shape)
        constant = known[2] if len(known) > 2 else None
        total = integer_conv_sum(x, w, x_zero, w_zero, window, self.group, constant)

        def body(n: Expr, oc: Expr, *s: Expr) -> Expr:
            value = total[(n, oc, *s)]
            if bias is not None:
                value = value + bias[oc]
            scales = x_scale[(0,) * x_scale.rank] * w_scale[_per_filter(w_scale, oc)]
            factor = scales / y_scale[(0,) * y_scale.rank]
            zero = te.cast(y_zero[(0,) * y_zero.rank], f32)
            return saturate_expr(te.round_(te.cast(value, f32) * factor) + zero, y_zero.dtype)

        return te.compute(y_zero.dtype, total.shape, body, "requantized")

    samples = (
        sample(
            "u8[1,3,7,5]", scalar(0.02, "f32"), scalar(113, "u8"), "u8[4,3,3,3]",
            scalar(0.03, "f32"),
            scalar(9, "u8"), scalar(0.1, "f32"), scalar(118, "u8"), pads=(1, 1, 1, 1), low=0,
            high=255,
        ),
        sample(
            "u8[1,4,6,5]", scalar(0.02, "f32"), "u8[]", "i8[4,2,3,3]",
            np.array([0.01, 0.02, 0.05, 0.3], np.float32), np.zeros(4, np.int8),
            scalar(0.25, "f32"),
            scalar(-3, "i8"), "i32[4]", low=0, high=50, group=2, strides=(2, 1), pads=(1, 0, 1, 1),
        ),
    )
