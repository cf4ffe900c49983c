"""Random shapes and data for random graphs: small, with the odd extents and numbers in them."""

import math
from random import Random
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, dtype_from_numpy

Array = np.ndarray[Any, Any]

WORDS = ("", "a", "b", "ab", "B", "monday", "Monday", "a,b", "x y", " x  y ", "10", "-2.5", "Grüße",
         "東京", "a.b.c")
"""What tensors of strings hold."""

_EXTENTS = (1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 16, 17)


def random_shape(random: Random, least: int = 0, most: int = 4, elements: int = 600
                 ) -> tuple[int, ...]:
    """Extents with few elements; now and then one of them is 0."""
    rank = random.randint(least, most)
    if rank == 0 and random.random() < 0.5:
        rank = min(1, most)
    while True:
        shape = [random.choice(_EXTENTS) for _ in range(rank)]
        if math.prod(shape) <= elements:
            break
    if rank and random.random() < 0.015:
        shape[random.randrange(rank)] = 0
    return tuple(shape)


def random_array(random: Random, dtype: str, shape: tuple[int, ...], low: float | None = None,
                 high: float | None = None, hard: bool = False) -> Array:
    """Data of a type: in [low, high], or of a random magnitude; `hard` mixes special values in."""
    rng = np.random.default_rng(random.getrandbits(64))
    kind = DTYPES[dtype]
    if kind.kind == "string":
        return rng.choice(np.array(WORDS, object), shape)
    if kind.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if kind.is_integer:
        return _integers(random, rng, kind.numpy, shape, low, high, hard)
    free = low is None or high is None
    if low is None or high is None:
        reach = random.choice((1.0, 2.0, 2.0, 3.0, 10.0))
        low, high = -reach, reach
    data = np.asarray(rng.uniform(low, high, shape))
    if free and random.random() < 0.06:
        data = np.round(data)  # ties, equal numbers, zeros of both signs
    if hard and data.size:
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 6e-8, 1e30, -70000.0])
        hit = rng.random(shape) < 0.06
        data = np.where(hit, rng.choice(special, shape), data)
    with np.errstate(all="ignore"):
        return data.astype(kind.numpy)


def _integers(random: Random, rng: np.random.Generator, numpy: Any, shape: tuple[int, ...],
              low: float | None, high: float | None, hard: bool) -> Array:
    info = np.iinfo(numpy)
    if low is None or high is None:
        reach = random.choice((3, 6, 6, 20))
        low, high = -reach, reach
        if (hard or info.bits == 8) and random.random() < 0.3:
            low, high = info.min, info.max
    first, last = max(int(low), info.min), min(int(high), info.max)
    return rng.integers(first, last, shape, dtype=numpy, endpoint=True)


def fits_type(data: Array, to: str) -> bool:
    """True if a cast is defined: numbers inside the range of an integer type."""
    kind = DTYPES[to]
    if not kind.is_integer or not data.size or not dtype_from_numpy(data.dtype).is_float:
        return True
    wide = data.astype(np.float64)
    info = np.iinfo(kind.numpy)
    return bool(np.isfinite(wide).all() and wide.min() > max(info.min, -(2.0**62)) - 0.9
                and wide.max() < min(info.max, 2.0**62))


def is_tame(array: Array) -> bool:
    """True if the numbers are finite and small enough for more arithmetic."""
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4:
        return array.size == 0 or int(np.abs(array.astype(np.float64)).max()) < 1 << 24
    kind = dtype_from_numpy(array.dtype)
    if not kind.is_float or array.size == 0:
        return True
    wide = np.abs(array.astype(np.float64))
    return bool(np.isfinite(wide).all() and wide.max() < (200.0 if kind.bits == 16 else 2e4))


def broadcast_size(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """How many elements two shapes give together; infinity if they do not fit."""
    try:
        shape = np.broadcast_shapes(a, b)
    except ValueError:
        return math.inf
    return math.prod(shape) if len(shape) <= 6 else math.inf
