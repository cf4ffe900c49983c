"""Comparisons, logic, and operations on bits."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_choice
from bessemer.ops.elementwise import NUMERIC, Binary, Comparison, Unary, pair_samples_of, samples_of


@operator("Equal")
class Equal(Comparison):
    """a == b. Source: ONNX Equal-19."""

    holds = frozenset({0})

    kinds = (*NUMERIC, "bool", "string")
    samples = (
        *pair_samples_of("i32 f32 f16 bf16 f64 bool i8 u8", -2, 3),
        sample(np.array([np.nan, 1, -0.0], np.float32), np.array([np.nan, 1, 0], np.float32)),
        sample(np.array(["a", "b"], object), np.array(["a", "c"], object)),
    )

    def array(self, a: Array, b: Array) -> Any:
        return a == b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return te.equal(a, b)


@operator("Less")
class Less(Comparison):
    """a < b. Source: ONNX Less-13."""

    holds = frozenset({-1})

    def array(self, a: Array, b: Array) -> Any:
        return a < b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a < b


@operator("LessOrEqual")
class LessOrEqual(Comparison):
    """a <= b. Source: ONNX LessOrEqual-16."""

    holds = frozenset({-1, 0})

    def array(self, a: Array, b: Array) -> Any:
        return a <= b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a <= b


@operator("Greater")
class Greater(Comparison):
    """a > b. Source: ONNX Greater-13."""

    holds = frozenset({1})

    def array(self, a: Array, b: Array) -> Any:
        return a > b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a > b


@operator("GreaterOrEqual")
class GreaterOrEqual(Comparison):
    """a >= b. Source: ONNX GreaterOrEqual-16."""

    holds = frozenset({0, 1})

    def array(self, a: Array, b: Array) -> Any:
        return a >= b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a >= b


class Logic(Binary):
    """Base of logic on two bools."""

    kinds = ("bool",)
    samples = pair_samples_of("bool")


@operator("And")
class And(Logic):
    """a and b. Source: ONNX And-7."""

    def array(self, a: Array, b: Array) -> Any:
        return a & b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a & b


@operator("Or")
class Or(Logic):
    """a or b. Source: ONNX Or-7."""

    def array(self, a: Array, b: Array) -> Any:
        return a | b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a | b


@operator("Xor")
class Xor(Logic):
    """Exactly one of a and b. Source: ONNX Xor-7."""

    def array(self, a: Array, b: Array) -> Any:
        return a ^ b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a ^ b


@operator("Not")
class Not(Unary):
    """The opposite of x. Source: ONNX Not-1."""

    kinds = ("bool",)
    samples = samples_of("bool")

    def array(self, x: Array) -> Any:
        return ~x

    def scalar(self, x: te.Expr) -> te.Expr:
        return ~x


class Bitwise(Binary):
    """Base of operations on the bits of two integers."""

    kinds = ("int", "uint")
    samples = (*pair_samples_of("i32 i8 i64", -9, 9), *pair_samples_of("u8 u16", 0, 200))


@operator("BitwiseAnd")
class BitwiseAnd(Bitwise):
    """Bits set in both. Source: ONNX BitwiseAnd-18."""

    def array(self, a: Array, b: Array) -> Any:
        return a & b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a & b


@operator("BitwiseOr")
class BitwiseOr(Bitwise):
    """Bits set in either. Source: ONNX BitwiseOr-18."""

    def array(self, a: Array, b: Array) -> Any:
        return a | b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a | b


@operator("BitwiseXor")
class BitwiseXor(Bitwise):
    """Bits set in exactly one. Source: ONNX BitwiseXor-18."""

    def array(self, a: Array, b: Array) -> Any:
        return a ^ b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a ^ b


@operator("BitwiseNot")
class BitwiseNot(Unary):
    """All bits flipped. Source: ONNX BitwiseNot-18."""

    widen = False
    kinds = ("int", "uint")
    samples = (*samples_of("i32 i8 i64", -9, 9), *samples_of("u8", 0, 200))

    def array(self, x: Array) -> Any:
        return ~x

    def scalar(self, x: te.Expr) -> te.Expr:
        return ~x


@operator("BitShift")
class BitShift(Bitwise):
    """Bits moved LEFT or RIGHT; a shift beyond the width leaves only the sign.

    Source: ONNX BitShift-28.
    """

    direction: str = "LEFT"

    samples = (
        *(sample("u8[2,5]", "u8[5]", low=0, high=12, direction=d) for d in ("LEFT", "RIGHT")),
        *(sample("i32[2,5]", "i32[5]", low=-50, high=40, direction=d) for d in ("LEFT", "RIGHT")),
        sample(np.array([-8, -8, 8, 8]), np.array([1, -1, 70, 2]), direction="RIGHT"),
        sample("u64[]", "u64[]", low=0, high=9, direction="RIGHT"),
        sample(np.array([2**64 - 1], np.uint64), np.array([3], np.uint64), direction="RIGHT"),
    )

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        check_choice(self, "direction", self.direction, "LEFT", "RIGHT")
        return super().infer(a, b)

    def array(self, a: Array, b: Array) -> Any:
        valid = (b >= 0) & (b < 8 * a.dtype.itemsize)
        amount = np.where(valid, b, 0).astype(b.dtype)
        if self.direction == "LEFT":
            return np.where(valid, np.left_shift(a, amount), 0)
        rest = np.where(a < 0, -1, 0).astype(a.dtype)
        return np.where(valid, np.right_shift(a, amount), rest)

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        valid = b < te.const(a.dtype.bits, b.dtype)
        if b.dtype.kind == "int":
            valid = valid & (b >= te.const(0, b.dtype))
        amount = te.where(valid, b, te.const(0, b.dtype))
        zero = te.const(0, a.dtype)
        if self.direction == "LEFT":
            return te.where(valid, a << amount, zero)
        if a.dtype.kind == "uint":
            return te.where(valid, a >> amount, zero)
        return te.where(valid, a >> amount, te.where(a < zero, te.const(-1, a.dtype), zero))
