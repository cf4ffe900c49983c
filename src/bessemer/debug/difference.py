"""How far a found tensor is from the expected one, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Norm of the difference over norm of the expected value, by itemsize of the float type.
_TOLERANCES = {8: 1e-4, 4: 1e-4, 2: 1e-2, 1: 1e-1}


@dataclass(frozen=True)
class Difference:
    """One tensor compared. `norm_error` = |found - expected| / |expected| (Euclidean norms).

    `where` is the index of the largest absolute error, `expected` and `found` the numbers there.
    `reason` says why the tensor does not fit where that is not a matter of size.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    norm_error: float
    max_absolute: float
    max_relative: float
    where: tuple[int, ...]
    expected: float
    found: float
    tolerance: float
    within: bool
    reason: str = ""


def tolerance_of(dtype: Any) -> float:
    """The norm error that a dtype allows: 1e-4 for f32 and f64, more for small floats, else 0."""
    kind = np.dtype(dtype)
    is_float = kind.kind in "fc" or "float" in kind.name
    return _TOLERANCES.get(kind.itemsize, 1e-4) if is_float else 0.0


def compare_arrays(
    name: str, expected: Any, found: Any, tolerance: float | None = None
) -> Difference:
    """Compares one tensor. NaN equals NaN and an infinity equals itself.

    `tolerance` None takes that of the expected dtype.
    """
    a, b = np.asarray(expected), np.asarray(found)
    limit = tolerance_of(a.dtype) if tolerance is None else tolerance
    if a.shape != b.shape:
        return _misfit(name, a, limit, f"shape {b.shape} instead of {a.shape}")
    if a.dtype.kind in "OUS":
        same = bool(np.array_equal(a.astype(str), b.astype(str)))
        return _misfit(name, a, limit, "" if same else "texts differ", same)
    if a.dtype != b.dtype:
        return _misfit(name, a, limit, f"dtype {b.dtype} instead of {a.dtype}")
    if a.size == 0:
        return _misfit(name, a, limit, "", True)
    return _numbers(name, a, b, limit)


def _misfit(name: str, a: Array, limit: float, reason: str, within: bool = False) -> Difference:
    error = 0.0 if within else float("inf")
    return Difference(
        name, a.shape, str(a.dtype), error, error, error, (), 0.0, 0.0, limit, within, reason
    )


def _numbers(name: str, a: Array, b: Array, limit: float) -> Difference:
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x) & np.isfinite(y)
    agree = (x == y) | (np.isnan(x) & np.isnan(y))
    odd = ~finite & ~agree
    error = np.where(finite, np.abs(np.where(finite, y, 0) - np.where(finite, x, 0)), 0.0)
    error = np.where(odd, np.inf, error)
    scale = np.abs(np.where(finite, x, 0))
    where = np.unravel_index(int(np.argmax(error)), error.shape)
    size, distance = float(np.linalg.norm(scale)), float(np.linalg.norm(error))
    norm_error = distance / size if size > 0 else distance
    relative = np.where(error > 0, error / np.maximum(scale, 1e-30), 0.0)
    return Difference(
        name, a.shape, str(a.dtype), norm_error, float(error.max()), float(relative.max()),
        tuple(int(i) for i in where), _real(x[where]), _real(y[where]), limit,
        bool(norm_error <= limit), "NaN or infinity only on one side" if odd.any() else "",
    )


def _real(number: Any) -> float:
    return float(abs(number)) if isinstance(number, complex) else float(number)


def compare_named(
    expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: float | None = None
) -> list[Difference]:
    """Compares all tensors that both sides have, in the order of the expected ones.

    Sequences are compared element by element as `name[0]`, `name[1]`, ...
    """
    result: list[Difference] = []
    for name in expected:
        if name in found:
            result.extend(_compare_item(name, expected[name], found[name], tolerance))
    return result


def _compare_item(name: str, a: Any, b: Any, tolerance: float | None) -> list[Difference]:
    if a is None or b is None:
        if a is None and b is None:
            return []
        return [_misfit(name, np.zeros(0), 0.0, "absent on one side")]
    if isinstance(a, (list, tuple)):
        other = list(b) if isinstance(b, (list, tuple)) else [b]
        if len(other) != len(a):
            return [_misfit(name, np.zeros(0), 0.0, f"{len(other)} elements instead of {len(a)}")]
        return [
            item for i, (x, y) in enumerate(zip(a, other, strict=True))
            for item in _compare_item(f"{name}[{i}]", x, y, tolerance)
        ]
    return [compare_arrays(name, a, b, tolerance)]


def worst_first(differences: list[Difference]) -> list[Difference]:
    """Sorted by how far each is beyond its tolerance."""
    return sorted(differences, key=lambda d: (d.within, -d.norm_error))
