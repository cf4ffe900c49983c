"""Changes of element type: Cast, CastLike, BitCast."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import (
    COMPILED,
    DTYPES,
    DType,
    as_type,
    boolean,
    dtype_from_numpy,
    f32,
    f64,
    i32,
    string,
    u8,
    u32,
)
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.content import truncated
from bessemer.ops.dims import Array, check_choice, known_dims, with_content

_WORDS = {"+inf": np.inf, "inf": np.inf, "-inf": -np.inf, "nan": np.nan}


def _from_strings(x: Array, dtype: DType) -> Array:
    """Numbers from their text; +INF, INF, -INF and NaN in any case."""
    if dtype.is_integer:
        numbers: list[Any] = [
            int(float(t)) if "." in t or "e" in t.lower() else int(t)
            for t in map(str, x.reshape(-1))
        ]
        return np.array(numbers, np.int64).reshape(x.shape).astype(dtype.numpy)
    words = [_WORDS.get(str(t).strip().lower(), t) for t in x.reshape(-1)]
    return np.array([float(w) for w in words], np.float64).reshape(x.shape).astype(dtype.numpy)


def _to_exponents(x: Array, saturate: bool, round_mode: str) -> Array:
    """Powers of two as f8e8m0: the bits are the exponent + 127; 255 is NaN.

    Source: OCP Microscaling Formats 1.0, section 5.4.
    """
    mantissa, exponent = np.frexp(x.astype(np.float64))
    biased = exponent.astype(np.int64) - 1 + 127
    rounds_up: dict[str, Callable[[], Array]] = {
        "up": lambda: mantissa > 0.5,
        "down": lambda: np.zeros(x.shape, bool),
        "nearest": lambda: mantissa >= 0.75,
    }
    biased = biased + rounds_up[round_mode]()
    biased = np.where(x == 0, -1, np.where(np.isinf(x), 999, biased))
    inside = (biased >= 0) & (biased <= 254)
    bits = np.clip(biased, 0, 254) if saturate else np.where(inside, biased, 255)
    bits = np.where(np.isnan(x) | (x < 0), 255, bits).astype(np.uint8)
    return np.asarray(bits).view(DTYPES["f8e8m0"].numpy)


def _largest(dtype: DType) -> float:
    """The largest finite value of a small float type."""
    patterns = np.arange(256, dtype=np.uint8).view(dtype.numpy).astype(np.float32)
    return float(np.max(patterns, where=np.isfinite(patterns), initial=0.0))


def convert(x: Array, dtype: DType, saturate: bool = True, round_mode: str = "up") -> Array:
    """The array in another element type, as ONNX Cast does it.

    Shapes: x [*] -> y [*]. Integers wrap; floats become infinite out of range, 8-bit floats their
    largest value with `saturate`; anything to bool is != 0.
    """
    if dtype == string:
        texts = [str(element) for element in x.reshape(-1)]
        return np.array(texts, object).reshape(x.shape)
    with np.errstate(all="ignore"):
        if x.dtype.kind in "OUS":
            return _from_strings(x, dtype)
        if dtype.name == "f8e8m0":
            return _to_exponents(x, saturate, round_mode)
        if dtype.name.startswith("f8") and saturate:
            wide = x.astype(np.float32)
            top = _largest(dtype)
            # The limit must hold after rounding, and numpy.clip passes NaN on.
            return np.asarray(np.clip(wide, -top, top)).astype(dtype.numpy)
        if dtype.kind == "bool":
            return np.asarray(x != 0)
        return as_type(x, dtype)


def _cast_type(x: TensorType, dtype: DType) -> TensorType:
    content = known_dims(x) if x.dtype.is_integer else None
    if x.fractions is not None and dtype.is_integer:
        content = truncated(x.fractions)
    if content is None or x.shape is None or dtype.bits < 8:
        kept = x.fractions if dtype in (f32, f64) else None
        return TensorType(dtype, x.shape, fractions=kept)
    if dtype.is_integer:
        return with_content(dtype.numpy, x.shape, content)
    if dtype not in (f32, f64) or all(isinstance(dim, int) for dim in content):
        return TensorType(dtype, x.shape)
    return TensorType(dtype, x.shape, fractions=tuple((dim, 1) for dim in content))


def convert_expr(value: te.Expr, dtype: DType, saturate: bool, round_mode: str) -> te.Expr:
    """What `convert` does, of one element."""
    if dtype.name == "f8e8m0":
        return _exponent_expr(te.cast(value, f32), saturate, round_mode)
    if dtype.name.startswith("f8") and saturate:
        top = _largest(dtype)
        value = te.minimum(te.maximum(te.cast(value, f32), -top), top)
    return te.cast(value, dtype)


def _exponent_expr(value: te.Expr, saturate: bool, round_mode: str) -> te.Expr:
    """What `_to_exponents` does, of one f32 element; by the bits of the number."""
    bits = te.cast(te.bitcast(value, u32), i32)
    # A subnormal number is made normal; its exponent is then 23 too high.
    tiny = bits < 0x00800000
    scaled = te.cast(te.bitcast(value * 2.0**23, u32), i32)
    normal = te.where(tiny, scaled, bits)
    added = {"up": 0x7FFFFF, "down": 0, "nearest": 0x400000}[round_mode]
    code = ((normal + added) >> 23) - te.where(tiny, te.const(23, i32), 0)
    if saturate:
        code = te.minimum(te.maximum(code, 0), 254)
        code = te.where(te.equal(value, 0.0), 0, te.where(te.isinf(value), 254, code))
    else:
        outside = (code < 0) | (code > 254) | te.equal(value, 0.0) | te.isinf(value)
        code = te.where(outside, 255, code)
    code = te.where(te.isnan(value) | (value < 0.0), 255, code)
    return te.bitcast(te.cast(code, u8), DTYPES["f8e8m0"])


def _cast_compute(x: te.Tensor, dtype: DType, saturate: int, round_mode: str) -> te.Tensor:
    for side in (x.dtype, dtype):
        if side not in COMPILED:
            raise Unlowerable(f"a cast from {x.dtype} to {dtype}")
    if dtype.name == "f8e8m0" and x.dtype.bits >= 32 and x.dtype != f32:
        raise Unlowerable(f"a cast from {x.dtype} to f8e8m0: f32 would lose digits")
    return te.compute(
        dtype, x.shape, lambda *i: convert_expr(x.at(*i), dtype, bool(saturate), round_mode))


@operator("Cast")
class Cast(Operator):
    """The input in the element type `to`. Source: ONNX Cast-28."""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("to",)
    to: str = "f32"
    saturate: int = 1
    round_mode: str = "up"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", to="i32", low=-9, high=9),
        sample("f32[]", to="f16"),
        sample("i64[4]", to="f32"),
        sample("f32[5]", to="bool"),
        sample("bool[3]", to="i8"),
        sample("bool[3]", to="bf16"),
        sample("f32[0,2]", to="f64"),
        sample("f32[7]", to="bf16"),
        sample("i32[6]", to="u8", low=-600, high=600),
        sample("f64[5]", to="f32"),
        sample("f16[5]", to="f32"),
        sample("bf16[5]", to="f16"),
        sample("u8[5]", to="i64", high=255),
        sample("f32[9]", to="f8e4m3fn", low=-600, high=600),
        sample("f32[9]", to="f8e5m2", low=-9e4, high=9e4, saturate=0),
        sample("f32[9]", to="f8e8m0", low=0.1, high=9),
        sample("i32[5]", to="i4", low=-8, high=7),
        sample("f32[37]", to="f8e4m3fnuz", low=-600, high=600, saturate=0),
        sample("f16[37]", to="f8e5m2fnuz"),
        sample("bf16[37]", to="f8e8m0", low=0, round_mode="nearest"),
        sample("f32[37]", to="f8e8m0", low=-1e-38, high=1e-38, round_mode="down", saturate=0),
        sample("f32[37]", to="f4e2m1", low=-8, high=8),
        sample("f64[37]", to="f16"),
        sample("u4[37]", to="f16", high=15),
        sample("i2[37]", to="i64"),
        sample("f16[37]", to="u2", low=0, high=3),
        sample("f8e4m3fn[37]", to="f32", low=-400, high=400),
        sample("f8e5m2[37]", to="bf16", low=-400, high=400),
        sample("f8e4m3fnuz[37]", to="i8", low=-100, high=100),
        sample("f8e8m0[37]", to="f32", low=0, high=100),
        sample("f4e2m1[37]", to="f8e5m2fnuz", low=-6, high=6),
        sample("i4[37]", to="u4", low=-8, high=7),
        sample("f32[3]", to="string"),
        sample(np.array(["1.5", "-INF", "nan"], object), to="f32"),
        sample(np.array(["12", "-3"], object), to="i32"),
        sample(np.array([np.nan, 0.0, -0.0, np.inf], np.float32), to="bool"),
        sample(np.array([70000, -1e9, np.inf, np.nan], np.float32), to="f16"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_choice(self, "round_mode", self.round_mode, "up", "down", "nearest")
        return _cast_type(x, DTYPES[self.to])

    def reference(self, x: Array) -> Array:
        return convert(x, DTYPES[self.to], bool(self.saturate), self.round_mode)

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        return _cast_compute(x, DTYPES[self.to], self.saturate, self.round_mode)


@operator("CastLike")
class CastLike(Operator):
    """The input in the element type of the second input. Source: ONNX CastLike-25."""

    saturate: int = 1
    round_mode: str = "up"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", "i32[]", low=-9, high=9),
        sample("i64[4]", "f32[2]"),
        sample("f32[0]", "f16[1]"),
        sample("f32[5]", "bool[]"),
        sample("f32[4]", "f8e4m3fn[1]"),
    )

    def infer(self, x: TensorType, target_type: TensorType) -> TensorType:
        return _cast_type(x, target_type.dtype)

    def reference(self, x: Array, target_type: Array) -> Array:
        dtype = dtype_from_numpy(target_type.dtype)
        return convert(x, dtype, bool(self.saturate), self.round_mode)

    def lower(self, x: te.Tensor, target_type: te.Tensor, **_: Any) -> te.Tensor:
        return _cast_compute(x, target_type.dtype, self.saturate, self.round_mode)


@operator("BitCast")
class BitCast(Operator):
    """The same bits read as another element type of equal width. Source: ONNX BitCast-26."""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("to",)
    to: str = "f32"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", to="i32"),
        sample("i32[4]", to="f32", low=0, high=2**30),
        sample("f16[3]", to="u16"),
        sample("f64[]", to="i64"),
        sample("u8[5]", to="i8", high=255),
        sample("f32[0,2]", to="u32"),
        sample("bool[3]", to="u8"),
        sample("bf16[3]", to="i16"),
    )

    def infer(self, x: TensorType) -> TensorType:
        dtype = DTYPES[self.to]
        if dtype.bits != x.dtype.bits:
            raise ShapeError(f"BitCast from {x.dtype} to {dtype}: the widths differ")
        return TensorType(dtype, x.shape)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x).view(DTYPES[self.to].numpy).reshape(x.shape).copy()

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        dtype = DTYPES[self.to]
        if x.dtype not in COMPILED or dtype not in COMPILED:
            raise Unlowerable(f"a bit cast from {x.dtype} to {dtype}")
        if boolean in (x.dtype, dtype):
            # A bool is one byte in memory but one bit in an expression.
            byte = u8 if dtype == boolean else dtype
            return te.compute(dtype, x.shape, lambda *i: te.cast(te.cast(x.at(*i), byte), dtype))
        return te.compute(dtype, x.shape, lambda *i: te.bitcast(x.at(*i), dtype))
