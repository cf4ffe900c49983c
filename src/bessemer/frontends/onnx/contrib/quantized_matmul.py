"""Products of quantised matrices whose result is real again: QGemm, DynamicQuantizeMatMul ..."""

from bessemer.core.dtypes import DType, f32, i32
from bessemer.frontends.onnx.contrib.attention import ATTENTION, Scores, attend_joined
from bessemer.frontends.onnx.contrib.quantized import quantize
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.frontends.onnx.types import number_of
from bessemer.ir.graph import Value

_REAL = ("MatMulInteger", "Cast", "Mul", "Add")


def real_product(
    d: Draft, total: Value, a_scale: Value, b_scale: Value, bias: Value | None, dtype: DType,
    name: str = "",
) -> Value:
    """An i32 product times the scales of its factors, plus a bias.

    Shapes: total [*, m, n], a scale [] or [1], b scale [], [n] or [*, 1, n], bias [n].
    """
    if d.dims(a_scale, 0, 1) not in ((), (1,)):
        d.refuse(f"a scale {a_scale.type} of the left factor that is not one number")
    scale = d.op("Mul", d.cast(a_scale, f32), d.cast(b_scale, f32))
    narrow = dtype != f32
    last = bias is None and not narrow
    product = d.op("Mul", d.cast(total, f32), scale, name=name if last else "")
    if bias is not None:
        product = d.op("Add", product, d.cast(bias, f32), name="" if narrow else name)
    return d.op("Cast", product, to=number_of(dtype), name=name) if narrow else product


@contrib("MatMulIntegerToFloat", becomes=_REAL)
def matmul_integer_to_float(
    d: Draft, a: Value, b: Value, a_scale: Value, b_scale: Value, a_zero: Value | None,
    b_zero: Value | None, bias: Value | None,
) -> None:
    """The real product of two quantised matrices."""
    total = d.op("MatMulInteger", a, b, a_zero, b_zero)
    real_product(d, total, a_scale, b_scale, bias, a_scale.tensor.dtype, d.outputs[0])


@contrib("DynamicQuantizeMatMul", becomes=("DynamicQuantizeLinear", *_REAL))
def dynamic_quantize_matmul(
    d: Draft, a: Value, b: Value, b_scale: Value, b_zero: Value | None, bias: Value | None
) -> None:
    """The product of a matrix, quantised by its own range, and a quantised one."""
    quantised, scale, zero = d.ops("DynamicQuantizeLinear", a, names=("", "", ""))
    total = d.op("MatMulInteger", quantised, b, zero, b_zero)
    real_product(d, total, scale, b_scale, bias, f32, d.outputs[0])


@contrib("QGemm", becomes=(*_REAL, "Transpose", "QuantizeLinear"))
def qgemm(
    d: Draft, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value,
    c: Value | None, y_scale: Value | None, y_zero: Value | None, *, alpha: float = 1.0,
    transA: int = 0, transB: int = 0,
) -> None:
    """(a @ b + c) times alpha and the scales; quantised if an output scale is given.

    Shapes: a [m, k], b [k, n] (or transposed), c i32 broadcastable to [m, n].
    """
    if (y_scale is None) != (y_zero is None):
        d.invalid("y_scale and y_zero_point must be given together")
    left = d.transpose(a, 1, 0) if transA else a
    right = d.transpose(b, 1, 0) if transB else b
    total = d.op("MatMulInteger", left, right, a_zero, b_zero)
    if c is not None:
        total = d.op("Add", total, d.cast(c, i32))
    factor = a_scale if alpha == 1 else d.op("Mul", a_scale, d.constant(alpha, f32))
    if y_scale is None or y_zero is None:
        real_product(d, total, factor, b_scale, None, f32, d.outputs[0])
    else:
        real = real_product(d, total, factor, b_scale, None, f32)
        quantize(d, real, y_scale, y_zero, y_zero.tensor.dtype, d.outputs[0])


@contrib("QAttention", outputs=2, becomes=(*_REAL, *ATTENTION))
def qattention(
    d: Draft, x: Value, weight: Value, bias: Value, x_scale: Value, w_scale: Value,
    mask: Value | None, x_zero: Value | None, w_zero: Value | None, past: Value | None, *,
    num_heads: int, unidirectional: int = 0, scale: float | None = None,
    mask_filter_value: float | None = None, do_rotary: int = 0,
    past_present_share_buffer: int = 0,
) -> None:
    """Self-attention with a quantised projection in front."""
    if do_rotary:
        d.refuse("do_rotary")
    if past_present_share_buffer:
        d.refuse("past_present_share_buffer")
    total = d.op("MatMulInteger", x, weight, x_zero, w_zero)
    joined = real_product(d, total, x_scale, w_scale, bias, bias.tensor.dtype)
    part = d.size(weight, 1) // 3
    scores = Scores(num_heads, scale, unidirectional, mask, mask_filter_value, None)
    attend_joined(d, joined, (part, part, part), past, scores)
