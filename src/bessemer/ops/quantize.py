"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: per tensor, per axis, per block."""

from collections.abc import Sequence
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.dtypes import COMPILED, DTYPES, DType, dtype_from_numpy, f32, u8
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, scalar
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array, normalize_axis
from bessemer.ops.elementwise import own_index
from bessemer.te import Expr, Tensor


def require_compiled(op: Operator, *dtypes: DType) -> None:
    """Raises Unlowerable if kernels cannot compute with one of the element types."""
    for dtype in dtypes:
        if dtype not in COMPILED:
            raise Unlowerable(f"{op.op_name} on {dtype} runs on the host")


def integer_range(dtype: DType) -> tuple[int, int]:
    """Smallest and largest value of an integer type."""
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _finite_range(dtype: DType) -> tuple[float, float]:
    """Smallest and largest finite value of a float type."""
    limits = ml_dtypes.finfo(dtype.numpy)
    return float(limits.min), float(limits.max)


def saturate_array(values: Array, dtype: DType, saturate: bool = True) -> Array:
    """Floats rounded half to even and clipped to the type; small floats clip if `saturate`."""
    if dtype.is_integer:
        low, high = integer_range(dtype)
        return np.asarray(np.clip(np.rint(values), low, high)).astype(np.int64).astype(dtype.numpy)
    if saturate:
        top = float(ml_dtypes.finfo(dtype.numpy).max)
        values = np.clip(values, -top, top)
    return values.astype(dtype.numpy)


def saturate_expr(value: Expr, dtype: DType, saturate: bool = True) -> Expr:
    """What `saturate_array` does, of one f32 element; for integers it must be integral already."""
    if dtype.is_float and not saturate:
        return te.cast(value, dtype)
    low, high = integer_range(dtype) if dtype.is_integer else _finite_range(dtype)
    return te.cast(te.minimum(te.maximum(value, float(low)), float(high)), dtype)


