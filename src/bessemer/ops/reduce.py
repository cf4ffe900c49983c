"""Reductions over axes: sum, mean, max, min, product, norms and logarithms."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32, f64
from bessemer.core.shapes import Dim, product
from bessemer.ir.operator import FusionClass, Operator, Sample, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.arithmetic import truncating_quotient
from bessemer.ops.dims import (
    Array,
    check_kind,
    constant_ints,
    fresh_dim,
    known_dims,
    known_ints,
    normalize_axes,
    with_content,
)
from bessemer.ops.elementwise import NUMERIC, is_small_float, known_of, widened


def _axes(*axes: int) -> Array:
    return np.array(axes, np.int64)


def reduce_samples(dtypes: str, low: float = -2.0, high: float = 2.0) -> tuple[Sample, ...]:
    """Samples of a reduction: axes in front, behind, both, all; ranks and dtypes."""
    first, *rest = dtypes.split()
    some: tuple[Sample, ...] = (
        sample(first + "[2,3,4]", low=low, high=high),
        sample(first + "[2,3,4]", _axes(1), low=low, high=high),
        sample(first + "[2,3,4]", _axes(-1, 0), keepdims=0, low=low, high=high),
        sample(first + "[2,3]", _axes(), low=low, high=high, keepdims=0),
        sample(first + "[2,3]", _axes(), noop_with_empty_axes=1, low=low, high=high),
        sample(first + "[]", low=low, high=high),
        sample(first + "[7]", keepdims=0),
        sample(first + "[3,0,2]", _axes(0)),
        sample(first + "[1,5]", _axes(0), keepdims=0),
    )
    return some + tuple(sample(d + "[3,5]", _axes(1), low=low, high=high) for d in rest)


_EMPTY = (sample("f32[2,0]", _axes(1)), sample("i32[0]", keepdims=0))


def reduced_shape(shape: Sequence[Dim], axes: Sequence[int], keepdims: int) -> tuple[Dim, ...]:
    """The shape after reduction over those axes."""
    if keepdims:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def reduce_compute(
    dtype: DType,
    shape: Sequence[Dim],
    axes: Sequence[int],
    keepdims: int,
    reduction: Callable[..., te.Expr],
    element: Callable[..., te.Expr],
) -> te.Tensor:
    """The reduction of `element(*full index, *result index)` over some axes of a shape."""
    over = {axis: te.reduce_axis(shape[axis]) for axis in axes}

    def body(*result: te.Expr) -> te.Expr:
        kept = iter(
            [i for i, axis in zip(result, range(len(shape))) if axis not in axes]
            if keepdims
            else result
        )
        full = [over[axis] if axis in over else next(kept) for axis in range(len(shape))]
        value = element(*full)
        return reduction(value, *over.values()) if over else value

    return te.compute(dtype, reduced_shape(shape, axes, keepdims), body)


@dataclass(frozen=True)
class Reduction(Operator):
    """Base of reductions: a value made of each element, a fold, a value made of the result.

    Shapes: data [*], axes [k] -> reduced [axes removed, or 1 with keepdims]. Without axes all are
    reduced, or none with noop_with_empty_axes. Small floats accumulate in f32.
    """

    keepdims: int = 1
    noop_with_empty_axes: int = 0

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.REDUCTION
    fold: ClassVar[Callable[..., te.Expr]] = te.sum_
    """The reduction of tensor expressions."""
    in_floats: ClassVar[bool] = False
    """Whether integers compute in f64."""
    kinds: ClassVar[tuple[str, ...]] = NUMERIC
    samples: ClassVar[tuple[Sample, ...]] = (
        *reduce_samples("f32 f16 bf16 f64 i32 i64"),
        *_EMPTY,
    )

    def element(self, x: Any) -> Any:
        """What is folded, of each element (array)."""
        return x

    def array(self, x: Array, axes: tuple[int, ...]) -> Any:
        """The fold of arrays, with keepdims."""
        return np.add.reduce(x, axis=axes, keepdims=True, dtype=x.dtype)

    def finish(self, x: Any, count: int) -> Any:
        """What is made of the folded array of `count` elements."""
        return x

    def element_scalar(self, x: te.Expr) -> te.Expr:
        """What is folded, of each element (expression)."""
        return x

    def finish_scalar(self, x: te.Expr, count: Dim) -> te.Expr:
        """What is made of the folded expression."""
        return x

    def reduced_axes(self, axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
        """The axes that are folded, in order."""
        if axes is None or len(axes) == 0:
            return () if self.noop_with_empty_axes else tuple(range(rank))
        return tuple(sorted(normalize_axes(axes, rank)))

    def infer(self, data: TensorType, axes: TensorType | None = None) -> TensorType:
        check_kind(self, data, *self.kinds)
        known = known_ints(axes)
        if data.shape is None:
            return TensorType(data.dtype, None)
        if axes is not None and known is None:
            if not self.keepdims:
                return TensorType(data.dtype, None)
            dims = tuple(fresh_dim(self, axis) for axis in range(data.rank))
            return TensorType(data.dtype, dims)
        folded = self.reduced_axes(known, data.rank)
        return TensorType(data.dtype, reduced_shape(data.dims, folded, self.keepdims))

    def reference(self, data: Array, axes: Array | None = None) -> Array:
        listed = None if axes is None else [int(axis) for axis in axes.reshape(-1)]
        folded = self.reduced_axes(listed, data.ndim)
        exact = not self.in_floats or data.dtype.kind not in "iu"
        wide = widened(data) if exact else data.astype(np.float64)
        count = math.prod(data.shape[axis] for axis in folded)
        with np.errstate(all="ignore"):
            result = np.asarray(self.finish(self.array(self.element(wide), folded), count))
            result = result.astype(data.dtype)
        return result if self.keepdims else result.squeeze(folded)

    def wide_dtype(self, dtype: DType) -> DType:
        """The dtype that the fold computes in."""
        if dtype.is_integer and self.in_floats:
            return f64
        return f32 if is_small_float(dtype) else dtype

    def lower(self, data: te.Tensor, axes: te.Tensor | None = None, **options: Any) -> te.Tensor:
        listed = None if axes is None else constant_ints(known_of(options, 2), 1, self)
        folded = self.reduced_axes(listed, data.rank)
        wide = self.wide_dtype(data.dtype)
        total = reduce_compute(
            wide,
            data.shape,
            folded,
            self.keepdims,
            type(self).fold,
            lambda *i: self.element_scalar(te.cast(data.at(*i), wide)),
        )
        return self._finished(total, element_count(data, folded), data.dtype)

    def _finished(self, total: te.Tensor, count: Dim, dtype: DType) -> te.Tensor:
        plain = type(self).finish_scalar is Reduction.finish_scalar
        if plain and total.dtype == dtype:
            return total
        return te.compute(
            dtype,
            total.shape,
            lambda *i: te.cast(self.finish_scalar(total.at(*i), count), dtype),
        )


def element_count(data: te.Tensor, axes: Sequence[int]) -> Dim:
    """How many elements are folded into one."""
    return product([data.shape[axis] for axis in axes])


@operator("ReduceSum")
class ReduceSum(Reduction):
    """The sum. Source: ONNX ReduceSum-13."""


@operator("ReduceMean")
class ReduceMean(Reduction):
    """The mean; of integers rounded toward zero. Source: ONNX ReduceMean-18."""

    samples = (*reduce_samples("f32 f16 bf16 f64 i32 i64"), sample("f32[2,0]", _axes(1)))

    def finish(self, x: Array, count: int) -> Any:
        if x.dtype.kind in "iu":
            return truncating_quotient(x, np.asarray(count, x.dtype))
        return x / np.asarray(count, x.dtype)

    def finish_scalar(self, x: te.Expr, count: Dim) -> te.Expr:
        return x / te.lift(count, x.dtype)


@operator("ReduceProd")
class ReduceProd(Reduction):
    """The product. Source: ONNX ReduceProd-18."""

    fold = te.prod

    def infer(self, data: TensorType, axes: TensorType | None = None) -> TensorType:
        made = super().infer(data, axes)
        content = known_dims(data) if data.dtype.is_integer and made.shape is not None else None
        # The element count that exporters write as the product of a shape.
        if content is None or data.rank != 1 or made.count != 1 or self.noop_with_empty_axes:
            return made
        return with_content(data.dtype.numpy, made.dims, (product(content),))

    def array(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.multiply.reduce(x, axis=axes, keepdims=True, dtype=x.dtype)


class _Extreme(Reduction):
    """Base of ReduceMax and ReduceMin: no widening, NaN passes on, bool allowed."""

    kinds = (*NUMERIC, "bool")
    samples = (
        *reduce_samples("f32 f16 bf16 f64 i32 i8 u8 i64 bool"),
        *_EMPTY,
        sample("bool[0]"),
        sample(np.array([1, np.nan, 3], np.float32)),
        sample("u8[2,0]", _axes(1), keepdims=0),
    )

    def wide_dtype(self, dtype: DType) -> DType:
        return dtype


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


@operator("ReduceMax")
class ReduceMax(_Extreme):
    """The largest; NaN if one is. Source: ONNX ReduceMax-20."""

    fold = te.max_

    def array(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.maximum.reduce(x, axis=axes, keepdims=True, initial=_lowest(x.dtype))


@operator("ReduceMin")
class ReduceMin(_Extreme):
    """The smallest; NaN if one is. Source: ONNX ReduceMin-20."""

    fold = te.min_

    def array(self, x: Array, axes: tuple[int, ...]) -> Any:
        return np.minimum.reduce(x, axis=axes, keepdims=True, initial=_highest(x.dtype))


@operator("ReduceL1")
class ReduceL1(Reduction):
    """The sum of absolute values. Source: ONNX ReduceL1-18."""

    def element(self, x: Array) -> Any:
        return np.abs(x)

    def element_scalar(self, x: te.Expr) -> te.Expr:
        return x if x.dtype.kind == "uint" else te.abs_(x)


@operator("ReduceSumSquare")
class ReduceSumSquare(Reduction):
    """The sum of squares. Source: ONNX ReduceSumSquare-18."""

    def element(self, x: Array) -> Any:
        return x * x

    def element_scalar(self, x: te.Expr) -> te.Expr:
        return x * x


@operator("ReduceL2")
class ReduceL2(Reduction):
    """The square root of the sum of squares. Source: ONNX ReduceL2-18."""

    in_floats = True

    def element(self, x: Array) -> Any:
        return x * x

    def finish(self, x: Array, count: int) -> Any:
        return np.sqrt(x)

    def element_scalar(self, x: te.Expr) -> te.Expr:
        return x * x

    def finish_scalar(self, x: te.Expr, count: Dim) -> te.Expr:
        return te.sqrt(x)


@operator("ReduceLogSum")
class ReduceLogSum(Reduction):
    """The logarithm of the sum. Source: ONNX ReduceLogSum-28."""

    in_floats = True
    samples = (
        *reduce_samples("f32 f16 bf16 f64 i32", 0.5, 4),
        sample("f32[2,0]", _axes(1)),
    )

    def finish(self, x: Array, count: int) -> Any:
        return np.log(x)

    def finish_scalar(self, x: te.Expr, count: Dim) -> te.Expr:
        return te.log(x)


@operator("ReduceLogSumExp")
class ReduceLogSumExp(Reduction):
    """The logarithm of the sum of exponentials, without overflow. Source: ONNX ReduceLogSumExp-28.

    The largest element is taken out before exp; where it is infinite nothing is taken out.
    """

    in_floats = True
    samples = (
        *reduce_samples("f32 f16 bf16 f64 i32"),
        sample("f32[2,0]", _axes(1)),
        sample("f32[3,4]", _axes(1), low=-200, high=200),
        sample(np.array([[-np.inf, 0], [-np.inf, -np.inf], [np.inf, 1]], np.float32), _axes(1)),
    )

    def array(self, x: Array, axes: tuple[int, ...]) -> Any:
        top = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-np.inf).astype(x.dtype)
        top = np.where(np.isinf(top), np.zeros_like(top), top)
        return np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top

    def lower(self, data: te.Tensor, axes: te.Tensor | None = None, **options: Any) -> te.Tensor:
        listed = None if axes is None else constant_ints(known_of(options, 2), 1, self)
        folded = self.reduced_axes(listed, data.rank)
        wide = self.wide_dtype(data.dtype)
        highest = reduce_compute(
            wide, data.shape, folded, 1, te.max_, lambda *i: te.cast(data.at(*i), wide)
        )
        top = te.compute(
            wide,
            highest.shape,
            lambda *i: te.where(te.isinf(highest.at(*i)), 0.0, highest.at(*i)),
        )

        def at_top(i: Sequence[te.Expr]) -> te.Expr:
            return top.at(*(0 if axis in folded else index for axis, index in enumerate(i)))

        total = reduce_compute(
            wide,
            data.shape,
            folded,
            1,
            te.sum_,
            lambda *i: te.exp(te.cast(data.at(*i), wide) - at_top(i)),
        )

        def finished(*i: te.Expr) -> te.Expr:
            kept = iter(i)
            full = (
                i
                if self.keepdims
                else tuple(
                    te.index(0) if axis in folded else next(kept) for axis in range(data.rank)
                )
            )
            return te.cast(te.log(total.at(*full)) + top.at(*full), data.dtype)

        shape = reduced_shape(data.shape, folded, self.keepdims)
        return te.compute(data.dtype, shape, finished)
