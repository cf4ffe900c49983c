"""Normalisations along axes: Layer-, RMS-, MeanVariance- and LpNormalization."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.dtypes import DTYPES, DType
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import elements, load, narrow, one_over, wide, widen
from bessemer.ops.checks import check_broadcasts_to, check_floats
from bessemer.ops.dims import Array, normalize_axis
from bessemer.ops.matmul import batch_indices
from bessemer.te import Expr, Tensor

Element = Callable[[Sequence[Expr], Sequence[Expr]], Expr]


def stage_type(stash_type: str, dtype: DType) -> DType:
    """Type of the statistics: that of `stash_type`, but never narrower than the input."""
    stash = DTYPES[stash_type or "f32"]
    return stash if stash.bits > dtype.bits else wide(dtype)


def _axes(extents: Sequence[Dim]) -> list[te.IterVar]:
    return [te.reduce_axis(extent) for extent in extents]


def mean_of(dtype: DType, outer: Sequence[Dim], inner: Sequence[Dim], element: Element,
            name: str) -> Tensor:
    """Mean of `element(outer indices, inner indices)` over the inner extents, as sum and scale."""
    axes = _axes(inner)
    total = te.compute(
        dtype, tuple(outer), lambda *o: te.sum_(element(o, axes), *axes), name + "_sum"
    )
    scale = one_over(elements(inner), dtype)
    return te.compute(dtype, tuple(outer), lambda *o: total[o] * scale, name)


def moments(
    dtype: DType, outer: Sequence[Dim], inner: Sequence[Dim], element: Element
) -> tuple[Tensor, Tensor]:
    """Mean and variance over the inner extents, in two passes."""
    mean = mean_of(dtype, outer, inner, element, "mean")

    def squared(o: Sequence[Expr], k: Sequence[Expr]) -> Expr:
        centred = element(o, k) - mean[tuple(o)]
        return centred * centred

    return mean, mean_of(dtype, outer, inner, squared, "variance")


def inverse_root(variance: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(variance + epsilon) as one compute."""
    return te.compute(
        variance.dtype, variance.shape, lambda *o: 1.0 / te.sqrt(variance[o] + epsilon), "inverse"
    )


def check_channels(x: TensorType, **vectors: TensorType | None) -> None:
    """Raises ShapeError if a per-channel vector has not one entry per channel of x."""
    channels: Dim | None = None
    if x.shape is not None:
        channels = x.dims[1] if x.rank > 1 else 1
    for name, vector in vectors.items():
        if vector is None or vector.shape is None:
            continue
        if vector.rank != 1:
            raise ShapeError(f"{name} has rank {vector.rank}; 1 expected")
        extent = vector.dims[0]
        if isinstance(extent, int) and isinstance(channels, int) and extent != channels:
            raise ShapeError(f"{name} has {extent} entries, x has {channels} channels")
        if channels is not None:
            assume(extent, channels)


