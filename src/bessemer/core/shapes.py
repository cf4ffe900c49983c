"""Dimensions: integers, or polynomials over named symbols (`N`, `2*N+1`, `N*H`, `H//32`).

Where no polynomial says it, functions do: `min(N,10)` (`FUNCTIONS`).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np

Monomial = tuple[str, ...]


def _either(*extents: int) -> int:
    return next((extent for extent in extents if extent != 1), 1)


def _place(bound: int, extent: int) -> int:
    return min(max(bound + extent if bound < 0 else bound, 0), extent)


FUNCTIONS: dict[str, Callable[..., int]] = {
    "min": min, "max": max, "either": _either, "place": _place,
}
"""What dimensions may use besides `+ - * //`. `either(a,b)` is the extent to which a and b
broadcast: the one that is not 1. `place(b,n)` is where a slice of an axis of extent n begins or
ends that is given the bound b: counted from the end if negative, then brought into 0..n."""


class Sym:
    """A polynomial with integer coefficients over symbols; immutable, compared by value.

    A floor division that does not divide evenly becomes an atom named by its text, and so do
    functions: equal expressions have equal text. Symbols and atoms stand for extents, which are
    never negative. At least one symbol is in it; `make` returns int otherwise.
    """

    __slots__ = ("_atoms", "terms")

    def __init__(self, terms: Mapping[Monomial, int], atoms: Mapping[str, "Atom"]):
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(sorted(terms.items()))
        self._atoms = dict(atoms)

    @staticmethod
    def make(
        terms: Mapping[Monomial, int], atoms: Mapping[str, "Atom"] | None = None
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
        return Sym.make({(text,): 1}, {text: ("//", (self, other))})

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
            kind, (top, bottom, *_) = self._atoms[names[0][0]]
            if kind == "//" and isinstance(bottom, int) and bottom > 0:
                return whole + (top + bottom * dict(rest.terms).get((), 0)) // (bottom * divisor)
        top_text = f"({rest})" if len(rest.terms) > 1 else str(rest)
        text = f"({top_text}//{divisor})"
        return whole + Sym.make({(text,): 1}, {text: ("//", (rest, divisor))})

    def __rfloordiv__(self, other: int) -> "Dim":
        text = f"({other}//({self}))"
        return Sym.make({(text,): 1}, {text: ("//", (other, self))})

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
                    for part in self._atoms[name][1]:
                        names |= part.symbols() if isinstance(part, Sym) else set()
                else:
                    names.add(name)
        return names

    def scalars(self) -> set[str]:
        """Formulas from which sums, products and quotients make the value: symbols, functions."""
        names: set[str] = set()
        for name in itertools.chain.from_iterable(mono for mono, _ in self.terms):
            kind, parts = self._atoms.get(name, ("", ()))
            if kind != "//":
                names.add(name)
            for part in parts if kind == "//" else ():
                names |= part.scalars() if isinstance(part, Sym) else set()
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
        return {name: (parts[0], parts[1])
                for name, (kind, parts) in self._atoms.items() if kind == "//"}

    def functions(self) -> Mapping[str, "Atom"]:
        """The functions in it: name of the atom -> (name of the function, arguments)."""
        return {name: atom for name, atom in self._atoms.items() if atom[0] != "//"}

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
            kind, parts = self._atoms[name]
            found = [substitute(part, values) for part in parts]
            return found[0] // found[1] if kind == "//" else function(kind, *found)
        return values.get(name, symbol(name))


Dim = int | Sym
Shape = tuple[Dim, ...]
Atom = tuple[str, tuple[Dim, ...]]
"""An operation, `//` or a function, and its arguments."""


def _is_dim(other: object) -> bool:
    """True for what Sym can compute with; an expression takes the operation over."""
    return isinstance(other, int | Sym | np.integer)


def _split(dim: Dim) -> tuple[dict[Monomial, int], dict[str, "Atom"]]:
    if isinstance(dim, Sym):
        return dict(dim.terms), dim._atoms
    return {(): int(dim)}, {}


def symbol(name: str) -> Sym:
    """The dimension that is just that symbol."""
    return Sym({(name,): 1}, {})


def function(name: str, *arguments: Dim) -> Dim:
    """A function of `FUNCTIONS`, with the arguments in one form; an int if it is known.

    Raises: ValueError for an unknown function or a wrong number of arguments.
    """
    if name == "place":
        parts: tuple[Dim, ...] = arguments
        if len(parts) != 2:
            raise ValueError(f"place has 2 arguments, not {len(parts)}")
    elif name in FUNCTIONS:
        parts = _in_order(name, arguments)
        if len(parts) == 1:
            return parts[0]
    else:
        raise ValueError(f"unknown function {name!r}; known: {', '.join(FUNCTIONS)}")
    fixed = [int(part) for part in parts if not isinstance(part, Sym)]
    if len(fixed) == len(parts):
        return FUNCTIONS[name](*fixed)
    text = f"{name}({','.join(map(str, parts))})"
    return Sym.make({(text,): 1}, {text: (name, parts)})


def _in_order(name: str, arguments: Sequence[Dim]) -> tuple[Dim, ...]:
    """The arguments of min, max or either: each once, inner ones taken out, a number last."""
    flat: list[Dim] = []
    for part in arguments:
        inner = part.functions().get(str(part)) if isinstance(part, Sym) else None
        flat += inner[1] if inner is not None and inner[0] == name else (part,)
    if not flat:
        raise ValueError(f"{name} of nothing")
    numbers = [int(part) for part in flat if not isinstance(part, Sym)]
    known = [reduce(FUNCTIONS[name], numbers)] if numbers else []
    symbolic = sorted({part for part in flat if isinstance(part, Sym)}, key=str)
    if name == "either" and symbolic and known:
        known = [number for number in known if number != 1]
        return tuple(known or symbolic)  # extents that broadcast with 5 give 5
    return (*symbolic, *known)


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


USUAL_EXTENT = 64
"""What an extent is taken for where nothing is known of it; a guess that changes no result."""


def usual(dim: Dim, hints: Mapping[str, int] | None = None) -> int:
    """A dimension for the usual values of its symbols, at least 1."""
    if not isinstance(dim, Sym):
        return dim
    values = {name: (hints or {}).get(name, USUAL_EXTENT) for name in dim.symbols()}
    value = dim.subs(values)
    return max(value, 1) if isinstance(value, int) else USUAL_EXTENT
