"""Dimensions: integers, or polynomials over named symbols (`N`, `2*N+1`, `N*H`, `H//32`)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from bessemer.core.assumptions import assume

Monomial = tuple[str, ...]


class Sym:
    """A polynomial with integer coefficients over symbols; immutable, compared by value.

    A floor division that does not divide evenly becomes an atom named by its text, so
    equal expressions have equal text. At least one symbol is in it; `make` returns int otherwise.
    """

    __slots__ = ("_atoms", "terms")

    def __init__(self, terms: Mapping[Monomial, int], atoms: Mapping[str, tuple["Dim", "Dim"]]):
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(sorted(terms.items()))
        self._atoms = dict(atoms)

    @staticmethod
    def make(
        terms: Mapping[Monomial, int], atoms: Mapping[str, tuple["Dim", "Dim"]] | None = None
    ) -> "Dim":
        """The polynomial of those terms, or an int if no symbol remains."""
        left = {mono: coef for mono, coef in terms.items() if coef}
        if not left:
            return 0
        if list(left) == [()]:
            return left[()]
        used = {name for mono in left for name in mono}
        return Sym(left, {k: v for k, v in (atoms or {}).items() if k in used})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    def __str__(self) -> str:
        parts = []
        for mono, coef in reversed(self.terms):
            factors = ([str(coef)] if coef != 1 or not mono else []) + list(mono)
            parts.append("*".join(factors))
        return "+".join(parts).replace("+-", "-")

    __repr__ = __str__

    def _combine(self, other: "Dim", sign: int) -> "Dim":
        if not _is_dim(other):
            return NotImplemented  # type: ignore[no-any-return]
        terms = dict(self.terms)
        other_terms, atoms = _split(other)
        for mono, coef in other_terms.items():
            terms[mono] = terms.get(mono, 0) + sign * coef
        return Sym.make(terms, {**self._atoms, **atoms})

    def __add__(self, other: "Dim") -> "Dim":
        return self._combine(other, 1)

    __radd__ = __add__

    def __sub__(self, other: "Dim") -> "Dim":
        return self._combine(other, -1)

    def __rsub__(self, other: "Dim") -> "Dim":
        return self * -1 + other

    def __neg__(self) -> "Dim":
        return self * -1

    def __mul__(self, other: "Dim") -> "Dim":
        if not _is_dim(other):
            return NotImplemented
        other_terms, atoms = _split(other)
        terms: dict[Monomial, int] = {}
        for (ma, ca), (mb, cb) in itertools.product(self.terms, other_terms.items()):
            mono = tuple(sorted(ma + mb))
            terms[mono] = terms.get(mono, 0) + ca * cb
        return Sym.make(terms, {**self._atoms, **atoms})

    __rmul__ = __mul__

    def __floordiv__(self, other: "Dim") -> "Dim":
        if not _is_dim(other):
            return NotImplemented
        if isinstance(other, int) and other == 1:
            return self
        if self == other:
            return 1
        exact = self._divide_exactly(other)
        if exact is not None:
            return exact
        if isinstance(other, int) and other > 1:
            return self._divide_by(other)
        top = f"({self})" if len(self.terms) > 1 else str(self)
        text = f"({top}//{other})" if isinstance(other, int) else f"({top}//({other}))"
        return Sym.make({(text,): 1}, {text: (self, other)})

    def _divide_by(self, divisor: int) -> "Dim":
        """Rounded down, in one form: equal quotients should have equal text.

        Whole multiples of the divisor come out, (a // b + c) // d becomes (a + b*c) // (b*d),
        (4*a + c) // 6 becomes (2*a + c // 2) // 3.
        """
        whole = Sym.make({m: c // divisor for m, c in self.terms}, self._atoms)
        rest = Sym.make({m: c % divisor for m, c in self.terms}, self._atoms)
        if not isinstance(rest, Sym):
            return whole + rest // divisor
        common = math.gcd(divisor, *(coef for mono, coef in rest.terms if mono))
        if common > 1:
            reduced = Sym.make({m: c // common for m, c in rest.terms}, rest._atoms)
            return whole + reduced // (divisor // common)
        names = [mono for mono, _ in rest.terms if mono]
        if len(names) == 1 and len(names[0]) == 1 and dict(rest.terms)[names[0]] == 1 \
                and names[0][0] in self._atoms:
            top, bottom = self._atoms[names[0][0]]
            if isinstance(bottom, int) and bottom > 0:
                return whole + (top + bottom * dict(rest.terms).get((), 0)) // (bottom * divisor)
        top_text = f"({rest})" if len(rest.terms) > 1 else str(rest)
        text = f"({top_text}//{divisor})"
        return whole + Sym.make({(text,): 1}, {text: (rest, divisor)})

    def __rfloordiv__(self, other: int) -> "Dim":
        text = f"({other}//({self}))"
        return Sym.make({(text,): 1}, {text: (other, self)})

    def __mod__(self, other: "Dim") -> "Dim":
        if not _is_dim(other):
            return NotImplemented
        return self - (self // other) * other

    def _divide_exactly(self, other: "Dim") -> "Dim | None":
        divisor, atoms = _split(other)
        if len(divisor) != 1:
            return None
        ((mono, coef),) = divisor.items()
        result: dict[Monomial, int] = {}
        for have, factor in self.terms:
            rest = list(have)
            for name in mono:
                if name not in rest:
                    return None
                rest.remove(name)
            if factor % coef:
                return None
            result[tuple(rest)] = factor // coef
        return Sym.make(result, {**self._atoms, **atoms})

    def symbols(self) -> set[str]:
        """Names of the free symbols."""
        names: set[str] = set()
        for mono, _ in self.terms:
            for name in mono:
                if name in self._atoms:
                    for part in self._atoms[name]:
                        names |= part.symbols() if isinstance(part, Sym) else set()
                else:
                    names.add(name)
        return names

    @property
    def alone(self) -> str:
        """The name, if the dimension is just one symbol; else empty."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1 \
                and self.terms[0][0][0] not in self._atoms:
            return self.terms[0][0][0]
        return ""

    def divisions(self) -> Mapping[str, tuple["Dim", "Dim"]]:
        """The floor divisions in it: name of the atom -> (dividend, divisor)."""
        return self._atoms

    def subs(self, values: Mapping[str, "Dim"]) -> "Dim":
        """The expression with symbols replaced; an int when all are known."""
        total: Dim = 0
        for mono, coef in self.terms:
            factors = [self._value_of(name, values) for name in mono]
            start: Dim = coef
            total = total + reduce(lambda a, b: a * b, factors, start)
        return total

    def _value_of(self, name: str, values: Mapping[str, "Dim"]) -> "Dim":
        if name in self._atoms:
            top, bottom = (substitute(part, values) for part in self._atoms[name])
            return top // bottom
        return values.get(name, symbol(name))


Dim = int | Sym
Shape = tuple[Dim, ...]


def _is_dim(other: object) -> bool:
    """True for what Sym can compute with; an expression takes the operation over."""
    return isinstance(other, int | Sym | np.integer)


def _split(dim: Dim) -> tuple[dict[Monomial, int], dict[str, tuple[Dim, Dim]]]:
    if isinstance(dim, Sym):
        return dict(dim.terms), dim._atoms
    return {(): int(dim)}, {}


def symbol(name: str) -> Sym:
    """The dimension that is just that symbol."""
    return Sym({(name,): 1}, {})


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with its symbols replaced."""
    return dim.subs(values) if isinstance(dim, Sym) else dim


def is_static(shape: Sequence[Dim]) -> bool:
    """True if every dimension is an integer."""
    return all(isinstance(dim, int) for dim in shape)


def product(shape: Sequence[Dim]) -> Dim:
    """Product of the dimensions; 1 for a scalar."""
    total: Dim = 1
    for dim in shape:
        total = total * dim
    return total


def broadcast_shapes(*shapes: Sequence[Dim]) -> Shape:
    """The numpy-broadcast shape; a symbol against an integer above 1 takes the integer.

    Raises: ValueError if two known extents differ and neither is 1.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = []
    for position in range(rank):
        extent: Dim = 1
        for shape in shapes:
            axis = position - rank + len(shape)
            if axis < 0 or shape[axis] == 1 or shape[axis] == extent:
                continue
            dim = shape[axis]
            if isinstance(extent, Sym) is not isinstance(dim, Sym) and 1 not in (extent, dim):
                symbolic, fixed = (extent, dim) if isinstance(extent, Sym) else (dim, extent)
                assume(symbolic, fixed, "equal or 1")
            if extent == 1 or (isinstance(extent, Sym) and isinstance(dim, int)):
                extent = dim
            elif isinstance(extent, int) and isinstance(dim, int):
                raise ValueError(f"cannot broadcast {' with '.join(map(str, shapes))}")
        result.append(extent)
    return tuple(result)


USUAL_EXTENT = 64
"""What an extent is taken for where nothing is known of it; a guess that changes no result."""


def usual(dim: Dim, hints: Mapping[str, int] | None = None) -> int:
    """A dimension for the usual values of its symbols, at least 1."""
    if not isinstance(dim, Sym):
        return dim
    values = {name: (hints or {}).get(name, USUAL_EXTENT) for name in dim.symbols()}
    value = dim.subs(values)
    return max(value, 1) if isinstance(value, int) else USUAL_EXTENT
