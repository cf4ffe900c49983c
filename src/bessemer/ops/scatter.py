"""Writes at computed places: ScatterElements, ScatterND, TensorScatter."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.dtypes import DType, boolean, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym, product, usual
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    check_choice,
    check_extent,
    check_same_dtype,
    extent,
    normalize_axis,
)
from bessemer.ops.gather import check_indices
from bessemer.ops.reshape import ints, reshaped_index

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
    places = [np.broadcast_to(index, updates.shape[: np.ndim(index)]) for index in place]
    with np.errstate(all="ignore"):
        for position in np.ndindex(places[0].shape):
            at = tuple(int(index[position]) for index in places)
            result[at] = _UPDATES[reduction](result[at], updates[position])
    return result


_MOST_COMPARISONS = 1 << 24
"""Each element looks for its update among all; above this the host is faster."""


def _check_cost(op: Operator, elements: Sequence[Dim], updates: Sequence[Dim]) -> None:
    many = product(updates)
    if isinstance(many, Sym):
        raise Unlowerable(f"{op.op_name} of {many} updates, which may be too many to compare all")
    cost = math.prod(map(usual, elements)) * many
    if cost > _MOST_COMPARISONS:
        raise Unlowerable(f"{op.op_name} with {cost} comparisons is done on the host")


def _neutral(dtype: DType, reduction: str) -> te.Expr:
    """The update that changes nothing."""
    if reduction in ("add", "mul"):
        return te.const(0 if reduction == "add" else 1, dtype)
    low = reduction == "max"
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return te.const(int(info.min if low else info.max), dtype)
    return te.const(-np.inf if low else np.inf, dtype)


_FOLDS: dict[str, tuple[Callable[..., te.Expr], Callable[..., te.Expr]]] = {
    "add": (te.sum_, lambda a, b: a + b),
    "mul": (te.prod, lambda a, b: a * b),
    "max": (te.max_, te.maximum),
    "min": (te.min_, te.minimum),
}
"""The fold over all updates of an element, and how it joins the element."""


def _matches(index: te.Expr, place: te.Expr, length: Dim) -> te.Expr:
    """Whether an index, negative ones from the end, is that place."""
    wide = te.index(index)
    return te.equal(te.where(wide < 0, wide + length, wide), place)


@operator("ScatterElements")
class ScatterElements(Operator):
    """A copy of the data where y[indices[i, j], j] is updates[i, j], or folded with it.

    Shapes: data [*], indices, updates [same rank] -> output [*]. Lowered as a search: each
    element looks for the updates that are meant for it.
    Source: ONNX ScatterElements-18.
    """

    axis: int = 0
    reduction: str = "none"

    fusion = FusionClass.REDUCTION
    samples = (
        sample("f32[3,3]", ints(1, 0, 2, 0, 2, 1).reshape(2, 3), "f32[2,3]"),
        sample("f32[1,5]", ints(1, -2).reshape(1, 2), "f32[1,2]", axis=1),
        sample("f32[1,5]", ints(1, 1).reshape(1, 2), "f32[1,2]", axis=-1, reduction="add"),
        sample("i64[4]", "i64[3]", "i64[3]", low=0, high=3, reduction="mul"),
        sample("f32[4]", "i32[6]", "f32[6]", low=0, high=3, reduction="max"),
        sample("f16[4]", "i64[6]", "f16[6]", low=0, high=3, reduction="min"),
        sample("f32[3]", ints(), "f32[0]"),
        sample("f32[4]", ints(2, 2, 2), "f32[3]"),
    )

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        check_choice(self, "reduction", self.reduction, "none", *_UPDATES)
        check_indices(self, indices)
        check_same_dtype(self, data, updates)
        if data.shape is not None and indices.shape is not None and data.rank != indices.rank:
            raise ShapeError(f"ScatterElements needs one rank, got {data} and {indices}")
        if indices.is_static and updates.is_static and indices.shape != updates.shape:
            raise ShapeError(f"ScatterElements: {updates} updates for {indices} indices")
        if data.shape is not None and indices.shape is not None and updates.shape is not None:
            axis = normalize_axis(self.axis, data.rank)
            for k, (whole, wanted, found) in enumerate(
                    zip(data.dims, indices.dims, updates.dims)):
                check_extent(self, "an extent of the updates", found, wanted)
                if k != axis:
                    assume(wanted, whole, "at most")
        return TensorType(data.dtype, data.shape)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        axis = normalize_axis(self.axis, data.ndim)
        grid: list[Array] = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices.astype(np.int64)
        place = tuple(np.broadcast_to(index, indices.shape) for index in grid)
        return _scatter(data.copy(), place, updates, self.reduction)

    def lower(self, data: te.Tensor, indices: te.Tensor, updates: te.Tensor, **_: Any) -> te.Tensor:
        axis = normalize_axis(self.axis, data.rank)
        if 0 in indices.shape:
            return te.compute(data.dtype, data.shape, data.at)
        _check_cost(self, data.shape, indices.shape[axis : axis + 1])
        step = te.reduce_axis(indices.shape[axis])
        # An index that no place has, read where the indices are smaller than the data.
        nowhere = -(2**31)

        def at(i: tuple[te.Expr, ...], index: te.Expr) -> tuple[te.Expr, ...]:
            return (*i[:axis], index, *i[axis + 1 :])

        def hit(i: tuple[te.Expr, ...]) -> te.Expr:
            index = indices.at(*at(i, step), fill=nowhere)
            return _matches(index, i[axis], data.shape[axis])

        if self.reduction == "none":
            last = te.compute(
                i64, data.shape, lambda *i: te.max_(te.where(hit(i), step, te.index(-1)), step)
            )
            return te.compute(
                data.dtype,
                data.shape,
                lambda *i: te.where(
                    last.at(*i) >= 0, updates.at(*at(i, last.at(*i)), fill=0), data.at(*i)
                ),
            )
        fold, join = _FOLDS[self.reduction]
        neutral = _neutral(data.dtype, self.reduction)
        total = te.compute(
            data.dtype,
            data.shape,
            lambda *i: fold(te.where(hit(i), updates.at(*at(i, step), fill=0), neutral), step),
        )
        return te.compute(data.dtype, data.shape, lambda *i: join(data.at(*i), total.at(*i)))


@operator("ScatterND")
class ScatterND(Operator):
    """A copy of the data with slices at index tuples replaced by, or folded with, the updates.

    Shapes: data [n1..nk, r..], indices [q.., k], updates [q.., r..] -> output [data]. Lowered as
    a search: each slice looks for the updates that are meant for it.
    Source: ONNX ScatterND-18.
    """

    reduction: str = "none"

    fusion = FusionClass.REDUCTION
    samples = (
        sample("f32[8]", ints(4, 3, 1, 7).reshape(4, 1), "f32[4]"),
        sample("f32[4,3]", ints(0, -2).reshape(2, 1), "f32[2,3]"),
        sample("f32[4,3]", ints(0, 2, 0, 2).reshape(2, 2), "f32[2]", reduction="add"),
        sample("i32[2,2]", ints(0, 0).reshape(2, 1), "i32[2,2]", reduction="mul"),
        sample("f32[3,2]", ints(0, 0, 1).reshape(3, 1), "f32[3,2]", reduction="max"),
        sample("f32[3,2]", "i64[0,1]", "f32[0,2]"),
        sample("f32[3,2]", ints(1, 1, 2, 0).reshape(2, 2, 1), "f32[2,2,2]"),
        sample("f32[3]", ints(0, 0, 1).reshape(3, 1), "f32[3]", reduction="min"),
    )

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        check_choice(self, "reduction", self.reduction, "none", *_UPDATES)
        check_indices(self, indices)
        check_same_dtype(self, data, updates)
        self._check_shapes(data, indices, updates)
        return TensorType(data.dtype, data.shape)

    def _check_shapes(self, data: TensorType, indices: TensorType, updates: TensorType) -> None:
        if data.shape is None or indices.shape is None or updates.shape is None \
                or (indices.shape and isinstance(indices.dims[-1], Sym)):
            return
        if not indices.shape or extent(indices.dims[-1]) > data.rank:
            raise ShapeError(f"ScatterND: index tuples {indices} do not fit {data}")
        expected = indices.dims[:-1] + data.dims[extent(indices.dims[-1]) :]
        if updates.rank != len(expected):
            raise ShapeError(f"ScatterND: updates {updates} must have the shape {expected}")
        for found, wanted in zip(updates.dims, expected):
            check_extent(self, "an extent of the updates", found, wanted)

    def reference(self, data: Array, indices: Array, updates: Array) -> Array:
        place = tuple(indices[..., k].astype(np.int64) for k in range(indices.shape[-1]))
        return _scatter(data.copy(), place, updates, self.reduction)

    def lower(self, data: te.Tensor, indices: te.Tensor, updates: te.Tensor, **_: Any) -> te.Tensor:
        depth, batch = extent(indices.shape[-1]), indices.shape[:-1]
        if 0 in batch or depth == 0:
            raise Unlowerable("ScatterND of nothing")
        prefix = data.shape[:depth]
        whole = self.reduction == "none"
        _check_cost(self, prefix if whole else data.shape, batch)
        steps = [te.reduce_axis(n) for n in batch]

        def hit(place: tuple[te.Expr, ...]) -> te.Expr:
            found: te.Expr = te.const(True, boolean)
            for k in range(depth):
                found = found & _matches(indices.at(*steps, k), place[k], data.shape[k])
            return found

        if not whole:
            fold, join = _FOLDS[self.reduction]
            neutral = _neutral(data.dtype, self.reduction)
            total = te.compute(
                data.dtype,
                data.shape,
                lambda *i: fold(te.where(hit(i), updates.at(*steps, *i[depth:]), neutral), *steps),
            )
            return te.compute(data.dtype, data.shape, lambda *i: join(data.at(*i), total.at(*i)))
        number = te.index(0)
        for step, n in zip(steps, batch):
            number = number * n + step
        last = te.compute(
            i64, prefix, lambda *i: te.max_(te.where(hit(i), number, te.index(-1)), *steps)
        )

        def element(*i: te.Expr) -> te.Expr:
            chosen = last.at(*i[:depth])
            place = reshaped_index((te.maximum(chosen, 0),), (product(batch),), batch)
            return te.where(chosen >= 0, updates.at(*place, *i[depth:]), data.at(*i))

        return te.compute(data.dtype, data.shape, element)


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
        check_choice(self, "mode", self.mode, "linear", "circular")
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
                elif isinstance(have, int) and isinstance(want, int) and want > have:
                    raise ShapeError(f"TensorScatter: the update {update} is longer than {past}")
        if past.shape is not None and starts is not None and starts.shape is not None:
            if starts.rank != 1:
                raise ShapeError(f"TensorScatter needs one write index per batch, got {starts}")
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
        length, count = past.shape[axis], update.shape[axis]

        def element(*i: te.Expr) -> te.Expr:
            step = i[axis] if starts is None else i[axis] - te.index(starts.at(i[0]))
            step = step % length if self.mode == "circular" else step
            inside = (step >= 0) & (step < count)
            return te.where(inside, update.at(*i[:axis], step, *i[axis + 1 :]), past.at(*i))

        return te.compute(past.dtype, past.shape, element)
