"""Slice and Pad."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.bounds import at_most
from bessemer.core.dtypes import boolean
from bessemer.core.errors import ShapeError
from bessemer.core.extents import larger, placed, smaller
from bessemer.core.shapes import Dim, Shape, Sym, function
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    check_choice,
    check_same_dtype,
    check_single,
    constant_ints,
    content_of,
    extent,
    fresh_dim,
    known_dims,
    known_ints,
    length_of,
    normalize_axes,
    with_content,
)
from bessemer.ops.elementwise import known_of, scalar_operand
from bessemer.ops.movement import fresh_dims
from bessemer.ops.reshape import ints

_FAR = 2**31 - 1
"""Ends at or beyond this mean the end of the axis, whatever its extent."""


@dataclass(frozen=True)
class Cut:
    """The part of one axis that a slice takes: the first index, the step, and how many."""

    start: Dim
    step: int
    count: Dim


def cut_of(length: int, start: int, end: int, step: int) -> Cut:
    """The cut of an axis of known length: bounds count from the end if negative, then are clamped.

    Going down, a start before the first element is the first one (in Python it is none).
    """
    if length == 0:
        return Cut(0, step, 0)
    start, end = (bound + length if bound < 0 else bound for bound in (start, end))
    first = min(max(start, 0), length if step > 0 else length - 1)
    last = min(max(end, 0 if step > 0 else -1), length)
    return Cut(first, step, len(range(first, last, step)))


def symbolic_cut(length: Dim, start: Dim, end: Dim, step: int) -> Cut | None:
    """The cut of an axis where something is symbolic; None if it cannot be said."""
    far = isinstance(end, int) and end >= _FAR
    if step == -1 and start in (-1, _FAR) and isinstance(end, int) and end <= -_FAR:
        return Cut(length - 1, -1, length)
    if step < 1:
        return None
    if isinstance(start, int) and start >= _FAR:
        return Cut(0, step, 0)
    last = length if far else placed(end, length)
    # A start beyond the axis needs no clamping: then the end is not behind it.
    first = start if at_most(0, start) else placed(start, length)
    unclamped = length + start if at_most(start, -1) else start
    if first == function("place", start, length):
        unclamped = first
    count = (length + end if at_most(end, -1) else last) - unclamped
    if isinstance(count, int):  # so many, unless the axis is too short
        count = smaller(last, count) if count > 0 else 0
    else:
        count = larger(last - first, 0)
    return Cut(first, step, (count + (step - 1)) // step)


@operator("Slice")
class Slice(Operator):
    """Every step-th element from start to before end on each named axis; negative steps go down.

    Shapes: data [*], starts, ends, axes, steps [k] -> output [*].
    Source: ONNX Slice-13.
    """

    form_inputs: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[5,6]", ints(1, 2), ints(4, 5)),
        sample("f32[5,6]", ints(1), ints(-1), ints(1)),
        sample("f32[5,6]", ints(0), ints(2**63 - 1), ints(-1), ints(2)),
        sample("f32[7]", ints(-1), ints(-(2**63)), ints(0), ints(-1)),
        sample("f32[7]", ints(5), ints(1), ints(0), ints(-2)),
        sample("f32[7]", ints(4), ints(2)),
        sample("f32[3,7]", ints(-3), ints(100), ints(1)),
        sample("f32[0,3]", ints(0), ints(2)),
        sample("i64[4]", np.array([1], np.int32), np.array([3], np.int32)),
        sample("bf16[2,3,8]", ints(1, 0), ints(8, 1), ints(2, 0), ints(3, 1)),
        sample("f32[4]", ints(3), ints(-6), None, ints(-1)),
        sample("f32[2,3]", ints(-3, 5), ints(-8, 1), ints(0, 1), ints(-1, -1)),
        sample("f32[]", ints(), ints()),
    )

    def cuts(
        self,
        dims: Shape,
        starts: Shape,
        ends: Shape,
        axes: Sequence[int] | None,
        steps: Sequence[int] | None,
    ) -> dict[int, Cut | None]:
        """The cut of each sliced axis. Raises: ShapeError on lists of unequal length."""
        named = normalize_axes(range(len(starts)) if axes is None else axes, len(dims))
        step_list = (1,) * len(starts) if steps is None else steps
        if not len(starts) == len(ends) == len(named) == len(step_list):
            raise ShapeError("Slice needs starts, ends, axes and steps of one length")
        if 0 in step_list:
            raise ShapeError("Slice needs steps other than 0")
        result: dict[int, Cut | None] = {}
        for axis, start, end, step in zip(named, starts, ends, step_list):
            length = dims[axis]
            if isinstance(length, int) and isinstance(start, int) and isinstance(end, int):
                result[axis] = cut_of(length, start, end, step)
            else:
                result[axis] = symbolic_cut(length, start, end, step)
        return result

    def infer(
        self,
        data: TensorType,
        starts: TensorType,
        ends: TensorType,
        axes: TensorType | None = None,
        steps: TensorType | None = None,
    ) -> TensorType:
        if data.shape is None:
            return TensorType(data.dtype, None)
        named, step_list = known_ints(axes), known_ints(steps)
        if axes is not None and named is None:
            return TensorType(data.dtype, fresh_dims(self, data.rank))
        first, last = known_dims(starts), known_dims(ends)
        if first is None or last is None or (steps is not None and step_list is None):
            count = length_of(starts)
            anywhere = range(data.rank if count is None else count)
            touched = normalize_axes(anywhere if named is None else named, data.rank)
            return TensorType(
                data.dtype,
                tuple(
                    fresh_dim(self, k) if k in touched else dim for k, dim in enumerate(data.dims)
                ),
            )
        cuts = self.cuts(data.dims, first, last, named, step_list)
        dims = list(data.dims)
        for axis, cut in cuts.items():
            dims[axis] = cut.count if cut is not None else fresh_dim(self, axis)
        content, cut = known_dims(data), cuts.get(0)
        if content is not None and data.rank == 1 and cut is not None and isinstance(dims[0], int):
            start = extent(cut.start)
            part = tuple(content[start + k * cut.step] for k in range(dims[0]))
            return with_content(data.dtype.numpy, tuple(dims), part)
        return TensorType(data.dtype, tuple(dims))

    def reference(
        self,
        data: Array,
        starts: Array,
        ends: Array,
        axes: Array | None = None,
        steps: Array | None = None,
    ) -> Array:
        def listed(array: Array) -> tuple[int, ...]:
            return tuple(int(n) for n in array.reshape(-1))

        cuts = self.cuts(
            data.shape,
            listed(starts),
            listed(ends),
            None if axes is None else listed(axes),
            None if steps is None else listed(steps),
        )
        for axis, cut in cuts.items():
            assert cut is not None
            start, count = extent(cut.start), extent(cut.count)
            data = np.take(data, [start + k * cut.step for k in range(count)], axis)
        return data.copy()

    def lower(
        self,
        data: te.Tensor,
        starts: te.Tensor,
        ends: te.Tensor,
        axes: te.Tensor | None = None,
        steps: te.Tensor | None = None,
        *,
        types: Any,
        **options: Any,
    ) -> te.Tensor:
        known = known_of(options, 5)
        first, last = (content_of(options, k, self) for k in (1, 2))
        cuts = self.cuts(
            data.shape,
            first,
            last,
            None if axes is None else constant_ints(known, 3, self),
            None if steps is None else constant_ints(known, 4, self),
        )

        def place(axis: int, index: te.Expr) -> te.Expr:
            cut = cuts.get(axis)
            if axis in cuts and cut is None:
                raise Unlowerable(f"a slice of {data.shape[axis]} whose ends a run decides")
            return index if cut is None else index * cut.step + cut.start

        return te.compute(
            data.dtype,
            types[0].dims,
            lambda *i: data.at(*(place(axis, index) for axis, index in enumerate(i))),
        )


def _reflected(index: te.Expr, length: int) -> te.Expr:
    """The index inside an axis, mirrored at its ends without repeating them."""
    if length == 1:
        return te.index(0)
    period = 2 * (length - 1)
    inside = index % period
    return te.minimum(inside, period - inside)


@operator("Pad")
class Pad(Operator):
    """The data with a border: constant, edge, reflect or wrap; negative pads cut (before padding).

    Shapes: data [*], pads [2 k] (all begins, then all ends), value [], axes [k] -> output [*].
    Source: ONNX Pad-25.
    """

    mode: str = "constant"

    form_inputs: ClassVar[tuple[int, ...]] = (1, 3)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", ints(1, 0, 2, 1)),
        sample("f32[3]", ints(2, 1), np.array(5, np.float32)),
        sample("f32[2,3]", ints(0, 2, 1, 2), mode="edge"),
        sample("f32[3,4]", ints(2, 3, 1, 2), mode="reflect"),
        sample("f32[3,4]", ints(2, 5, 1, 9), mode="wrap"),
        sample("f32[4,5]", ints(-1, 1, 0, -2)),
        sample("f32[2,3,4]", ints(1, 2), None, ints(-1)),
        sample("f32[0,2]", ints(1, 1, 1, 1)),
        sample("f32[2,2]", ints(0, 1, 1, 0), "f32[]"),
        sample("i64[3]", ints(1, 1)),
        sample("f32[6]", ints(-2, 3), mode="reflect"),
        sample("f32[6]", ints(1, -3), mode="edge"),
        sample("f32[2,3]", ints(0, 0, 0, 0)),
        sample("bool[2]", ints(1, 2), np.array(True)),
        sample("f16[3]", ints(1, 1), np.array(-1, np.float16)),
        sample("f32[3]", ints(7, 8), mode="reflect"),
    )

    def per_axis(
        self, rank: int, pads: Sequence[Dim], axes: Sequence[int] | None
    ) -> list[tuple[Dim, Dim]]:
        """Begin and end of each axis. Raises: ShapeError if the lengths do not fit."""
        named = normalize_axes(range(rank) if axes is None else axes, rank)
        if len(pads) != 2 * len(named):
            raise ShapeError(
                f"Pad needs {2 * len(named)} pads for {len(named)} axes, got {len(pads)}"
            )
        result: list[tuple[Dim, Dim]] = [(0, 0)] * rank
        for position, axis in enumerate(named):
            result[axis] = (pads[position], pads[position + len(named)])
        return result

    def infer(
        self,
        data: TensorType,
        pads: TensorType,
        value: TensorType | None = None,
        axes: TensorType | None = None,
    ) -> TensorType:
        check_choice(self, "mode", self.mode, "constant", *_NUMPY_MODES)
        check_single(self, "value", value)
        check_same_dtype(self, data, value)
        amounts, named = known_dims(pads), known_ints(axes)
        if data.shape is None:
            return TensorType(data.dtype, None)
        if amounts is None or (axes is not None and named is None):
            return TensorType(data.dtype, fresh_dims(self, data.rank))
        borders = self.per_axis(data.rank, amounts, named)
        dims = tuple(dim + begin + end for dim, (begin, end) in zip(data.dims, borders))
        for dim, border in zip(data.dims, borders):
            cut = sum(-pad for pad in border if isinstance(pad, int) and pad < 0)
            if isinstance(dim, int) and cut > dim:
                raise ShapeError(f"pads {amounts} cut more than there is of {data}")
        return TensorType(data.dtype, dims)

    def reference(
        self, data: Array, pads: Array, value: Array | None = None, axes: Array | None = None
    ) -> Array:
        named = None if axes is None else [int(axis) for axis in axes.reshape(-1)]
        borders = [
            (extent(b), extent(e))
            for b, e in self.per_axis(data.ndim, [int(n) for n in pads.reshape(-1)], named)
        ]
        kept = data[
            tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(data.shape, borders))
        ]
        grown = [(max(b, 0), max(e, 0)) for b, e in borders]
        if self.mode == "constant":
            fill = np.zeros((), data.dtype) if value is None else value.reshape(())
            result = np.full([n + b + e for n, (b, e) in zip(kept.shape, grown)], fill, data.dtype)
            result[tuple(slice(b, b + n) for n, (b, _) in zip(kept.shape, grown))] = kept
            return result
        return np.pad(kept, grown, mode=_NUMPY_MODES[self.mode])

    def lower(
        self,
        data: te.Tensor,
        pads: te.Tensor,
        value: te.Tensor | None = None,
        axes: te.Tensor | None = None,
        *,
        types: Any,
        **options: Any,
    ) -> te.Tensor:
        known = (*known_of(options, 4), None, None)
        named = None if axes is None else constant_ints(known, 3, self)
        wanted = self.per_axis(data.rank, content_of(options, 1, self), named)
        shape = types[0].dims
        if self.mode == "constant":
            return self._constant(data, wanted, shape, value, known[2])
        borders = [(extent(b), extent(e)) for b, e in wanted]

        def place(index: te.Expr, length: Dim, begin: int, end: int) -> te.Expr:
            if not begin and not end:
                return index
            cut, kept = max(-begin, 0), length - max(-begin, 0) - max(-end, 0)
            inner = index - max(begin, 0)
            if begin > 0 or end > 0:
                inner = _PLACES[self.mode](inner, kept)
            return inner + cut

        return te.compute(
            data.dtype,
            shape,
            lambda *i: data.at(
                *(place(k, n, b, e) for k, n, (b, e) in zip(i, data.shape, borders))),
        )

    def _constant(
        self,
        data: te.Tensor,
        borders: list[tuple[Dim, Dim]],
        shape: Shape,
        value: te.Tensor | None,
        constant: Array | None,
    ) -> te.Tensor:
        fill = te.const(0, data.dtype) if value is None else scalar_operand(value, constant)

        def element(*i: te.Expr) -> te.Expr:
            place = [index - begin for index, (begin, _) in zip(i, borders)]
            if isinstance(fill, te.Const):
                bounded = any(_may_add(pad) for border in borders for pad in border)
                return data.at(*place, fill=fill.value if bounded else None)
            inside: te.Expr = te.const(True, boolean)
            for index, length, (begin, end) in zip(place, data.shape, borders):
                inside = inside & (index >= 0) if _may_add(begin) else inside
                inside = inside & (index < length) if _may_add(end) else inside
            return te.where(inside, data.at(*place), fill)

        return te.compute(data.dtype, shape, element)


def _may_add(pad: Dim) -> bool:
    """True unless a pad is known to add nothing."""
    return isinstance(pad, Sym) or pad > 0


_NUMPY_MODES: dict[str, Any] = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
_PLACES: dict[str, Any] = {
    "edge": lambda index, length: te.minimum(te.maximum(index, 0), length - 1),
    "reflect": _reflected,
    "wrap": lambda index, length: index % length,
}
