"""Regions of interest and unpooling: RoiAlign, MaxRoiPool, MaxUnpool."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f64, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, wide, widen
from bessemer.ops.checks import check_extents, same_dim
from bessemer.ops.dims import Array, extent, fresh_dim, known_dims
from bessemer.ops.window import one_each
from bessemer.te import Expr, Tensor

_MOST_COMPARISONS = 1 << 24
"""Each element looks for its value among all; above this the host is faster."""


def _corners(place: Array, extent: int) -> tuple[Array, Array, Array, Array]:
    """Lower and upper index, fraction, and whether the coordinate counts at all."""
    inside = (place >= -1) & (place <= extent)
    clipped = np.clip(place, 0, extent - 1)
    low = np.floor(clipped).astype(np.int64)
    return low, np.minimum(low + 1, extent - 1), clipped - low, inside


@operator("RoiAlign")
class RoiAlign(Operator):
    """Average (or maximum) of linearly interpolated samples in each bin of each region.

    Shapes: x [n, c, h, w], rois [r, 4], batch_indices [r] -> y [r, c, output_height, output_width].
    Source: ONNX RoiAlign-22.
    """

    coordinate_transformation_mode: str = "half_pixel"
    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType, rois: TensorType, batch: TensorType) -> TensorType:
        if self.mode not in ("avg", "max"):
            raise ShapeError(f"mode is {self.mode!r}; avg or max expected")
        if x.shape is None or rois.shape is None:
            return x.with_shape(None)
        if x.rank != 4 or rois.rank != 2:
            raise ShapeError(f"x and rois have ranks {x.rank} and {rois.rank}; 4 and 2 expected")
        same_dim("columns of rois", rois.dims[1], 4)
        check_extents("pooled extents", (self.output_height, self.output_width), 1)
        if self.sampling_ratio < 0:
            raise ShapeError(f"sampling_ratio is {self.sampling_ratio}; 0 or more expected")
        return x.with_shape((rois.dims[0], x.dims[1], self.output_height, self.output_width))

    def _grid(self, low: Any, high: Any, bins: int) -> tuple[Any, Any]:
        """Start and length of a bin, for the two ends of a region on one axis."""
        shift = 0.5 if self.coordinate_transformation_mode == "half_pixel" else 0.0
        start, end = low * self.spatial_scale - shift, high * self.spatial_scale - shift
        return start, (end - start, bins)

    def _places(self, low: float, high: float, bins: int) -> Array:
        """Sampling coordinates [bins, samples] on one axis."""
        start, (size, _) = self._grid(low, high, bins)
        if self.coordinate_transformation_mode != "half_pixel":
            size = max(size, 1.0)
        count = self.sampling_ratio or max(math.ceil(size / bins), 0)
        step = size / bins
        inner = (np.arange(count) + 0.5) / max(count, 1)
        return np.asarray(start + (np.arange(bins)[:, None] + inner) * step)

    def reference(self, x: Array, rois: Array, batch: Array) -> Array:
        values = widen(x)
        result = np.zeros(
            (len(rois), x.shape[1], self.output_height, self.output_width), values.dtype
        )
        for r, (x1, y1, x2, y2) in enumerate(rois.astype(np.float64)):
            ys = self._places(y1, y2, self.output_height)
            xs = self._places(x1, x2, self.output_width)
            if ys.size and xs.size:
                result[r] = self._region(values[int(batch[r])], ys, xs)
        return narrow(result, x.dtype)

    def _region(self, image: Array, ys: Array, xs: Array) -> Array:
        """One region: image [c, h, w], coordinates [bins, samples] -> [c, bins, bins]."""
        y_low, y_high, y_part, y_in = _corners(ys.reshape(-1, 1), image.shape[1])
        x_low, x_high, x_part, x_in = _corners(xs.reshape(1, -1), image.shape[2])
        inside = y_in & x_in
        terms = [
            image[:, y_low, x_low] * ((1 - y_part) * (1 - x_part) * inside),
            image[:, y_low, x_high] * ((1 - y_part) * x_part * inside),
            image[:, y_high, x_low] * (y_part * (1 - x_part) * inside),
            image[:, y_high, x_high] * (y_part * x_part * inside),
        ]
        shape = (-1, *ys.shape, *xs.shape)
        if self.mode == "avg":
            return np.asarray(sum(terms).reshape(shape).mean(axis=(2, 4)))
        # As ONNX defines it, the maximum is over the weighted corners, not over their sums.
        return np.asarray(np.max(terms, axis=0).reshape(shape).max(axis=(2, 4)))

    def lower(self, x: Tensor, rois: Tensor, batch: Tensor, **_: Any) -> Tensor:
        if not self.sampling_ratio:
            raise Unlowerable("RoiAlign with an adaptive number of samples runs on the host")
        count, dtype = self.sampling_ratio, wide(x.dtype)
        axes = te.reduce_axis(count), te.reduce_axis(count)
        bins = self.output_height, self.output_width

        def body(r: Expr, c: Expr, *o: Expr) -> Expr:
            sides = []
            for axis in (0, 1):
                low, high = (te.cast(rois[r, column - axis], dtype) for column in (1, 3))
                start, (size, n) = self._grid(low, high, bins[axis])
                if self.coordinate_transformation_mode != "half_pixel":
                    size = te.maximum(size, 1.0)
                step = te.cast(o[axis], dtype) + (te.cast(axes[axis], dtype) + 0.5) / float(count)
                sides.append(self._side(start + step * (size / float(n)), x.shape[2 + axis]))
            (ys, y_in), (xs, x_in) = sides
            image = te.index(batch[r])
            terms = [
                te.where(y_in & x_in, te.cast(wy * wx, dtype), 0.0) * load(x[image, c, py, px])
                for py, wy in ys for px, wx in xs
            ]
            if self.mode == "avg":
                return te.sum_(terms[0] + terms[1] + terms[2] + terms[3], *axes)
            top = te.maximum(te.maximum(terms[0], terms[1]), te.maximum(terms[2], terms[3]))
            return te.max_(top, *axes)

        scale = 1.0 / (count * count) if self.mode == "avg" else 1.0
        shape = (rois.shape[0], x.shape[1], *bins)
        total = te.compute(dtype, shape, body, "roisum")
        return te.compute(
            x.dtype, shape, lambda *i: te.cast(total[i] * te.const(scale, dtype), x.dtype), "roi"
        )

    @staticmethod
    def _side(place: Expr, extent: Dim) -> tuple[list[tuple[Expr, Expr]], Expr]:
        """Both neighbours of a coordinate with their weights, and whether it counts."""
        inside = (place >= -1.0) & (place <= te.lift(extent, place.dtype))
        clipped = te.minimum(te.maximum(place, 0.0), te.lift(extent - 1, place.dtype))
        base = te.floor(clipped)
        low = te.index(base)
        part = clipped - base
        return [(low, 1.0 - part), (te.minimum(low + 1, extent - 1), part)], inside

    samples = (
        sample(
            "f32[2,3,7,8]", np.array([[0, 0, 4, 5], [1.5, 2, 6.5, 6]], np.float32),
            np.array([1, 0]), output_height=3, output_width=2, sampling_ratio=2,
        ),
        sample(
            "f32[1,2,6,6]", np.array([[0, 0.5, 4, 5]], np.float32), np.array([0]),
            output_height=2, output_width=2, spatial_scale=0.5,
            coordinate_transformation_mode="output_half_pixel",
        ),
        sample(
            "f32[1,2,6,6]", np.array([[0, 0.5, 9, 5]], np.float32), np.array([0]), mode="max",
            output_height=2, output_width=2, sampling_ratio=3,
        ),
    )


@operator("MaxRoiPool")
class MaxRoiPool(Operator):
    """Maximum in each bin of each region, with coordinates rounded to pixels.

    Shapes: x [n, c, h, w], rois [r, 5] (image, x1, y1, x2, y2) -> y [r, c, *pooled_shape].
    Source: ONNX MaxRoiPool-22.
    """

    pooled_shape: tuple[int, ...] = (1, 1)
    spatial_scale: float = 1.0

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType, rois: TensorType) -> TensorType:
        if len(self.pooled_shape) != 2:
            raise ShapeError(f"pooled_shape {self.pooled_shape} must have two entries")
        check_extents("pooled_shape", self.pooled_shape, 1)
        if x.shape is None or rois.shape is None:
            return x.with_shape(None)
        if x.rank != 4 or rois.rank != 2:
            raise ShapeError(f"x {x} and rois {rois}: ranks of 4 and 2 expected")
        same_dim("entries of a region", rois.dims[1], 5)
        return x.with_shape((rois.dims[0], x.dims[1], *self.pooled_shape))

    def reference(self, x: Array, rois: Array) -> Array:
        result = np.zeros((len(rois), x.shape[1], *self.pooled_shape), x.dtype)
        for r, roi in enumerate(rois.astype(np.float64)):
            corners = np.floor(roi[1:] * self.spatial_scale + 0.5).astype(int)
            image = x[int(roi[0])]
            for ph, pw in np.ndindex(*self.pooled_shape):
                rows = self._bin(corners[1], corners[3], ph, 0, x.shape[2])
                columns = self._bin(corners[0], corners[2], pw, 1, x.shape[3])
                part = image[:, rows, columns]
                if part.size:
                    result[r, :, ph, pw] = part.max(axis=(1, 2))
        return result

    def _bin(self, start: int, end: int, place: int, axis: int, extent: int) -> slice:
        size = max(end - start + 1, 1) / self.pooled_shape[axis]
        low = start + math.floor(place * size)
        high = start + math.ceil((place + 1) * size)
        return slice(min(max(low, 0), extent), min(max(high, 0), extent))

    def lower(self, x: Tensor, rois: Tensor, **_: Any) -> Tensor:
        height, width = te.reduce_axis(x.shape[2]), te.reduce_axis(x.shape[3])
        shape = (rois.shape[0], x.shape[1], *self.pooled_shape)
        lowest = te.const(-math.inf, x.dtype)

        def bounds(r: Expr, place: Expr, axis: int) -> tuple[Expr, Expr]:
            start, end = (
                te.floor(te.cast(rois[r, column - axis], f64) * self.spatial_scale + 0.5)
                for column in (2, 4)
            )
            size = te.maximum(end - start + 1.0, 1.0) / float(self.pooled_shape[axis])
            number = te.cast(place, f64)
            low = te.index(start + te.floor(number * size))
            high = te.index(start + te.ceil((number + 1.0) * size))
            return te.maximum(low, 0), te.minimum(high, x.shape[2 + axis])

        def body(r: Expr, c: Expr, *o: Expr) -> Expr:
            (top, bottom), (left, right) = (bounds(r, o[axis], axis) for axis in (0, 1))
            inside = (height >= top) & (height < bottom) & (width >= left) & (width < right)
            value = x[te.index(rois[r, 0]), c, height, width]
            return te.max_(te.where(inside, value, lowest), height, width)

        largest = te.compute(x.dtype, shape, body, "largest")

        def pooled(r: Expr, c: Expr, *o: Expr) -> Expr:
            (top, bottom), (left, right) = (bounds(r, o[axis], axis) for axis in (0, 1))
            return te.where((top < bottom) & (left < right), largest[(r, c, *o)], 0.0)

        return te.compute(x.dtype, shape, pooled, "pooled")

    samples = (
        sample(
            "f32[2,3,9,11]", np.array([[1, 0, 0, 21, 17], [0, 3, 30, 6, 40], [0, -9, -9, 5, 4]],
                                      np.float32), pooled_shape=(4, 3), spatial_scale=0.5,
        ),
        sample(
            "f32[2,3,7,8]", np.array([[0, 0, 0, 4, 5], [1, 1, 2, 6, 6]], np.float32),
            pooled_shape=(3, 2),
        ),
        sample("f32[1,2,6,6]", np.array([[0, 2, 2, 11, 9]], np.float32), spatial_scale=0.5),
    )


def flat_index(index: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The position in row-major order."""
    total: Expr = te.index(0)
    for one, n in zip(index, shape, strict=True):
        total = total * n + one
    return total


