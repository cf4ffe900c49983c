"""Scalar expressions: the one language of tensor expressions and loop IR.

Pure and typed; built with operators, the constructors below and `functions`; compared by identity.
Index arithmetic is i64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bessemer.core.dtypes import DType, boolean, f32, i64
from bessemer.core.shapes import Dim, Sym

if TYPE_CHECKING:
    from bessemer.te.tensor import IterVar

Number = int | float | bool | np.generic
ExprLike = Union["Expr", Number, Sym]
"""What operators on expressions take: a dimension means its value."""

ARITHMETIC = ("+", "-", "*", "/", "//", "%", "min", "max", "pow", "&", "|", "^", "<<", ">>",
              "fmod", "rem")
"""`/` is true division for floats and C-like truncating division for integers; `//` and `%` floor
(numpy semantics); `rem` and `fmod` take the sign of the dividend."""
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
UNARY = ("neg", "abs", "not", "sign", "floor", "ceil", "round", "trunc", "sqrt", "rsqrt",
         "exp", "log", "log1p", "expm1", "tanh", "sigmoid", "erf", "sin", "cos", "tan", "asin",
         "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "isnan", "isinf", "invert",
         "rounded")
"""`not` is logical (bool), `invert` flips all bits, `round` is half to even. `rounded` is the value
itself, rounded to its dtype: a product in it is not joined with a sum outside of it."""


class Expr:
    """Base of all expressions; `dtype` is the element type of the result."""

    __slots__ = ()
    dtype: DType

    # Arithmetic with numbers takes the dtype of the expression.
    def __add__(self, other: ExprLike) -> "Expr":
        return binary("+", self, other)

    def __radd__(self, other: ExprLike) -> "Expr":
        return binary("+", other, self)

    def __sub__(self, other: ExprLike) -> "Expr":
        return binary("-", self, other)

    def __rsub__(self, other: ExprLike) -> "Expr":
        return binary("-", other, self)

    def __mul__(self, other: ExprLike) -> "Expr":
        return binary("*", self, other)

    def __rmul__(self, other: ExprLike) -> "Expr":
        return binary("*", other, self)

    def __truediv__(self, other: ExprLike) -> "Expr":
        return binary("/", self, other)

    def __rtruediv__(self, other: ExprLike) -> "Expr":
        return binary("/", other, self)

    def __floordiv__(self, other: ExprLike) -> "Expr":
        return binary("//", self, other)

    def __rfloordiv__(self, other: ExprLike) -> "Expr":
        return binary("//", other, self)

    def __mod__(self, other: ExprLike) -> "Expr":
        return binary("%", self, other)

    def __neg__(self) -> "Expr":
        return unary("neg", self)

    def __and__(self, other: ExprLike) -> "Expr":
        return binary("&", self, other)

    def __or__(self, other: ExprLike) -> "Expr":
        return binary("|", self, other)

    def __xor__(self, other: ExprLike) -> "Expr":
        return binary("^", self, other)

    def __lshift__(self, other: ExprLike) -> "Expr":
        return binary("<<", self, other)

    def __rshift__(self, other: ExprLike) -> "Expr":
        return binary(">>", self, other)

    def __invert__(self) -> "Expr":
        return unary("not" if self.dtype.kind == "bool" else "invert", self)

    def __lt__(self, other: ExprLike) -> "Expr":
        return binary("<", self, other)

    def __le__(self, other: ExprLike) -> "Expr":
        return binary("<=", self, other)

    def __gt__(self, other: ExprLike) -> "Expr":
        return binary(">", self, other)

    def __ge__(self, other: ExprLike) -> "Expr":
        return binary(">=", self, other)

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value; use te.where, &, |, te.equal")

    def __str__(self) -> str:
        return text(self)

    __repr__ = __str__

    def children(self) -> tuple["Expr", ...]:
        """Operand expressions."""
        return ()

    def with_children(self, children: tuple["Expr", ...]) -> "Expr":
        """The same node over other operands."""
        return self


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Const(Expr):
    """A literal."""

    value: Any
    dtype: DType


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Var(Expr):
    """A scalar variable: a loop index or a symbolic extent."""

    name: str
    dtype: DType = i64


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class SymbolVar(Var):
    """The value of a symbol of the model: an extent that is known at run time only."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Binary(Expr):
    """Arithmetic or comparison of two operands of equal dtype."""

    op: str
    a: Expr
    b: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.a, self.b)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return binary(self.op, *children)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Unary(Expr):
    """A function of one operand, of the same dtype (`isnan`, `isinf`, `not` give bool)."""

    op: str
    a: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.a,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return unary(self.op, *children)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Select(Expr):
    """`a` where `condition` holds, else `b`; loads of the side not taken have no effect."""

    condition: Expr
    a: Expr
    b: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.condition, self.a, self.b)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return where(*children)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Cast(Expr):
    """Conversion as C does it: float to integer truncates, to bool is != 0, bool gives 0 or 1."""

    a: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.a,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return cast(children[0], self.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Bitcast(Expr):
    """The same bits read as another dtype of equal size."""

    a: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.a,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Bitcast(children[0], self.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Load(Expr):
    """One element of a tensor (or, in loop IR, of a buffer).

    With `fill`, an index outside the tensor gives that value instead of being an error.
    """

    tensor: Any  # te.Tensor in tensor expressions, lower.Buffer in loop IR
    indices: tuple[Expr, ...]
    dtype: DType
    fill: Const | None = None

    def children(self) -> tuple[Expr, ...]:
        return self.indices

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Load(self.tensor, children, self.dtype, self.fill)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Reduce(Expr):
    """A reduction over axes; only allowed as the whole body of a compute.

    `kind` is sum, prod, max, min, argmax, argmin. max and min pass NaN on (numpy). The arg kinds
    give the linear position (i64) of the first extreme along the axes, `last` that of the last.
    """

    kind: str
    body: Expr
    axes: "tuple[IterVar, ...]"
    dtype: DType
    last: bool = False

    def children(self) -> tuple[Expr, ...]:
        return (self.body,)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Reduce(self.kind, children[0], self.axes, self.dtype, self.last)


# -- constructors -------------------------------------------------------------------------------


def const(value: Number, dtype: DType = f32) -> Const:
    """A literal of that dtype (rounded to it)."""
    if dtype.kind == "bool":
        return Const(bool(value), dtype)
    if dtype.is_integer:
        return Const(int(value), dtype)
    with np.errstate(all="ignore"):
        return Const(float(np.asarray(value, dtype.numpy).astype(np.float64)), dtype)


def extent(dim: Dim) -> Expr:
    """A dimension as an i64 expression; its symbols are variables of the same names."""
    return _symbolic_extent(dim) if isinstance(dim, Sym) else const(dim, i64)


@lru_cache(maxsize=4096)
def _symbolic_extent(dim: Sym) -> Expr:
    divisions = dim.divisions()
    total: Expr = const(0, i64)
    for mono, coef in reversed(dim.terms):
        product: Expr = const(1, i64)
        for name in mono:
            product = product * (_division(*divisions[name]) if name in divisions
                                 else SymbolVar(name))
        total = total + product * coef
    return total


def _division(top: Dim, bottom: Dim) -> Expr:
    return extent(top) // extent(bottom)


def lift(value: ExprLike, dtype: DType) -> Expr:
    """A number or dimension as an expression of a dtype; an expression as it is."""
    if isinstance(value, Expr):
        return value
    return cast(extent(value), dtype) if isinstance(value, Sym) else const(value, dtype)


def _fold_index(op: str, a: Expr, b: Expr) -> Expr | None:
    """Folds integer arithmetic, so that index expressions stay small."""
    x = a.value if isinstance(a, Const) else None
    y = b.value if isinstance(b, Const) else None
    if x is not None and y is not None:
        fold: dict[str, Callable[[int, int], int]] = {
            "+": lambda p, q: p + q, "-": lambda p, q: p - q, "*": lambda p, q: p * q,
            "min": min, "max": max,
        }
        if op in fold:
            return const(fold[op](x, y), a.dtype)
        if op in ("//", "%") and y != 0:
            return const(x // y if op == "//" else x % y, a.dtype)
        return None
    if op == "+" and (x == 0 or y == 0):
        return b if x == 0 else a
    if op == "-" and y == 0:
        return a
    if op == "*" and (x == 0 or y == 0):
        return const(0, a.dtype)
    if op == "*" and (x == 1 or y == 1):
        return b if x == 1 else a
    if op == "//" and y == 1:
        return a
    if op == "%" and y == 1:
        return const(0, a.dtype)
    return None


def binary(op: str, a: ExprLike, b: ExprLike) -> Expr:
    """A binary operation; a number takes the dtype of the other side.

    Raises: TypeError if the dtypes differ.
    """
    if not isinstance(a, Expr):
        assert isinstance(b, Expr)
        a = lift(a, b.dtype)
    if not isinstance(b, Expr):
        b = lift(b, a.dtype)
    if a.dtype != b.dtype:
        raise TypeError(f"operands of {op!r} are {a.dtype} and {b.dtype}; cast one")
    if op in COMPARISONS:
        return Binary(op, a, b, boolean)
    if a.dtype == i64:
        folded = _fold_index(op, a, b)
        if folded is not None:
            return folded
    return Binary(op, a, b, a.dtype)


def unary(op: str, a: Expr) -> Expr:
    """A function of one operand."""
    assert op in UNARY, op
    return Unary(op, a, boolean if op in ("not", "isnan", "isinf") else a.dtype)


def where(condition: Expr, a: ExprLike, b: ExprLike) -> Expr:
    """`a` where the condition holds, else `b`; a number takes the other side's dtype."""
    if not isinstance(a, Expr) and not isinstance(b, Expr):
        a = lift(a, f32)
    if not isinstance(a, Expr):
        assert isinstance(b, Expr)
        a = lift(a, b.dtype)
    if not isinstance(b, Expr):
        b = lift(b, a.dtype)
    if a.dtype != b.dtype:
        raise TypeError(f"sides of where are {a.dtype} and {b.dtype}")
    if isinstance(condition, Const):
        return a if condition.value else b
    return Select(condition, a, b, a.dtype)


def cast(a: ExprLike, dtype: DType) -> Expr:
    """Conversion to a dtype; a no-op if it has it."""
    if not isinstance(a, Expr):
        return lift(a, dtype)
    if a.dtype == dtype:
        return a
    if isinstance(a, Const) and (dtype.is_float or (a.dtype.is_integer and dtype.is_integer)):
        return const(a.value, dtype)
    return Cast(a, dtype)


# -- text ---------------------------------------------------------------------------------------


def text(expr: Expr) -> str:
    """The expression as text that `te.parser.parse_expr` reads back."""
    match expr:
        case Const(value=value, dtype=dtype):
            plain = str(value).lower() if isinstance(value, bool) else repr(value)
            return plain if dtype in (i64, boolean) else f"{dtype}({plain})"
        case Var(name=name):
            return name
        case Binary(op=op, a=a, b=b):
            if op in ("min", "max", "pow", "fmod", "rem"):
                return f"{op}({text(a)}, {text(b)})"
            return f"({text(a)} {op} {text(b)})"
        case Unary(op=op, a=a):
            return f"{op}({text(a)})"
        case Select(condition=condition, a=a, b=b):
            return f"select({text(condition)}, {text(a)}, {text(b)})"
        case Cast(a=a, dtype=dtype):
            return f"{dtype}({text(a)})"
        case Bitcast(a=a, dtype=dtype):
            return f"bits.{dtype}({text(a)})"
        case Load(tensor=tensor, indices=indices, fill=fill):
            tail = f" else {text(fill)}" if fill is not None else ""
            return f"{tensor.name}[{', '.join(map(text, indices))}{tail}]"
        case Reduce(kind=kind, body=body, axes=axes, last=last):
            over = ", ".join(f"{axis.name}:{axis.extent}" for axis in axes)
            return f"{kind}({text(body)}, over=({over}){', last' if last else ''})"
    return expr.text() if hasattr(expr, "text") else repr(type(expr))
