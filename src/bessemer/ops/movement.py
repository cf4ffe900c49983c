"""Operators that move elements: Transpose, Expand, Tile, Concat, Split."""

import itertools
import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.errors import ShapeError
from bessemer.core.extents import broadcast_shapes
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    check_same_dtype,
    constant_ints,
    fresh_dim,
    known_dims,
    known_ints,
    length_of,
    normalize_axis,
    with_content,
)
from bessemer.ops.elementwise import known_of, load_broadcast
from bessemer.ops.reshape import ints


def fresh_dims(op: Operator, rank: int | None) -> Shape | None:
    """A shape of which only the rank is known."""
    return None if rank is None else tuple(fresh_dim(op, axis) for axis in range(rank))


@operator("Transpose")
class Transpose(Operator):
    """Axis k of the result is axis perm[k] of the data; all reversed without perm.

    Source: ONNX Transpose-25.
    """

    perm: tuple[int, ...] = ()

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]"),
        sample("f32[2,3,4]", perm=(1, 2, 0)),
        sample("f32[]"),
        sample("f32[2,3,4,5]", perm=(0, 3, 1, 2)),
        sample("f32[0,3]"),
        sample("i8[3,2]"),
        sample("f16[2,5,1]", perm=(2, 0, 1)),
        sample("f32[7]"),
        sample("bool[2,3]", perm=(0, 1)),
    )

    def axes(self, rank: int) -> tuple[int, ...]:
        """The permutation, spelled out. Raises: ShapeError if it is none."""
        if not self.perm:
            return tuple(reversed(range(rank)))
        perm = tuple(normalize_axis(axis, rank) for axis in self.perm)
        if sorted(perm) != list(range(rank)):
            raise ShapeError(f"perm {self.perm} is no permutation of {rank} axes")
        return perm

    def infer(self, data: TensorType) -> TensorType:
        if data.shape is None:
            return TensorType(data.dtype, fresh_dims(self, len(self.perm) or None))
        return TensorType(data.dtype, tuple(data.dims[axis] for axis in self.axes(data.rank)))

    def reference(self, data: Array) -> Array:
        return np.ascontiguousarray(np.transpose(data, self.axes(data.ndim))).reshape(
            [data.shape[axis] for axis in self.axes(data.ndim)]
        )

    def lower(self, data: te.Tensor, **_: Any) -> te.Tensor:
        axes = self.axes(data.rank)
        place = {axis: k for k, axis in enumerate(axes)}
        return te.compute(
            data.dtype,
            tuple(data.shape[axis] for axis in axes),
            lambda *i: data.at(*(i[place[axis]] for axis in range(data.rank))),
        )