@operator("LayerNormalization")
class LayerNormalization(Operator):
    """Normalises the axes from `axis` on to mean 0 and variance 1, then scales and shifts.

    Shapes: x [*outer, *inner], scale and bias broadcastable to x -> y like x,
    mean and inverse deviation [*outer, 1 ...].
    Source: ONNX LayerNormalization-17.
    """

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: str = "f32"

    dtype_attributes: ClassVar[tuple[str, ...]] = ("stash_type",)
    fusion = FusionClass.REDUCTION

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType | None = None
    ) -> tuple[TensorType, TensorType, TensorType]:
        check_floats(x, scale, bias)
        dtype = stage_type(self.stash_type, x.dtype)
        if x.shape is None:
            return x, TensorType(dtype, None), TensorType(dtype, None)
        axis = normalize_axis(self.axis, x.rank)
        check_broadcasts_to("scale", scale, x.dims)
        check_broadcasts_to("bias", bias, x.dims)
        statistics = TensorType(dtype, (*x.dims[:axis], *(1,) * (x.rank - axis)))
        return x.without_value(), statistics, statistics

    def reference(
        self, x: Array, scale: Array, bias: Array | None = None
    ) -> tuple[Array, Array, Array]:
        stage = stage_type(self.stash_type, TensorType.of(x, False).dtype).numpy
        axes = tuple(range(normalize_axis(self.axis, x.ndim), x.ndim))
        values = x.astype(stage)
        mean = values.mean(axis=axes, keepdims=True)
        centred = values - mean
        variance = (centred * centred).mean(axis=axes, keepdims=True)
        inverse = (1 / np.sqrt(variance + stage.type(self.epsilon))).astype(stage)
        result = centred * inverse * scale.astype(stage)
        if bias is not None:
            result = result + bias.astype(stage)
        return narrow(result, x.dtype), mean, inverse

    def lower(
        self, x: Tensor, scale: Tensor, bias: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = stage_type(self.stash_type, x.dtype)
        axis = normalize_axis(self.axis, x.rank)
        zeros = (te.index(0),) * (x.rank - axis)
        outer = (*x.shape[:axis], *(1,) * len(zeros))
        mean, variance = moments(
            dtype, outer, x.shape[axis:], lambda o, k: te.cast(x[(*o[:axis], *k)], dtype)
        )
        inverse = inverse_root(variance, self.epsilon)

        def body(*i: Expr) -> Expr:
            o = (*i[:axis], *zeros)
            result = (te.cast(x[i], dtype) - mean[o]) * inverse[o]
            result = result * te.cast(scale[batch_indices(i, scale.shape)], dtype)
            if bias is not None:
                result = result + te.cast(bias[batch_indices(i, bias.shape)], dtype)
            return te.cast(result, x.dtype)

        return te.compute(x.dtype, x.shape, body, "layernorm"), mean, inverse

    samples = (
        sample("f32[2,3,7]", "f32[7]", "f32[7]"),
        sample("f32[2,3,7]", "f32[7]", epsilon=0.1, outputs=3),
        sample("f32[2,3,4,5]", "f32[4,5]", "f32[5]", axis=2, outputs=3),
        sample("f32[2,3,5]", "f32[2,3,5]", "f32[1]", axis=0),
        sample("f16[2,9]", "f16[9]", "f16[9]"),
        sample("f64[2,9]", "f64[9]", "f64[9]"),
    )


@operator("RMSNormalization")
class RMSNormalization(Operator):
    """x / sqrt(mean(x * x) + epsilon) over the axes from `axis` on, times scale.

    Shapes: x [*outer, *inner], scale broadcastable to x -> y like x, in scale's dtype.
    Source: ONNX RMSNormalization-23.
    """

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: str = "f32"

    dtype_attributes: ClassVar[tuple[str, ...]] = ("stash_type",)
    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType, scale: TensorType) -> TensorType:
        check_floats(scale)
        check_floats(x)
        if x.shape is not None:
            normalize_axis(self.axis, x.rank)
            check_broadcasts_to("scale", scale, x.dims)
        return TensorType(scale.dtype, x.shape)

    def reference(self, x: Array, scale: Array) -> Array:
        stage = stage_type(self.stash_type, TensorType.of(x, False).dtype).numpy
        axes = tuple(range(normalize_axis(self.axis, x.ndim), x.ndim))
        values = x.astype(stage)
        square = (values * values).mean(axis=axes, keepdims=True)
        result = values / np.sqrt(square + stage.type(self.epsilon)) * scale.astype(stage)
        return narrow(result, scale.dtype)

    def lower(self, x: Tensor, scale: Tensor, **_: Any) -> Tensor:
        dtype = stage_type(self.stash_type, x.dtype)
        axis = normalize_axis(self.axis, x.rank)

        def square(o: Sequence[Expr], k: Sequence[Expr]) -> Expr:
            value = te.cast(x[(*o, *k)], dtype)
            return value * value

        mean = mean_of(dtype, x.shape[:axis], x.shape[axis:], square, "meansquare")
        inverse = inverse_root(mean, self.epsilon)

        def body(*i: Expr) -> Expr:
            result = te.cast(x[i], dtype) * inverse[i[:axis]]
            result = result * te.cast(scale[batch_indices(i, scale.shape)], dtype)
            return te.cast(result, scale.dtype)

        return te.compute(scale.dtype, x.shape, body, "rmsnorm")

    samples = (
        sample("f32[2,3,7]", "f32[7]"), sample("f32[2,3,4,5]", "f32[4,5]", axis=-2, epsilon=0.1),
        sample("f16[2,9]", "f16[9]"), sample("f16[2,9]", "f32[9]"),
        sample("f32[2,9]", "f32[1]", axis=0),
    )


