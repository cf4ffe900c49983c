"""Discrete Fourier transforms as tensor expressions: one compute for each factor of the length."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType
from bessemer.ir.operator import Unlowerable
from bessemer.te import Expr, Tensor

Element = Callable[..., tuple[Expr, Expr | None]]
"""Real and imaginary part (None if zero) of the signal at outer indices and a position."""

_LARGEST_FACTOR = 16
_LARGEST_PRIME = 512


def factors(count: int) -> list[int]:
    """Factors whose product is `count`, each at most 16 unless it is prime."""
    primes, rest, divisor = [], count, 2
    while rest > 1:
        if divisor * divisor > rest:
            divisor = rest
        while rest % divisor == 0:
            primes.append(divisor)
            rest //= divisor
        divisor += 1
    result: list[int] = []
    for prime in sorted(primes, reverse=True):
        fits = next((k for k, f in enumerate(result) if f * prime <= _LARGEST_FACTOR), None)
        if fits is None:
            result.append(prime)
        else:
            result[fits] *= prime
    return result or [1]


def check_factors(count: int) -> None:
    """Raises Unlowerable if a step would sum over too many elements to be worth a kernel."""
    largest = max(factors(count))
    if largest > _LARGEST_PRIME:
        raise Unlowerable(f"a transform whose length {count} has the prime factor {largest}")


def transform(
    outer: Sequence[Any], count: int, signal: Element, dtype: DType, *, inverse: bool = False,
    bins: int = 0,
) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts [*outer, bins] of the transform of `count` elements.

    After the factors with product l, element [k, t] is the transform of every (count / l)-th
    element from t on, at frequency k; one more factor joins as many of them. `inverse` leaves out
    the division by the length. `bins` frequencies are computed, all of them by default.
    Raises: Unlowerable for a length with a large prime factor.
    Source: Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series"
    (1965), in the order of Stockham's autosort.
    """
    check_factors(count)
    turn = np.arange(count) * (2 * np.pi / count)
    cosines = te.table(np.cos(turn).astype(dtype.numpy), "cosines")
    sines = te.table((np.sin(turn) * (1 if inverse else -1)).astype(dtype.numpy), "sines")
    done, rank = 1, len(outer)
    steps = factors(count)
    load = signal
    for number, factor in enumerate(steps):
        done *= factor
        rest = count // done
        kept = bins or count if number == len(steps) - 1 else done
        step = _Step(load, rank, factor, done, rest, cosines, sines)
        load = step.results((*outer, kept, rest), dtype, first=number == 0)
    real, imaginary = step.parts
    ends = [te.compute(dtype, (*outer, bins or count), _without_last(part), "spectrum")
            for part in (real, imaginary)]
    return ends[0], ends[1]


def _without_last(part: Tensor) -> Callable[..., Expr]:
    return lambda *i: part[(*i, 0)]


class _Step:
    """One factor: sums over `factor` elements that lie `rest` apart."""

    def __init__(self, load: Element, rank: int, factor: int, done: int, rest: int,
                 cosines: Tensor, sines: Tensor) -> None:
        self.load, self.rank = load, rank
        self.factor, self.done, self.rest = factor, done, rest
        self.cosines, self.sines = cosines, sines
        self.parts: tuple[Tensor, Tensor]

    def results(self, shape: tuple[Any, ...], dtype: DType, first: bool) -> Element:
        """Computes both parts; gives the function that reads them."""

        def part(imaginary: bool) -> Tensor:
            axis = te.reduce_axis(self.factor, "v")
            return te.compute(dtype, shape, lambda *i: self._sum(i, axis, imaginary, first),
                              "imaginary" if imaginary else "real")

        real, imaginary = self.parts = (part(False), part(True))
        return lambda *i: (real[i], imaginary[i])

    def _sum(self, i: tuple[Expr, ...], axis: Any, imaginary: bool, first: bool) -> Expr:
        outer, k, t = i[: self.rank], i[self.rank], i[self.rank + 1]
        place = axis * self.rest + t
        x, y = self.load(*outer, place) if first else self.load(
            *outer, k % (self.done // self.factor), place)
        turn = (axis * k) % self.done * self.rest
        cosine, sine = self.cosines[turn], self.sines[turn]
        if y is None:
            return te.sum_(x * (sine if imaginary else cosine), axis)
        if imaginary:
            return te.sum_(x * sine + y * cosine, axis)
        return te.sum_(x * cosine - y * sine, axis)
