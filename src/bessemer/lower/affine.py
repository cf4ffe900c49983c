"""Linear forms of index expressions: sums of coefficient * atom; ranges simplify // and %.

Symbolic extents are atoms like loop variables; bounds may be dimensions (`core.bounds`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bessemer.core.bounds import Bound, at_most, floor_divided, less, plus, times
from bessemer.core.dtypes import i64
from bessemer.core.shapes import Dim, Sym, symbol
from bessemer.te.expr import (
    Binary,
    Const,
    Expr,
    SymbolVar,
    Var,
    binary,
    const,
    extent,
    text,
)

Range = tuple[Bound, Bound]
"""Inclusive bounds; infinite where unknown."""

UNKNOWN: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class Linear:
    """`sum(coef * atom) + constant`; atoms are variables or expressions that are not linear."""

    terms: tuple[tuple[str, Expr, int], ...]
    constant: int

    @staticmethod
    def make(terms: Mapping[str, tuple[Expr, int]], constant: int) -> "Linear":
        """Drops zero terms and sorts, so that equal forms compare equal by `key`."""
        kept = [(key, atom, coef) for key, (atom, coef) in sorted(terms.items()) if coef]
        return Linear(tuple(kept), constant)

    @property
    def key(self) -> tuple[tuple[tuple[str, int], ...], int]:
        """Structural identity."""
        return tuple((key, coef) for key, _, coef in self.terms), self.constant

    def __add__(self, other: "Linear") -> "Linear":
        return self._combine(other, 1)

    def __sub__(self, other: "Linear") -> "Linear":
        return self._combine(other, -1)

    def _combine(self, other: "Linear", sign: int) -> "Linear":
        terms = {key: (atom, coef) for key, atom, coef in self.terms}
        for key, atom, coef in other.terms:
            terms[key] = (atom, terms.get(key, (atom, 0))[1] + sign * coef)
        return Linear.make(terms, self.constant + sign * other.constant)

    def scale(self, factor: int) -> "Linear":
        """Every coefficient times an integer."""
        return Linear(
            tuple((key, atom, coef * factor) for key, atom, coef in self.terms) if factor else (),
            self.constant * factor,
        )

    def range(self, ranges: Mapping[str, Range]) -> Range:
        """Bounds of the form, given bounds of its atoms by key."""
        low: Bound = self.constant
        high: Bound = self.constant
        for key, atom, coef in self.terms:
            a, b = atom_range(key, atom, ranges)
            if coef < 0:
                a, b = b, a
            low, high = plus(low, times(a, coef)), plus(high, times(b, coef))
        return low, high

    def with_known(self, ranges: Mapping[str, Range]) -> "Linear":
        """The form with numbers in place of variables that have one value."""
        constant, kept = self.constant, []
        for term in self.terms:
            low, high = ranges.get(term[0], UNKNOWN)
            if low == high and not isinstance(low, Sym):
                constant += term[2] * int(low)
            else:
                kept.append(term)
        return self if len(kept) == len(self.terms) else Linear(tuple(kept), constant)

    def expr(self) -> Expr:
        """The form as an expression."""
        total: Expr = const(0, i64)
        for _, atom, coef in self.terms:
            total = total + atom * coef
        return total + self.constant


def atom_range(key: str, atom: Expr, ranges: Mapping[str, Range]) -> Range:
    """Bounds of one atom."""
    known = ranges.get(key)
    if known is not None:
        return known
    if isinstance(atom, SymbolVar):
        return symbol(atom.name), symbol(atom.name)
    if not isinstance(atom, Binary):
        return UNKNOWN
    if isinstance(atom.b, Const) and atom.b.value > 0:
        divisor = atom.b.value
        if atom.op == "%":
            return 0, divisor - 1
        if atom.op == "//":
            low, high = linear(atom.a, ranges).range(ranges)
            return floor_divided(low, divisor), floor_divided(high, divisor)
    if atom.op in ("min", "max"):
        a, b = linear(atom.a, ranges).range(ranges), linear(atom.b, ranges).range(ranges)
        return _extreme_range(atom.op, a, b)
    if atom.op in ("//", "%", "*"):
        # Symbolic extents are not negative, and no loop runs over an extent of zero: a divisor
        # made of extents alone is positive where it is used.
        low, high = linear(atom.a, ranges).range(ranges)
        below, above = linear(atom.b, ranges).range(ranges)
        positive = at_most(0, below) or (atom.op != "*" and _is_fixed(atom.b))
        if at_most(0, low) and positive:
            if atom.op == "//":
                return 0, _highest_quotient(high, below) if below == above else math.inf
            if atom.op == "%":
                return 0, plus(above, -1)
            return _product(low, below), _product(high, above)
    return UNKNOWN


def _product(a: Bound, b: Bound) -> Bound:
    """The product of two bounds, neither of them negative."""
    if isinstance(a, float) or isinstance(b, float):
        return math.inf if a and b else 0
    return a * b


def _highest_quotient(high: Bound, divisor: Bound) -> Bound:
    """The largest a // divisor for a <= high, where high + 1 is a multiple of the divisor."""
    count = plus(high, 1)
    if not isinstance(divisor, Sym) or isinstance(count, float):
        return math.inf
    quotient = count // divisor
    return quotient - 1 if quotient * divisor == count else math.inf


