"""Steps of optimisers: Adagrad, Adam, Momentum of ai.onnx.preview.training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, i64
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, scalar
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor

Update = Callable[..., tuple[Array, ...]]


def _split(values: tuple[Any, ...], kinds: int) -> list[tuple[Any, ...]]:
    """Groups all tensors, all gradients, all states into one tuple for each tensor.

    Raises: ShapeError if the number of inputs does not fit.
    """
    if not values or len(values) % kinds:
        raise ShapeError(f"{len(values)} tensors; a multiple of {kinds} expected")
    count = len(values) // kinds
    return [values[k::count] for k in range(count)]


def _infer(values: tuple[TensorType, ...], kinds: int) -> tuple[TensorType, ...]:
    check_floats(*values)
    groups = _split(values, kinds)
    for group in groups:
        if any(type.shape is not None and group[0].shape is not None
               and len(type.shape) != len(group[0].shape) for type in group):
            raise ShapeError(f"a tensor and its gradient and states differ: {group}")
        for type in group[1:]:
            for a, b in zip(group[0].shape or (), type.shape or ()):
                same_dim("extents of a tensor and of its gradient or states", a, b)
    plain = [tuple(type.without_value() for type in group) for group in groups]
    # The gradient, second in each group, is no result.
    order = [0, *range(2, kinds)]
    return tuple(group[k] for k in order for group in plain)


def _apply(values: tuple[Array, ...], kinds: int, update: Update) -> tuple[Array, ...]:
    results = [update(*group) for group in _split(values, kinds)]
    return tuple(
        np.asarray(result[k], result[0].dtype) for k in range(kinds - 1) for result in results
    )


def _lower(
    values: tuple[Tensor, ...], kinds: int, update: Callable[..., tuple[Expr, ...]]
) -> tuple[Tensor, ...]:
    """The results of `update`, which is given the elements of one group in the type of sums."""
    groups = _split(values, kinds)

    def result(group: tuple[Tensor, ...], k: int) -> Tensor:
        x = group[0]

        def body(*i: Expr) -> Expr:
            return te.cast(update(*(load(tensor[i]) for tensor in group))[k], x.dtype)

        return te.compute(x.dtype, x.shape, body, "updated")

    return tuple(result(group, k) for k in range(kinds - 1) for group in groups)


def _only(x: Tensor, dtype: DType) -> Expr:
    """The only element of a tensor of shape [] or [1]."""
    return te.cast(x[(0,) * x.rank], dtype)


@operator("ai.onnx.preview.training.Adagrad")
class Adagrad(Operator):
    """One step of Adagrad.

    Inputs: rate [], step [], tensors, gradients, squared gradients -> tensors, squared gradients.
    Source: ai.onnx.preview.training Adagrad-1.
    """

    decay_factor: float = 0.0
    epsilon: float = 1e-6
    norm_coefficient: float = 0.0

    fusion = FusionClass.INJECTIVE

    def infer(self, rate: TensorType, step: TensorType, *values: TensorType) -> Any:
        return _infer(values, 3)

    def reference(self, rate: Array, step: Array, *values: Array) -> Any:
        speed = rate / (1 + step * self.decay_factor)

        def update(x: Array, gradient: Array, squares: Array) -> tuple[Array, ...]:
            slope = self.norm_coefficient * x + gradient
            fresh = squares + slope * slope
            moved = x - speed * slope / (np.sqrt(fresh) + self.epsilon)
            return moved.astype(x.dtype), fresh.astype(x.dtype)

        return _apply(values, 3, update)

    def lower(self, rate: Tensor, step: Tensor, *values: Tensor, **_: Any) -> tuple[Tensor, ...]:
        def update(x: Expr, gradient: Expr, squares: Expr) -> tuple[Expr, ...]:
            speed = _only(rate, x.dtype) / (1.0 + _only(step, x.dtype) * self.decay_factor)
            slope = self.norm_coefficient * x + gradient
            fresh = squares + slope * slope
            return x - speed * slope / (te.sqrt(fresh) + self.epsilon), fresh

        return _lower(values, 3, update)

    samples = (
        sample(scalar(0.1, "f32"), np.array(3), "f32[2,3]", "f32[2,3]", "f32[2,3]", low=0.1,
               outputs=2, decay_factor=0.1, norm_coefficient=0.001),
        sample(scalar(0.1, "f32"), np.array(0), "f32[2]", "f32[3]", "f32[2]", "f32[3]", "f32[2]",
               "f32[3]", low=0.1, outputs=4),
    )


@operator("ai.onnx.preview.training.Adam")
class Adam(Operator):
    """One step of Adam.

    Inputs: rate [], step [], tensors, gradients, mean gradients, mean squares -> tensors, mean
    gradients, mean squares.
    Source: ai.onnx.preview.training Adam-1.
    """

    alpha: float = 0.9
    beta: float = 0.999
    epsilon: float = 1e-6
    norm_coefficient: float = 0.0
    norm_coefficient_post: float = 0.0

    fusion = FusionClass.INJECTIVE

    def infer(self, rate: TensorType, step: TensorType, *values: TensorType) -> Any:
        return _infer(values, 4)

    def reference(self, rate: Array, step: Array, *values: Array) -> Any:
        count = int(step.reshape(-1)[0])
        speed = float(rate.reshape(-1)[0])
        if count > 0:
            speed *= np.sqrt(1 - self.beta**count) / (1 - self.alpha**count)

        def update(x: Array, gradient: Array, mean: Array, squares: Array) -> tuple[Array, ...]:
            slope = self.norm_coefficient * x + gradient
            new_mean = self.alpha * mean + (1 - self.alpha) * slope
            new_squares = self.beta * squares + (1 - self.beta) * slope * slope
            moved = x - speed * new_mean / (np.sqrt(new_squares) + self.epsilon)
            kept = (1 - self.norm_coefficient_post) * moved
            return kept.astype(x.dtype), new_mean.astype(x.dtype), new_squares.astype(x.dtype)

        return _apply(values, 4, update)

    def lower(self, rate: Tensor, step: Tensor, *values: Tensor, **_: Any) -> tuple[Tensor, ...]:
        def unbiased(decay: float, count: Expr) -> Expr:
            """1 - decay ** count, without cancellation."""
            return -te.expm1(count * (math.log(decay) if decay > 0 else -math.inf))

        def update(x: Expr, gradient: Expr, mean: Expr, squares: Expr) -> tuple[Expr, ...]:
            count, speed = _only(step, x.dtype), _only(rate, x.dtype)
            scale = te.sqrt(unbiased(self.beta, count)) / unbiased(self.alpha, count)
            speed = te.where(count > 0.0, speed * scale, speed)
            slope = self.norm_coefficient * x + gradient
            new_mean = self.alpha * mean + (1 - self.alpha) * slope
            new_squares = self.beta * squares + (1 - self.beta) * slope * slope
            moved = x - speed * new_mean / (te.sqrt(new_squares) + self.epsilon)
            return (1 - self.norm_coefficient_post) * moved, new_mean, new_squares

        return _lower(values, 4, update)

    samples = (
        sample(scalar(0.1, "f32"), np.array(3), "f32[2,3]", "f32[2,3]", "f32[2,3]", "f32[2,3]",
               low=0.1, outputs=3, norm_coefficient=0.001),
        sample("f32[]", "i64[1]", "f32[37]", "f32[37]", "f32[37]", "f32[37]", low=0.1, high=5,
               outputs=3),
        sample("f32[]", "i64[]", "f64[5]", "f64[5]", "f64[5]", "f64[5]", low=0.1, high=5,
               outputs=3, alpha=0.0),
        sample(scalar(0.1, "f32"), np.array(0), "f32[2]", "f32[2]", "f32[2]", "f32[2]", low=0.1,
               outputs=3, norm_coefficient_post=0.1),
    )


@operator("ai.onnx.preview.training.Momentum")
class Momentum(Operator):
    """One step of gradient descent with momentum, standard or Nesterov's.

    Inputs: rate [], step [], tensors, gradients, momenta -> tensors, momenta.
    Source: ai.onnx.preview.training Momentum-1.
    """

    alpha: float = 0.9
    beta: float = 1.0
    mode: str = "standard"
    norm_coefficient: float = 0.0

    fusion = FusionClass.INJECTIVE

    def infer(self, rate: TensorType, step: TensorType, *values: TensorType) -> Any:
        if self.mode not in ("standard", "nesterov"):
            raise ShapeError(f"mode is {self.mode!r}; standard or nesterov expected")
        return _infer(values, 3)

    def reference(self, rate: Array, step: Array, *values: Array) -> Any:
        # The first step takes the whole gradient.
        share = self.beta if int(step.reshape(-1)[0]) > 0 else 1.0

        def update(x: Array, gradient: Array, momentum: Array) -> tuple[Array, ...]:
            slope = self.norm_coefficient * x + gradient
            fresh = self.alpha * momentum + share * slope
            way = slope + self.alpha * fresh if self.mode == "nesterov" else fresh
            return (x - rate * way).astype(x.dtype), fresh.astype(x.dtype)

        return _apply(values, 3, update)

    def lower(self, rate: Tensor, step: Tensor, *values: Tensor, **_: Any) -> tuple[Tensor, ...]:
        def update(x: Expr, gradient: Expr, momentum: Expr) -> tuple[Expr, ...]:
            share = te.where(_only(step, i64) > 0, te.const(self.beta, x.dtype), 1.0)
            slope = self.norm_coefficient * x + gradient
            fresh = self.alpha * momentum + share * slope
            way = slope + self.alpha * fresh if self.mode == "nesterov" else fresh
            return x - _only(rate, x.dtype) * way, fresh

        return _lower(values, 3, update)

    samples = (
        sample("f32[1]", "i64[]", "f32[37]", "f32[37]", "f32[37]", outputs=2, mode="nesterov"),
        sample("f32[]", "i64[1]", "f64[3,5]", "f64[3]", "f64[3,5]", "f64[3]", "f64[3,5]",
               "f64[3]", outputs=4),
        sample(scalar(0.1, "f32"), np.array(3), "f32[2,3]", "f32[2,3]", "f32[2,3]", outputs=2,
               beta=0.5, norm_coefficient=0.001),
        sample(scalar(0.1, "f32"), np.array(0), "f32[2]", "f32[2]", "f32[2]", outputs=2,
               mode="nesterov"),
    )
