"""What is known of the elements of small tensors that stem from dimensions: order and fractions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from bessemer.core.bounds import least
from bessemer.core.shapes import Dim, Sym
from bessemer.ir.types import Fractions, TensorType
from bessemer.ops.dims import known_dims

T = TypeVar("T")
_MOST_ELEMENTS = 64
_LARGEST_DIVISOR = 1 << 12


def paired(a: Sequence[T], b: Sequence[T]) -> list[tuple[T, T]]:
    """Elements of two vectors (or scalars) as broadcasting pairs them."""
    count = max(len(a), len(b)) if a and b else 0
    return list(zip(list(a) * count if len(a) == 1 else a, list(b) * count if len(b) == 1 else b))


def signs(a: Dim, b: Dim) -> frozenset[int]:
    """The signs that a - b can have: of -1, 0 and 1."""
    low, high = least(a - b), -least(b - a)
    return frozenset(sign for sign in (-1, 0, 1) if (
        low <= 0 <= high if sign == 0 else low < 0 if sign < 0 else high > 0))


def fractions_of(type: TensorType | None) -> Fractions | None:
    """The elements as (dividend, divisor) where they are known to be such, else None."""
    if type is None or type.fractions is not None:
        return None if type is None else type.fractions
    if type.dtype.is_integer:
        dims = known_dims(type)
        return None if dims is None else tuple((dim, 1) for dim in dims)
    if type.value is None or type.value.size > _MOST_ELEMENTS or not type.dtype.is_float:
        return None
    wide = type.value.astype(np.float64).reshape(-1)
    if not np.isfinite(wide).all():
        return None
    exact = [Fraction(float(number)) for number in wide]
    if any(number.denominator > _LARGEST_DIVISOR for number in exact):
        return None
    return tuple((number.numerator, number.denominator) for number in exact)


def is_symbolic(fractions: Fractions) -> bool:
    """True if a dividend is not a plain integer."""
    return any(isinstance(top, Sym) for top, _ in fractions)


def added(a: Fractions, b: Fractions, sign: int = 1) -> Fractions:
    """The sums, or with sign -1 the differences."""
    return tuple((p * n + q * m * sign, m * n) for (p, m), (q, n) in paired(a, b))


def multiplied(a: Fractions, b: Fractions) -> Fractions:
    """The products."""
    return tuple((p * q, m * n) for (p, m), (q, n) in paired(a, b))


def divided(a: Fractions, b: Fractions) -> Fractions | None:
    """The quotients; None unless all divisors are positive numbers."""
    result = []
    for (p, m), (q, n) in paired(a, b):
        if isinstance(q, Sym) or q <= 0:
            return None
        result.append((p * n, m * q))
    return tuple(result)


def floored(a: Fractions) -> Fractions:
    """The elements rounded down."""
    return tuple((top // bottom, 1) for top, bottom in a)


def ceiled(a: Fractions) -> Fractions:
    """The elements rounded up."""
    return tuple(((top + (bottom - 1)) // bottom, 1) for top, bottom in a)


def truncated(a: Fractions) -> tuple[Dim, ...] | None:
    """The elements rounded toward zero, of numbers that are not negative; None if one is."""
    if any(isinstance(top, int) and top < 0 and bottom != 1 for top, bottom in a):
        return None
    return tuple(top if bottom == 1 else top // bottom for top, bottom in a)
