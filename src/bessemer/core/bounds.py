"""Bounds of index expressions: integers, infinities, or dimensions; and what can be proved of them.

Symbols stand for extents, which are never negative. A comparison is true only if it holds for
every value of the symbols.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

from bessemer.core.shapes import Dim, Monomial, Sym

Bound = float | Sym
"""An integer, an infinity, or a dimension."""

_MOST_DIVISIONS = 16
_MOST_CASES = 6


def plus(a: Bound, b: Bound) -> Bound:
    """The sum; infinite if one of them is."""
    if isinstance(a, float) and math.isinf(a):
        return a
    if isinstance(b, float) and math.isinf(b):
        return b
    return _exact(a) + _exact(b)


def times(a: Bound, factor: int) -> Bound:
    """The bound times an integer; 0 times infinity is 0."""
    if not factor:
        return 0
    if isinstance(a, float) and math.isinf(a):
        return a * factor
    return _exact(a) * factor


def floor_divided(a: Bound, divisor: int) -> Bound:
    """The bound divided by a positive integer, rounded down."""
    return a if isinstance(a, float) and math.isinf(a) else _exact(a) // divisor


def at_most(a: Bound, b: Bound) -> bool:
    """True if a <= b is certain."""
    if not isinstance(a, Sym) and not isinstance(b, Sym):
        return a <= b
    if _is_infinite(a) or _is_infinite(b):
        return a == -math.inf or b == math.inf
    return least(_exact(b) - _exact(a)) >= 0


def less(a: Bound, b: Bound) -> bool:
    """True if a < b is certain."""
    if not isinstance(a, Sym) and not isinstance(b, Sym):
        return a < b
    return at_most(plus(a, 1), b)


def _is_infinite(a: Bound) -> bool:
    return isinstance(a, float) and math.isinf(a)


def _exact(a: Bound) -> Dim:
    return a if isinstance(a, Sym) else int(a)


def least(dim: Dim) -> float:
    """A number that the dimension is never below; -inf if none is found.

    Atoms are first taken as they are (extents, not negative). Then functions are replaced by their
    arguments, case by case, and floor divisions by the fractions between which they lie.
    """
    return _least(dim, _MOST_CASES)


def _least(dim: Dim, cases: int) -> float:
    if not isinstance(dim, Sym):
        return dim
    terms = {mono: Fraction(coef) for mono, coef in dim.terms}
    plain = _least_of(terms)
    if plain > -math.inf and (plain > 0 or not cases):
        return plain
    if cases and dim.functions():
        plain = max(plain, _least_by_cases(dim, cases - 1))
    if plain > -math.inf:
        return plain
    atoms = dict(dim.divisions())
    for _ in range(_MOST_DIVISIONS):
        replaced = _replace_division(terms, atoms)
        if replaced is None:
            break
        terms = replaced
    return _least_of(terms)


def _least_by_cases(dim: Sym, cases: int) -> float:
    """The least over the values that one function in it can have: those of its arguments."""
    name, (kind, parts) = next(iter(dim.functions().items()))
    signs = {coef > 0 for mono, coef in dim.terms if name in mono}
    if kind == "place":
        parts = (0, parts[1]) if len(signs) == 1 else (*parts, parts[0] + parts[1], 0)
    found = [_least(_with(dim, name, part), cases) for part in parts]
    # A minimum is at most, a maximum at least each argument: one case that holds is enough.
    enough = signs == {kind == "max"} and kind in ("min", "max")
    return max(found) if enough else min(found)


def _with(dim: Sym, name: str, value: Dim) -> Dim:
    """The dimension with one atom replaced."""
    total: Dim = 0
    for mono, coef in dim.terms:
        count = mono.count(name)
        term = Sym.make({tuple(other for other in mono if other != name): coef},
                        {**dim.functions(), **_quotients(dim)})
        for _ in range(count):
            term = term * value
        total = total + term
    return total


def _quotients(dim: Sym) -> dict[str, tuple[str, tuple[Dim, ...]]]:
    return {name: ("//", parts) for name, parts in dim.divisions().items()}


def _least_of(terms: Mapping[Monomial, Fraction]) -> float:
    if any(coef < 0 for mono, coef in terms.items() if mono):
        return -math.inf
    return math.ceil(terms.get((), Fraction(0)))


def _replace_division(terms: dict[Monomial, Fraction], atoms: dict[str, tuple[Dim, Dim]]
                      ) -> dict[Monomial, Fraction] | None:
    """The terms with one `coef * (top // bottom)` made smaller and free of the division."""
    for mono, coef in sorted(terms.items(), key=lambda item: -len(str(item[0]))):
        if len(mono) != 1 or mono[0] not in atoms or not coef:
            continue
        top, bottom = atoms[mono[0]]
        if not isinstance(bottom, int) or bottom <= 0:
            continue
        result = dict(terms)
        del result[mono]
        # The quotient lies between (top - bottom + 1) / bottom and top / bottom.
        if isinstance(top, Sym):
            atoms |= top.divisions()
        pieces = dict(top.terms) if isinstance(top, Sym) else {(): top}
        for other, factor in pieces.items():
            result[other] = result.get(other, Fraction(0)) + coef * factor / bottom
        if coef > 0:
            result[()] = result.get((), Fraction(0)) - coef * Fraction(bottom - 1, bottom)
        return result
    return None
