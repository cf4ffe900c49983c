"""Trains the digits network in plain numpy and writes it as ONNX.

    python examples/digits/train.py [FILE]

The network: three 3x3 convolutions, each with BatchNorm and ReLU, one 2x2 max pool, one fully
connected layer. Gradients are written by hand. Takes about half a minute on two cores. The file
in the package (src/bessemer/zoo/data/digits.onnx) was made by this script; the accuracy on the
held-out fifth is printed at the end and stored in the file's metadata.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from network import Adam, BatchNorm, Conv, Flatten, Linear, MaxPool, Network, Relu
from onnx import ModelProto, StringStringEntryProto, checker

from bessemer.zoo import digits_path
from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.digits import Digits, load_digits

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """How to train."""

    epochs: int = 40
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2
    seed: int = 3
    channels: tuple[int, int, int] = field(default=(16, 32, 32))


def make_network(plan: Plan, random: np.random.Generator) -> Network:
    """The untrained network, with He initialisation."""
    a, b, c = plan.channels
    return Network(
        [
            Conv(random, 1, a), BatchNorm(a), Relu(),
            Conv(random, a, b), BatchNorm(b), Relu(), MaxPool(),
            Conv(random, b, c), BatchNorm(c), Relu(), Flatten(),
            Linear(random, c * 16, 10),
        ]
    )  # fmt: skip


def varied(images: Array, random: np.random.Generator) -> Array:
    """Each picture moved by up to one pixel (bilinear, zeros coming in), with a little noise."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = random.uniform(0, 1, (2, len(images), 1, 1, 1)).astype(np.float32)
    rows = (1 - down) * padded[:, :, :-1] + down * padded[:, :, 1:]
    both = (1 - right) * rows[..., :-1] + right * rows[..., 1:]
    # `both` is 9 wide, half a pixel off on average; either of the two crops centres it.
    row, column = random.integers(0, 2, 2)
    moved = both[:, :, row : row + 8, column : column + 8]
    noise = random.normal(0, 0.05, moved.shape).astype(np.float32)
    return np.clip(moved + noise, 0, 1)


def train(data: Digits, plan: Plan) -> Network:
    """A network trained on the training part of `data`."""
    random = np.random.default_rng(plan.seed)
    network = make_network(plan, random)
    optimiser = Adam(network.parameters(), plan.decay)
    count = len(data.train_labels)
    for epoch in range(plan.epochs):
        order = random.permutation(count)
        rate = plan.rate * 0.5 * (1 + np.cos(np.pi * epoch / plan.epochs))
        total = 0.0
        for start in range(0, count, plan.batch):
            chosen = order[start : start + plan.batch]
            images = varied(data.train_images[chosen], random)
            total += network.step(images, data.train_labels[chosen]) * len(chosen)
            optimiser.update(rate)
        print(f"epoch {epoch + 1:2d}  loss {total / count:.4f}")
    return network


def accuracy(network: Network, images: Array, labels: Array) -> float:
    """The share of pictures classified rightly."""
    return float((network.predict(images).argmax(1) == labels).mean())


def export(network: Network) -> ModelProto:
    """The ONNX form: batch 1, BatchNormalization kept as nodes."""
    builder = ModelBuilder("digits", seed=0)
    x = builder.input("input", (1, 1, 8, 8))
    for index, layer in enumerate(network.layers):
        with builder.scope(f"layers.{index}"):
            x = export_layer(builder, layer, x)
    builder.output(x, "scores", (1, 10))
    return builder.finish()


def export_layer(builder: ModelBuilder, layer: object, x: str) -> str:
    """Adds one layer to the graph and returns its output's name."""
    match layer:
        case Conv():
            names = [builder.weight("weight", layer.weight.value)]
            return builder.node("Conv", [x, *names], kernel_shape=[3, 3], pads=[1] * 4)
        case BatchNorm():
            names = [
                builder.weight("weight", layer.scale.value),
                builder.weight("bias", layer.shift.value),
                builder.weight("running_mean", layer.mean),
                builder.weight("running_var", layer.variance),
            ]
            return builder.node("BatchNormalization", [x, *names], epsilon=layer.epsilon)
        case Relu():
            return builder.node("Relu", [x])
        case MaxPool():
            return builder.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        case Flatten():
            return builder.node("Flatten", [x], axis=1)
        case Linear():
            names = [
                builder.weight("weight", layer.weight.value),
                builder.weight("bias", layer.bias.value),
            ]
            return builder.node("Gemm", [x, *names])
    raise TypeError(f"no ONNX form for {type(layer).__name__}")


def main() -> None:
    """Trains, reports, writes."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else digits_path()
    data = load_digits()
    network = train(data, Plan())
    for name, images, labels in (
        ("training", data.train_images, data.train_labels),
        ("held out", data.test_images, data.test_labels),
    ):
        print(f"{name}: {100 * accuracy(network, images, labels):.2f} % of {len(labels)}")
    model = export(network)
    held_out = accuracy(network, data.test_images, data.test_labels)
    model.metadata_props.append(
        StringStringEntryProto(key="held_out_accuracy", value=f"{held_out:.4f}")
    )
    checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{file}: {file.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    main()