def spread(parameter: Array, shape: Sequence[int], axis: int, block: int) -> Array:
    """A scale or zero point shaped to broadcast against a tensor of that shape."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = normalize_axis(axis, len(shape))
    if block:
        return np.repeat(parameter, block, axis=axis).take(range(shape[axis]), axis=axis)
    return parameter.reshape(*(-1 if a == axis else 1 for a in range(len(shape))))


def spread_index(
    i: tuple[Expr, ...], shape: Sequence[Dim], axis: int, block: int
) -> tuple[Expr | int, ...]:
    """Index of the scale that belongs to element `i`; `shape` is the shape of the scale."""
    if not shape:
        return ()
    if len(shape) == 1 and shape[0] == 1:
        return (0,)
    axis = normalize_axis(axis, len(i))
    if block:
        return (*i[:axis], i[axis] // block, *i[axis + 1 :])
    return (own_index(i[axis], shape[0]),)


def _same_parameter(zero: TensorType, scale: TensorType) -> bool:
    """True if the shapes agree or may agree; [] and [1] both mean one for the whole tensor."""
    if not zero.is_static or not scale.is_static or zero.shape == scale.shape:
        return True
    return {zero.shape, scale.shape} == {(), (1,)}


def check_scale(
    x: TensorType, scale: TensorType, zero: TensorType | None, axis: int, block: int
) -> None:
    """Raises ShapeError if scale or zero point do not fit x."""
    if zero is not None and not _same_parameter(zero, scale):
        raise ShapeError(f"zero point {zero} and scale {scale} differ in shape")
    if x.shape is None or scale.shape is None or not scale.shape or scale.shape == (1,):
        return
    axis = normalize_axis(axis, x.rank)
    if block < 0:
        raise ShapeError(f"block_size is {block}; 0 or more expected")
    extent = x.dims[axis]
    if block:
        expected: tuple[Dim, ...] = (
            *x.dims[:axis], (extent + block - 1) // block, *x.dims[axis + 1 :]
        )
    else:
        expected = (extent,)
    wanted = TensorType(scale.dtype, expected)
    if wanted.is_static and scale.is_static and scale.shape != expected:
        raise ShapeError(f"scale {scale} does not fit x {x} along axis {axis}; {wanted} expected")
    for found, right in zip(scale.dims, expected):
        assume(found, right, "equal" if block else "equal or 1")
    for found, right in zip(zero.dims if zero is not None and zero.shape else (), scale.dims):
        assume(found, right)


@operator("QuantizeLinear")
class QuantizeLinear(Operator):
    """saturate(round(x / scale) + zero point), rounding half to even.

    Shapes: x [*], scale and zero point [], [d] along `axis`, or blocks of `block_size` -> y [*].
    Source: ONNX QuantizeLinear-28.
    """

    axis: int = 1
    block_size: int = 0
    output_dtype: str = ""
    precision: str = ""
    saturate: int = 1

    dtype_attributes: ClassVar[tuple[str, ...]] = ("output_dtype", "precision")
    fusion = FusionClass.INJECTIVE

    def _result(self, zero: DType | None) -> DType:
        if zero is not None:
            return zero
        return DTYPES[self.output_dtype] if self.output_dtype else u8

    def infer(
        self, x: TensorType, scale: TensorType, zero: TensorType | None = None
    ) -> TensorType:
        check_scale(x, scale, zero, self.axis, self.block_size)
        if scale.dtype.is_integer and scale.dtype.name != "i32":
            raise ShapeError(f"the scale is {scale}; f32, f16, bf16 or i32 expected")
        return TensorType(self._result(zero.dtype if zero is not None else None), x.shape)

    def reference(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        dtype = self._result(dtype_from_numpy(zero.dtype) if zero is not None else None)
        precision = DTYPES[self.precision].numpy if self.precision else scale.dtype
        scales = spread(scale, x.shape, self.axis, self.block_size).astype(precision)
        with np.errstate(all="ignore"):
            values = (x.astype(precision) / scales).astype(np.float32)
        if dtype.is_integer:
            values = np.rint(values)
        if zero is not None:
            offset = spread(zero, x.shape, self.axis, self.block_size)
            values = values + offset.astype(np.float32)
        return saturate_array(values, dtype, bool(self.saturate))

    def lower(self, x: Tensor, scale: Tensor, zero: Tensor | None = None, **_: Any) -> Tensor:
        dtype = self._result(zero.dtype if zero is not None else None)
        precision = DTYPES[self.precision] if self.precision else scale.dtype
        require_compiled(self, x.dtype, scale.dtype, precision, dtype)

        def body(*i: Expr) -> Expr:
            place = spread_index(i, scale.shape, self.axis, self.block_size)
            value = te.cast(x[i], precision) / te.cast(scale[place], precision)
            value = te.cast(value, f32)
            rounded = te.round_(value) if dtype.is_integer else value
            if zero is not None:
                spot = spread_index(i, zero.shape, self.axis, self.block_size)
                rounded = rounded + te.cast(zero[spot], f32)
            return saturate_expr(rounded, dtype, bool(self.saturate))

        return te.compute(dtype, x.shape, body, "quantized")

    samples = (
        sample("f32[2,3,5]", scalar(0.02, "f32"), scalar(128, "u8")),
        sample("f32[2,3,5]", scalar(0.01, "f32"), scalar(-3, "i8")),
        sample("f32[2,3]", np.array([0.1, 0.02, 0.5], np.float32), np.zeros(3, np.int8)),
        sample("f32[3,2]", np.array([0.1, 0.02, 0.5], np.float32), axis=0),
        sample("f32[2,5]", "f32[2,3]", block_size=2, axis=-1, output_dtype="i8", low=0.5),
        sample("f32[2,5]", scalar(0.01, "f32"), output_dtype="i16"),
        sample("f16[2,5]", scalar(0.125, "f16"), scalar(7, "u8")),
        sample("f32[4]", scalar(0.5, "f32"), output_dtype="i4"),
        sample("f32[4]", scalar(0.01, "f32"), output_dtype="f8e4m3fn"),
        sample("f32[9]", scalar(0.001, "f32"), output_dtype="f8e4m3fn", saturate=0),
        sample("f32[37]", scalar(0.003, "f32"), output_dtype="f8e5m2fnuz"),
        sample("f32[37]", scalar(0.5, "f32"), output_dtype="f4e2m1"),
        sample("f32[3,7]", "f32[3,4]", block_size=2, axis=-1, output_dtype="u2", low=0.5),
        sample("f16[3,7]", "f32[3,4]", block_size=2, axis=-1, output_dtype="f8e4m3fnuz", low=0.5),
    )


@operator("DequantizeLinear")
class DequantizeLinear(Operator):
    """(x - zero point) * scale.

    Shapes: x [*], scale and zero point [], [d] along `axis`, or blocks of `block_size` -> y [*].
    Source: ONNX DequantizeLinear-28.
    """

    axis: int = 1
    block_size: int = 0
    output_dtype: str = ""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("output_dtype",)
    fusion = FusionClass.INJECTIVE

    def infer(
        self, x: TensorType, scale: TensorType, zero: TensorType | None = None
    ) -> TensorType:
        check_scale(x, scale, zero, self.axis, self.block_size)
        return TensorType(DTYPES[self.output_dtype] if self.output_dtype else scale.dtype, x.shape)

    def reference(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        dtype = DTYPES[self.output_dtype].numpy if self.output_dtype else scale.dtype
        if x.dtype.itemsize < 4:
            # Differences of integers this small are exact in float32.
            values = x.astype(np.float32)
        else:
            values = x.astype(np.int64)
        if zero is not None:
            values = values - spread(zero, x.shape, self.axis, self.block_size).astype(values.dtype)
        scales = spread(scale, x.shape, self.axis, self.block_size).astype(np.float32)
        return narrow(values.astype(np.float32) * scales, dtype)

    def lower(self, x: Tensor, scale: Tensor, zero: Tensor | None = None, **_: Any) -> Tensor:
        dtype = DTYPES[self.output_dtype] if self.output_dtype else scale.dtype
        require_compiled(self, x.dtype, scale.dtype, dtype)

        def body(*i: Expr) -> Expr:
            place = spread_index(i, scale.shape, self.axis, self.block_size)
            value = x[i]
            if zero is not None:
                middle = f32 if x.dtype.is_float else DTYPES["i32"]
                spot = spread_index(i, zero.shape, self.axis, self.block_size)
                value = te.cast(value, middle) - te.cast(zero[spot], middle)
            # The product alone is what a QuantizeLinear behind an Add must see: sums of such
            # products lie on its ties, where one rounding more or less decides.
            product = te.rounded(te.cast(value, f32) * te.cast(scale[place], f32))
            return te.cast(product, dtype)

        return te.compute(dtype, x.shape, body, "dequantized")

    samples = (
        sample("u8[2,3,5]", scalar(0.02, "f32"), scalar(128, "u8"), low=0, high=255),
        sample("i8[2,3,5]", scalar(0.01, "f32"), scalar(-3, "i8"), low=-128, high=127),
        sample("i8[2,3]", np.array([0.1, 0.02, 0.5], np.float32), low=-128, high=127),
        sample("u8[3,2]", np.array([0.1, 0.02, 0.5], np.float32), np.array([1, 2, 3], np.uint8),
               axis=0, low=0, high=255),
        sample("i8[2,5]", "f32[2,3]", "i8[2,3]", block_size=2, axis=-1),
        sample("i32[7]", scalar(0.01, "f32"), low=-1000, high=1000),
        sample("u16[7]", scalar(0.01, "f32"), scalar(300, "u16"), low=0, high=1000),
        sample("u8[7]", scalar(0.25, "f16"), scalar(3, "u8"), low=0, high=9),
        sample("i4[4]", scalar(0.5, "f32")),
        sample("u4[3,7]", "f32[3,4]", "u4[3,4]", block_size=2, axis=-1, high=15),
        sample("i2[37]", scalar(0.5, "f16")),
        sample("f8e4m3fn[37]", scalar(0.5, "f32"), low=-300, high=300),
        sample("f8e5m2[3,7]", "f32[3,4]", "f8e5m2[3,4]", block_size=2, axis=-1),
        sample("f4e2m1[37]", scalar(0.5, "bf16"), low=-6, high=6),
    )


@operator("DynamicQuantizeLinear")
class DynamicQuantizeLinear(Operator):
    """Quantises x to u8 with the scale and zero point of its own range (0 included).

    Shapes: x [*] -> y u8 [*], scale f32 [], zero point u8 [].
    Source: ONNX DynamicQuantizeLinear-11.
    """

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
        check_floats(x)
        return TensorType(u8, x.shape), TensorType(f32, ()), TensorType(u8, ())

    def reference(self, x: Array) -> tuple[Array, Array, Array]:
        low = np.minimum(x.min(initial=np.inf), np.float32(0))
        high = np.maximum(x.max(initial=-np.inf), np.float32(0))
        # A tensor of zeros has no range; any scale represents it exactly.
        scale = np.asarray((high - low) / np.float32(255) if high > low else 1, np.float32)
        zero = saturate_array(np.asarray(-low / scale), u8)
        y = saturate_array(np.rint(x / scale) + zero.astype(np.float32), u8)
        return y, scale, zero

    def lower(self, x: Tensor, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        if not x.rank:
            raise Unlowerable("DynamicQuantizeLinear of a scalar runs on the host")

        def extreme(kind: Any, name: str) -> Tensor:
            axes = tuple(te.reduce_axis(extent) for extent in x.shape)
            return te.compute(f32, (), lambda: kind(x[axes], *axes), name)

        top, bottom = extreme(te.max_, "top"), extreme(te.min_, "bottom")

        def scale_body() -> Expr:
            reach = te.maximum(top[()], 0.0) - te.minimum(bottom[()], 0.0)
            return te.where(reach > 0.0, reach / 255.0, 1.0)

        scale = te.compute(f32, (), scale_body, "scale")

        def zero_body() -> Expr:
            return saturate_expr(te.round_(-te.minimum(bottom[()], 0.0) / scale[()]), u8)

        zero = te.compute(u8, (), zero_body, "zero")

        def body(*i: Expr) -> Expr:
            return saturate_expr(te.round_(x[i] / scale[()]) + te.cast(zero[()], f32), u8)

        return te.compute(u8, x.shape, body, "quantized"), scale, zero

    samples = (
        sample("f32[3,5]", outputs=3), sample("f32[7]", low=1, high=3, outputs=3),
        sample("f32[7]", low=-3, high=-1, outputs=3), sample(np.zeros((2, 3), np.float32)),
    )