@operator("MaxUnpool")
class MaxUnpool(Operator):
    """Puts values back to the positions that MaxPool found; zeros elsewhere.

    Shapes: x, indices [n, c, *spatial], output_shape [rank] -> y [n, c, *out].
    Source: ONNX MaxUnpool-22.
    """

    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    form_inputs: ClassVar[tuple[int, ...]] = (2,)
    fusion = FusionClass.REDUCTION

    def _natural(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """The output shape without the third input; indices count in it."""
        rank = len(shape) - 2
        kernel = one_each("kernel_shape", self.kernel_shape, rank, 1)
        strides = one_each("strides", self.strides, rank, 1)
        pads = one_each("pads", self.pads, 2 * rank, 0)
        spatial = [
            (shape[2 + a] - 1) * strides[a] - pads[a] - pads[a + rank] + kernel[a]
            for a in range(rank)
        ]
        return (*shape[:2], *spatial)

    def infer(
        self, x: TensorType, indices: TensorType, wished: TensorType | None = None
    ) -> TensorType:
        if x.shape is None:
            return x.with_shape(None)
        if indices.shape is not None:
            if indices.rank != x.rank:
                raise ShapeError(f"indices {indices} for x {x}: one rank expected")
            for a, b in zip(x.dims, indices.dims):
                same_dim("extents of x and indices", a, b)
        natural = self._natural(x.dims)
        check_extents("the unpooled shape", natural)
        if wished is None:
            return x.with_shape(natural)
        dims = known_dims(wished)
        check_extents("output_shape", dims or ())
        if dims is not None and len(dims) != x.rank:
            raise ShapeError(f"output_shape has {len(dims)} entries; {x.rank} expected")
        unknown = tuple(fresh_dim(self, axis) for axis in range(x.rank))
        return x.with_shape(dims if dims is not None else unknown)

    def reference(self, x: Array, indices: Array, wished: Array | None = None) -> Array:
        natural = self._natural(x.shape)
        flat = np.zeros(math.prod(natural), x.dtype)
        flat[indices.reshape(-1)] = x.reshape(-1)
        placed = flat.reshape(natural)
        if wished is None:
            return placed
        result = np.zeros([int(n) for n in wished], x.dtype)
        common = tuple(slice(0, min(a, b)) for a, b in zip(natural, result.shape, strict=True))
        result[common] = placed[common]
        return result

    def lower(
        self, x: Tensor, indices: Tensor, wished: Tensor | None = None, *, types: Any = (),
        **_: Any,
    ) -> Tensor:
        natural = [extent(dim) for dim in self._natural(x.shape)]
        shape = types[0].static_shape
        given = [extent(dim) for dim in x.shape]
        cost = math.prod(given) * math.prod(shape)
        if cost > _MOST_COMPARISONS:
            raise Unlowerable(f"MaxUnpool with {cost} comparisons is done on the host")
        axes = tuple(te.reduce_axis(n) for n in given)

        def search(*i: Expr) -> Expr:
            hit = te.equal(te.index(indices[axes]), flat_index(i, natural))
            # Of several values for one place the last one stays.
            return te.max_(te.where(hit, flat_index(axes, given), te.index(-1)), *axes)

        found = te.compute(i64, shape, search, "found")

        def body(*i: Expr) -> Expr:
            place, rest = [], te.maximum(found[i], 0)
            for n in reversed(given):
                place.append(rest % n)
                rest = rest // n
            hit = found[i] >= 0
            for index, wide_, n in zip(i, shape, natural, strict=True):
                hit = hit & (index < n) if wide_ > n else hit
            return te.where(hit, x[tuple(reversed(place))], 0)

        return te.compute(x.dtype, shape, body, "unpooled")

    samples = (
        sample("f32[1,2,2,3]", np.array([2, 5, 9, 30, 33, 14, 60, 63, 70, 77, 50, 80]).reshape(
            1, 2, 2, 3), np.array([1, 2, 7, 6]), kernel_shape=(3, 3), strides=(3, 2)),
        sample(
            "f32[1,1,2,2]", np.array([[[[5, 7], [13, 15]]]]), kernel_shape=(2, 2), strides=(2, 2)
        ),
        sample(
            "f32[1,1,2,2]", np.array([[[[5, 7], [13, 15]]]]), np.array([1, 1, 5, 5]),
            kernel_shape=(2, 2), strides=(2, 2),
        ),
    )
