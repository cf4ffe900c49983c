"""Random shapes and data for random graphs: small, with the odd extents and numbers in them."""

import math
from random import Random
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, dtype_from_numpy

Array = np.ndarray[Any, Any]

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
    if kind.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if kind.is_integer:
        return _integers(random, rng, kind.numpy, shape, low, high, hard)
    if low is None or high is None:
        reach = random.choice((1.0, 2.0, 2.0, 3.0, 10.0))
        low, high = -reach, reach
    data = np.asarray(rng.uniform(low, high, shape))
    if random.random() < 0.06:
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
