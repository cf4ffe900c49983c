"""Layers of transformers, on a ModelBuilder, spelled out in small operators as exporters do."""

import math

import numpy as np

from bessemer.zoo.builder import ModelBuilder


def linear(
    builder: ModelBuilder, x: str, inputs: int, outputs: int, *, name: str, gain: float = 1.0
) -> str:
    """MatMul with a constant [inputs, outputs], then Add of the bias."""
    weight = builder.normal((inputs, outputs), math.sqrt(gain / inputs))
    with builder.scope(name):
        product = builder.node("MatMul", [x, builder.weight("weight", weight)])
        bias = builder.weight("bias", builder.normal((outputs,), 0.05))
        return builder.node("Add", [bias, product])


def norm_weights(builder: ModelBuilder, count: int) -> tuple[str, str]:
    """Scale and shift of a LayerNorm, near one and near zero."""
    scale = builder.random.uniform(0.8, 1.2, count).astype(np.float32)
    return builder.weight("weight", scale), builder.weight("bias", builder.normal((count,), 0.1))


def spelled_layer_norm(
    builder: ModelBuilder, x: str, count: int, *, name: str, epsilon: float = 1e-12
) -> str:
    """LayerNorm over the last axis in nine small operators."""
    with builder.scope(name):
        scale, shift = norm_weights(builder, count)
        mean = builder.node("ReduceMean", [x], axes=[-1])
        centred = builder.node("Sub", [x, mean])
        square = builder.node("Pow", [centred, builder.constant(2.0)])
        variance = builder.node("ReduceMean", [square], axes=[-1])
        shifted = builder.node("Add", [variance, builder.constant(epsilon)])
        normal = builder.node("Div", [centred, builder.node("Sqrt", [shifted])])
        return builder.node("Add", [builder.node("Mul", [normal, scale]), shift])


def layer_norm(
    builder: ModelBuilder, x: str, count: int, *, name: str, epsilon: float = 1e-6
) -> str:
    """LayerNorm over the last axis as the one operator LayerNormalization."""
    with builder.scope(name):
        scale, shift = norm_weights(builder, count)
        return builder.node("LayerNormalization", [x, scale, shift], axis=-1, epsilon=epsilon)


def gelu_erf(builder: ModelBuilder, x: str) -> str:
    """GELU through the error function: x * (1 + erf(x / sqrt 2)) * 0.5."""
    inner = builder.node("Erf", [builder.node("Div", [x, builder.constant(math.sqrt(2.0))])])
    plus = builder.node("Add", [inner, builder.constant(1.0)])
    return builder.node("Mul", [builder.node("Mul", [x, plus]), builder.constant(0.5)])


def gelu_tanh(builder: ModelBuilder, x: str) -> str:
    """GELU by its tanh approximation (Hendrycks and Gimpel 2016)."""
    cube = builder.node("Pow", [x, builder.constant(3.0)])
    scaled = builder.node("Mul", [cube, builder.constant(0.044715)])
    inner = builder.node("Add", [x, scaled])
    inner = builder.node("Mul", [inner, builder.constant(math.sqrt(2.0 / math.pi))])
    plus = builder.node("Add", [builder.node("Tanh", [inner]), builder.constant(1.0)])
    half = builder.node("Mul", [x, builder.constant(0.5)])
    return builder.node("Mul", [half, plus])


def extent_of(builder: ModelBuilder, x: str, axis: int) -> str:
    """One extent of a tensor as a vector [1], computed while running."""
    found = builder.node("Gather", [builder.node("Shape", [x]), builder.constant(axis, np.int64)])
    return builder.node("Unsqueeze", [found, builder.constant([0], np.int64)])


def target_shape(
    builder: ModelBuilder, x: str, length: int | None, axis: int, rest: tuple[int, ...]
) -> str:
    """[n, length, *rest] for a Reshape of x [n, ..]; a length of None is that of the axis of x.

    Then both leading extents are computed by Shape, Gather, Unsqueeze and Concat, as exporters do.
    """
    if length is not None:
        return builder.constant([0, length, *rest], np.int64)
    leading = [extent_of(builder, x, 0), extent_of(builder, x, axis)]
    return builder.node("Concat", [*leading, builder.constant(list(rest), np.int64)], axis=0)


def split_heads(
    builder: ModelBuilder, x: str, length: int | None, heads: int, order: tuple[int, ...]
) -> str:
    """[n, s, heads * d] -> [n, s, heads, d], transposed by `order`."""
    shape = target_shape(builder, x, length, 1, (heads, -1))
    return builder.node("Transpose", [builder.node("Reshape", [x, shape])], perm=list(order))


def join_heads(builder: ModelBuilder, x: str, length: int | None, hidden: int) -> str:
    """[n, heads, s, d] -> [n, s, heads * d]."""
    moved = builder.node("Transpose", [x], perm=[0, 2, 1, 3])
    return builder.node("Reshape", [moved, target_shape(builder, moved, length, 1, (hidden,))])


def table(builder: ModelBuilder, rows: int, count: int, *, name: str, scale: float = 1.0) -> str:
    """An embedding table [rows, count]."""
    return builder.weight(name, builder.normal((rows, count), scale))
