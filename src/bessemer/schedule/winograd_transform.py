"""Minimal filtering F(m, 3): the transforms of weights, input and output along one axis.

m outputs of a filter of 3 taps cost m + 2 products instead of 3 m. The m + 2 interpolation points
are 0, pairs +p and -p, and infinity; a pair shares its even and its odd part, so a transform of six
values takes 12 multiply-adds whatever the points are.

Sources: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, "Fast
Algorithms for Convolutional Neural Networks". The pairs 3/4 and 3/2 were chosen by measuring: the
error is half of that of 1 and 2, and all constants but those of the weights are exact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.lower.loops import Fma
from bessemer.te.expr import Expr, const

TAPS = 3
PAIRS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (0.75, 1.5)}
"""The pairs of interpolation points by the number of outputs."""

Array = np.ndarray[Any, Any]


def points_of(outputs: int) -> int:
    """Products, and inputs, of a tile with so many outputs."""
    return outputs + TAPS - 1


def transform_weights(weights: Array, rows: int, columns: int) -> Array:
    """Weights [k, c, 3, 3] at the interpolation points, f32 [points, k, c], rows first."""
    if weights.size > 9 and not any(weights.strides[:2]):  # stand-ins: all filters are the same
        same = transform_weights(weights[:1, :1], rows, columns)
        return np.broadcast_to(same, (len(same), *weights.shape[:2]))
    left, right = _weight_matrix(rows), _weight_matrix(columns)
    half = np.tensordot(left, np.asarray(weights, np.float64), (1, 2))  # [rows, k, c, 3]
    points = np.asarray(half @ right.T, np.float32).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(points).reshape(-1, *weights.shape[:2])


def transform_input(values: Sequence[Expr], outputs: int) -> list[Expr]:
    """M + 2 neighbouring inputs at the interpolation points."""
    pairs = PAIRS[outputs]
    even, odd = values[0::2], values[1::2]
    whole = _polynomial([p * p for p in pairs])
    result = [_sum(whole, even)]
    for k, point in enumerate(pairs):
        rest = _polynomial([p * p for j, p in enumerate(pairs) if j != k])
        a, b = _sum(rest, even[1:]), _sum(rest, odd[: len(rest)])
        result += [_add(point, b, a), _add(-point, b, a)]
    return [*result, _sum(whole, odd)]


def transform_output(products: Sequence[Expr], outputs: int) -> list[Expr]:
    """The m outputs from the m + 2 products."""
    pairs = PAIRS[outputs]
    sides = [(products[2 * k + 1], products[2 * k + 2]) for k in range(len(pairs))]
    halves = [(plus + minus, plus - minus) for plus, minus in sides]
    result = []
    for power in range(outputs):
        coefficients = [point**power for point in pairs]
        terms = [half[power % 2] for half in halves]
        if power == 0:
            coefficients, terms = [1.0, *coefficients], [products[0], *terms]
        if power == outputs - 1:
            coefficients, terms = [*coefficients, 1.0], [*terms, products[-1]]
        # The term with the coefficient 1 begins: the others are multiply-adds on it.
        order = sorted(range(len(terms)), key=lambda k: coefficients[k] != 1.0)
        result.append(_sum([coefficients[k] for k in order], [terms[k] for k in order]))
    return result


def _weight_matrix(outputs: int) -> Array:
    """The matrix [m + 2, 3] that takes 3 taps to the interpolation points."""
    points = [0.0, *(sign * p for p in PAIRS[outputs] for sign in (1, -1))]
    rows = []
    for k, point in enumerate(points):
        scale = float(np.prod([point - other for j, other in enumerate(points) if j != k]))
        rows.append([point**power / scale for power in range(TAPS)])
    return np.array([*rows, [0.0] * (TAPS - 1) + [1.0]])


def _polynomial(roots: Sequence[float]) -> list[float]:
    """Coefficients of the product of (x - root), the constant first."""
    result = [1.0]
    for root in roots:
        result = [low - root * high for low, high in zip([0.0, *result], [*result, 0.0])]
    return result


def _sum(coefficients: Sequence[float], values: Sequence[Expr]) -> Expr:
    """sum(coefficient * value); the last or the first coefficient is 1 where it can be."""
    pairs = list(zip(coefficients, values, strict=True))
    if pairs[0][0] != 1.0:
        pairs.reverse()
    coefficient, value = pairs[0]
    total = value if coefficient == 1.0 else value * const(coefficient, value.dtype)
    for factor, term in pairs[1:]:
        total = _add(factor, term, total)
    return total


def _add(factor: float, value: Expr, total: Expr) -> Expr:
    """Factor * value + total."""
    if factor == 1.0:
        return total + value
    if factor == -1.0:
        return total - value
    return Fma(const(factor, value.dtype), value, total, value.dtype)
