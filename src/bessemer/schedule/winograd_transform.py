"""Minimal filtering F(m, r): the transforms of weights, input and output along one axis.

m outputs of a filter of r taps cost m + r - 1 products instead of m * r. The interpolation points
are 0, pairs +p and -p, and infinity; a pair shares its even and its odd part, so a transform of six
values takes 12 multiply-adds whatever the points are.

Sources: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, "Fast
Algorithms for Convolutional Neural Networks". The pairs were chosen by measuring: with 3/4 and 3/2
the error is half of that with 1 and 2, and all constants but those of the weights are exact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.lower.loops import Fma
from bessemer.te.expr import Expr, const

PAIRS: dict[int, tuple[float, ...]] = {1: (), 4: (1.0,), 6: (0.75, 1.5), 8: (0.625, 1.0, 1.75)}
"""The pairs of interpolation points by the number of points."""

MOST_OUTPUTS = 4
"""More outputs at once need more memory for weights, and have larger errors."""

Array = np.ndarray[Any, Any]


def tile_sizes(taps: int) -> tuple[int, ...]:
    """How many outputs a tile can have."""
    if taps == 1:
        return (1,)
    sizes = (points - taps + 1 for points in PAIRS)
    return tuple(size for size in sizes if 2 <= size <= MOST_OUTPUTS)


def transform_weights(weights: Array, rows: int, columns: int) -> Array:
    """Weights [k, c, h, w] at the interpolation points, f32 [points, k, c], rows first.

    `rows` and `columns` are the outputs of a tile.
    """
    if weights.shape[:2] != (1, 1) and not any(
        weights.strides[:2]
    ):  # stand-ins: all filters are the same
        same = transform_weights(weights[:1, :1], rows, columns)
        return np.broadcast_to(same, (len(same), *weights.shape[:2]))
    left, right = _weight_matrix(rows, weights.shape[2]), _weight_matrix(columns, weights.shape[3])
    half = np.tensordot(left, np.asarray(weights, np.float64), (1, 2))  # [rows, k, c, w]
    points = np.asarray(half @ right.T, np.float32).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(points).reshape(-1, *weights.shape[:2])


def transform_input(values: Sequence[Expr]) -> list[Expr]:
    """Neighbouring inputs at the interpolation points."""
    pairs = PAIRS[len(values)]
    if not pairs:
        return list(values)
    even, odd = values[0::2], values[1::2]
    whole = _polynomial([p * p for p in pairs])
    result = [_sum(whole, even)]
    for k, point in enumerate(pairs):
        rest = _polynomial([p * p for j, p in enumerate(pairs) if j != k])
        a, b = _sum(rest, even[1:]), _sum(rest, odd[: len(rest)])
        result += [_add(point, b, a), _add(-point, b, a)]
    return [*result, _sum(whole, odd)]


def transform_output(products: Sequence[Expr], outputs: int) -> list[Expr]:
    """The outputs from the products."""
    pairs = PAIRS[len(products)]
    if not pairs:
        return list(products)
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


def _weight_matrix(outputs: int, taps: int) -> Array:
    """The matrix [points, taps] that takes the taps to the interpolation points."""
    pairs = PAIRS[outputs + taps - 1]
    if not pairs:
        return np.ones((1, 1))
    points = [0.0, *(sign * p for p in pairs for sign in (1, -1))]
    rows = []
    for k, point in enumerate(points):
        scale = float(np.prod([point - other for j, other in enumerate(points) if j != k]))
        rows.append([point**power / scale for power in range(taps)])
    return np.array([*rows, [0.0] * (taps - 1) + [1.0]])


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
