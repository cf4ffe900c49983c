"""Layers with hand-written gradients, a network of them, and the Adam optimiser, in numpy.

Feature maps are f32 [n, c, h, w]. `forward` keeps what `backward` needs; `backward` takes the
gradient of the output, stores the gradients of the parameters, returns that of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Parameter:
    """A trained array, its gradient, and whether weight decay applies."""

    value: Array
    gradient: Array
    decays: bool = False

    @staticmethod
    def of(value: Array, *, decays: bool = False) -> "Parameter":
        """A parameter with zero gradient."""
        value = np.asarray(value, np.float32)
        return Parameter(value, np.zeros_like(value), decays)


class Layer:
    """A step of the network; most have no parameters."""

    def parameters(self) -> list[Parameter]:
        """What the optimiser changes."""
        return []

    def forward(self, x: Array, *, training: bool) -> Array:
        """The layer's output for input `x`."""
        raise NotImplementedError

    def backward(self, gradient: Array) -> Array:
        """The gradient of the input, from that of the output."""
        raise NotImplementedError


def _windows(x: Array) -> Array:
    """[n, c, h, w] -> the 3x3 neighbourhoods [n, h, w, c * 9], zeros outside."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


class Conv(Layer):
    """A 3x3 convolution, stride 1, padding 1, no bias (BatchNorm follows)."""

    def __init__(self, random: np.random.Generator, inputs: int, outputs: int) -> None:
        deviation = np.sqrt(2 / (9 * inputs))
        self.weight = Parameter.of(
            random.normal(0, deviation, (outputs, inputs, 3, 3)), decays=True
        )

    def parameters(self) -> list[Parameter]:
        return [self.weight]

    def forward(self, x: Array, *, training: bool) -> Array:
        self._columns = _windows(x)
        matrix = self.weight.value.reshape(len(self.weight.value), -1)
        return (self._columns @ matrix.T).transpose(0, 3, 1, 2)

    def backward(self, gradient: Array) -> Array:
        outputs = gradient.shape[1]
        rows = gradient.transpose(0, 2, 3, 1).reshape(-1, outputs)
        columns = self._columns.reshape(len(rows), -1)
        self.weight.gradient = (rows.T @ columns).reshape(self.weight.value.shape)
        # The input's gradient is the convolution with the filter turned by 180 degrees.
        turned = self.weight.value[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        matrix = turned.reshape(len(turned), -1)
        return (_windows(gradient) @ matrix.T).transpose(0, 3, 1, 2)


class BatchNorm(Layer):
    """Ioffe and Szegedy 2015: normalises each channel; running statistics for inference."""

    momentum = 0.1
    epsilon = 1e-5

    def __init__(self, channels: int) -> None:
        self.scale = Parameter.of(np.ones(channels))
        self.shift = Parameter.of(np.zeros(channels))
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def parameters(self) -> list[Parameter]:
        return [self.scale, self.shift]

    def forward(self, x: Array, *, training: bool) -> Array:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance - self.variance)
        self._deviation = np.sqrt(variance + self.epsilon)
        self._normal = (x - mean[:, None, None]) / self._deviation[:, None, None]
        return self.scale.value[:, None, None] * self._normal + self.shift.value[:, None, None]

    def backward(self, gradient: Array) -> Array:
        self.scale.gradient = (gradient * self._normal).sum((0, 2, 3))
        self.shift.gradient = gradient.sum((0, 2, 3))
        count = gradient.size / gradient.shape[1]
        centred = (
            gradient
            - (self.shift.gradient / count)[:, None, None]
            - self._normal * (self.scale.gradient / count)[:, None, None]
        )
        return (self.scale.value / self._deviation)[:, None, None] * centred


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Array, *, training: bool) -> Array:
        self._open = x > 0
        return x * self._open

    def backward(self, gradient: Array) -> Array:
        return gradient * self._open


class MaxPool(Layer):
    """The largest of each 2x2 square; the gradient goes to all that are largest."""

    def forward(self, x: Array, *, training: bool) -> Array:
        n, c, h, w = x.shape
        squares = x.reshape(n, c, h // 2, 2, w // 2, 2)
        y = squares.max((3, 5))
        self._chosen = squares == y[:, :, :, None, :, None]
        return y

    def backward(self, gradient: Array) -> Array:
        n, c, h, w = gradient.shape
        spread = self._chosen * gradient[:, :, :, None, :, None]
        return spread.reshape(n, c, 2 * h, 2 * w)


class Flatten(Layer):
    """[n, c, h, w] -> [n, c * h * w]."""

    def forward(self, x: Array, *, training: bool) -> Array:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, gradient: Array) -> Array:
        return gradient.reshape(self._shape)


class Linear(Layer):
    """x [n, inputs] times weight [inputs, outputs] plus bias."""

    def __init__(self, random: np.random.Generator, inputs: int, outputs: int) -> None:
        deviation = np.sqrt(1 / inputs)
        self.weight = Parameter.of(random.normal(0, deviation, (inputs, outputs)), decays=True)
        self.bias = Parameter.of(np.zeros(outputs))

    def parameters(self) -> list[Parameter]:
        return [self.weight, self.bias]

    def forward(self, x: Array, *, training: bool) -> Array:
        self._x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, gradient: Array) -> Array:
        self.weight.gradient = self._x.T @ gradient
        self.bias.gradient = gradient.sum(0)
        return gradient @ self.weight.value.T


@dataclass
class Network:
    """Layers in a row, with softmax cross-entropy at the end."""

    layers: Sequence[Layer]

    def parameters(self) -> list[Parameter]:
        """The parameters of all layers."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def predict(self, images: Array) -> Array:
        """The scores [n, classes], with the running statistics."""
        x = images
        for layer in self.layers:
            x = layer.forward(x, training=False)
        return x

    def step(self, images: Array, labels: Array) -> float:
        """Computes all gradients for one batch and returns the mean loss."""
        x = images
        for layer in self.layers:
            x = layer.forward(x, training=True)
        x = x - x.max(1, keepdims=True)
        chances = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(chances[rows, labels] + 1e-12).mean()
        gradient = chances
        gradient[rows, labels] -= 1
        gradient = gradient / np.float32(len(labels))
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return float(loss)


class Adam:
    """Kingma and Ba 2014, with decoupled weight decay."""

    first, second, tiny = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Sequence[Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._means = [np.zeros_like(parameter.value) for parameter in parameters]
        self._squares = [np.zeros_like(parameter.value) for parameter in parameters]
        self._steps = 0

    def update(self, rate: float) -> None:
        """One step with the gradients that the parameters hold."""
        self._steps += 1
        correction = np.sqrt(1 - self.second**self._steps) / (1 - self.first**self._steps)
        for parameter, mean, square in zip(self._parameters, self._means, self._squares):
            mean += (1 - self.first) * (parameter.gradient - mean)
            square += (1 - self.second) * (parameter.gradient**2 - square)
            change = rate * correction * mean / (np.sqrt(square) + self.tiny)
            if parameter.decays:
                change = change + rate * self._decay * parameter.value
            parameter.value -= change.astype(np.float32)