@operator("Expand")
class Expand(Operator):
    """The data broadcast with a shape, both ways. Source: ONNX Expand-13."""

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[3,1]", ints(2, 1, 6)),
        sample("f32[3,1]", ints(3, 4)),
        sample("f32[]", ints(2)),
        sample("f32[2,3]", ints(1)),
        sample("i64[1]", ints(0)),
        sample("f32[2,3]", ints()),
        sample("bool[1,3]", ints(2, 3)),
    )

    def infer(self, data: TensorType, shape: TensorType) -> TensorType:
        wanted = known_dims(shape)
        if data.shape is None:
            return TensorType(data.dtype, None)
        if wanted is None:
            length = length_of(shape)
            return TensorType(
                data.dtype, fresh_dims(self, None if length is None else max(length, data.rank))
            )
        if any(isinstance(dim, int) and dim < 0 for dim in wanted):
            raise ShapeError(f"Expand to the negative shape {wanted}")
        made = broadcast_shapes(data.dims, wanted)
        content = known_dims(data)
        if (
            content is not None
            and len(content) == 1
            and len(made) == 1
            and isinstance(made[0], int)
        ):
            return with_content(data.dtype.numpy, made, content * made[0])
        return TensorType(data.dtype, made)

    def reference(self, data: Array, shape: Array) -> Array:
        wanted = tuple(int(n) for n in shape.reshape(-1))
        return np.broadcast_to(data, np.broadcast_shapes(data.shape, wanted)).copy()

    def lower(self, data: te.Tensor, shape: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        return te.compute(data.dtype, types[0].dims, lambda *i: load_broadcast(data, i))


@operator("Tile")
class Tile(Operator):
    """The data repeated along each axis. Source: ONNX Tile-13."""

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", ints(2, 2)),
        sample("f32[2,3]", ints(1, 3)),
        sample("f32[3]", ints(0)),
        sample("i32[2,1,2]", ints(1, 4, 2)),
        sample("f32[]", ints()),
        sample("f32[0,2]", ints(3, 1)),
    )

    def infer(self, data: TensorType, repeats: TensorType) -> TensorType:
        times = known_dims(repeats)
        if data.shape is None or times is None:
            rank = length_of(repeats) if data.shape is None else data.rank
            return TensorType(data.dtype, fresh_dims(self, rank))
        if len(times) != data.rank:
            raise ShapeError(f"Tile needs one repeat per axis of {data}, got {len(times)}")
        if any(isinstance(n, int) and n < 0 for n in times):
            raise ShapeError(f"Tile with the negative repeats {times}")
        return TensorType(data.dtype, tuple(dim * n for dim, n in zip(data.dims, times)))

    def reference(self, data: Array, repeats: Array) -> Array:
        return np.tile(data, tuple(int(n) for n in repeats.reshape(-1)))

    def lower(self, data: te.Tensor, repeats: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        shape = types[0].dims

        def element(*i: te.Expr) -> te.Expr:
            return data.at(
                *(
                    0 if length == 1 else index if length == made else index % length
                    for index, length, made in zip(i, data.shape, shape)
                )
            )

        return te.compute(data.dtype, shape, element)


@operator("Concat")
class Concat(Operator):
    """The inputs one after the other along an axis. Source: ONNX Concat-13."""

    axis: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", "f32[4,3]", axis=0),
        sample("f32[2,3]", "f32[2,1]", axis=-1),
        sample("f32[2,3]", "f32[2,0]", "f32[2,5]", axis=1),
        sample("f32[3]", axis=0),
        sample("i64[2]", "i64[1]", "i64[3]", "i64[1]", axis=0),
        sample("f16[1,2,3]", "f16[1,2,3]", axis=1),
        sample("bool[0]", "bool[2]", axis=0),
        sample("f32[0,2]", "f32[0,3]", axis=1),
    )

    def infer(self, *xs: TensorType) -> TensorType:
        if not xs:
            raise ShapeError("Concat needs at least one input")
        check_same_dtype(self, *xs)
        contents = [known_dims(x) for x in xs]
        made = TensorType(xs[0].dtype, self._shape(xs))
        if all(c is not None for c in contents) and made.shape is not None and made.rank == 1:
            dims = tuple(dim for content in contents if content is not None for dim in content)
            return with_content(made.dtype.numpy, made.dims, dims)
        return made

    def _shape(self, xs: tuple[TensorType, ...]) -> Shape | None:
        ranked = [x.dims for x in xs if x.shape is not None]
        if not ranked:
            return None
        if len({len(dims) for dims in ranked}) > 1:
            raise ShapeError(f"Concat needs inputs of one rank, got {', '.join(map(str, xs))}")
        axis = normalize_axis(self.axis, len(ranked[0]))
        result: list[Dim] = list(ranked[0])
        for dims in ranked[1:]:
            for k, dim in enumerate(dims):
                if k == axis or dim == result[k]:
                    continue
                assume(dim, result[k])
                if isinstance(dim, Sym):
                    continue
                if not isinstance(result[k], Sym):
                    raise ShapeError(
                        f"Concat along axis {axis} needs equal other extents: "
                        f"{', '.join(map(str, xs))}"
                    )
                result[k] = dim
        total: Dim = sum((dims[axis] for dims in ranked[1:]), ranked[0][axis])
        result[axis] = total if len(ranked) == len(xs) else fresh_dim(self)
        return tuple(result)

    def reference(self, *xs: Array) -> Array:
        return np.concatenate(xs, self.axis)

    def lower(self, *xs: te.Tensor, types: Any, **_: Any) -> te.Tensor:
        axis = normalize_axis(self.axis, xs[0].rank)
        parts = [x for x in xs if x.shape[axis] != 0] or list(xs[:1])
        starts: list[Dim] = [0]
        for x in parts:
            starts.append(starts[-1] + x.shape[axis])

        def load(x: te.Tensor, i: tuple[te.Expr, ...], start: Dim) -> te.Expr:
            return x.at(*i[:axis], i[axis] - start, *i[axis + 1 :])

        def element(*i: te.Expr) -> te.Expr:
            value = load(parts[-1], i, starts[len(parts) - 1])
            for position in reversed(range(len(parts) - 1)):
                inside = i[axis] < starts[position + 1]
                value = te.where(inside, load(parts[position], i, starts[position]), value)
            return value

        return te.compute(xs[0].dtype, types[0].dims, element)


