"""Selections whose result depends on data: TopK, NonZero, Compress, Unique."""

import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import boolean, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym, usual
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    constant_ints,
    fresh_dim,
    known_dims,
    known_ints,
    normalize_axis,
)
from bessemer.ops.elementwise import known_of, widened
from bessemer.ops.reshape import ints

_MOST_COMPARISONS = 1 << 24
"""Ranking n elements costs n**2 comparisons; above this many the host's sort is faster."""


@operator("TopK")
class TopK(Operator):
    """The k largest (or smallest) along an axis, in order, and their positions; ties by position.

    Shapes: x [.., n, ..], k [1] -> values, indices [.., k, ..]. NaN counts as the largest.
    Source: ONNX TopK-24.
    """

    axis: int = -1
    largest: int = 1
    sorted: int = 1

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.REDUCTION
    samples = (
        sample("f32[3,4]", ints(3)),
        sample("f32[3,4]", ints(2), axis=0, largest=0),
        sample("i64[6]", ints(4), low=0, high=3),
        sample("i32[2,5]", ints(5), largest=0, low=0, high=2),
        sample("f16[5]", ints(2)),
        sample("f32[2,3]", ints(0)),
        sample("u8[7]", ints(3), low=0, high=9),
        sample(np.array([1, np.nan, 3, -np.inf, np.inf, np.nan], np.float32), ints(4)),
        sample(np.array([1, np.nan, 3, -np.inf, np.inf, np.nan], np.float32), ints(5), largest=0),
        sample("f32[5]", "i64[1]", low=2, high=4),
    )

    def infer(self, x: TensorType, k: TensorType) -> tuple[TensorType, TensorType]:
        if x.shape is None:
            return TensorType(x.dtype, None), TensorType(i64, None)
        axis = normalize_axis(self.axis, x.rank)
        counts = known_dims(k)
        count: Dim = counts[0] if counts else fresh_dim(self)
        have = x.dims[axis]
        if isinstance(count, int) and isinstance(have, int) and not 0 <= count <= have:
            raise ShapeError(f"TopK of {count} out of {have} elements")
        shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(i64, shape)

    def reference(self, x: Array, k: Array) -> tuple[Array, Array]:
        axis, count = normalize_axis(self.axis, x.ndim), int(k.reshape(-1)[0])
        if self.largest:
            # The last of equal elements of the reversed axis is the first of the axis.
            order = np.flip(np.argsort(np.flip(widened(x), axis), axis, kind="stable"), axis)
            order = x.shape[axis] - 1 - order
        else:
            order = np.argsort(widened(x), axis, kind="stable")
        indices = np.take(order, np.arange(count), axis).astype(np.int64)
        return np.take_along_axis(x, indices, axis), indices

    def lower(
        self, x: te.Tensor, k: te.Tensor, *, types: Any, **options: Any
    ) -> tuple[te.Tensor, ...]:
        axis, count = (
            normalize_axis(self.axis, x.rank),
            constant_ints(known_of(options, 2), 1, self)[0],
        )
        length = x.shape[axis]
        if isinstance(length, Sym):
            raise Unlowerable(f"TopK of {length} elements, which may be too many to compare all")
        cost = length * math.prod(map(usual, x.shape))
        if cost > _MOST_COMPARISONS:
            raise Unlowerable(f"TopK with {cost} comparisons is sorted on the host")
        ranks = self._ranks(x, axis)

        def place(i: tuple[te.Expr, ...], index: te.Expr) -> tuple[te.Expr, ...]:
            return (*i[:axis], index, *i[axis + 1 :])

        over = te.reduce_axis(length)
        indices = te.compute(
            i64,
            types[1].dims,
            lambda *i: te.max_(
                te.where(te.equal(ranks.at(*place(i, over)), i[axis]), over, te.index(0)), over
            ),
        )
        if count == 0:
            return te.compute(x.dtype, types[0].dims, lambda *i: te.const(0, x.dtype)), indices
        values = te.compute(
            x.dtype, types[0].dims, lambda *i: x.at(*place(i, indices.at(*i)), fill=0)
        )
        return values, indices

    def _ranks(self, x: te.Tensor, axis: int) -> te.Tensor:
        """How many elements of its row come before each element."""
        over = te.reduce_axis(x.shape[axis])

        def element(*i: te.Expr) -> te.Expr:
            mine, other = x.at(*i), x.at(*i[:axis], over, *i[axis + 1 :])
            above, below = (other, mine) if self.largest else (mine, other)
            before, tie = above > below, te.equal(mine, other)
            if x.dtype.is_float:
                before = before | (te.isnan(above) & ~te.isnan(below))
                tie = tie | (te.isnan(mine) & te.isnan(other))
            return te.sum_(te.cast(before | (tie & (over < i[axis])), i64), over)

        return te.compute(i64, x.shape, element)


