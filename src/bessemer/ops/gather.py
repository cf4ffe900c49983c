"""Reads at computed places: Gather, GatherElements, GatherND, OneHot, Where."""

from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.dtypes import boolean, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import assume_elements
from bessemer.ops.content import paired
from bessemer.ops.dims import (
    Array,
    check_extent,
    check_extents,
    check_same_dtype,
    constant_ints,
    extent,
    fresh_dim,
    known_dims,
    known_ints,
    normalize_axis,
    with_content,
)
from bessemer.ops.elementwise import broadcast_compute, broadcast_type, known_of
from bessemer.ops.reshape import ints


def safe_index(index: te.Expr, length: Dim, constant: Array | None = None) -> te.Expr:
    """An index as i64, negative ones counted from the end, kept inside the axis.

    Indices that are constant and in range need no care. Raises: Unlowerable on an empty axis.
    """
    size, wide = length, te.index(index)
    if size == 0:
        raise Unlowerable("a gather from an empty axis")
    if constant is not None and constant.size and constant.min() >= 0 \
            and isinstance(size, int) and constant.max() < size:
        return wide
    wrapped = te.where(wide < 0, wide + size, wide)
    # A wrong index must not read outside of the tensor.
    return te.minimum(te.maximum(wrapped, 0), size - 1)


def check_indices(op: Operator, indices: TensorType) -> None:
    """Raises ShapeError if the indices are no integers."""
    if not indices.dtype.is_integer:
        raise ShapeError(f"{op.op_name} needs integer indices, got {indices.dtype}")


@operator("Gather")
class Gather(Operator):
    """The slices of the data along an axis at the indices.

    Shapes: data [a.., n, b..], indices [q..] -> output [a.., q.., b..].
    Source: ONNX Gather-13.
    """

    axis: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[5,3]", ints(0, 4, 2)),
        sample("f32[5,3]", "i64[2,2]", low=-3, high=2, axis=1),
        sample("f32[5]", np.array(3, np.int64)),
        sample("f32[2,3,4]", np.array([[1, -1]], np.int32), axis=-2),
        sample("i64[4]", "i32[3]", low=-4, high=3),
        sample("f32[3,4]", ints(), axis=1),
        sample("f16[6,2]", "i64[1,3]", low=0, high=5),
        sample("bool[4]", "i64[]", low=0, high=3),
        sample("f32[0,3]", ints(1, 2), axis=1),
    )

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        check_indices(self, indices)
        if data.shape is None or indices.shape is None:
            return TensorType(data.dtype, None)
        axis = normalize_axis(self.axis, data.rank)
        dims = (*data.dims[:axis], *indices.dims, *data.dims[axis + 1 :])
        assume_elements(data.dims[axis], dims)
        content, places = known_dims(data), known_ints(indices)
        if content is not None and places is not None and data.rank == 1:
            if any(not -len(content) <= place < len(content) for place in places):
                raise ShapeError(f"Gather index {places} is out of range for {data}")
            return with_content(data.dtype.numpy, dims, tuple(content[place] for place in places))
        return TensorType(data.dtype, dims)

    def reference(self, data: Array, indices: Array) -> Array:
        # Of strings, one alone would not be an array.
        return np.array(np.take(data, indices.astype(np.int64), self.axis), data.dtype)

    def lower(
        self, data: te.Tensor, indices: te.Tensor, *, types: Any, **options: Any
    ) -> te.Tensor:
        axis = normalize_axis(self.axis, data.rank)
        constant = known_of(options, 2)[1]

        def element(*i: te.Expr) -> te.Expr:
            chosen = indices.at(*i[axis : axis + indices.rank])
            place = safe_index(chosen, data.shape[axis], constant)
            return data.at(*i[:axis], place, *i[axis + indices.rank :])

        if 0 in types[0].dims:
            return te.compute(data.dtype, types[0].dims, lambda *i: te.const(0, data.dtype))
        return te.compute(data.dtype, types[0].dims, element)


