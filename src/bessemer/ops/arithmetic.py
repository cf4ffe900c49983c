"""Element-wise arithmetic of two operands: the four operations, Mod, Pow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.bounds import least
from bessemer.core.dtypes import f32, f64
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import Fractions, TensorType
from bessemer.ops.content import (
    added,
    divided,
    fractions_of,
    is_symbolic,
    multiplied,
    paired,
)
from bessemer.ops.dims import Array, check_kind, known_dims, with_content
from bessemer.ops.elementwise import (
    NUMERIC,
    Binary,
    broadcast_compute,
    broadcast_type,
    is_small_float,
    known_of,
    pair_samples_of,
    widened,
)


class DimArithmetic(Binary):
    """Base of arithmetic that also computes with symbolic dimensions during inference."""

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape | None:
        """The result of paired symbolic elements, or None if it is not expressible."""
        return None

    def fractions(self, a: Fractions, b: Fractions) -> Fractions | None:
        """The result of paired fractions, or None if it is not expressible."""
        return None

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        made = super().infer(a, b)
        if made.shape is None or len(made.shape) > 1:
            return made
        if a.dtype.is_float:
            return self._infer_fractions(a, b, made)
        p, q = known_dims(a), known_dims(b)
        if p is None or q is None or not a.dtype.is_integer:
            return made
        dims = self.dims(paired(p, q))
        return made if dims is None else with_content(a.dtype.numpy, made.dims, dims)

    def _infer_fractions(self, a: TensorType, b: TensorType, made: TensorType) -> TensorType:
        p, q = fractions_of(a), fractions_of(b)
        if p is None or q is None or not (is_symbolic(p) or is_symbolic(q)):
            return made
        return replace(made, fractions=self.fractions(p, q))


@operator("Add")
class Add(DimArithmetic):
    """a + b. Source: ONNX Add-14."""

    def array(self, a: Array, b: Array) -> Any:
        return a + b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a + b

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape:
        return tuple(p + q for p, q in pairs)

    def fractions(self, a: Fractions, b: Fractions) -> Fractions:
        return added(a, b)


@operator("Sub")
class Sub(DimArithmetic):
    """a - b. Source: ONNX Sub-14."""

    def array(self, a: Array, b: Array) -> Any:
        return a - b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a - b

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape:
        return tuple(p - q for p, q in pairs)

    def fractions(self, a: Fractions, b: Fractions) -> Fractions:
        return added(a, b, -1)


@operator("Mul")
class Mul(DimArithmetic):
    """a * b. Source: ONNX Mul-14."""

    def array(self, a: Array, b: Array) -> Any:
        return a * b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a * b

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape:
        return tuple(p * q for p, q in pairs)

    def fractions(self, a: Fractions, b: Fractions) -> Fractions:
        return multiplied(a, b)


@operator("Div")
class Div(DimArithmetic):
    """a / b; integers round toward zero, and give 0 where b is 0. Source: ONNX Div-14."""

    samples = (
        *pair_samples_of("f32 f16 bf16 f64"),
        *pair_samples_of("i32 i64 i8 u8", 1, 20),
        sample(np.array([-7, 7, -7, 7, 0, 5]), np.array([2, -2, -2, 2, 3, 0])),
    )

    def array(self, a: Array, b: Array) -> Any:
        return truncating_quotient(a, b) if a.dtype.kind in "iu" else a / b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a / b

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape | None:
        # Extents are never negative, so rounding down is rounding toward zero.
        if any(not isinstance(p, Sym) and p < 0 for pair in pairs for p in pair) or any(
                q == 0 for _, q in pairs):
            return None
        return tuple(p // q for p, q in pairs)

    def fractions(self, a: Fractions, b: Fractions) -> Fractions | None:
        return divided(a, b)


def truncating_quotient(a: Array, b: Array) -> Array:
    """The integer quotient rounded toward zero; 0 where b is 0."""
    quotient, rest = np.floor_divide(a, b), np.mod(a, b)
    return np.asarray(quotient + ((rest != 0) & ((a < 0) ^ (b < 0))).astype(quotient.dtype))


@operator("Mod")
class Mod(DimArithmetic):
    """Remainder with the sign of b, or with fmod=1 that of a. Source: ONNX Mod-28."""

    fmod: int = 0

    widen = True
    samples = (
        *pair_samples_of("f32 f16 f64", 0.5, 3),
        *pair_samples_of("i32 i64 u8", 1, 9),
        sample("f32[9]", "f32[9]", fmod=1, low=-3, high=3),
        sample("bf16[9]", "bf16[9]", fmod=1, low=-3, high=3),
        sample(np.array([-7, 7, -7, 7]), np.array([3, -3, -3, 3])),
        sample(np.array([-7, 7, -7, 7]), np.array([3, -3, -3, 3]), fmod=1),
        sample(
            np.array([-7, 7, -7.5, 7, np.inf], np.float32),
            np.array([3, -3, -3, np.inf, 2], np.float32),
        ),
    )

    def array(self, a: Array, b: Array) -> Any:
        return np.fmod(a, b) if self.fmod else np.mod(a, b)

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        if not self.fmod:
            return a % b
        return te.binary("fmod" if a.dtype.is_float else "rem", a, b)

    def dims(self, pairs: Sequence[tuple[Dim, Dim]]) -> Shape | None:
        rests: list[Dim] = []
        for p, q in pairs:
            if isinstance(q, Sym) or q <= 0 or (self.fmod and least(p) < 0):
                return None
            rests.append(p % q)
        return tuple(rests)


def _power_by_constant(x: te.Expr, exponent: float) -> te.Expr | None:
    """Short forms of small constant exponents, as numpy takes them."""
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if x.dtype.is_float and exponent == 0.5:
        return te.sqrt(x)
    if x.dtype.is_float and exponent == -1:
        return te.const(1, x.dtype) / x
    return None


@operator("Pow")
class Pow(Operator):
    """x to the power of y, in the dtype of x. Source: ONNX Pow-15.

    Shapes: x [*], y [*] -> z [broadcast]. Integers to a negative power round toward zero.
    """

    fusion = FusionClass.INJECTIVE
    samples = (
        *pair_samples_of("f32 f16 bf16 f64", 0.1, 2),
        sample("f32[3,2]", np.array(2.0, np.float32)),
        sample("f32[3,2]", np.array([3], np.int64)),
        sample("f32[4]", np.array(0.5, np.float32), low=0),
        sample("f32[3]", "i64[3]", low=0.5),
        sample("f32[4]", np.array(-1.0, np.float32), low=0.5),
        sample("i32[5]", "i32[5]", low=0, high=5),
        sample("i64[5]", np.array(2, np.int64)),
        sample(np.array([6658517468405089528, -3]), np.array(2, np.int64)),
        sample("f32[]", "f32[]", low=0.5),
        sample("i32[4]", "f32[4]", low=0, high=3),
        sample("i64[5]", "f32[5]", low=0, high=9),
    )

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        check_kind(self, x, *NUMERIC)
        check_kind(self, y, *NUMERIC)
        return broadcast_type(self, x, y)

    def reference(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            if x.dtype.kind in "iu" and y.dtype.kind in "iu":
                exact = np.power(x, np.maximum(y, 0).astype(x.dtype))
                inverse = np.where(y < 0, np.power(x.astype(np.float64), y), 0)
                # Not in one step: together with floats, integers would lose digits.
                return np.asarray(np.where(y < 0, inverse.astype(x.dtype), exact))
            return np.asarray(np.power(widened(x), widened(y))).astype(x.dtype)

    def lower(self, x: te.Tensor, y: te.Tensor, **options: Any) -> te.Tensor:
        constant = known_of(options, 2)[1]
        exponent = (
            float(constant.reshape(-1)[0])
            if (constant is not None and constant.size == 1)
            else None
        )
        exact = x.dtype.is_integer and y.dtype.is_integer
        if exact and exponent not in (1, 2, 3) and x.dtype.bits > 32:
            raise Unlowerable("Pow of 64-bit integers: f64 would lose digits")
        wide = f64 if x.dtype.is_integer else f32 if is_small_float(x.dtype) else x.dtype

        def element(p: te.Expr, q: te.Expr) -> te.Expr:
            if exponent is not None:
                narrow = p if x.dtype.is_integer else te.cast(p, wide)
                short = _power_by_constant(narrow, exponent)
                if short is not None:
                    return te.cast(short, x.dtype)
            power = te.power(te.cast(p, wide), te.cast(q, wide))
            return te.cast(te.round_(power) if exact else power, x.dtype)

        return broadcast_compute(x.dtype, (x, y), element)
