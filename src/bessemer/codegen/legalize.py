"""Rewrites expressions into what the emitter knows: f32 math is spelled out, f64 math is named.

`expand_math` replaces elementary functions of f32 (and of f16 and bf16, through f32) by the
formulas of elementary.py, and conversions of small types by those of small_types.py. Functions of
f64 remain; the emitter calls those of the C library (`libm_symbol`).
"""

from collections.abc import Callable

from bessemer import te
from bessemer.codegen import elementary
from bessemer.codegen.small_types import expand_cast
from bessemer.core.dtypes import DType, bf16, f16, f32, f64
from bessemer.core.errors import CodegenError
from bessemer.te import Binary, Cast, Const, Expr, Unary
from bessemer.te.walk import rewrite, walk

_FORMULAS: dict[str, Callable[[Expr], Expr]] = {
    "exp": elementary.exp, "expm1": elementary.expm1, "log": elementary.log,
    "log1p": elementary.log1p, "tanh": elementary.tanh, "sigmoid": elementary.sigmoid,
    "erf": elementary.erf, "sinh": elementary.sinh, "cosh": elementary.cosh,
    "asinh": elementary.asinh, "acosh": elementary.acosh, "atanh": elementary.atanh,
    "asin": elementary.asin, "acos": elementary.acos, "atan": elementary.atan,
    "sin": elementary.sin, "cos": elementary.cos, "tan": elementary.tan,
}

_ONE_PLUS: dict[str, Callable[[Expr], Expr]] = {
    "erf": elementary.one_plus_erf, "tanh": elementary.one_plus_tanh,
}

_C_NAMES = {
    "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "tanh": "tanh", "erf": "erf",
    "sin": "sin", "cos": "cos", "tan": "tan", "sinh": "sinh", "cosh": "cosh", "asin": "asin",
    "acos": "acos", "atan": "atan", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
    "pow": "pow", "fmod": "fmod", "rem": "fmod",
}

LIBM: dict[tuple[str, DType], str] = {
    (op, dtype): name + suffix
    for op, name in _C_NAMES.items()
    for dtype, suffix in ((f32, "f"), (f64, ""))
}
"""The C library's symbol for an operation and dtype (fmod takes two numbers, as pow does)."""


def libm_symbol(op: str, dtype: DType) -> str:
    """The C library's symbol for a function that `expand_math` leaves.

    Raises: CodegenError if there is none.
    """
    found = LIBM.get((op, dtype))
    if found is None:
        raise CodegenError(f"no C library function computes {op} of {dtype}; expand_math first")
    return found


def libm_calls(expr: Expr) -> set[str]:
    """The C library's symbols that the expression needs after `expand_math`."""
    return {
        LIBM[node.op, node.dtype]
        for node in walk(expr)
        if isinstance(node, (Unary, Binary)) and (node.op, node.dtype) in LIBM
    }


def expand_math(expr: Expr) -> Expr:
    """The expression with math functions spelled out in basic arithmetic.

    Shared sub-expressions stay shared (one object), and the formulas use their arguments several
    times, so the emitter must evaluate each object once. f64 functions are left, except sigmoid,
    rsqrt and sign.
    """
    return rewrite(rewrite(expr, _gate), _expand)


def _gate(node: Expr) -> Expr | None:
    """Spells gates as one formula each.

    They are a * sigmoid(x) of Swish, GLU and recurrent cells, 1 + erf(x) and 1 + tanh(x) of GELU.
    """
    if isinstance(node, Binary) and node.op == "+" and node.dtype == f32:
        for one, gate in ((node.a, node.b), (node.b, node.a)):
            if isinstance(gate, Unary) and gate.op in _ONE_PLUS and isinstance(one, Const) \
                    and one.value == 1:
                return _ONE_PLUS[gate.op](gate.a)
    if isinstance(node, Binary) and node.op == "*" and node.dtype == f32:
        for a, gate in ((node.a, node.b), (node.b, node.a)):
            if isinstance(gate, Unary) and gate.op == "sigmoid":
                return elementary.gated(a, gate.a)
    return None


def _expand(node: Expr) -> Expr | None:
    if isinstance(node, Cast):
        return expand_cast(node)
    if not node.dtype.is_float:
        return None
    if isinstance(node, Unary):
        return _expand_unary(node)
    if isinstance(node, Binary) and node.op in ("pow", "fmod", "rem", "%"):
        return _expand_binary(node)
    return None


def _expand_unary(node: Unary) -> Expr | None:
    if node.op == "sign":
        a = node.a
        return te.where(a > 0.0, te.const(1.0, a.dtype), te.where(a < 0.0, -1.0, a))
    if node.op not in _FORMULAS and node.op != "rsqrt":
        return None
    if node.dtype in (f16, bf16):
        wide = te.unary(node.op, te.cast(node.a, f32))
        expanded = _expand(wide)
        return te.cast(expanded if expanded is not None else wide, node.dtype)
    if node.op == "rsqrt":
        return 1.0 / te.sqrt(node.a)
    if node.dtype == f32 and node.op in _FORMULAS:
        return _FORMULAS[node.op](node.a)
    if node.op == "sigmoid":
        z = te.exp(-te.abs_(node.a))
        return te.where(node.a < 0.0, z, te.const(1.0, node.dtype)) / (z + 1.0)
    return None


def _expand_binary(node: Binary) -> Expr | None:
    if node.dtype in (f16, bf16):
        wide = te.binary(node.op, te.cast(node.a, f32), te.cast(node.b, f32))
        expanded = _expand(wide)
        return te.cast(expanded if expanded is not None else wide, node.dtype)
    if node.op == "%":
        return _floor_mod(node.a, node.b)
    if node.op != "pow":
        return None
    if isinstance(node.b, Const):
        simple = _constant_power(node.a, float(node.b.value))
        if simple is not None:
            return simple
    return elementary.power(node.a, node.b) if node.dtype == f32 else None


def _constant_power(x: Expr, y: float) -> Expr | None:
    """Powers that cost a few multiplications; below 1.5 ulp each."""
    one = te.const(1.0, x.dtype)
    square = x * x
    simple: dict[float, Expr] = {
        0.0: one, 1.0: x, 2.0: square, 3.0: square * x, 4.0: square * square, -1.0: one / x,
        -2.0: one / square,
    }
    if y in (0.5, -0.5):
        # C's pow(-inf, 0.5) is inf, and pow(-0, 0.5) is +0.
        root = te.sqrt(te.where(te.equal(x, -float("inf")), float("inf"), x)) + 0.0
        return root if y > 0 else one / root
    return simple.get(y)


def _floor_mod(a: Expr, b: Expr) -> Expr:
    """The remainder with the sign of the divisor (numpy.mod)."""
    remainder = te.binary("fmod", a, b)
    other_side = te.not_equal(remainder, 0.0) & ((remainder < 0.0) ^ (b < 0.0))
    return te.where(other_side, remainder + b, remainder)
