"""How Resize weighs neighbours: filters along one axis, and the corners of cells."""

import itertools
from dataclasses import dataclass

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32, f64
from bessemer.core.shapes import Shape
from bessemer.ir.operator import Unlowerable
from bessemer.ops.dims import Array
from bessemer.ops.resize_map import AxisMap
from bessemer.te import Expr, Tensor

_MOST_TAPS = 32


@dataclass(frozen=True)
class Filter:
    """The weights of a linear or cubic resize along one axis; `coefficient` is a of the cubic."""

    mode: str
    coefficient: float
    antialias: bool
    exclude_outside: bool

    def taps(self, one: AxisMap) -> tuple[int, int, float]:
        """First tap relative to the floor, number of taps, and the stretch of the filter."""
        support = 1 if self.mode == "linear" else 2
        if self.antialias and one.scale is None:
            raise Unlowerable("Resize with antialias to a scale that is not known at build time")
        stretch = min(one.scale, 1.0) if self.antialias and one.scale is not None else 1.0
        start = int(np.floor(-support / stretch)) + 1
        return start, 2 - 2 * start, stretch

    def resample(self, x: Array, one: AxisMap) -> Array:
        """Weighted sums of the taps along one axis, of an array in its stage's dtype."""
        places = np.arange(one.out, dtype=np.int64)
        base, part = one.base(places), one.remainder(places) / one.c
        start, count, stretch = self.taps(one)
        taps = np.arange(start, start + count)
        index = base[:, None] + taps
        weights = self._weights((taps - part[:, None]) * stretch)
        if self.exclude_outside:
            weights = np.where((index >= 0) & (index < one.extent), weights, 0)
        if self.exclude_outside or self.antialias:
            weights = weights / weights.sum(axis=1, keepdims=True)
        lines = np.moveaxis(x, one.axis, -1)
        picked = lines[..., np.clip(index, 0, one.extent - 1)]
        return np.moveaxis((picked * weights.astype(x.dtype)).sum(axis=-1), -1, one.axis)

    def expression(self, x: Tensor, one: AxisMap) -> Tensor:
        """The same as a tensor expression. Raises: Unlowerable for a filter of too many taps."""
        dtype = stage_of(x.dtype)
        start, count, stretch = self.taps(one)
        if count > _MOST_TAPS:
            raise Unlowerable(f"Resize with a filter of {count} taps runs on the host")

        def body(*i: Expr) -> Expr:
            base, part = one.base(i[one.axis]), _part(one, i[one.axis], dtype)
            values: list[Expr] = []
            weights: list[Expr] = []
            for tap in range(start, start + count):
                index = base + tap
                weight = self._weight((float(tap) - part) * stretch)
                if self.exclude_outside:
                    weight = te.where((index >= 0) & (index < one.extent), weight, 0.0)
                place = (*i[: one.axis], clipped(index, one), *i[one.axis + 1 :])
                weights.append(weight)
                values.append(te.cast(x[place], dtype) * weight)
            total = _add(values)
            normalised = self.exclude_outside or self.antialias
            total = total / _add(weights) if normalised else total
            if one.keeps_extent is None:
                return total
            # Not x[i]: that may reach outside where the extents differ.
            same = (*i[: one.axis], clipped(i[one.axis], one), *i[one.axis + 1 :])
            return te.where(one.keeps_extent, te.cast(x[same], dtype), total)

        return te.compute(dtype, resized_shape(x, [one]), body, "resample")

    def _weights(self, distance: Array) -> Array:
        """The filter's weights at distances."""
        t = np.abs(distance)
        if self.mode == "linear":
            return np.asarray(np.clip(1 - t, 0, 1))
        a = self.coefficient
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.asarray(np.where(t <= 1, near, np.where(t < 2, far, 0)))

    def _weight(self, distance: Expr) -> Expr:
        t = te.abs_(distance)
        if self.mode == "linear":
            return te.maximum(1.0 - t, 0.0)
        a = self.coefficient
        near = ((a + 2) * t - (a + 3)) * t * t + 1.0
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return te.where(t <= 1.0, near, te.where(t < 2.0, far, 0.0))


def interpolated(x: Tensor, maps: list[AxisMap]) -> Tensor:
    """Linear along all axes at once: a sum over the corners of a cell, without antialiasing."""
    dtype = stage_of(x.dtype)

    def body(*i: Expr) -> Expr:
        bases = [one.base(i[one.axis]) for one in maps]
        parts = [_part(one, i[one.axis], dtype) for one in maps]
        total: Expr | None = None
        for corner in itertools.product((0, 1), repeat=len(maps)):
            place, weight = list(i), te.const(1, dtype)
            factor: Expr | None = None
            for one, base, part, step in zip(maps, bases, parts, corner, strict=True):
                place[one.axis] = clipped(base + step, one)
                side = part if step else 1.0 - part
                factor = side if factor is None else factor * side
            term = te.cast(x[tuple(place)], dtype) * (weight if factor is None else factor)
            for one, step in zip(maps, corner, strict=True):
                if step and one.keeps_extent is not None:
                    # Infinity and NaN would spread from a neighbour although its weight is 0.
                    term = te.where(one.keeps_extent, 0.0, term)
            total = term if total is None else total + term
        assert total is not None
        return total

    return te.compute(dtype, resized_shape(x, maps), body, "linear")


def resized_shape(x: Tensor, maps: list[AxisMap]) -> Shape:
    """The shape of x after those maps."""
    outs = {one.axis: one.out for one in maps}
    return tuple(outs.get(axis, extent) for axis, extent in enumerate(x.shape))


def stage_of(dtype: DType) -> DType:
    """The dtype in which elements of that dtype are weighed."""
    return f64 if dtype == f64 or (dtype.is_integer and dtype.bits > 16) else f32


def clipped(index: Expr, one: AxisMap) -> Expr:
    """The nearest index inside the input."""
    return te.minimum(te.maximum(index, 0), one.extent - 1)


def _part(one: AxisMap, place: Expr, dtype: DType) -> Expr:
    """The coordinate above its floor, as a float."""
    if one.c == 1:
        return te.const(0, dtype)
    if isinstance(one.c, int):
        return te.cast(one.remainder(place), dtype) * te.const(1.0 / one.c, dtype)
    return te.cast(one.remainder(place), dtype) / te.cast(te.index(one.c), dtype)


def _add(terms: list[Expr]) -> Expr:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