@operator("MeanVarianceNormalization")
class MeanVarianceNormalization(Operator):
    """(x - mean) / deviation over `axes`.

    Shapes: x [*] -> y [*].
    Source: ONNX MeanVarianceNormalization-13.
    """

    axes: tuple[int, ...] = (0, 2, 3)

    fusion = FusionClass.REDUCTION

    def _reduced(self, rank: int) -> tuple[int, ...]:
        return tuple(sorted(normalize_axis(axis, rank) for axis in self.axes))

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if x.shape is not None:
            self._reduced(x.rank)
        return x.without_value()

    def reference(self, x: Array) -> Array:
        axes = self._reduced(x.ndim)
        values = widen(x)
        centred = values - values.mean(axis=axes, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
        return narrow(centred / (deviation + values.dtype.type(1e-9)), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        axes = self._reduced(x.rank)
        kept = [axis for axis in range(x.rank) if axis not in axes]

        def element(o: Sequence[Expr], k: Sequence[Expr]) -> Expr:
            place = dict(zip((*kept, *axes), (*o, *k), strict=True))
            return load(x[tuple(place[axis] for axis in range(x.rank))])

        mean, variance = moments(
            wide(x.dtype), [x.shape[a] for a in kept], [x.shape[a] for a in axes], element
        )

        def body(*i: Expr) -> Expr:
            o = tuple(i[axis] for axis in kept)
            return te.cast((load(x[i]) - mean[o]) / (te.sqrt(variance[o]) + 1e-9), x.dtype)

        return te.compute(x.dtype, x.shape, body, "meanvariance")

    samples = (
        sample("f32[2,3,4,5]"), sample("f32[2,3,5]", axes=(1, -1)), sample("f16[2,3,4,4]"),
        sample("f64[2,3]", axes=(0,)),
    )


@operator("LpNormalization")
class LpNormalization(Operator):
    """x divided by its 1-norm or 2-norm along an axis; 0 where the norm is 0.

    Shapes: x [*] -> y [*].
    Source: ONNX LpNormalization-22.
    """

    axis: int = -1
    p: int = 2

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if self.p not in (1, 2):
            raise ShapeError(f"p is {self.p}; 1 or 2 expected")
        if x.shape is not None:
            normalize_axis(self.axis, x.rank)
        return x.without_value()

    def reference(self, x: Array) -> Array:
        values = widen(x)
        norm = (np.abs(values) ** self.p).sum(axis=self.axis, keepdims=True) ** (1 / self.p)
        safe = np.where(norm == 0, 1, norm)
        return narrow(np.where(norm == 0, 0, values / safe), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        axis = normalize_axis(self.axis, x.rank)
        k = te.reduce_axis(x.shape[axis])
        reduced = (*x.shape[:axis], *x.shape[axis + 1 :])

        def total_body(*o: Expr) -> Expr:
            value = load(x[(*o[:axis], k, *o[axis:])])
            return te.sum_(te.abs_(value) if self.p == 1 else value * value, k)

        total = te.compute(wide(x.dtype), reduced, total_body, "lpsum")

        def body(*i: Expr) -> Expr:
            norm = total[(*i[:axis], *i[axis + 1 :])]
            root = norm if self.p == 1 else te.sqrt(norm)
            zero = te.const(0, norm.dtype)
            return te.cast(te.where(te.equal(norm, zero), zero, load(x[i]) / root), x.dtype)

        return te.compute(x.dtype, x.shape, body, "lpnorm")

    samples = (
        sample("f32[2,7]"), sample("f32[2,3,5]", axis=1, p=1), sample("f16[3,4]", axis=0),
        sample(np.zeros((2, 3), np.float32)), sample("f64[2,3]", axis=0),
    )