@operator("GatherElements")
class GatherElements(Operator):
    """For each index the element of the data in its own row: y[i, j] = data[indices[i, j], j].

    Shapes: data [*], indices [same rank] -> output [indices].
    Source: ONNX GatherElements-13.
    """

    axis: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[3,4]", "i64[2,4]", low=-3, high=2),
        sample("f32[3,4]", "i32[3,2]", low=0, high=3, axis=1),
        sample("i64[5]", ints(4, 0, -5)),
        sample("f32[2,3,4]", "i64[2,3,1]", low=-2, high=2, axis=-1),
        sample("f32[3]", ints()),
    )

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        check_indices(self, indices)
        if data.shape is not None and indices.shape is not None and data.rank != indices.rank:
            raise ShapeError(
                f"GatherElements needs data and indices of one rank: {data}, {indices}"
            )
        if data.shape is not None and indices.shape is not None:
            axis = normalize_axis(self.axis, data.rank)
            for k, (have, want) in enumerate(zip(data.dims, indices.dims)):
                if k != axis and isinstance(have, int) and isinstance(want, int) and want > have:
                    raise ShapeError(f"GatherElements: indices {indices} reach beyond {data}")
                if k != axis:
                    assume(want, have, "at most")
            assume_elements(data.dims[axis], indices.dims)
        return TensorType(data.dtype, indices.shape)

    def reference(self, data: Array, indices: Array) -> Array:
        axis = normalize_axis(self.axis, data.ndim)
        grid: list[Array] = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices.astype(np.int64)
        return np.asarray(data[tuple(grid)])

    def lower(self, data: te.Tensor, indices: te.Tensor, **options: Any) -> te.Tensor:
        axis = normalize_axis(self.axis, data.rank)
        constant = known_of(options, 2)[1]

        def element(*i: te.Expr) -> te.Expr:
            place = safe_index(indices.at(*i), data.shape[axis], constant)
            return data.at(*i[:axis], place, *i[axis + 1 :])

        if 0 in indices.shape:
            return te.compute(data.dtype, indices.shape, lambda *i: te.const(0, data.dtype))
        return te.compute(data.dtype, indices.shape, element)


@operator("GatherND")
class GatherND(Operator):
    """The slices of the data at index tuples, which are the last axis of the indices.

    Shapes: data [b.., n1..nk, r..], indices [b.., q.., k] -> output [b.., q.., r..].
    Source: ONNX GatherND-13.
    """

    batch_dims: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", "i64[4,2]", low=-2, high=1),
        sample("f32[2,3]", "i64[2,1]", low=0, high=1),
        sample("f32[2,3,4]", "i64[2,1]", low=-3, high=2, batch_dims=1),
        sample("i64[3]", ints(2)),
        sample("f32[2,2,2]", "i64[2,1,2]", low=0, high=1),
        sample("f32[3,2]", "i64[0,1]"),
    )

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        check_indices(self, indices)
        if data.shape is None or indices.shape is None or not indices.shape:
            return TensorType(data.dtype, None)
        depth = indices.dims[-1]
        if isinstance(depth, Sym):
            return TensorType(data.dtype, None)
        if depth < 1 or self.batch_dims < 0:
            raise ShapeError(f"GatherND: {indices} has no index tuples")
        if self.batch_dims + depth > data.rank:
            raise ShapeError(f"GatherND: index tuples of {depth} are too long for {data}")
        if self.batch_dims >= indices.rank:
            raise ShapeError(f"GatherND: {self.batch_dims} batch axes are too many for {indices}")
        for have, want in zip(data.dims[: self.batch_dims], indices.dims):
            check_extent(self, "a batch extent of the indices", want, have)
        dims = indices.dims[:-1] + data.dims[self.batch_dims + depth :]
        for length in data.dims[self.batch_dims : self.batch_dims + depth]:
            assume_elements(length, dims)
        return TensorType(data.dtype, dims)

    def reference(self, data: Array, indices: Array) -> Array:
        batch = self.batch_dims
        grid = [
            np.expand_dims(g, tuple(range(batch, indices.ndim - 1)))
            for g in np.indices(indices.shape[:batch])
        ]
        parts = [indices[..., k].astype(np.int64) for k in range(indices.shape[-1])]
        return np.array(data[(*grid, *parts)], data.dtype)

    def lower(
        self, data: te.Tensor, indices: te.Tensor, *, types: Any, **options: Any
    ) -> te.Tensor:
        batch, depth, front = self.batch_dims, extent(indices.shape[-1]), indices.rank - 1

        def element(*i: te.Expr) -> te.Expr:
            places = [
                safe_index(indices.at(*i[:front], k), data.shape[batch + k]) for k in range(depth)
            ]
            return data.at(*i[:batch], *places, *i[front:])

        if 0 in types[0].dims:
            return te.compute(data.dtype, types[0].dims, lambda *i: te.const(0, data.dtype))
        return te.compute(data.dtype, types[0].dims, element)


