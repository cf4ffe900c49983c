"""Activation functions: Relu and its relatives, Sigmoid, Gelu, Mish, Swish, SwiGLU ..."""

import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Sym
from bessemer.ir.operator import FusionClass, Operator, Sample, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import check_broadcasts_to
from bessemer.ops.dims import Array, check_choice, check_kind, check_same_dtype
from bessemer.ops.elementwise import (
    NUMERIC,
    Unary,
    broadcast_compute,
    is_small_float,
    samples_of,
    widened,
)
from bessemer.ops.functions import erf

_ALL = "f32 f16 bf16 f64"
_WIDE = samples_of(_ALL, -6, 6)


class Activation(Unary):
    """Base of activations: samples on both sides of every knee."""

    samples: ClassVar[tuple[Sample, ...]] = _WIDE


@operator("Relu")
class Relu(Unary):
    """max(x, 0). Source: ONNX Relu-14."""

    widen = False
    kinds = NUMERIC
    samples = samples_of("f32 f16 bf16 f64 i32 i8")

    def array(self, x: Array) -> Any:
        return np.maximum(x, np.asarray(0, x.dtype))

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.maximum(x, te.const(0, x.dtype))


@operator("LeakyRelu")
class LeakyRelu(Unary):
    """x where x >= 0, alpha * x elsewhere. Source: ONNX LeakyRelu-16."""

    alpha: float = 0.01

    samples = (*samples_of(_ALL), sample("f32[7]", alpha=0.2))

    def array(self, x: Array) -> Any:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.where(x >= 0, x, self.alpha * x)


@operator("PRelu")
class PRelu(Operator):
    """x where x >= 0, slope * x elsewhere; slope broadcasts to x.

    Shapes: x [*], slope [broadcasts to *] -> y [*].
    Source: ONNX PRelu-16.
    """

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3,4]", "f32[3,1]"),
        sample("f32[2,3]", "f32[2,3]"),
        sample("f32[]", "f32[]"),
        sample("f16[2,3]", "f16[1]"),
        sample("bf16[4]", "bf16[]"),
        sample("i32[5]", "i32[5]"),
        sample("f32[0,2]", "f32[2]"),
        sample("f64[3]", "f64[]"),
    )

    def infer(self, x: TensorType, slope: TensorType) -> TensorType:
        check_kind(self, x, *NUMERIC)
        check_same_dtype(self, x, slope)
        if x.shape is not None:
            check_broadcasts_to("the slope", slope, x.shape)
        return TensorType(x.dtype, x.shape)

    def reference(self, x: Array, slope: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.where(x < 0, x * slope, x)).astype(x.dtype)

    def lower(self, x: te.Tensor, slope: te.Tensor, **_: Any) -> te.Tensor:
        zero = te.const(0, x.dtype)
        return broadcast_compute(
            x.dtype, (x, slope), lambda p, s: te.where(p < zero, p * s, p), shape=x.shape
        )


