"""Element-wise operators and pools on quantised tensors: dequantised, computed, quantised again.

Results can differ by one step from kernels that round products of the scales differently.
"""

import numpy as np

from bessemer.core.dtypes import DType
from bessemer.frontends.onnx.contrib.layout import from_channels_last, to_channels_last
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

QDQ = ("DequantizeLinear", "QuantizeLinear")


def dequantize(d: Draft, x: Value, scale: Value, zero: Value | None) -> Value:
    """(x - zero) * scale."""
    return d.op("DequantizeLinear", x, scale, zero)


def quantize(
    d: Draft, y: Value, scale: Value, zero: Value | None, dtype: DType, name: str = ""
) -> Value:
    """Y in steps of the scale, as that dtype if there is no zero point."""
    return d.op("QuantizeLinear", y, scale, _zero(d, scale, zero, dtype), name=name)


def _zero(d: Draft, scale: Value, zero: Value | None, dtype: DType) -> Value:
    if zero is not None:
        return zero
    dims = d.dims(scale, 0, 1)
    return d.constant(np.zeros([d.size(scale, 0)] if dims else []), dtype)


@contrib("QuantizeLinear", becomes=("QuantizeLinear",))
def quantize_linear(
    d: Draft, x: Value, scale: Value, zero: Value | None, *, axis: int = 1
) -> None:
    """The standard QuantizeLinear, which had fewer element types when this one was made."""
    d.op("QuantizeLinear", x, scale, zero, axis=axis, name=d.outputs[0])


@contrib("DequantizeLinear", becomes=("DequantizeLinear",))
def dequantize_linear(
    d: Draft, x: Value, scale: Value, zero: Value | None, *, axis: int = 1
) -> None:
    """The standard DequantizeLinear, which had fewer element types when this one was made."""
    d.op("DequantizeLinear", x, scale, zero, axis=axis, name=d.outputs[0])


@contrib("QLinearAdd", becomes=("Add", *QDQ))
def qlinear_add(
    d: Draft, a: Value, a_scale: Value, a_zero: Value | None, b: Value, b_scale: Value,
    b_zero: Value | None, scale: Value, zero: Value | None,
) -> None:
    """The sum of two quantised tensors."""
    total = d.op("Add", dequantize(d, a, a_scale, a_zero), dequantize(d, b, b_scale, b_zero))
    quantize(d, total, scale, zero, a.tensor.dtype, d.outputs[0])


@contrib("QLinearMul", becomes=("Mul", *QDQ))
def qlinear_mul(
    d: Draft, a: Value, a_scale: Value, a_zero: Value | None, b: Value, b_scale: Value,
    b_zero: Value | None, scale: Value, zero: Value | None,
) -> None:
    """The product of two quantised tensors, element by element."""
    product = d.op("Mul", dequantize(d, a, a_scale, a_zero), dequantize(d, b, b_scale, b_zero))
    quantize(d, product, scale, zero, a.tensor.dtype, d.outputs[0])


