"""Sampling at computed positions: GridSample and AffineGrid."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32, f64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, widen
from bessemer.ops.checks import check_extents, same_dim
from bessemer.ops.dims import Array, fresh_dim, known_dims
from bessemer.te import Expr, Tensor

_CUBIC = -0.75


@operator("GridSample")
class GridSample(Operator):
    """Values of x at the positions that a grid gives, normalised to -1 .. 1.

    Shapes: x [n, c, *spatial], grid [n, *out, d] (last axis x, y, ...) -> y [n, c, *out].
    Source: ONNX GridSample-22.
    """

    align_corners: int = 0
    mode: str = "linear"
    padding_mode: str = "zeros"

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        if self.mode not in ("linear", "nearest", "cubic"):
            raise ShapeError(f"mode is {self.mode!r}; linear, nearest or cubic expected")
        if self.padding_mode not in ("zeros", "border", "reflection"):
            raise ShapeError(f"padding_mode is {self.padding_mode!r}")
        if x.shape is None or grid.shape is None:
            return x.with_shape(None)
        if x.rank != grid.rank or x.rank < 3:
            raise ShapeError(f"ranks {x.rank} and {grid.rank}; equal ranks >= 3 expected")
        same_dim("coordinates of the grid and spatial axes", grid.dims[-1], x.rank - 2)
        return x.with_shape((x.dims[0], x.dims[1], *grid.dims[1:-1]))

    def _limits(self, extent: int) -> tuple[float, float]:
        return (0.0, extent - 1.0) if self.align_corners else (-0.5, extent - 0.5)

    @property
    def _beyond(self) -> int:
        """How far beyond the border a position matters.

        The taps of a cubic are clipped one by one, as PyTorch does, which models come from. ONNX's
        evaluator clips the position first if it is more than half an element outside.
        """
        return 3 if self.mode == "cubic" else 0

    def _offsets(self) -> tuple[int, int]:
        """First tap and number of taps per axis."""
        return {"nearest": (0, 1), "linear": (0, 2), "cubic": (-1, 4)}[self.mode]

    # -- numpy ------------------------------------------------------------------------------

    def _places(self, grid: Array, extent: int) -> Array:
        """Normalised coordinates as pixels, padded coordinates moved inside."""
        if self.align_corners:
            place = (grid + 1) / 2 * (extent - 1)
        else:
            place = ((grid + 1) * extent - 1) / 2
        if self.mode == "nearest":
            place = np.rint(place)
        if self.padding_mode == "border":
            return np.clip(place, -self._beyond, extent - 1 + self._beyond)
        if self.padding_mode == "reflection":
            return self._reflect(place, extent)
        return place

    def _reflect(self, place: Array, extent: int) -> Array:
        low, high = self._limits(extent)
        if high <= low:
            return np.zeros_like(place)
        offset = np.mod(place - low, 2 * (high - low))
        return low + np.minimum(offset, 2 * (high - low) - offset)

    def _weights(self, part: Array) -> list[Array]:
        """Tap weights for the fraction of a coordinate."""
        if self.mode == "nearest":
            return [np.ones_like(part)]
        if self.mode == "linear":
            return [1 - part, part]
        distances = [1 + part, part, 1 - part, 2 - part]
        return [_far(d) if k in (0, 3) else _near(d) for k, d in enumerate(distances)]

    def reference(self, x: Array, grid: Array) -> Array:
        stage = np.float64 if x.dtype == np.float64 else np.float32
        spatial = x.shape[2:]
        rank = len(spatial)
        result = np.zeros((*x.shape[:2], *grid.shape[1:-1]), stage)
        first, count = self._offsets()
        for n in range(x.shape[0]):
            places = [
                self._places(grid[n, ..., rank - 1 - axis].astype(stage), spatial[axis])
                for axis in range(rank)
            ]
            bases = [np.floor(place) for place in places]
            weights = [self._weights(p - b) for p, b in zip(places, bases, strict=True)]
            for taps in itertools.product(range(count), repeat=rank):
                weight = np.ones(places[0].shape, stage)
                inside = np.ones(places[0].shape, bool)
                index: list[Any] = [slice(None)]
                for axis, tap in enumerate(taps):
                    spot = bases[axis].astype(np.int64) + first + tap
                    if self.padding_mode == "reflection":
                        spot = self._reflect(spot.astype(stage), spatial[axis]).astype(np.int64)
                    if self.padding_mode == "zeros":
                        inside &= (spot >= 0) & (spot < spatial[axis])
                    weight = weight * weights[axis][tap]
                    index.append(np.clip(spot, 0, spatial[axis] - 1))
                # An infinity beside the image must not reach the zeros around it.
                value = np.where(inside, x[n][tuple(index)], 0)
                result[n] += weight * value.astype(stage)
        return narrow(result, x.dtype)

    # -- expressions ------------------------------------------------------------------------

    def _place_expr(self, value: Expr, extent: Dim) -> Expr:
        if self.align_corners:
            place = (value + 1.0) / 2.0 * te.lift(extent - 1, value.dtype)
        else:
            place = ((value + 1.0) * te.lift(extent, value.dtype) - 1.0) / 2.0
        if self.mode == "nearest":
            place = te.round_(place)
        if self.padding_mode == "border":
            last = te.lift(extent - 1 + self._beyond, value.dtype)
            return te.minimum(te.maximum(place, -float(self._beyond)), last)
        if self.padding_mode == "reflection":
            return self._reflect_expr(place, extent)
        return place

    def _reflect_expr(self, place: Expr, extent: Dim) -> Expr:
        low = 0.0 if self.align_corners else -0.5
        turns = 2 * (extent - 1 if self.align_corners else extent)
        zero = te.const(0, place.dtype)
        if isinstance(turns, int) and turns <= 0:
            return zero
        turn = te.lift(turns, place.dtype)
        shifted = place - low
        offset = shifted - te.floor(shifted / turn) * turn
        moved = low + te.minimum(offset, turn - offset)
        # A single element has nothing to turn back to.
        return moved if isinstance(turns, int) else te.where(te.index(turns) > 0, moved, zero)

    def _weight_exprs(self, part: Expr) -> list[Expr]:
        if self.mode == "nearest":
            return [te.const(1, part.dtype)]
        if self.mode == "linear":
            return [1.0 - part, part]
        distances = [1.0 + part, part, 1.0 - part, 2.0 - part]
        return [_far(d) if k in (0, 3) else _near(d) for k, d in enumerate(distances)]

    def lower(self, x: Tensor, grid: Tensor, **_: Any) -> Tensor:
        dtype = f64 if x.dtype == f64 else f32
        rank = x.rank - 2
        spatial = x.shape[2:]
        shape = (*x.shape[:2], *grid.shape[1:-1])

        def body(n: Expr, c: Expr, *o: Expr) -> Expr:
            axes = []
            for axis, extent in enumerate(spatial):
                value = te.cast(grid[(n, *o, rank - 1 - axis)], dtype)
                axes.append(self._axis_taps(self._place_expr(value, extent), extent, dtype))
            total: Expr | None = None
            for taps in itertools.product(*axes):
                weight = taps[0][1]
                for _, factor in taps[1:]:
                    weight = weight * factor
                # The grid may point anywhere, so every load states what lies outside.
                value = x.at(n, c, *(spot for spot, _ in taps), fill=0)
                term = te.cast(value, dtype) * weight
                total = term if total is None else total + term
            assert total is not None
            return te.cast(total, x.dtype)

        return te.compute(x.dtype, shape, body, "gridsample")

    def _axis_taps(self, place: Expr, extent: Dim, dtype: DType) -> list[tuple[Expr, Expr]]:
        """Index and weight of each tap on one axis."""
        base = te.floor(place)
        first, count = self._offsets()
        weights = self._weight_exprs(place - base)
        taps: list[tuple[Expr, Expr]] = []
        for tap in range(count):
            spot = te.index(base) + (first + tap)
            if self.padding_mode == "reflection":
                spot = te.index(self._reflect_expr(te.cast(spot, dtype), extent))
            if self.padding_mode != "zeros":
                spot = te.minimum(te.maximum(spot, 0), extent - 1)
            taps.append((spot, weights[tap]))
        return taps

    samples = (
        sample("f32[2,3,5,6]", "f32[2,3,4,2]", low=-1.3, high=1.3),
        sample("f32[1,2,5,6]", "f32[1,3,4,2]", mode="nearest", low=-1.3, high=1.3),
        sample("f32[1,2,5,6]", "f32[1,3,4,2]", padding_mode="border", align_corners=1),
        sample("f32[1,2,5,6]", "f32[1,3,4,2]", padding_mode="reflection"),
        sample(
            "f32[1,2,5,6]", "f32[1,3,4,2]", padding_mode="reflection", align_corners=1, mode="cubic"
        ),
        sample("f32[1,2,5,6]", "f32[1,3,4,2]", mode="cubic"),
        sample(
            "f32[1,2,3,5]", "f32[1,4,4,2]", mode="cubic", padding_mode="border", low=-1.7, high=1.7
        ),
        sample("f32[1,1,3,4,5]", "f32[1,2,2,3,3]", low=-1, high=1),
        sample("f16[1,1,4,5]", "f16[1,2,3,2]", low=-1, high=1),
    )


def _near(t: Any) -> Any:
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1.0


def _far(t: Any) -> Any:
    return ((_CUBIC * t - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC


@operator("AffineGrid")
class AffineGrid(Operator):
    """The grid for GridSample that an affine matrix makes of a regular one.

    Shapes: theta [n, d, d + 1], size [d + 2] (n, c, *out) -> grid [n, *out, d].
    Source: ONNX AffineGrid-20.
    """

    align_corners: int = 0

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE

    def infer(self, theta: TensorType, size: TensorType) -> TensorType:
        dims = known_dims(size)
        if dims is not None:
            check_extents("size", dims, 1)
            if theta.shape is not None:
                same_dim("rows of theta and spatial axes", theta.dims[1], len(dims) - 2)
            return TensorType(theta.dtype, (dims[0], *dims[2:], len(dims) - 2))
        if theta.shape is None or not isinstance(theta.dims[1], int):
            return theta.with_shape(None)
        rank = theta.dims[1]
        spatial = tuple(fresh_dim(self, axis) for axis in range(rank))
        return TensorType(theta.dtype, (theta.dims[0], *spatial, rank))

    def _line(self, extent: int) -> tuple[float, float]:
        """First position and step of the regular grid on one axis."""
        if self.align_corners:
            return -1.0, 2.0 / (extent - 1) if extent > 1 else 0.0
        return -1.0 + 1.0 / extent, 2.0 / extent

    def reference(self, theta: Array, size: Array) -> Array:
        spatial = [int(n) for n in size[2:]]
        rank = len(spatial)
        stage = widen(theta)
        lines = []
        for extent in spatial:
            start, step = self._line(extent)
            lines.append((start + step * np.arange(extent)).astype(stage.dtype))
        mesh = np.meshgrid(*lines, indexing="ij")
        points = np.stack([*reversed(mesh), np.ones_like(mesh[0])], axis=-1)
        grid = points.reshape(-1, rank + 1) @ stage.transpose(0, 2, 1)
        return narrow(grid.reshape(theta.shape[0], *spatial, rank), theta.dtype)

    def lower(
        self, theta: Tensor, size: Tensor, *, types: Sequence[TensorType] = (), **_: Any
    ) -> Tensor:
        shape = types[0].static_shape
        rank = shape[-1]
        dtype = f64 if theta.dtype == f64 else f32

        def body(n: Expr, *i: Expr) -> Expr:
            *o, row = i
            total = te.cast(theta[n, row, rank], dtype)
            for axis, place in enumerate(o):
                start, step = self._line(shape[1 + axis])
                position = te.cast(place, dtype) * step + start
                total = total + te.cast(theta[n, row, rank - 1 - axis], dtype) * position
            return te.cast(total, theta.dtype)

        return te.compute(theta.dtype, shape, body, "affinegrid")

    samples = (
        sample("f32[2,2,3]", np.array([2, 1, 3, 4])),
        sample("f32[1,2,3]", np.array([1, 1, 3, 1]), align_corners=1),
        sample("f32[1,3,4]", np.array([1, 1, 2, 3, 4])),
    )