@operator("Sigmoid")
class Sigmoid(Activation):
    """1 / (1 + exp(-x)). Source: ONNX Sigmoid-13."""

    def array(self, x: Array) -> Any:
        return sigmoid(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.sigmoid(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), in the array's dtype; exp of nothing that could overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


@operator("HardSigmoid")
class HardSigmoid(Activation):
    """alpha * x + beta limited to [0, 1]. Source: ONNX HardSigmoid-22."""

    alpha: float = 0.2
    beta: float = 0.5

    samples = (*_WIDE, sample("f32[9]", alpha=0.5, beta=0.1))

    def array(self, x: Array) -> Any:
        return np.clip(x.dtype.type(self.alpha) * x + x.dtype.type(self.beta), 0, 1)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.minimum(te.maximum(self.alpha * x + self.beta, 0.0), 1.0)


@operator("HardSwish")
class HardSwish(Activation):
    """x * HardSigmoid(x) with alpha 1/6 and beta 1/2. Source: ONNX HardSwish-22."""

    def array(self, x: Array) -> Any:
        return x * np.clip(x * x.dtype.type(1 / 6) + x.dtype.type(0.5), 0, 1)

    def scalar(self, x: te.Expr) -> te.Expr:
        return x * te.minimum(te.maximum(x * (1 / 6) + 0.5, 0.0), 1.0)


@operator("Elu")
class Elu(Activation):
    """x where x >= 0, alpha * (exp(x) - 1) elsewhere. Source: ONNX Elu-22."""

    alpha: float = 1.0

    samples = (*_WIDE, sample("f32[9]", alpha=2.0))

    def array(self, x: Array) -> Any:
        return np.where(x < 0, x.dtype.type(self.alpha) * np.expm1(x), x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.where(x < 0.0, self.alpha * te.expm1(x), x)


@operator("Celu")
class Celu(Activation):
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)). Source: ONNX Celu-28."""

    alpha: float = 1.0

    samples = (*_WIDE, sample("f32[9]", alpha=2.0))

    def array(self, x: Array) -> Any:
        alpha = x.dtype.type(self.alpha)
        return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))

    def scalar(self, x: te.Expr) -> te.Expr:
        low = self.alpha * te.expm1(x / te.const(self.alpha, x.dtype))
        return te.maximum(x, 0.0) + te.minimum(low, 0.0)


@operator("Selu")
class Selu(Activation):
    """gamma * x where x > 0, gamma * alpha * (exp(x) - 1) elsewhere. Source: ONNX Selu-22."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    samples = (*_WIDE, sample("f32[9]", alpha=2.0, gamma=3.0))

    def array(self, x: Array) -> Any:
        low = x.dtype.type(self.gamma * self.alpha) * np.expm1(x)
        return np.where(x > 0, x.dtype.type(self.gamma) * x, low)

    def scalar(self, x: te.Expr) -> te.Expr:
        low = (self.gamma * self.alpha) * te.expm1(x)
        return te.where(x > 0.0, self.gamma * x, low)


@operator("ThresholdedRelu")
class ThresholdedRelu(Activation):
    """x where x > alpha, 0 elsewhere. Source: ONNX ThresholdedRelu-22."""

    alpha: float = 1.0

    samples = (*_WIDE, sample("f32[9]", alpha=0.5))

    def array(self, x: Array) -> Any:
        return np.where(x > x.dtype.type(self.alpha), x, x.dtype.type(0))

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.where(x > self.alpha, x, 0.0)


@operator("Shrink")
class Shrink(Unary):
    """x + bias below -lambd, x - bias above lambd, 0 between. Source: ONNX Shrink-9."""

    lambd: float = 0.5
    bias: float = 0.0

    kinds = NUMERIC
    samples = (
        *samples_of(_ALL),
        sample("f32[9]", lambd=1.0, bias=0.3),
        sample("i32[9]", lambd=1.5, bias=1.0, low=-5, high=5),
        sample("u8[9]", low=0, high=9),
    )

    def array(self, x: Array) -> Any:
        wide = x if x.dtype.kind not in "iu" else x.astype(np.float32)
        bias, edge = wide.dtype.type(self.bias), wide.dtype.type(self.lambd)
        return np.where(wide < -edge, wide + bias, np.where(wide > edge, wide - bias, 0))

    def scalar(self, x: te.Expr) -> te.Expr:
        wide = te.cast(x, f32) if x.dtype.is_integer else x
        low = te.where(wide < -self.lambd, wide + self.bias, 0.0)
        return te.where(wide > self.lambd, wide - self.bias, low)


@operator("Softplus")
class Softplus(Activation):
    """log(1 + exp(x)), without overflow. Source: ONNX Softplus-22."""

    samples = (*_WIDE, sample("f32[9]", low=-100, high=100))

    def array(self, x: Array) -> Any:
        return softplus(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return softplus_scalar(x)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) of an array, written so that exp cannot overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def softplus_scalar(x: te.Expr) -> te.Expr:
    """log(1 + exp(x)) of an element, written so that exp cannot overflow."""
    return te.maximum(x, 0.0) + te.log1p(te.exp(-te.abs_(x)))


