"""Normalisations per channel: Batch-, Instance- and GroupNormalization, LRN."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, wide, widen
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array
from bessemer.ops.normalize import check_channels, inverse_root, moments, stage_type
from bessemer.te import Expr, Tensor


def per_channel(vector: Array, rank: int) -> Array:
    """A vector [c] shaped to broadcast along axis 1 of a tensor of that rank."""
    return vector.reshape(-1, *(1,) * (rank - 2)) if rank > 1 else vector


@operator("BatchNormalization")
class BatchNormalization(Operator):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, per channel.

    With `training_mode` the statistics are those of x, and the running ones are also results.
    Shapes: x [n, c, *], scale, bias, mean, variance [c] -> y like x, mean [c], variance [c].
    Source: ONNX BatchNormalization-15.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = 0

    fusion = FusionClass.INJECTIVE

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType, mean: TensorType,
        variance: TensorType,
    ) -> TensorType | tuple[TensorType, ...]:
        check_floats(x)
        check_channels(x, scale=scale, bias=bias, mean=mean, variance=variance)
        if not self.training_mode:
            return x.without_value()
        return x.without_value(), mean.without_value(), variance.without_value()

    def reference(
        self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
    ) -> Array | tuple[Array, ...]:
        values = widen(x)
        if not self.training_mode:
            return narrow(self._apply(values, scale, bias, mean, variance), x.dtype)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        now = values.mean(axis=axes), values.var(axis=axes)
        running = [
            widen(old) * self.momentum + current * (1 - self.momentum)
            for old, current in zip((mean, variance), now, strict=True)
        ]
        y = narrow(self._apply(values, scale, bias, *now), x.dtype)
        return y, running[0].astype(mean.dtype), running[1].astype(variance.dtype)

    def _apply(self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        scale, bias, mean, variance = (
            per_channel(widen(v), x.ndim) for v in (scale, bias, mean, variance)
        )
        factor = scale / np.sqrt(variance + variance.dtype.type(self.epsilon))
        return narrow((x - mean) * factor.astype(x.dtype) + bias, x.dtype)

    def lower(
        self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, **_: Any
    ) -> Tensor | tuple[Tensor, ...]:
        if not self.training_mode:
            return self._normalized(x, scale, bias, mean, variance)
        inner = (*x.shape[:1], *x.shape[2:])
        if 0 in inner:
            raise Unlowerable("BatchNormalization in training mode of no elements")
        now = moments(wide(x.dtype), mean.shape, inner,
                      lambda o, k: load(x[(k[0], *o, *k[1:])[: x.rank]]))

        def running(old: Tensor, current: Tensor) -> Tensor:
            def body(c: Expr) -> Expr:
                stage = wide(old.dtype)
                fresh = te.cast(current[c], stage) * (1 - self.momentum)
                return te.cast(load(old[c]) * self.momentum + fresh, old.dtype)

            return te.compute(old.dtype, old.shape, body, "running")

        return (self._normalized(x, scale, bias, *now), running(mean, now[0]),
                running(variance, now[1]))

    def _normalized(
        self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
    ) -> Tensor:
        dtype = wide(x.dtype)

        def body(*i: Expr) -> Expr:
            c = i[1] if x.rank > 1 else te.index(0)
            parts = (te.cast(v[c], dtype) for v in (scale, bias, mean, variance))
            scale_c, bias_c, mean_c, variance_c = parts
            factor = scale_c / te.sqrt(variance_c + self.epsilon)
            return te.cast((load(x[i]) - mean_c) * factor + bias_c, x.dtype)

        return te.compute(x.dtype, x.shape, body, "batchnorm")

    samples = (
        sample("f32[2,3,4,5]", "f32[3]", "f32[3]", "f32[3]", "f32[3]", low=0.1),
        sample("f32[2,3]", "f32[3]", "f32[3]", "f32[3]", "f32[3]", low=0.1, epsilon=0.01),
        sample("f32[5]", "f32[1]", "f32[1]", "f32[1]", "f32[1]", low=0.1),
        sample("f16[2,3,4]", "f16[3]", "f16[3]", "f32[3]", "f32[3]", low=0.5),
        sample(
            "f32[2,3,4,5]", "f32[3]", "f32[3]", "f32[3]", "f32[3]", low=0.1, training_mode=1,
            outputs=3,
        ),
        sample("f16[7,3]", "f16[3]", "f16[3]", "f32[3]", "f32[3]", training_mode=1, outputs=3),
        sample("f64[3]", "f64[1]", "f64[1]", "f64[1]", "f64[1]", training_mode=1, outputs=3),
    )


@operator("InstanceNormalization")
class InstanceNormalization(Operator):
    """Normalises every channel of every instance, then scales and shifts per channel.

    Shapes: x [n, c, *spatial], scale and bias [c] -> y like x.
    Source: ONNX InstanceNormalization-22.
    """

    epsilon: float = 1e-5

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        check_floats(x, scale, bias)
        check_channels(x, scale=scale, bias=bias)
        return x.without_value()

    def reference(self, x: Array, scale: Array, bias: Array) -> Array:
        values = widen(x)
        axes = tuple(range(2, x.ndim))
        centred = values - values.mean(axis=axes, keepdims=True)
        variance = (centred * centred).mean(axis=axes, keepdims=True)
        normal = centred / np.sqrt(variance + variance.dtype.type(self.epsilon))
        result = normal * per_channel(widen(scale), x.ndim) + per_channel(widen(bias), x.ndim)
        return narrow(result, x.dtype)

    def lower(self, x: Tensor, scale: Tensor, bias: Tensor, **_: Any) -> Tensor:
        mean, variance = moments(
            wide(x.dtype), x.shape[:2], x.shape[2:], lambda o, k: load(x[(*o, *k)])
        )
        inverse = inverse_root(variance, self.epsilon)

        def body(n: Expr, c: Expr, *s: Expr) -> Expr:
            normal = (load(x[(n, c, *s)]) - mean[n, c]) * inverse[n, c]
            return te.cast(normal * load(scale[c]) + load(bias[c]), x.dtype)

        return te.compute(x.dtype, x.shape, body, "instancenorm")

    samples = (
        sample("f32[2,3,4,5]", "f32[3]", "f32[3]"),
        sample("f32[1,3,7]", "f32[3]", "f32[3]", epsilon=0.1),
        sample("f16[2,3,4,4]", "f16[3]", "f16[3]"),
        sample("f64[2,3,2,2,3]", "f64[3]", "f64[3]"),
    )


@operator("GroupNormalization")
class GroupNormalization(Operator):
    """Normalises groups of channels of every instance, then scales and shifts per channel.

    Shapes: x [n, c, *spatial], scale and bias [c] -> y like x.
    Source: ONNX GroupNormalization-21.
    """

    epsilon: float = 1e-5
    num_groups: int = 1
    stash_type: str = "f32"

    dtype_attributes: ClassVar[tuple[str, ...]] = ("stash_type",)
    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        check_floats(x, scale, bias)
        check_channels(x, scale=scale, bias=bias)
        if x.shape is not None:
            channels = x.dims[1]
            if self.num_groups < 1 or (isinstance(channels, int) and channels % self.num_groups):
                groups = self.num_groups
                raise ShapeError(f"{channels} channels cannot be split into {groups} groups")
        return x.without_value()

    def reference(self, x: Array, scale: Array, bias: Array) -> Array:
        stage = stage_type(self.stash_type, TensorType.of(x, False).dtype).numpy
        grouped = x.astype(stage).reshape(
            x.shape[0], self.num_groups, math.prod(x.shape[1:]) // self.num_groups)
        centred = grouped - grouped.mean(axis=2, keepdims=True)
        variance = (centred * centred).mean(axis=2, keepdims=True)
        normal = (centred / np.sqrt(variance + stage.type(self.epsilon))).reshape(x.shape)
        scale, bias = (per_channel(v.astype(stage), x.ndim) for v in (scale, bias))
        return narrow(normal * scale + bias, x.dtype)

    def lower(self, x: Tensor, scale: Tensor, bias: Tensor, **_: Any) -> Tensor:
        dtype = stage_type(self.stash_type, x.dtype)
        size = x.shape[1] // self.num_groups

        def element(o: Sequence[Expr], k: Sequence[Expr]) -> Expr:
            return te.cast(x[(o[0], o[1] * size + k[0], *k[1:])], dtype)

        mean, variance = moments(
            dtype, (x.shape[0], self.num_groups), (size, *x.shape[2:]), element
        )
        inverse = inverse_root(variance, self.epsilon)

        def body(n: Expr, c: Expr, *s: Expr) -> Expr:
            g = c // size
            normal = (te.cast(x[(n, c, *s)], dtype) - mean[n, g]) * inverse[n, g]
            return te.cast(normal * te.cast(scale[c], dtype) + te.cast(bias[c], dtype), x.dtype)

        return te.compute(x.dtype, x.shape, body, "groupnorm")

    samples = (
        sample("f32[2,6,4,5]", "f32[6]", "f32[6]", num_groups=3),
        sample("f32[1,4,7]", "f32[4]", "f32[4]", num_groups=4, epsilon=0.1),
        sample("f16[2,4,3,3]", "f16[4]", "f16[4]", num_groups=2),
        sample("f64[2,3,5]", "f64[3]", "f64[3]"),
    )


@operator("LRN")
class LRN(Operator):
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta.

    Shapes: x [n, c, *] -> y like x.
    Source: ONNX LRN-13.
    """

    alpha: float = 0.0001
    beta: float = 0.75
    bias: float = 1.0
    size: int = 1

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if self.size < 1:
            raise ShapeError(f"size is {self.size}; at least 1 expected")
        if x.shape is not None and x.rank < 2:
            raise ShapeError(f"x has rank {x.rank}; 2 or more expected")
        return x.without_value()

    def reference(self, x: Array) -> Array:
        values = widen(x)
        before = (self.size - 1) // 2
        pads = [(0, 0), (before, self.size - 1 - before), *[(0, 0)] * (x.ndim - 2)]
        squares = np.pad(values * values, pads)
        total = sum(squares[:, k : k + x.shape[1]] for k in range(self.size))
        kind = values.dtype.type
        power = (kind(self.bias) + kind(self.alpha / self.size) * total) ** kind(self.beta)
        return narrow(values / power, x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        k = te.reduce_axis(self.size)
        before = (self.size - 1) // 2
        fill = 0 if self.size > 1 else None

        def squares(n: Expr, c: Expr, *s: Expr) -> Expr:
            value = load(x.at(n, c + k - before, *s, fill=fill))
            return te.sum_(value * value, k)

        total = te.compute(wide(x.dtype), x.shape, squares, "lrnsum")

        def body(*i: Expr) -> Expr:
            base = self.bias + self.alpha / self.size * total[i]
            return te.cast(load(x[i]) / te.power(base, self.beta), x.dtype)

        return te.compute(x.dtype, x.shape, body, "lrn")

    samples = (
        sample("f32[2,7,3,4]", size=5), sample("f32[1,5,6]", size=4, alpha=0.5, beta=0.6, bias=2.0),
        sample("f32[2,3]", size=1), sample("f16[1,5,3,3]", size=3, alpha=0.1),
    )