def _extreme_range(op: str, a: Range, b: Range) -> Range:
    """Bounds of min(a, b) or max(a, b); the outer ones where two cannot be compared."""
    if op == "min":
        low = a[0] if at_most(a[0], b[0]) else b[0] if at_most(b[0], a[0]) else -math.inf
        return low, a[1] if at_most(a[1], b[1]) else b[1]
    high = a[1] if at_most(b[1], a[1]) else b[1] if at_most(a[1], b[1]) else math.inf
    return a[0] if at_most(b[0], a[0]) else b[0], high


def linear(expr: Expr, ranges: Mapping[str, Range]) -> Linear:
    """The linear form of an i64 expression; `ranges` bounds variables by name."""
    if id(expr) in _EXTENTS:
        return _EXTENTS[id(expr)][1]
    plain = plain_form(expr)
    form = _linear(expr, ranges) if plain is None else plain.with_known(ranges)
    if isinstance(expr, Binary) and _is_fixed(expr.a) and _is_fixed(expr.b):
        if len(_EXTENTS) >= _MOST_EXTENTS:
            _EXTENTS.clear()
        _EXTENTS[id(expr)] = expr, form
    return form


def plain_form(expr: Expr) -> Linear | None:
    """The form of a sum of variables, whatever their ranges; None for other expressions.

    Unrolled loops ask for the same expressions again and again.
    """
    found = _PLAIN.get(id(expr))
    if found is None:
        if len(_PLAIN) >= _MOST_EXTENTS:
            _PLAIN.clear()
        found = _PLAIN[id(expr)] = expr, _plain_form(expr)
    return found[1]


def _plain_form(expr: Expr) -> Linear | None:
    match expr:
        case Const(value=value):
            return Linear((), int(value))
        case Var(name=name):
            return Linear(((name, expr, 1),), 0)
        case Binary(op="+" | "-" | "*" as op, a=a, b=b):
            x, y = plain_form(a), plain_form(b)
            if x is None or y is None:
                return None
            if op != "*":
                return x + y if op == "+" else x - y
            return x.scale(y.constant) if not y.terms else (
                y.scale(x.constant) if not x.terms else None)
    return None


def _linear(expr: Expr, ranges: Mapping[str, Range]) -> Linear:
    match expr:
        case Binary(op="+", a=a, b=b):
            return linear(a, ranges) + linear(b, ranges)
        case Binary(op="-", a=a, b=b):
            return linear(a, ranges) - linear(b, ranges)
        case Binary(op="*", a=a, b=b):
            x, y = linear(a, ranges), linear(b, ranges)
            if not y.terms:
                return x.scale(y.constant)
            if not x.terms:
                return y.scale(x.constant)
            return _atom(binary("*", a if id(a) in _EXTENTS else x.expr(),
                                b if id(b) in _EXTENTS else y.expr()))
        case Binary(op="//", a=a, b=Const(value=divisor)) if divisor > 0:
            return floor_divide(linear(a, ranges), divisor, ranges)
        case Binary(op="%", a=a, b=Const(value=divisor)) if divisor > 0:
            return modulo(linear(a, ranges), divisor, ranges)
        case Binary(op="min" | "max" as op, a=a, b=b):
            return _extreme(op, linear(a, ranges), linear(b, ranges), ranges)
    return _atom(expr)


def _atom(expr: Expr) -> Linear:
    return Linear(((text(expr), expr, 1),), 0)


def _extreme(op: str, a: Linear, b: Linear, ranges: Mapping[str, Range]) -> Linear:
    low, high = (a - b).range(ranges)
    if at_most(high, 0):
        return a if op == "min" else b
    if at_most(0, low):
        return b if op == "min" else a
    return _atom(binary(op, a.expr(), b.expr()))


