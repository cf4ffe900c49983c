"""Extents that follow from others with a choice: of slices, and of shapes that broadcast.

They are exact for all values of the symbols. Inside `assumptions.settling` the choice that the
usual values make is taken for granted instead, and noted.
"""

from collections.abc import Sequence

from bessemer.core.assumptions import Assumption, assume, current_settling
from bessemer.core.bounds import at_most
from bessemer.core.shapes import USUAL_EXTENT, Dim, Shape, Sym, function, substitute


def smaller(a: Dim, b: Dim) -> Dim:
    """The smaller of two extents."""
    if at_most(a, b):
        return a
    if at_most(b, a):
        return b
    for chosen, other in ((a, b), (b, a)):
        # Numbers go before symbols where both are usually equal: they are worth more.
        worse = isinstance(chosen, Sym) or not isinstance(other, Sym)
        pairs = list(zip(_usual(chosen), _usual(other), strict=True))
        if pairs and all(low < high or (low == high and not worse) for low, high in pairs):
            _take("usually at most", chosen, other)
            return chosen
    return function("min", a, b)


def larger(a: Dim, b: Dim) -> Dim:
    """The larger of two extents."""
    if at_most(a, b):
        return b
    if at_most(b, a):
        return a
    return function("max", a, b)


def placed(bound: Dim, length: Dim) -> Dim:
    """Where a bound of a slice lies on an axis: from the end if negative, brought into it."""
    if at_most(0, bound) or bound == length - 1:
        return smaller(larger(bound, 0), length)
    if at_most(bound, -1):
        return larger(length + bound, 0)
    usual = _usual(bound)
    if usual and min(usual) >= 0:
        _take("usually at most", 0, bound)
        return smaller(bound, length)
    return function("place", bound, length)


def either(a: Dim, b: Dim) -> Dim:
    """The extent to which two broadcast: the one that is not 1."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, Sym) and isinstance(b, Sym) and taken_equal(a, b):
        return min(a, b, key=lambda dim: len(str(dim)))
    return function("either", a, b)


def taken_equal(a: Dim, b: Dim) -> bool:
    """True if two symbolic extents are usually equal and that may be taken for granted."""
    usual = _usual(a)
    if not usual or usual != _usual(b):
        return False
    _take("usually equal", *sorted((a, b), key=str))
    return True


def is_one(dim: Dim) -> bool | None:
    """True if an extent is 1, False if it is not; None if only a run can tell."""
    if not isinstance(dim, Sym):
        return dim == 1
    if at_most(2, dim) or at_most(dim, 0):
        return False
    usual = set(_usual(dim))
    if usual == {1}:
        _take("usually equal", dim, 1)
        return True
    if usual and min(usual) > 1:
        _take("usually at most", 2, dim)
        return False
    return None


def is_choice(dim: Dim) -> bool:
    """True for an extent to which others broadcast, each of which may be 1."""
    return isinstance(dim, Sym) and any(kind == "either" for kind, _ in dim.functions().values())


def _usual(dim: Dim) -> list[int]:
    """The usual values, if anything may be taken for granted."""
    settling = current_settling()
    found: list[int] = []
    for values in settling.usual if settling is not None else ():
        names = dim.symbols() if isinstance(dim, Sym) else ()
        value = substitute(dim, {name: values.get(name, USUAL_EXTENT) for name in names})
        assert isinstance(value, int)
        found.append(value)
    return found


def _take(relation: str, left: Dim, right: Dim) -> None:
    settling = current_settling()
    assert settling is not None
    settling.taken[Assumption(relation, left, right)] = None


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
            if isinstance(extent, Sym) is not isinstance(dim, Sym) and extent != 1:
                symbolic, fixed = (extent, dim) if isinstance(extent, Sym) else (dim, extent)
                assume(symbolic, fixed, "equal or 1")
            elif isinstance(extent, Sym):
                assume(extent, dim, "broadcast")
            elif extent != 1:
                raise ValueError(f"cannot broadcast {' with '.join(map(str, shapes))}")
            extent = either(extent, dim)
        result.append(extent)
    return tuple(result)