@operator("NonZero")
class NonZero(Operator):
    """The index tuples of all elements that are not zero, one column each, in order.

    Shapes: x [r dimensions] -> y [r, count]. It runs on the host.
    Source: ONNX NonZero-13.
    """

    samples = (
        sample("i32[3,4]", low=0, high=2),
        sample("bool[5]"),
        sample("f32[2,2]"),
        sample("bool[0,2]"),
        sample(np.array(True)),
    )

    def infer(self, x: TensorType) -> TensorType:
        rank: Dim = fresh_dim(self, 1) if x.shape is None else max(x.rank, 1)
        return TensorType(i64, (rank, fresh_dim(self)))

    def reference(self, x: Array) -> Array:
        return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Compress")
class Compress(Operator):
    """The slices along an axis (or of the flat data) where the condition holds.

    Source: ONNX Compress-28. It runs on the host.
    """

    axis: int | None = None

    samples = (
        sample("f32[3,2]", np.array([False, True, True]), axis=0),
        sample("f32[3,2]", "bool[6]"),
        sample("f32[3,2]", np.array([True]), axis=-1),
        sample("i64[4]", "bool[2]"),
    )

    def infer(self, x: TensorType, condition: TensorType) -> TensorType:
        if condition.dtype != boolean:
            raise ShapeError(f"Compress needs a bool condition, got {condition.dtype}")
        known = known_ints(condition)
        count: Dim = fresh_dim(self) if known is None else sum(map(bool, known))
        if self.axis is None:
            return TensorType(x.dtype, (count,))
        if x.shape is None:
            return TensorType(x.dtype, None)
        axis = normalize_axis(self.axis, x.rank)
        return TensorType(x.dtype, (*x.dims[:axis], count, *x.dims[axis + 1 :]))

    def reference(self, x: Array, condition: Array) -> Array:
        return np.compress(condition, x, self.axis)


@operator("Unique")
class Unique(Operator):
    """The different elements (or slices), where each first occurs, which it is, and how often.

    Source: ONNX Unique-28. It runs on the host.
    """

    axis: int | None = None
    sorted: int = 1

    samples = (
        sample("i64[7]", low=0, high=3, outputs=4),
        sample("f32[6]", low=0, high=2, outputs=4),
        sample(ints(2, 1, 1, 3, 4, 3), sorted=0, outputs=4),
        sample("i32[2,3]", outputs=4),
        sample(np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4]], np.float32), axis=0, outputs=4),
        sample(np.array([[2, 1, 1], [0, 1, 1]]), axis=-1, sorted=0, outputs=4),
        sample("f32[0]", outputs=4),
    )

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        count = fresh_dim(self)
        vector = TensorType(i64, (count,))
        if self.axis is None:
            inverse: Dim = fresh_dim(self, 1) if x.shape is None else x.count
            return TensorType(x.dtype, (count,)), vector, TensorType(i64, (inverse,)), vector
        if x.shape is None:
            whole = TensorType(i64, (fresh_dim(self, 1),))
            return TensorType(x.dtype, None), vector, whole, vector
        axis = normalize_axis(self.axis, x.rank)
        shape = (*x.dims[:axis], count, *x.dims[axis + 1 :])
        return TensorType(x.dtype, shape), vector, TensorType(i64, (x.dims[axis],)), vector

    def reference(self, x: Array) -> tuple[Array, ...]:
        values, first, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=self.axis
        )
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first)
            values = np.take(values, order, 0 if self.axis is None else self.axis)
            first, counts = first[order], counts[order]
            inverse = np.argsort(order)[inverse]
        return values, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)
