"""Steps of optimisers: Adagrad, Adam, Momentum of ai.onnx.preview.training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import scalar
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array

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
    plain = [tuple(type.without_value() for type in group) for group in groups]
    # The gradient, second in each group, is no result.
    order = [0, *range(2, kinds)]
    return tuple(group[k] for k in order for group in plain)


def _apply(values: tuple[Array, ...], kinds: int, update: Update) -> tuple[Array, ...]:
    results = [update(*group) for group in _split(values, kinds)]
    return tuple(
        np.asarray(result[k], result[0].dtype) for k in range(kinds - 1) for result in results
    )


@operator("ai.onnx.preview.training.Adagrad")
class Adagrad(Operator):
    """One step of Adagrad.

    Inputs: rate [], step [], tensors, gradients, squared gradients -> tensors, squared gradients.
    Source: ai.onnx.preview.training Adagrad-1.
    """

    decay_factor: float = 0.0
    epsilon: float = 1e-6
    norm_coefficient: float = 0.0

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

    samples = (
        sample(scalar(0.1, "f32"), np.array(3), "f32[2,3]", "f32[2,3]", "f32[2,3]", "f32[2,3]",
               low=0.1, outputs=3, norm_coefficient=0.001),
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

    samples = (
        sample(scalar(0.1, "f32"), np.array(3), "f32[2,3]", "f32[2,3]", "f32[2,3]", outputs=2,
               beta=0.5, norm_coefficient=0.001),
        sample(scalar(0.1, "f32"), np.array(0), "f32[2]", "f32[2]", "f32[2]", outputs=2,
               mode="nesterov"),
    )
