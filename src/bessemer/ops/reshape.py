"""Operators that keep the elements in order: Reshape, Squeeze, Identity ...; and Shape, Size."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.dtypes import i64
from bessemer.core.errors import ShapeError
from bessemer.core.extents import is_one
from bessemer.core.shapes import Dim, Shape, Sym, product, usual
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType, ValueType
from bessemer.ops.dims import (
    Array,
    fresh_dim,
    known_dims,
    known_ints,
    length_of,
    normalize_axes,
    normalize_axis,
    shape_tensor,
    with_content,
)

RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators whose result is their first input under another shape."""


def ints(*values: int) -> Array:
    """An i64 vector, for samples."""
    return np.array(values, np.int64)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest split of both axis lists into runs of equal element count.

    Of symbolic counts equality must be plain to see; runs grow until it is.
    """
    result: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(a), j + len(b)
        p, q = product([old[k] for k in a]), product([new[k] for k in b])
        while p != q and (i < len(old) or j < len(new)):
            if i < len(old) and (j == len(new) or _is_smaller(p, q)):
                a, p, i = [*a, i], p * old[i], i + 1
            else:
                b, q, j = [*b, j], q * new[j], j + 1
        result.append((a, b))
    return result


def _is_smaller(p: Dim, q: Dim) -> bool:
    """True if the run of count `p` should grow rather than that of count `q`."""
    if isinstance(p, int) and isinstance(q, int):
        return p < q
    degrees = [max(map(len, dict(dim.terms))) if isinstance(dim, Sym) else 0 for dim in (p, q)]
    return degrees[0] < degrees[1] or (degrees[0] == degrees[1] and usual(p) < usual(q))


def reshaped_index(
    index: Sequence[te.Expr], new: Shape, old: Shape
) -> tuple[te.Expr, ...]:
    """Where the element at `index` of the shape `new` lies in the shape `old` of equal count."""
    result: list[te.Expr] = [te.index(0)] * len(old)
    if 0 in new or 0 in old:
        return tuple(result)
    for sources, targets in _groups(old, new):
        wide = [k for k in targets if new[k] != 1]
        linear = te.index(0)
        for k in wide:
            linear = linear * new[k] + index[k]
        narrow = [k for k in sources if old[k] != 1]
        for position, k in enumerate(narrow):
            part = linear // product([old[later] for later in narrow[position + 1:]])
            result[k] = part if position == 0 else part % old[k]
    return tuple(result)


def reshaped(x: te.Tensor, shape: Shape) -> te.Tensor:
    """The tensor in another shape."""
    return te.compute(x.dtype, shape, lambda *i: x.at(*reshaped_index(i, shape, x.shape)))


def same_content(x: TensorType, shape: Shape | None) -> TensorType:
    """The type of `x` in another shape, keeping content that is known."""
    if x.value is not None and shape is not None:
        dims = [dim for dim in shape if not isinstance(dim, Sym)]
        if len(dims) == len(shape) and math.prod(dims) == x.value.size:
            return TensorType(x.dtype, shape, x.value.reshape(dims))
    return TensorType(x.dtype, shape, None, symbolic=x.symbolic, fractions=x.fractions)


class _Reshaping(Operator):
    """Base of operators that only change the shape."""

    fusion = FusionClass.INJECTIVE

    def lower(self, data: te.Tensor, *_inputs: Any, types: Any, **_: Any) -> te.Tensor:
        return reshaped(data, types[0].dims)


@operator("Reshape")
class Reshape(_Reshaping):
    """The same elements in another shape; 0 copies an extent, -1 takes what is left.

    Shapes: data [*], shape [r] -> reshaped [shape].
    Source: ONNX Reshape-25.
    """

    allowzero: int = 0

    samples = (
        sample("f32[2,3,4]", ints(6, 4)),
        sample("f32[2,3,4]", ints(4, 3, 2)),
        sample("f32[2,3,4]", ints(0, -1)),
        sample("f32[2,3,4]", ints(-1)),
        sample("f32[6]", ints(1, 2, 1, 3, 1)),
        sample("f32[]", ints(1, 1)),
        sample("f32[1,1]", ints()),
        sample("f32[0,3]", ints(3, 0), allowzero=1),
        sample("f32[0,3]", ints(0, -1)),
        sample("i32[4,6]", ints(3, 8)),
        sample("bf16[5,7]", ints(7, 5)),
        sample("bool[2,1,6]", ints(4, -1)),
        sample("f32[0,4]", ints(0, 2, 2)),
    )

    form_inputs: ClassVar[tuple[int, ...]] = (1,)

    def infer(self, data: TensorType, shape: TensorType) -> TensorType:
        wanted = known_dims(shape)
        if wanted is None:
            rank = length_of(shape)
            dims = None if rank is None else tuple(fresh_dim(self, k) for k in range(rank))
            return TensorType(data.dtype, dims)
        return same_content(data, self.target(data.shape, wanted))

    def target(self, old: Shape | None, wanted: Shape) -> Shape:
        """The new shape. Raises: ShapeError if the element counts cannot agree."""
        result: list[Dim] = []
        for axis, dim in enumerate(wanted):
            if dim != 0 or self.allowzero:
                result.append(dim)
            elif old is None:
                result.append(fresh_dim(self, axis))
            elif axis < len(old):
                result.append(old[axis])
            else:
                raise ShapeError(f"shape {wanted} copies axis {axis}, which {old} has not")
        if result.count(-1) > 1:
            raise ShapeError(f"shape {wanted} has more than one -1")
        if -1 in result:
            result[result.index(-1)] = self._rest(old, result)
        if any(not isinstance(dim, Sym) and dim < 0 for dim in result):
            raise ShapeError(f"shape {wanted} has a negative extent")
        self._check_count(old, result)
        if old is not None:
            assume(product(old), product(result))
        return tuple(result)

    def _rest(self, old: Shape | None, new: Sequence[Dim]) -> Dim:
        position = new.index(-1)
        if old is None:
            return fresh_dim(self, position)
        left, others = list(old), [dim for k, dim in enumerate(new) if k != position]
        for dim in list(others):
            # Equal factors cancel first, so that zero extents and symbols divide exactly.
            if dim in left:
                left.remove(dim)
                others.remove(dim)
        count, divisor = product(left), product(others)
        if isinstance(count, int) and isinstance(divisor, int):
            if divisor == 0:
                return 0
            if count % divisor:
                raise ShapeError(f"{old} has no whole number of groups of {divisor} for the -1")
        return count // divisor

    def _check_count(self, old: Shape | None, new: Sequence[Dim]) -> None:
        if old is None:
            return
        have, want = product(old), product(new)
        if isinstance(have, int) and isinstance(want, int) and have != want:
            raise ShapeError(f"{list(old)} has {have} elements, {list(new)} needs {want}")

    def reference(self, data: Array, shape: Array) -> Array:
        wanted = self.target(data.shape, tuple(int(n) for n in shape.reshape(-1)))
        return data.reshape([dim for dim in wanted if not isinstance(dim, Sym)]).copy()


@operator("Flatten")
class Flatten(_Reshaping):
    """A matrix: the axes before `axis` together, and the rest together. Source: ONNX Flatten-25."""

    axis: int = 1

    samples = (
        sample("f32[2,3,4]"),
        sample("f32[2,3,4]", axis=0),
        sample("f32[2,3,4]", axis=3),
        sample("f32[2,3,4]", axis=-1),
        sample("f32[5]"),
        sample("f32[0,3]"),
        sample("u8[2,1,3]"),
        sample("f32[]", axis=0),
    )

    def infer(self, data: TensorType) -> TensorType:
        if data.shape is None:
            return TensorType(data.dtype, (fresh_dim(self, 0), fresh_dim(self, 1)))
        axis = self.axis if self.axis == data.rank else normalize_axis(self.axis, data.rank)
        return same_content(data, (product(data.dims[:axis]), product(data.dims[axis:])))

    def reference(self, data: Array) -> Array:
        axis = self.axis + data.ndim if self.axis < 0 else self.axis
        return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:])).copy()


@operator("Squeeze")
class Squeeze(_Reshaping):
    """The tensor without the named axes of extent 1, or without all of those.

    Source: ONNX Squeeze-25.
    """

    samples = (
        sample("f32[1,3,1,4]"),
        sample("f32[1,3,1,4]", ints(2)),
        sample("f32[1,3,1]", ints(0, -1)),
        sample("f32[1]"),
        sample("f32[3,1,0]", ints(1)),
        sample("f32[2,3]", ints()),
        sample("i64[1,5]", ints(0)),
        sample("f32[]"),
    )

    form_inputs: ClassVar[tuple[int, ...]] = (1,)

    def infer(self, data: TensorType, axes: TensorType | None = None) -> TensorType:
        known = known_ints(axes)
        if data.shape is None or (axes is not None and known is None):
            return TensorType(data.dtype, None)
        if known is None:
            single = [is_one(dim) for dim in data.dims]
            if None in single:
                return TensorType(data.dtype, None)
            kept = tuple(dim for dim, one in zip(data.dims, single) if not one)
            return same_content(data, kept)
        dropped = normalize_axes(known, data.rank)
        for axis in dropped:
            if not isinstance(data.dims[axis], Sym) and data.dims[axis] != 1:
                raise ShapeError(f"axis {axis} of {data} cannot be squeezed, its extent is not 1")
            assume(data.dims[axis], 1)
        return same_content(
            data, tuple(dim for axis, dim in enumerate(data.dims) if axis not in dropped)
        )

    def reference(self, data: Array, axes: Array | None = None) -> Array:
        if axes is None:
            return np.squeeze(data).copy()
        return np.squeeze(data, tuple(int(axis) for axis in axes.reshape(-1))).copy()


@operator("Unsqueeze")
class Unsqueeze(_Reshaping):
    """The tensor with axes of extent 1 at the named places of the result.

    Source: ONNX Unsqueeze-25.
    """

    samples = (
        sample("f32[3,4]", ints(0)),
        sample("f32[3,4]", ints(1, -1)),
        sample("f32[]", ints(0)),
        sample("f32[3]", ints(2, 0)),
        sample("i64[0]", ints(1)),
        sample("bool[2,3]", ints(1)),
    )

    form_inputs: ClassVar[tuple[int, ...]] = (1,)

    def infer(self, data: TensorType, axes: TensorType) -> TensorType:
        known = known_ints(axes)
        if data.shape is None:
            return TensorType(data.dtype, None)
        if known is None:
            count = length_of(axes)
            rank = None if count is None else data.rank + count
            dims = None if rank is None else tuple(fresh_dim(self, k) for k in range(rank))
            return TensorType(data.dtype, dims)
        places = normalize_axes(known, data.rank + len(known))
        rest = iter(data.dims)
        total = range(data.rank + len(known))
        return same_content(data, tuple(1 if axis in places else next(rest) for axis in total))

    def reference(self, data: Array, axes: Array) -> Array:
        return np.expand_dims(data, tuple(int(axis) for axis in axes.reshape(-1))).copy()


@operator("Identity")
class Identity(Operator):
    """The input itself: a tensor, sequence or optional. Source: ONNX Identity-25."""

    fusion = FusionClass.INJECTIVE
    samples = (sample("f32[2,3]"), sample("f32[]"), sample("i64[0]"), sample("bool[3]"))

    def infer(self, x: ValueType) -> ValueType:
        return x

    def reference(self, x: Any) -> Any:
        return x

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        return te.compute(x.dtype, x.shape, x.at)


@operator("Shape")
class ShapeOf(Operator):
    """The extents from axis `start` to before `end` (default: all), as an i64 vector.

    Source: ONNX Shape-25.
    """

    start: int = 0
    end: int | None = None

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3,4]"),
        sample("f32[]"),
        sample("f32[2,3,4]", start=1),
        sample("f32[2,3,4]", start=-2, end=-1),
        sample("f32[2,0]"),
        sample("f32[2,3]", start=5),
        sample("f32[2,3]", start=-9, end=9),
    )

    def infer(self, data: TensorType) -> TensorType:
        if data.shape is None:
            return TensorType(i64, (fresh_dim(self),))
        return shape_tensor(self.part(data.dims))

    def part(self, dims: Shape) -> Shape:
        """The asked part of the extents."""
        return dims[self._bound(self.start, len(dims)) : self._bound(self.end, len(dims))]

    def _bound(self, axis: int | None, rank: int) -> int:
        if axis is None:
            return rank
        return min(max(axis + rank if axis < 0 else axis, 0), rank)

    def reference(self, data: Array) -> Array:
        return np.array(self.part(data.shape), np.int64)

    def lower(self, data: te.Tensor, **_: Any) -> te.Tensor:
        part = self.part(data.shape)
        numbers = [dim for dim in part if not isinstance(dim, Sym)]
        if len(numbers) < len(part):
            raise Unlowerable("the shape of a symbolic tensor")

        def element(i: te.Expr) -> te.Expr:
            value = te.index(numbers[-1] if numbers else 0)
            for position in reversed(range(len(numbers) - 1)):
                value = te.where(te.equal(i, position), te.index(numbers[position]), value)
            return value

        return te.compute(i64, (len(numbers),), element)


@operator("Size")
class Size(Operator):
    """The number of elements, an i64 scalar. Source: ONNX Size-25."""

    fusion = FusionClass.INJECTIVE
    samples = (sample("f32[2,3,4]"), sample("f32[]"), sample("f32[0,3]"))

    def infer(self, data: TensorType) -> TensorType:
        if data.shape is None:
            return TensorType(i64, ())
        return with_content(np.dtype(np.int64), (), (data.count,))

    def reference(self, data: Array) -> Array:
        return np.array(data.size, np.int64)

    def lower(self, data: te.Tensor, **_: Any) -> te.Tensor:
        count = product(data.shape)
        if isinstance(count, Sym):
            raise Unlowerable("the size of a symbolic tensor")
        return te.compute(i64, (), lambda: te.index(count))