@operator("Softsign")
class Softsign(Activation):
    """x / (1 + |x|). Source: ONNX Softsign-22."""

    def array(self, x: Array) -> Any:
        return x / (1 + np.abs(x))

    def scalar(self, x: te.Expr) -> te.Expr:
        return x / (te.abs_(x) + 1.0)


@operator("Mish")
class Mish(Activation):
    """x * tanh(log(1 + exp(x))). Source: ONNX Mish-22."""

    def array(self, x: Array) -> Any:
        return x * np.tanh(softplus(x))

    def scalar(self, x: te.Expr) -> te.Expr:
        return x * te.tanh(softplus_scalar(x))


@operator("Swish")
class Swish(Activation):
    """x * sigmoid(alpha * x). Source: ONNX Swish-24."""

    alpha: float = 1.0

    samples = (*_WIDE, sample("f32[9]", alpha=0.5))

    def array(self, x: Array) -> Any:
        return x * sigmoid(x.dtype.type(self.alpha) * x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return x * te.sigmoid(self.alpha * x)


@operator("SwiGLU")
class SwiGLU(Operator):
    """a * sigmoid(alpha * a) * b.

    Shapes: a [*], b [*] -> y [*], no broadcasting.
    Source: ONNX SwiGLU-28.
    """

    alpha: float = 1.0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", "f32[2,3]"),
        sample("f32[]", "f32[]"),
        sample("f32[0,2]", "f32[0,2]"),
        sample("f16[5]", "f16[5]"),
        sample("bf16[5]", "bf16[5]", alpha=1.5),
        sample("f64[3]", "f64[3]"),
    )

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        check_kind(self, a, "float")
        check_same_dtype(self, a, b)
        if a.shape is None or b.shape is None:
            return TensorType(a.dtype, a.shape if b.shape is None else b.shape)
        if (a.is_static and b.is_static and a.shape != b.shape) or a.rank != b.rank:
            raise ShapeError(f"SwiGLU needs inputs of one shape, got {a} and {b}")
        return TensorType(
            a.dtype, tuple(q if isinstance(p, Sym) else p for p, q in zip(a.dims, b.dims))
        )

    def reference(self, a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            gate = widened(a)
            alpha = gate.dtype.type(self.alpha)
            return np.asarray(gate * sigmoid(alpha * gate) * widened(b)).astype(a.dtype)

    def lower(self, a: te.Tensor, b: te.Tensor, **_: Any) -> te.Tensor:
        wide = f32 if is_small_float(a.dtype) else a.dtype

        def element(*i: te.Expr) -> te.Expr:
            gate, linear = te.cast(a.at(*i), wide), te.cast(b.at(*i), wide)
            return te.cast(gate * te.sigmoid(self.alpha * gate) * linear, a.dtype)

        return te.compute(a.dtype, a.shape, element)


@operator("Gelu")
class Gelu(Activation):
    """x * P(normal <= x), exact by erf or approximate by tanh.

    Source: ONNX Gelu-20; Hendrycks and Gimpel 2016.
    """

    approximate: str = "none"

    samples = (*_WIDE, *samples_of(_ALL, -6, 6, approximate="tanh"))

    def infer(self, x: TensorType) -> TensorType:
        check_choice(self, "approximate", self.approximate, "none", "tanh")
        return super().infer(x)

    def array(self, x: Array) -> Any:
        half, one = x.dtype.type(0.5), x.dtype.type(1)
        if self.approximate == "tanh":
            inner = x + x.dtype.type(0.044715) * x * x * x
            return half * x * (one + np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * inner))
        return half * x * (one + erf(x * x.dtype.type(math.sqrt(0.5))))

    def scalar(self, x: te.Expr) -> te.Expr:
        if self.approximate == "tanh":
            inner = x + 0.044715 * x * x * x
            return 0.5 * x * (te.tanh(math.sqrt(2 / math.pi) * inner) + 1.0)
        return 0.5 * x * (te.erf(x * math.sqrt(0.5)) + 1.0)
