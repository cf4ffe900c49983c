"""Element-wise functions of mathematics: exponentials, roots, trigonometry, erf."""

import math
from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import operator
from bessemer.ops.dims import Array
from bessemer.ops.elementwise import Unary, samples_of

_ALL = "f32 f16 bf16 f64"
_POSITIVE = samples_of(_ALL, 0.01, 9)
_UNIT = samples_of(_ALL, -0.95, 0.95)


@operator("Exp")
class Exp(Unary):
    """e to the power of x. Source: ONNX Exp-13."""

    def array(self, x: Array) -> Any:
        return np.exp(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.exp(x)


@operator("Log")
class Log(Unary):
    """The natural logarithm. Source: ONNX Log-13."""

    samples = _POSITIVE

    def array(self, x: Array) -> Any:
        return np.log(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.log(x)


@operator("Sqrt")
class Sqrt(Unary):
    """The square root; NaN below 0. Source: ONNX Sqrt-13."""

    samples = _POSITIVE

    def array(self, x: Array) -> Any:
        return np.sqrt(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.sqrt(x)


def erf(x: Array) -> Array:
    """The error function of every element, computed in f64."""
    flat = [math.erf(element) for element in x.astype(np.float64).reshape(-1).tolist()]
    return np.array(flat, np.float64).reshape(x.shape).astype(x.dtype)


@operator("Erf")
class Erf(Unary):
    """The error function. Source: ONNX Erf-13."""

    def array(self, x: Array) -> Any:
        return erf(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.erf(x)


@operator("Sin")
class Sin(Unary):
    """The sine. Source: ONNX Sin-22."""

    def array(self, x: Array) -> Any:
        return np.sin(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.sin(x)


@operator("Cos")
class Cos(Unary):
    """The cosine. Source: ONNX Cos-22."""

    def array(self, x: Array) -> Any:
        return np.cos(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.cos(x)


@operator("Tan")
class Tan(Unary):
    """The tangent. Source: ONNX Tan-22."""

    samples = samples_of(_ALL, -1.2, 1.2)

    def array(self, x: Array) -> Any:
        return np.tan(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.tan(x)


@operator("Asin")
class Asin(Unary):
    """The inverse sine. Source: ONNX Asin-22."""

    samples = _UNIT

    def array(self, x: Array) -> Any:
        return np.arcsin(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.asin(x)


@operator("Acos")
class Acos(Unary):
    """The inverse cosine. Source: ONNX Acos-22."""

    samples = _UNIT

    def array(self, x: Array) -> Any:
        return np.arccos(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.acos(x)


@operator("Atan")
class Atan(Unary):
    """The inverse tangent. Source: ONNX Atan-22."""

    def array(self, x: Array) -> Any:
        return np.arctan(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.atan(x)


@operator("Sinh")
class Sinh(Unary):
    """The hyperbolic sine. Source: ONNX Sinh-22."""

    def array(self, x: Array) -> Any:
        return np.sinh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.sinh(x)


@operator("Cosh")
class Cosh(Unary):
    """The hyperbolic cosine. Source: ONNX Cosh-22."""

    def array(self, x: Array) -> Any:
        return np.cosh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.cosh(x)


@operator("Tanh")
class Tanh(Unary):
    """The hyperbolic tangent. Source: ONNX Tanh-13."""

    def array(self, x: Array) -> Any:
        return np.tanh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.tanh(x)


@operator("Asinh")
class Asinh(Unary):
    """The inverse hyperbolic sine. Source: ONNX Asinh-22."""

    def array(self, x: Array) -> Any:
        return np.arcsinh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.asinh(x)


@operator("Acosh")
class Acosh(Unary):
    """The inverse hyperbolic cosine; NaN below 1. Source: ONNX Acosh-22."""

    samples = samples_of(_ALL, 1.05, 9)

    def array(self, x: Array) -> Any:
        return np.arccosh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.acosh(x)


@operator("Atanh")
class Atanh(Unary):
    """The inverse hyperbolic tangent. Source: ONNX Atanh-22."""

    samples = _UNIT

    def array(self, x: Array) -> Any:
        return np.arctanh(x)

    def scalar(self, x: te.Expr) -> te.Expr:
        return te.atanh(x)
