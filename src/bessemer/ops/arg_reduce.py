"""ArgMax, ArgMin and the running folds CumSum and CumProd."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Sym
from bessemer.ir.operator import FusionClass, Operator, Sample, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_kind, constant_ints, normalize_axis
from bessemer.ops.elementwise import NUMERIC, is_small_float, known_of, widened
from bessemer.ops.reduce import reduce_compute, reduced_shape


@dataclass(frozen=True)
class ArgReduction(Operator):
    """Base of ArgMax and ArgMin: the position (i64) of the first, or last, extreme on an axis.

    Shapes: data [*] -> reduced [axis removed, or 1 with keepdims].
    """

    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0

    fusion = FusionClass.REDUCTION
    samples: ClassVar[tuple[Sample, ...]] = (
        sample("f32[3,4]"),
        sample("f32[2,3,4]", axis=-1, keepdims=0),
        sample("f32[7]", axis=0),
        sample("i32[5,6]", axis=1),
        sample("i32[5,6]", axis=1, select_last_index=1, keepdims=0),
        sample("f16[3,5]", axis=1),
        sample("u8[9]", low=0, high=3, select_last_index=1),
        sample("f32[0,3]", axis=1),
        sample("i64[4,2]", axis=-2),
        sample("bf16[6]"),
        sample(np.array([1, np.nan, 3, np.nan], np.float32)),
    )

    def infer(self, data: TensorType) -> TensorType:
        check_kind(self, data, *NUMERIC)
        if data.shape is None:
            return TensorType(i64, None)
        axis = normalize_axis(self.axis, data.rank)
        if data.dims[axis] == 0:
            raise ShapeError(f"{self.op_name} over an axis of extent 0 of {data}")
        return TensorType(i64, reduced_shape(data.dims, (axis,), self.keepdims))

    def positions(self, x: Array, axis: int) -> Any:
        """The positions of the first extremes."""
        raise NotImplementedError

    def reference(self, data: Array) -> Array:
        if self.select_last_index:
            result = data.shape[self.axis] - 1 - self.positions(np.flip(data, self.axis), self.axis)
        else:
            result = self.positions(data, self.axis)
        array = np.asarray(result, np.int64)
        return np.expand_dims(array, self.axis) if self.keepdims else array

    def expression(self, x: te.Expr, *axes: te.IterVar) -> te.Expr:
        """The reduction of expressions."""
        raise NotImplementedError

    def lower(self, data: te.Tensor, **_: Any) -> te.Tensor:
        axis = normalize_axis(self.axis, data.rank)
        return reduce_compute(i64, data.shape, (axis,), self.keepdims, self.expression, data.at)


@operator("ArgMax")
class ArgMax(ArgReduction):
    """The position of the largest; NaN counts as largest. Source: ONNX ArgMax-13."""

    def positions(self, x: Array, axis: int) -> Any:
        return np.argmax(x, axis)

    def expression(self, x: te.Expr, *axes: te.IterVar) -> te.Expr:
        return te.argmax(x, *axes, last=bool(self.select_last_index))


@operator("ArgMin")
class ArgMin(ArgReduction):
    """The position of the smallest; NaN counts as smallest. Source: ONNX ArgMin-13."""

    def positions(self, x: Array, axis: int) -> Any:
        return np.argmin(x, axis)

    def expression(self, x: te.Expr, *axes: te.IterVar) -> te.Expr:
        return te.argmin(x, *axes, last=bool(self.select_last_index))


_BLOCK = 128
"""How many elements of an open axis are folded by doubling."""


def _axis(axis: int) -> Array:
    return np.array(axis, np.int64)


@dataclass(frozen=True)
class Cumulative(Operator):
    """Base of CumSum and CumProd: the fold of all elements up to each one along an axis.

    Shapes: x [*], axis [] -> y [*]. `exclusive` leaves the element itself out, `reverse` starts at
    the end. Lowered by recursive doubling (Hillis and Steele 1986): log2(n) computes. Along an
    open extent, blocks of a fixed length are doubled, and what lies before each block is folded.
    """

    exclusive: int = 0
    reverse: int = 0

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.REDUCTION
    neutral: ClassVar[int] = 0
    samples: ClassVar[tuple[Sample, ...]] = (
        *(sample("f32[2,5]", _axis(1), exclusive=e, reverse=r) for e in (0, 1) for r in (0, 1)),
        sample("f32[7]", _axis(-1)),
        sample("f64[3,2,2]", _axis(0)),
        sample("i32[9]", _axis(0)),
        sample("i64[1]", _axis(0), exclusive=1),
        sample("f32[0,2]", _axis(0)),
        sample("f16[6]", _axis(0)),
        sample("f32[3]", np.array([0], np.int32)),
        sample("bf16[6]", _axis(0)),
    )

    def running(self, x: Array, axis: int) -> Any:
        """The inclusive fold of arrays."""
        raise NotImplementedError

    def combine(self, a: te.Expr, b: te.Expr) -> te.Expr:
        """The fold of two elements."""
        raise NotImplementedError

    def fold(self, x: te.Expr, axis: te.IterVar) -> te.Expr:
        """The fold of all elements."""
        raise NotImplementedError

    def infer(self, x: TensorType, axis: TensorType) -> TensorType:
        check_kind(self, x, *NUMERIC)
        if x.shape is not None and axis.value is not None:
            normalize_axis(int(axis.value.reshape(-1)[0]), x.rank)
        return TensorType(x.dtype, x.shape)

    def reference(self, x: Array, axis: Array) -> Array:
        along = normalize_axis(int(axis.reshape(-1)[0]), x.ndim)
        source = np.flip(widened(x), along) if self.reverse else widened(x)
        if self.exclusive and source.shape[along]:
            shifted = np.roll(source, 1, along)
            shifted[(slice(None),) * along + (0,)] = self.neutral
            source = shifted
        with np.errstate(all="ignore"):
            result = self.running(source, along)
            return np.asarray(np.flip(result, along) if self.reverse else result).astype(x.dtype)

    def lower(self, x: te.Tensor, axis: te.Tensor, **options: Any) -> te.Tensor:
        along = normalize_axis(constant_ints(known_of(options, 2), 1, self)[0], x.rank)
        extent = x.shape[along]
        block, reach = (_BLOCK, _BLOCK) if isinstance(extent, Sym) else (None, extent)
        wide = f32 if is_small_float(x.dtype) else x.dtype
        direction = 1 if self.reverse else -1

        def moved(source: te.Tensor, i: tuple[te.Expr, ...], distance: int) -> te.Expr:
            index = i[along] + direction * distance
            place = (*i[:along], index, *i[along + 1 :])
            return te.cast(source.at(*place, fill=self.neutral), wide)

        stage = te.compute(wide, x.shape, lambda *i: moved(x, i, 1 if self.exclusive else 0))
        for step in range(math.ceil(math.log2(max(reach, 1)))):
            stage = self._doubled(stage, moved, 2**step, along, block)
        if block is not None:
            stage = self._carried(stage, along, block)
        return te.compute(x.dtype, x.shape, lambda *i: te.cast(stage.at(*i), x.dtype))

    def _doubled(
        self, stage: te.Tensor, moved: Any, distance: int, along: int, block: int | None
    ) -> te.Tensor:
        def element(*i: te.Expr) -> te.Expr:
            other = moved(stage, i, distance)
            if block is not None:
                place = i[along] % block
                inside = place < block - distance if self.reverse else place >= distance
                other = te.where(inside, other, te.const(self.neutral, stage.dtype))
            return self.combine(other, stage.at(*i))

        return te.compute(stage.dtype, stage.shape, element)

    def _carried(self, stage: te.Tensor, along: int, block: int) -> te.Tensor:
        """The folds within blocks joined with the folds of all blocks before."""
        extent = stage.shape[along]
        count = (extent + (block - 1)) // block
        number = te.reduce_axis(count)
        neutral = te.const(self.neutral, stage.dtype)

        def before(*i: te.Expr) -> te.Expr:
            last = number * block
            if not self.reverse:
                last = te.minimum(last + (block - 1), extent - 1)
            whole = stage.at(*i[:along], last, *i[along + 1 :])
            earlier = number > i[along] if self.reverse else number < i[along]
            return self.fold(te.where(earlier, whole, neutral), number)

        shape = (*stage.shape[:along], count, *stage.shape[along + 1 :])
        carry = te.compute(stage.dtype, shape, before)

        def element(*i: te.Expr) -> te.Expr:
            place = (*i[:along], i[along] // block, *i[along + 1 :])
            return self.combine(carry.at(*place), stage.at(*i))

        return te.compute(stage.dtype, stage.shape, element)


@operator("CumSum")
class CumSum(Cumulative):
    """The running sum. Source: ONNX CumSum-14."""

    def running(self, x: Array, axis: int) -> Any:
        return np.cumsum(x, axis, dtype=x.dtype)

    def combine(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a + b

    def fold(self, x: te.Expr, axis: te.IterVar) -> te.Expr:
        return te.sum_(x, axis)


@operator("CumProd")
class CumProd(Cumulative):
    """The running product. Source: ONNX CumProd-26."""

    neutral = 1

    def running(self, x: Array, axis: int) -> Any:
        return np.cumprod(x, axis, dtype=x.dtype)

    def combine(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a * b

    def fold(self, x: te.Expr, axis: te.IterVar) -> te.Expr:
        return te.prod(x, axis)
