"""Layers of convolutional networks, on a ModelBuilder: convolution, BatchNorm, pooling, heads.

Weights follow He et al. 2015 (variance `gain` / fan-in), so activations keep their size through
any depth. Filters are centred (zero mean over the fan-in): the mean that ReLU gives to its
outputs would otherwise grow with depth until every input led to the same answer.
"""

import math

import numpy as np

from bessemer.zoo.builder import ModelBuilder

# The variance of relu(z), z standard normal, is 1/2 - 1/(2 pi).
AFTER_RELU = 1 / (0.5 - 0.5 / math.pi)
AFTER_LINEAR = 1.0


def conv(
    builder: ModelBuilder,
    x: str,
    channels: int,
    kernel: int | tuple[int, int] = 1,
    *,
    name: str,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
    gain: float = AFTER_RELU,
) -> str:
    """A convolution with a square or (height, width) filter.

    `padding` None keeps the sides at stride 1.
    """
    inputs = builder.channels(x) // groups
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    pads = [side // 2 if padding is None else padding for side in sides]
    fan_in = inputs * math.prod(sides)
    weight = builder.normal((channels, inputs, *sides), math.sqrt(gain / fan_in))
    if inputs > 1:
        weight -= weight.mean(axis=(1, 2, 3), keepdims=True)
    with builder.scope(name):
        operands = [x, builder.weight("weight", weight)]
        if bias:
            operands.append(builder.weight("bias", builder.normal((channels,), 0.05)))
        y = builder.node(
            "Conv",
            operands,
            dilations=[1, 1],
            group=groups,
            kernel_shape=list(sides),
            pads=pads * 2,
            strides=[stride, stride],
        )
    return builder.mark_channels(y, channels)


def batch_norm(
    builder: ModelBuilder, x: str, *, name: str, epsilon: float = 1e-5, strength: float = 1.0
) -> str:
    """A BatchNormalization node with random scale, shift, mean and variance.

    `strength` multiplies the scale; below 1 it keeps a residual branch small against its sum.
    """
    count = builder.channels(x)
    random = builder.random
    variance = random.uniform(0.7, 1.4, count)
    scale = strength * np.sqrt(variance) * random.uniform(0.8, 1.2, count)
    with builder.scope(name):
        operands = [
            x,
            builder.weight("weight", scale.astype(np.float32)),
            builder.weight("bias", builder.normal((count,), 0.1)),
            builder.weight("running_mean", builder.normal((count,), 0.1)),
            builder.weight("running_var", variance.astype(np.float32)),
        ]
        y = builder.node("BatchNormalization", operands, epsilon=epsilon, momentum=0.9)
    return builder.mark_channels(y, count)


def activate(builder: ModelBuilder, x: str, kind: str) -> str:
    """Applies "relu", "relu6" (Clip), "silu" (x times Sigmoid) or "none"."""
    if kind == "none":
        return x
    if kind == "relu":
        y = builder.node("Relu", [x])
    elif kind == "relu6":
        y = builder.node("Clip", [x, builder.constant(0.0), builder.constant(6.0)])
    elif kind == "silu":
        y = builder.node("Mul", [x, builder.node("Sigmoid", [x])])
    else:
        raise ValueError(f"unknown activation {kind!r}")
    return builder.mark_channels(y, builder.channels(x))


def conv_norm(
    builder: ModelBuilder,
    x: str,
    channels: int,
    kernel: int | tuple[int, int] = 1,
    *,
    name: str,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    act: str = "relu",
    gain: float = AFTER_RELU,
    strength: float = 1.0,
) -> str:
    """Convolution, BatchNorm and activation as three nodes."""
    with builder.scope(name):
        y = conv(
            builder, x, channels, kernel, name="conv", stride=stride, padding=padding,
            groups=groups, gain=gain,
        )
        y = batch_norm(builder, y, name="bn", strength=strength)
        return activate(builder, y, act)


def max_pool(
    builder: ModelBuilder,
    x: str,
    kernel: int,
    stride: int,
    padding: int = 0,
    *,
    ceil: bool = False,
) -> str:
    """A square MaxPool."""
    y = builder.node(
        "MaxPool",
        [x],
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[padding] * 4,
        ceil_mode=int(ceil),
    )
    return builder.mark_channels(y, builder.channels(x))


def avg_pool(builder: ModelBuilder, x: str, kernel: int) -> str:
    """A square AveragePool at stride 1 that keeps the side and counts the padding."""
    y = builder.node(
        "AveragePool",
        [x],
        kernel_shape=[kernel, kernel],
        strides=[1, 1],
        pads=[kernel // 2] * 4,
        count_include_pad=1,
    )
    return builder.mark_channels(y, builder.channels(x))


def concat(builder: ModelBuilder, parts: list[str]) -> str:
    """Feature maps joined along the channels."""
    y = builder.node("Concat", parts, axis=1)
    return builder.mark_channels(y, sum(builder.channels(part) for part in parts))


def add(builder: ModelBuilder, a: str, b: str) -> str:
    """The sum of two feature maps of one shape."""
    return builder.mark_channels(builder.node("Add", [a, b]), builder.channels(a))


def fully_connected(
    builder: ModelBuilder, x: str, inputs: int, outputs: int, *, name: str, gain: float = 1.0
) -> str:
    """A Gemm on [n, inputs] with the weight stored [outputs, inputs], as exporters do."""
    weight = builder.normal((outputs, inputs), math.sqrt(gain / inputs))
    weight -= weight.mean(axis=1, keepdims=True)
    with builder.scope(name):
        operands = [
            x,
            builder.weight("weight", weight),
            builder.weight("bias", builder.normal((outputs,), 0.05)),
        ]
        return builder.node("Gemm", operands, transB=1)


def classifier(builder: ModelBuilder, x: str, classes: int, *, name: str = "fc") -> str:
    """Global average pooling, Flatten and a fully connected layer of `classes` outputs."""
    count = builder.channels(x)
    pooled = builder.node("GlobalAveragePool", [x])
    flat = builder.node("Flatten", [pooled], axis=1)
    # Averaging over the picture shrinks what depends on the input; the gain restores it.
    return fully_connected(builder, flat, count, classes, name=name, gain=30.0)
