"""Tensor expressions: an output element as a pure, typed function of its indices.

`compute(dtype, shape, lambda *i: ...)` makes a Tensor; `sum_`, `max_` ... over `reduce_axis`;
`x[i, j]` loads, `x.at(i, j, fill=0.0)` pads. Start with tensor.py, then expr.py; interpreter.py
says what an expression means.
"""

from bessemer.te.expr import (
    Binary, Bitcast, Cast, Const, Expr, Load, Reduce, Select, Unary, Var, abs_, acos, acosh,
    asin, asinh, atan, atanh, binary, bitcast, cast, ceil, const, cos, cosh, equal, erf, exp, expm1,
    floor, index, isinf, isnan, log, log1p, maximum, minimum, not_equal, power, round_, rsqrt,
    sigmoid, sign, sin, sinh, sqrt, tan, tanh, trunc, unary, where,
)
from bessemer.te.interpreter import evaluate
from bessemer.te.tensor import (
    IterVar, Tensor, argmax, argmin, compute, max_, min_, placeholder, placeholders, prod,
    reduce_axis, stages, sum_,
)

__all__ = [
    "Binary", "Bitcast", "Cast", "Const", "Expr", "IterVar", "Load", "Reduce", "Select", "Tensor",
    "Unary", "Var", "abs_", "acos", "acosh", "argmax", "argmin", "asin", "asinh", "atan", "atanh",
    "binary", "bitcast", "cast", "ceil", "compute", "const", "cos", "cosh", "equal", "erf",
    "evaluate", "exp", "expm1", "floor", "index", "isinf", "isnan", "log", "log1p", "max_",
    "maximum", "min_", "minimum", "not_equal", "placeholder", "placeholders", "power", "prod",
    "reduce_axis", "round_", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "stages", "sum_",
    "tan", "tanh", "trunc", "unary", "where",
]
