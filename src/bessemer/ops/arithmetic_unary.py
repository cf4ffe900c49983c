"""Arithmetic of one operand: Neg, Abs, Sign, rounding, Reciprocal, IsNaN, IsInf."""

from dataclasses import replace
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import boolean
from bessemer.ir.operator import operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.content import ceiled, floored
from bessemer.ops.dims import Array, known_dims, with_content
from bessemer.ops.elementwise import NUMERIC, Unary, samples_of


class _Exact(Unary):
    """Base of functions that any numeric dtype computes without rounding."""

    widen = False
    kinds = NUMERIC
    samples = samples_of("f32 f16 bf16 f64 i8 i32 i64")


@operator("Neg")
class Neg(_Exact):
    """-x. Source: ONNX Neg-13."""

    def infer(self, x: TensorType) -> TensorType:
        made, dims = super().infer(x), known_dims(x)
        if dims is None or x.shape is None or not x.dtype.is_integer:
            return made
        return with_content(x.dtype.numpy, x.shape, tuple(-dim for dim in dims))

    def array(self, x: Array) -> Any:
        return -x

    def scalar(self, x: te.Expr) -> te.Expr:
        return -x


@operator("Abs")
class Abs(_Exact):
    """|x|. Source: ONNX Abs-13."""

    def array(self, x: Array) -> Any:
        return np.abs(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return x if x.dtype.kind == "uint" else te.abs_(x)


@operator("Sign")
class Sign(_Exact):
    """-1, 0 or 1. Source: ONNX Sign-13."""

    def array(self, x: Array) -> Any:
        return np.sign(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.sign(x)


@operator("Floor")
class Floor(Unary):
    """The largest integer not above x. Source: ONNX Floor-13."""

    def infer(self, x: TensorType) -> TensorType:
        made = super().infer(x)
        return made if x.fractions is None else replace(made, fractions=floored(x.fractions))

    def array(self, x: Array) -> Any:
        return np.floor(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.floor(x)


@operator("Ceil")
class Ceil(Unary):
    """The smallest integer not below x. Source: ONNX Ceil-13."""

    def infer(self, x: TensorType) -> TensorType:
        made = super().infer(x)
        return made if x.fractions is None else replace(made, fractions=ceiled(x.fractions))

    def array(self, x: Array) -> Any:
        return np.ceil(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.ceil(x)


@operator("Round")
class Round(Unary):
    """The nearest integer, halves to even. Source: ONNX Round-22."""

    samples = (
        *samples_of("f32 f16 bf16 f64"),
        sample(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997], np.float32)),
    )

    def array(self, x: Array) -> Any:
        return np.rint(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.round_(x)


@operator("Reciprocal")
class Reciprocal(Unary):
    """1 / x. Source: ONNX Reciprocal-13."""

    samples = samples_of("f32 f16 bf16 f64", 0.1, 4)

    def array(self, x: Array) -> Any:
        return 1 / x

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.const(1, x.dtype) / x


@operator("IsNaN")
class IsNaN(Unary):
    """True where x is not a number. Source: ONNX IsNaN-20."""

    result = boolean
    samples = (*samples_of("f32 f16 bf16 f64"), sample(np.array([1, np.nan, np.inf], np.float32)))

    def array(self, x: Array) -> Any:
        return np.isnan(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.isnan(x)


@operator("IsInf")
class IsInf(Unary):
    """True where x is an infinity of the asked signs. Source: ONNX IsInf-20."""

    detect_negative: int = 1
    detect_positive: int = 1

    result = boolean
    samples = (
        *samples_of("f32 f16 bf16 f64"),
        *(
            sample(
                np.array([1, np.nan, np.inf, -np.inf], np.float32),
                detect_negative=negative,
                detect_positive=positive,
            )
            for negative in (0, 1)
            for positive in (0, 1)
        ),
    )

    def array(self, x: Array) -> Any:
        negative = self.detect_negative and np.isneginf(x)
        return np.logical_or(negative, self.detect_positive and np.isposinf(x)) & np.isinf(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        if self.detect_negative and self.detect_positive:
            return te.isinf(x)
        if self.detect_negative:
            return te.equal(x, -np.inf)
        return te.equal(x, np.inf) if self.detect_positive else te.const(False, boolean)