@contrib("QLinearWhere", becomes=("Where", *QDQ))
def qlinear_where(
    d: Draft, condition: Value, x: Value, x_scale: Value, x_zero: Value, y: Value, y_scale: Value,
    y_zero: Value, scale: Value, zero: Value,
) -> None:
    """Where of two quantised tensors."""
    chosen = d.op("Where", condition, dequantize(d, x, x_scale, x_zero),
                  dequantize(d, y, y_scale, y_zero))
    quantize(d, chosen, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearConcat", becomes=("Concat", *QDQ))
def qlinear_concat(d: Draft, scale: Value, zero: Value, *parts: Value | None, axis: int) -> None:
    """Quantised tensors one after the other; each comes with its scale and zero point."""
    if not parts or len(parts) % 3 or any(part is None for part in parts):
        d.invalid(f"{len(parts)} inputs are not tensors with their scales and zero points")
    given = [part for part in parts if part is not None]
    values = [dequantize(d, *given[k : k + 3]) for k in range(0, len(given), 3)]
    quantize(d, d.op("Concat", *values, axis=axis), scale, zero, zero.tensor.dtype, d.outputs[0])


@contrib("QLinearSigmoid", becomes=("Sigmoid", *QDQ))
def qlinear_sigmoid(
    d: Draft, x: Value, x_scale: Value, x_zero: Value | None, scale: Value, zero: Value | None
) -> None:
    """Sigmoid of a quantised tensor."""
    y = d.op("Sigmoid", dequantize(d, x, x_scale, x_zero))
    quantize(d, y, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearLeakyRelu", becomes=("LeakyRelu", *QDQ))
def qlinear_leaky_relu(
    d: Draft, x: Value, x_scale: Value, x_zero: Value | None, scale: Value, zero: Value | None, *,
    alpha: float = 0.01,
) -> None:
    """LeakyRelu of a quantised tensor."""
    y = d.op("LeakyRelu", dequantize(d, x, x_scale, x_zero), alpha=alpha)
    quantize(d, y, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearSoftmax", becomes=("Flatten", "Shape", "Reshape", "Softmax", *QDQ))
def qlinear_softmax(
    d: Draft, x: Value, x_scale: Value, x_zero: Value | None, scale: Value, zero: Value, *,
    opset: int, axis: int = -1,
) -> None:
    """Softmax of a quantised tensor; up to opset 12 over all axes from `axis` on."""
    real = dequantize(d, x, x_scale, x_zero)
    rank = d.type(x).rank
    if opset < 13 and axis % rank != rank - 1:
        flat = d.op("Softmax", d.op("Flatten", real, axis=axis), axis=-1)
        y = d.op("Reshape", flat, d.op("Shape", x), allowzero=1)
    else:
        y = d.op("Softmax", real, axis=axis)
    quantize(d, y, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearReduceMean", becomes=("ReduceMean", *QDQ))
def qlinear_reduce_mean(
    d: Draft, x: Value, x_scale: Value, x_zero: Value | None, scale: Value, zero: Value | None, *,
    axes: tuple[int, ...], keepdims: int,
) -> None:
    """The mean of a quantised tensor along axes."""
    mean = d.op("ReduceMean", dequantize(d, x, x_scale, x_zero), d.constant(axes),
                keepdims=keepdims)
    quantize(d, mean, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearGlobalAveragePool", becomes=("ReduceMean", *QDQ))
def qlinear_global_average_pool(
    d: Draft, x: Value, x_scale: Value, x_zero: Value, scale: Value, zero: Value, *,
    channels_last: int = 0,
) -> None:
    """The mean of each channel of a quantised tensor."""
    rank = d.type(x).rank
    axes = range(1, rank - 1) if channels_last else range(2, rank)
    mean = d.op("ReduceMean", dequantize(d, x, x_scale, x_zero), d.constant(axes), keepdims=1)
    quantize(d, mean, scale, zero, x.tensor.dtype, d.outputs[0])


@contrib("QLinearAveragePool", becomes=("AveragePool", "Transpose", *QDQ))
def qlinear_average_pool(
    d: Draft, x: Value, x_scale: Value, x_zero: Value | None, scale: Value, zero: Value | None, *,
    kernel_shape: tuple[int, ...], strides: tuple[int, ...] = (), pads: tuple[int, ...] = (),
    auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    channels_last: int = 0,
) -> None:
    """AveragePool of a quantised tensor."""
    real = dequantize(d, x, x_scale, x_zero)
    if channels_last:
        real = from_channels_last(d, real)
    y = d.op("AveragePool", real, kernel_shape=kernel_shape, strides=strides, pads=pads,
             auto_pad=auto_pad, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
    made = quantize(d, y, scale, zero, x.tensor.dtype, "" if channels_last else d.outputs[0])
    if channels_last:
        to_channels_last(d, made, d.outputs[0])