@operator("Split")
class Split(Operator):
    """The data cut along an axis: into the lengths `split`, or `num_outputs` near equal parts.

    With num_outputs the last part is the smaller one. Both may be given; then num_outputs only
    says how many results there are.
    Source: ONNX Split-18.
    """

    axis: int = 0
    num_outputs: int = 0

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[6,2]", axis=0, num_outputs=3),
        sample("f32[7]", num_outputs=3),
        sample("f32[2,6]", ints(2, 4), axis=1),
        sample("f32[2,6]", ints(1, 0, 5), axis=-1),
        sample("i64[4,2]", axis=0, num_outputs=2),
        sample("f32[0,4]", axis=1, num_outputs=2),
        sample("f16[3,5]", ints(5), axis=1),
    )

    def lengths(self, length: Dim, split: Shape | None, known: bool) -> list[Dim]:
        """The extents of the parts. `known` says whether the cut is by `num_outputs`."""
        if split is not None:
            numbers = [n for n in split if isinstance(n, int)]
            if any(n < 0 for n in numbers):
                raise ShapeError(f"Split into the negative lengths {split}")
            if isinstance(length, int) and len(numbers) == len(split) and sum(numbers) != length:
                raise ShapeError(f"split {split} does not sum to the extent {length}")
            assume(sum(split), length)
            return list(split)
        if self.num_outputs < 1:
            raise ShapeError("Split needs a constant `split` or `num_outputs`")
        if not known:
            return [fresh_dim(self, k) for k in range(self.num_outputs)]
        if isinstance(length, Sym):
            part = (
                length
                if self.num_outputs == 1
                else ((length + (self.num_outputs - 1)) // self.num_outputs)
            )
            exact = length // self.num_outputs
            part = part if "//" in str(exact) else exact
            return [part] * (self.num_outputs - 1) + [length - part * (self.num_outputs - 1)]
        part = math.ceil(length / self.num_outputs)
        cuts = [min(part * k, length) for k in range(self.num_outputs + 1)]
        return [b - a for a, b in itertools.pairwise(cuts)]

    def infer(self, data: TensorType, split: TensorType | None = None) -> tuple[TensorType, ...]:
        if data.shape is None:
            count = self.num_outputs or len(known_ints(split) or ())
            return (TensorType(data.dtype, None),) * count
        axis = normalize_axis(self.axis, data.rank)
        lengths = self.lengths(data.dims[axis], known_dims(split), split is None)
        return tuple(
            TensorType(data.dtype, (*data.dims[:axis], length, *data.dims[axis + 1 :]))
            for length in lengths
        )

    def reference(self, data: Array, split: Array | None = None) -> tuple[Array, ...]:
        listed = None if split is None else tuple(int(n) for n in split.reshape(-1))
        lengths = [
            n for n in self.lengths(data.shape[self.axis], listed, True) if isinstance(n, int)
        ]
        cuts = np.cumsum(lengths)[:-1].tolist()
        return tuple(part.copy() for part in np.split(data, cuts, self.axis))

    def lower(
        self, data: te.Tensor, split: te.Tensor | None = None, *, types: Any, **options: Any
    ) -> tuple[te.Tensor, ...]:
        axis = normalize_axis(self.axis, data.rank)
        if split is not None:
            constant_ints(known_of(options, 2), 1, self)
        start: Dim = 0
        parts = []
        for type in types:
            parts.append(self._part(data, axis, start, type.dims))
            start = start + type.dims[axis]
        return tuple(parts)

    def _part(self, data: te.Tensor, axis: int, start: Dim, shape: Shape) -> te.Tensor:
        return te.compute(
            data.dtype,
            shape,
            lambda *i: data.at(*i[:axis], i[axis] + start, *i[axis + 1 :]),
        )