def _split(form: Linear, divisor: int) -> tuple[Linear, Linear]:
    """Form = divisor * quotient + rest, with the multiples of the divisor in quotient."""
    quotient, rest = [], []
    for key, atom, coef in form.terms:
        whole = coef // divisor if coef % divisor == 0 else 0
        if whole:
            quotient.append((key, atom, whole))
        else:
            rest.append((key, atom, coef))
    return (Linear(tuple(quotient), form.constant // divisor),
            Linear(tuple(rest), form.constant % divisor))


def floor_divide(form: Linear, divisor: int, ranges: Mapping[str, Range]) -> Linear:
    """The form divided by a positive literal, rounded down."""
    if divisor == 1:
        return form
    quotient, rest = _split(form, divisor)
    low, high = rest.range(ranges)
    if at_most(0, low) and less(high, divisor):
        return quotient
    # (4a + b) // 16 with 0 <= b < 4 is a // 4.
    factor = math.gcd(divisor, *(coef for _, _, coef in rest.terms if coef % divisor))
    for common in _common_factors(rest, divisor, factor):
        inner, small = _split(rest, common)
        bounds = small.range(ranges)
        if inner.terms and at_most(0, bounds[0]) and less(bounds[1], common):
            return quotient + floor_divide(inner, divisor // common, ranges)
    if len(rest.terms) == 1 and rest.constant == 0:
        _, atom, coef = rest.terms[0]
        if coef == 1 and isinstance(atom, Binary) and atom.op == "//" \
                and isinstance(atom.b, Const) and atom.b.value > 0:
            return quotient + floor_divide(
                linear(atom.a, ranges), divisor * int(atom.b.value), ranges)
    return quotient + _atom(binary("//", rest.expr(), const(divisor, i64)))


def _common_factors(rest: Linear, divisor: int, factor: int) -> list[int]:
    found = {factor} | {math.gcd(coef, divisor) for _, _, coef in rest.terms}
    return sorted((f for f in found if f > 1 and divisor % f == 0), reverse=True)


def modulo(form: Linear, divisor: int, ranges: Mapping[str, Range]) -> Linear:
    """The rest of that division; never negative."""
    if divisor == 1:
        return Linear((), 0)
    _, rest = _split(form, divisor)
    low, high = rest.range(ranges)
    if at_most(0, low) and less(high, divisor):
        return rest
    for common in _common_factors(rest, divisor, 1):
        inner, small = _split(rest, common)
        bounds = small.range(ranges)
        if inner.terms and at_most(0, bounds[0]) and less(bounds[1], common):
            return modulo(inner, divisor // common, ranges).scale(common) + small
    return _atom(binary("%", rest.expr(), const(divisor, i64)))


def simplify(expr: Expr, ranges: Mapping[str, Range]) -> Expr:
    """An equal i64 expression in linear form."""
    return linear(expr, ranges).expr()


def holds(condition: Expr, ranges: Mapping[str, Range]) -> bool | None:
    """True or False if an index comparison is decided by the ranges, else None."""
    if isinstance(condition, Binary) and condition.op == "&":
        sides = holds(condition.a, ranges), holds(condition.b, ranges)
        return False if False in sides else True if sides == (True, True) else None
    if not isinstance(condition, Binary) or condition.a.dtype != i64:
        return None
    low, high = (linear(condition.a, ranges) - linear(condition.b, ranges)).range(ranges)
    never = less(0, low) or less(high, 0)
    always = low == high and not isinstance(low, Sym) and low == 0
    match condition.op:
        case "<":
            return True if less(high, 0) else False if at_most(0, low) else None
        case "<=":
            return True if at_most(high, 0) else False if less(0, low) else None
        case ">":
            return True if less(0, low) else False if at_most(high, 0) else None
        case ">=":
            return True if at_most(0, low) else False if less(high, 0) else None
        case "==":
            return True if always else False if never else None
        case "!=":
            return False if always else True if never else None
    return None


def times_dim(form: Linear, dim: Dim) -> Linear:
    """The form times a stride, which may be symbolic: then every atom is multiplied by it."""
    if not isinstance(dim, Sym):
        return form.scale(dim)
    stride = extent(dim)
    total = extent_form(dim).scale(form.constant)
    behind = text(stride)
    terms = {f"({key} * {behind})": (binary("*", atom, stride), coef)
             for key, atom, coef in form.terms}
    return total + Linear.make(terms, 0)


_EXTENTS: dict[int, tuple[Expr, Linear]] = {}
"""Forms of expressions of symbols, which no range changes, by id; the expressions are held."""

_PLAIN: dict[int, tuple[Expr, Linear | None]] = {}
"""Forms by id of sums of variables, whose ranges are not looked at; None for what is none."""

_MOST_EXTENTS = 1 << 16


def _is_fixed(expr: Expr) -> bool:
    """Whether an expression is made of extents and numbers alone."""
    if isinstance(expr, (Const, SymbolVar)) or id(expr) in _EXTENTS:
        return True
    plain = plain_form(expr) if isinstance(expr, Binary) else None
    return plain is not None and all(isinstance(atom, SymbolVar) for _, atom, _ in plain.terms)


def extent_form(dim: Dim) -> Linear:
    """The linear form of a dimension."""
    return linear(extent(dim), {})
