"""Named functions of expressions: exp, sqrt, minimum, equal ... as numpy has them."""

from collections.abc import Callable

from bessemer.core.dtypes import DType, i64
from bessemer.te.expr import Bitcast, Expr, ExprLike, binary, cast, unary


def _unary_function(op: str) -> Callable[[Expr], Expr]:
    def function(a: Expr) -> Expr:
        return unary(op, a)

    function.__name__ = op
    function.__doc__ = f"Elementwise {op}."
    return function


exp, log, log1p, expm1 = (_unary_function(op) for op in ("exp", "log", "log1p", "expm1"))
sqrt, rsqrt, tanh, sigmoid, erf = (
    _unary_function(op) for op in ("sqrt", "rsqrt", "tanh", "sigmoid", "erf"))
sin, cos, tan, asin, acos, atan = (
    _unary_function(op) for op in ("sin", "cos", "tan", "asin", "acos", "atan"))
sinh, cosh, asinh, acosh, atanh = (
    _unary_function(op) for op in ("sinh", "cosh", "asinh", "acosh", "atanh"))
floor, ceil, round_, trunc, sign, abs_ = (
    _unary_function(op) for op in ("floor", "ceil", "round", "trunc", "sign", "abs"))
isnan, isinf, rounded = (_unary_function(op) for op in ("isnan", "isinf", "rounded"))


def minimum(a: ExprLike, b: ExprLike) -> Expr:
    """The smaller; NaN if either is NaN (numpy.minimum)."""
    return binary("min", a, b)


def maximum(a: ExprLike, b: ExprLike) -> Expr:
    """The larger; NaN if either is NaN (numpy.maximum)."""
    return binary("max", a, b)


def power(a: ExprLike, b: ExprLike) -> Expr:
    """`a` to the power of `b`."""
    return binary("pow", a, b)


def equal(a: ExprLike, b: ExprLike) -> Expr:
    """Elementwise ==."""
    return binary("==", a, b)


def not_equal(a: ExprLike, b: ExprLike) -> Expr:
    """Elementwise !=."""
    return binary("!=", a, b)


def bitcast(a: Expr, dtype: DType) -> Expr:
    """The same bits as another dtype of equal size."""
    return Bitcast(a, dtype)


def index(value: ExprLike) -> Expr:
    """An index expression: an i64 literal for a number, a cast for other integer dtypes."""
    return cast(value, i64)
