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

_LARGEST_PRIME = 512


def factors(count: int) -> list[int]:
    """Factors whose product is `count`: 8, 4 and 2, the 2 first, then odd primes."""
    result, rest = [], count
    for even in (8, 4):
        while rest % even == 0:
            result.append(even)
            rest //= even
    if rest % 2 == 0:
        result.insert(0, 2)
        rest //= 2
    divisor = 3
    while rest > 1:
        if divisor * divisor > rest:
            divisor = rest
        while rest % divisor == 0:
            result.append(divisor)
            rest //= divisor
        divisor += 2
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

    After the factors with product l there are l sequences, one for each remainder of the frequency
    divided by l; one more factor f makes f of each, every f-th frequency in one of them. `inverse`
    leaves out the division by the length. `bins` frequencies are computed, all of them by default.
    Raises: Unlowerable for a length with a large prime factor.
    Source: Gentleman and Sande, "Fast Fourier transforms: for fun and profit" (1966): decimation
    in frequency, in the order of Stockham's autosort.
    """
    check_factors(count)
    turns = _Turns(count, dtype, inverse)
    done, rank, load = 1, len(outer), signal
    steps = factors(count)
    for number, factor in enumerate(steps):
        done *= factor
        kept = bins or count if number == len(steps) - 1 else done
        step = _Step(load, rank, factor, done, count // done, turns, first=number == 0)
        real, imaginary = step.results((*outer, kept, count // done), dtype)
        load = _reading(real, imaginary)
    is_real = signal(*(te.index(0) for _ in range(rank + 1)))[1] is None

    def spectrum(*i: Expr) -> Expr:
        value = imaginary[(*i, 0)]
        if not is_real:
            return value
        # Known, although the sum may leave a rounding error.
        alone = te.equal(i[-1], 0) | te.equal(i[-1] * 2, count)
        return te.where(alone, 0.0, value)

    shape = (*outer, bins or count)
    return (te.compute(dtype, shape, lambda *i: real[(*i, 0)], "spectrum"),
            te.compute(dtype, shape, spectrum, "spectrum"))


def _reading(real: Tensor, imaginary: Tensor) -> Element:
    return lambda *i: (real[i], imaginary[i])


class _Turns:
    """Cosines and sines of the multiples of a full turn divided by the length."""

    def __init__(self, count: int, dtype: DType, inverse: bool) -> None:
        angles = np.arange(count) * (2 * np.pi / count)
        self.count = count
        self.cosines = te.table(np.cos(angles).astype(dtype.numpy), "cosines")
        self.sines = te.table((np.sin(angles) * (1 if inverse else -1)).astype(dtype.numpy),
                              "sines")

    def rotated(self, x: Expr, y: Expr | None, number: Expr, imaginary: bool) -> Expr:
        """One part of x + iy turned by so many steps.

        The products are rounded before they are added: terms that cancel then do so exactly.
        """
        cosine, sine = self.cosines[number], self.sines[number]
        if y is None:
            return te.rounded(x * (sine if imaginary else cosine))
        if imaginary:
            return te.rounded(x * sine) + te.rounded(y * cosine)
        return te.rounded(x * cosine) - te.rounded(y * sine)


class _Step:
    """One factor: transforms of `factor` elements that lie `rest` apart, then turned."""

    def __init__(self, load: Element, rank: int, factor: int, done: int, rest: int, turns: _Turns,
                 *, first: bool) -> None:
        self.load, self.rank, self.first = load, rank, first
        self.factor, self.before, self.rest = factor, done // factor, rest
        self.turns = turns

    def results(self, shape: tuple[Any, ...], dtype: DType) -> tuple[Tensor, Tensor]:
        """Both parts [*outer, done, rest]."""

        def part(imaginary: bool) -> Tensor:
            axis = te.reduce_axis(self.factor, "v")
            return te.compute(dtype, shape, lambda *i: te.sum_(
                self._term(i, axis, imaginary), axis), "imaginary" if imaginary else "real")

        parts = part(False), part(True)
        if self.rest == 1:
            return parts

        def turned(imaginary: bool) -> Tensor:
            def body(*i: Expr) -> Expr:
                number = i[self.rank] // self.before * i[self.rank + 1] * self.before
                return self.turns.rotated(parts[0][i], parts[1][i], number, imaginary)

            return te.compute(dtype, shape, body, "turned")

        return turned(False), turned(True)

    def _term(self, i: tuple[Expr, ...], axis: Any, imaginary: bool) -> Expr:
        outer, k, place = i[: self.rank], i[self.rank], axis * self.rest + i[self.rank + 1]
        x, y = self.load(*outer, place) if self.first else self.load(
            *outer, k % self.before, place)
        number = (axis * (k // self.before)) % self.factor * (self.turns.count // self.factor)
        return self.turns.rotated(x, y, number, imaginary)