@operator("OneHot")
class OneHot(Operator):
    """On-value where the new axis equals the index (from the end if negative), else off-value.

    Shapes: indices [*], depth [], values [2] (off, on) -> output [* with depth at axis].
    Source: ONNX OneHot-28.
    """

    axis: int = -1

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("i64[4]", ints(3), np.array([0, 1], np.float32), low=-4, high=4),
        sample("i32[2,3]", np.array(5, np.int64), "f32[2]", low=0, high=4, axis=1),
        sample(
            "f32[3]", np.array(4, np.float32), np.array([2, 7], np.int64), low=0, high=3, axis=0
        ),
        sample("i64[]", np.array(3, np.int64), np.array([0, 1], np.float32), low=0, high=2),
        sample("i64[0]", ints(3), np.array([0, 1], np.int32)),
    )

    def infer(self, indices: TensorType, depth: TensorType, values: TensorType) -> TensorType:
        if indices.shape is None:
            return TensorType(values.dtype, None)
        if values.is_static and values.count != 2:
            raise ShapeError(f"OneHot needs two values, off and on, got {values}")
        axis = normalize_axis(self.axis, indices.rank + 1)
        known = known_dims(depth)
        if depth.value is not None and not known:
            known = (int(depth.value.reshape(-1)[0]),)
        extent_of = known[0] if known else fresh_dim(self)
        check_extents(self, (extent_of,))
        return TensorType(values.dtype, (*indices.dims[:axis], extent_of, *indices.dims[axis:]))

    def reference(self, indices: Array, depth: Array, values: Array) -> Array:
        count = int(depth.reshape(-1)[0])
        axis = normalize_axis(self.axis, indices.ndim + 1)
        whole = indices.astype(np.int64)
        wrapped = np.expand_dims(np.where(whole < 0, whole + count, whole), axis)
        view = [1] * (indices.ndim + 1)
        view[axis] = count
        return np.asarray(np.where(wrapped == np.arange(count).reshape(view), values[1], values[0]))

    def lower(
        self, indices: te.Tensor, depth: te.Tensor, values: te.Tensor, *, types: Any, **options: Any
    ) -> te.Tensor:
        axis = normalize_axis(self.axis, indices.rank + 1)
        count = constant_ints(known_of(options, 3), 1, self)[0]

        def element(*i: te.Expr) -> te.Expr:
            index = te.cast(indices.at(*i[:axis], *i[axis + 1 :]), i64)
            wrapped = te.where(index < 0, index + count, index)
            return te.where(te.equal(wrapped, i[axis]), values.at(1), values.at(0))

        return te.compute(values.dtype, types[0].dims, element)


@operator("Where")
class Where(Operator):
    """x where the condition holds, else y, with numpy broadcasting. Source: ONNX Where-16."""

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("bool[2,3]", "f32[2,3]", "f32[2,3]"),
        sample("bool[3]", "f32[2,1]", "f32[]"),
        sample("bool[]", "i64[]", "i64[]"),
        sample("bool[2,1]", "i64[3]", "i64[2,3]"),
        sample("bool[0]", "f32[1]", "f32[]"),
        sample("bool[4]", "bool[4]", "bool[1]"),
        sample("bool[4]", "f16[4]", "f16[4]"),
        sample("bool[4]", "bf16[4]", "bf16[]"),
    )

    def infer(self, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
        if condition.dtype != boolean:
            raise ShapeError(f"Where needs a bool condition, got {condition.dtype}; cast to bool")
        check_same_dtype(self, x, y)
        made = broadcast_type(self, condition, x, y, dtype=x.dtype)
        chosen, p, q = known_ints(condition), known_dims(x), known_dims(y)
        if p is None or q is None or not x.dtype.is_integer or made.rank > 1:
            return made
        if chosen is None:
            # Which side is taken does not matter where both are the same.
            same = made.is_static and made.dims == (x.dims or y.dims) and \
                all(a == b for a, b in paired(p, q))
            return with_content(x.dtype.numpy, made.dims, max(p, q, key=len)) if same else made
        count = max(len(chosen), len(p), len(q))
        c, a, b = (part * count if len(part) == 1 else part for part in (chosen, p, q))
        dims = tuple(s if pick else t for pick, s, t in zip(c, a, b))
        return with_content(x.dtype.numpy, made.dims, dims) if len(dims) == count else made

    def reference(self, condition: Array, x: Array, y: Array) -> Array:
        return np.asarray(np.where(condition, x, y)).astype(x.dtype)

    def lower(self, condition: te.Tensor, x: te.Tensor, y: te.Tensor, **_: Any) -> te.Tensor:
        return broadcast_compute(x.dtype, (condition, x, y), te.where)
