"""Writes at computed places: ScatterElements, ScatterND, TensorScatter."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_extent, check_same_dtype, extent, normalize_axis
from bessemer.ops.gather import check_indices
from bessemer.ops.reshape import ints

_UPDATES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scatter(result: Array, place: tuple[Any, ...], updates: Array, reduction: str) -> Array:
    """Writes or folds updates into `result` in place; repeated places fold one after the other."""
    if reduction == "none":
        result[place] = updates
        return result
    if reduction not in _UPDATES:
        raise ShapeError(f"unknown reduction {reduction!r}; use none, add, mul, max or min")
    places = [np.broadcast_to(index, updates.shape[: np.ndim(index)]) for index in place]
    with np.errstate(all="ignore"):
        for position in np.ndindex(places[0].shape):
            at = tuple(int(index[position]) for index in places)
            result[at] = _UPDATES[reduction](result[at], updates[position])
    return result


@operator("ScatterElements")
class ScatterElements(Operator):
    """A copy of the data where y[indices[i, j], j] is updates[i, j], or folded with it.

    Shapes: data [*], indices, updates [same rank] -> output [*]. It runs on the host.
    Source: ONNX ScatterElements-18.
    """

    axis: int = 0
    reduction: str = "none"

    samples = (
        sample("f32[3,3]", ints(1, 0, 2, 0, 2, 1).reshape(2, 3), "f32[2,3]"),
        sample("f32[1,5]", ints(1, -2).reshape(1, 2), "f32[1,2]", axis=1),
        sample("f32[1,5]", ints(1, 1).reshape(1, 2), "f32[1,2]", axis=-1, reduction="add"),
        sample("i64[4]", "i64[3]", "i64[3]", low=0, high=3, reduction="mul"),
        sample("f32[4]", "i32[6]", "f32[6]", low=0, high=3, reduction="max"),
        sample("f16[4]", "i64[6]", "f16[6]", low=0, high=3, reduction="min"),
        sample("f32[3]", ints(), "f32[0]"),
    )

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        check_indices(self, indices)
        check_same_dtype(self, data, updates)
        if data.shape is not None and indices.shape is not None and data.rank != indices.rank:
            raise ShapeError(f"ScatterElements needs one rank, got {data} and {indices}")
        if indices.is_static and updates.is_static and indices.shape != updates.shape:
            raise ShapeError(f"ScatterElements: {updates} updates for {indices} indices")
        return TensorType(data.dtype, data.shape)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        axis = normalize_axis(self.axis, data.ndim)
        grid: list[Array] = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices.astype(np.int64)
        place = tuple(np.broadcast_to(index, indices.shape) for index in grid)
        return _scatter(data.copy(), place, updates, self.reduction)


@operator("ScatterND")
class ScatterND(Operator):
    """A copy of the data with slices at index tuples replaced by, or folded with, the updates.

    Shapes: data [n1..nk, r..], indices [q.., k], updates [q.., r..] -> output [data]. It runs on
    the host.
    Source: ONNX ScatterND-18.
    """

    reduction: str = "none"

    samples = (
        sample("f32[8]", ints(4, 3, 1, 7).reshape(4, 1), "f32[4]"),
        sample("f32[4,3]", ints(0, -2).reshape(2, 1), "f32[2,3]"),
        sample("f32[4,3]", ints(0, 2, 0, 2).reshape(2, 2), "f32[2]", reduction="add"),
        sample("i32[2,2]", ints(0, 0).reshape(2, 1), "i32[2,2]", reduction="mul"),
        sample("f32[3,2]", ints(0, 0, 1).reshape(3, 1), "f32[3,2]", reduction="max"),
        sample("f32[3,2]", "i64[0,1]", "f32[0,2]"),
    )

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        check_indices(self, indices)
        check_same_dtype(self, data, updates)
        return TensorType(data.dtype, data.shape)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        place = tuple(indices[..., k].astype(np.int64) for k in range(indices.shape[-1]))
        return _scatter(data.copy(), place, updates, self.reduction)


@operator("TensorScatter")
class TensorScatter(Operator):
    """The cache with a run of steps overwritten, from a start given for each batch.

    Shapes: past_cache [batch, .., s, ..], update [batch, .., t, ..], write_indices [batch]
    -> present_cache [past_cache].
    Source: ONNX TensorScatter-24.
    """

    axis: int = -2
    mode: str = "linear"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3,5,4]", "f32[2,3,2,4]", ints(1, 3)),
        sample("f32[2,4,3]", "f32[2,2,3]"),
        sample("f32[2,4,3]", "f32[2,3,3]", ints(3, 2), mode="circular"),
        sample("f16[1,4,2]", "f16[1,1,2]", "i64[1]", low=0, high=3, axis=1),
        sample("f32[2,4]", "f32[2,1]", ints(0, 3), axis=-1),
    )

    def infer(
        self, past: TensorType, update: TensorType, starts: TensorType | None = None
    ) -> TensorType:
        check_same_dtype(self, past, update)
        if past.shape is not None and normalize_axis(self.axis, past.rank) == 0:
            raise ShapeError("TensorScatter cannot write along the batch axis")
        if past.shape is not None and update.shape is not None:
            if past.rank != update.rank:
                raise ShapeError(f"TensorScatter needs one rank, got {past} and {update}")
            axis = normalize_axis(self.axis, past.rank)
            for k, (have, want) in enumerate(zip(past.dims, update.dims)):
                if k != axis:
                    check_extent(self, f"extent {k} of the update", want, have)
        if past.shape is not None and starts is not None and starts.shape is not None:
            check_extent(self, "the count of write indices", starts.count, past.dims[0])
        return TensorType(past.dtype, past.shape)

    def reference(self, past: Array, update: Array, starts: Array | None = None) -> Array:
        axis = normalize_axis(self.axis, past.ndim)
        result = past.copy()
        steps, new = np.moveaxis(result, axis, 1), np.moveaxis(update, axis, 1)
        for batch in range(past.shape[0]):
            first = 0 if starts is None else int(starts[batch])
            places = first + np.arange(new.shape[1])
            steps[batch, places % past.shape[axis] if self.mode == "circular" else places] = new[
                batch
            ]
        return result

    def lower(
        self, past: te.Tensor, update: te.Tensor, starts: te.Tensor | None = None, **_: Any
    ) -> te.Tensor:
        axis = normalize_axis(self.axis, past.rank)
        length, count = extent(past.shape[axis]), extent(update.shape[axis])

        def element(*i: te.Expr) -> te.Expr:
            step = i[axis] if starts is None else i[axis] - te.index(starts.at(i[0]))
            step = step % length if self.mode == "circular" else step
            inside = (step >= 0) & (step < count)
            return te.where(inside, update.at(*i[:axis], step, *i[axis + 1 :]), past.at(*i))

        return te.compute(past.dtype, past.shape, element)
