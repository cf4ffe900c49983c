"""ViT-B/16 (Dosovitskiy et al. 2020), with LayerNormalization as one operator."""

import math

import numpy as np
from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, fully_connected
from bessemer.zoo.transformer import gelu_erf, join_heads, layer_norm, linear

_HEAD = 64
_PATCH = 16


def _tokens(builder: ModelBuilder, x: str, hidden: int, side: int, batch: int) -> str:
    fan_in = 3 * _PATCH * _PATCH
    weight = builder.normal((hidden, 3, _PATCH, _PATCH), math.sqrt(AFTER_LINEAR / fan_in))
    operands = [
        x,
        builder.weight("projection.weight", weight),
        builder.weight("projection.bias", builder.normal((hidden,), 0.05)),
    ]
    patch = [_PATCH, _PATCH]
    x = builder.node("Conv", operands, kernel_shape=patch, strides=patch)
    x = builder.node("Reshape", [x, builder.constant([0, hidden, side * side], np.int64)])
    x = builder.node("Transpose", [x], perm=[0, 2, 1])
    first = builder.weight("cls_token", builder.normal((1, 1, hidden), 1.0))
    first = builder.node("Expand", [first, builder.constant([batch, 1, hidden], np.int64)])
    x = builder.node("Concat", [first, x], axis=1)
    places = builder.weight("position", builder.normal((1, side * side + 1, hidden), 0.5))
    return builder.node("Add", [x, places])


def _attention(builder: ModelBuilder, x: str, hidden: int, length: int) -> str:
    heads = hidden // _HEAD
    joined = linear(builder, x, hidden, 3 * hidden, name="qkv")
    shape = builder.constant([0, length, 3, heads, _HEAD], np.int64)
    joined = builder.node("Reshape", [joined, shape])
    joined = builder.node("Transpose", [joined], perm=[2, 0, 3, 1, 4])
    query, key, value = (
        builder.node("Gather", [joined, builder.constant(index, np.int64)], axis=0)
        for index in range(3)
    )
    query = builder.node("Mul", [query, builder.constant(_HEAD**-0.5)])
    key = builder.node("Transpose", [key], perm=[0, 1, 3, 2])
    weights = builder.node("Softmax", [builder.node("MatMul", [query, key])], axis=-1)
    context = join_heads(builder, builder.node("MatMul", [weights, value]), length, hidden)
    return linear(builder, context, hidden, hidden, name="proj")


def _block(builder: ModelBuilder, x: str, hidden: int, length: int) -> str:
    y = layer_norm(builder, x, hidden, name="norm1")
    with builder.scope("attn"):
        x = builder.node("Add", [x, _attention(builder, y, hidden, length)])
    y = layer_norm(builder, x, hidden, name="norm2")
    with builder.scope("mlp"):
        y = gelu_erf(builder, linear(builder, y, hidden, 4 * hidden, name="fc1"))
        y = linear(builder, y, 4 * hidden, hidden, name="fc2", gain=0.5)
    return builder.node("Add", [x, y])


@zoo_model("vit_b16")
def vit_b16(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224] (side a multiple of 16), output [n, 1000]."""
    size = options.size or 224
    side = size // _PATCH
    hidden = options.channels(768, _HEAD)
    builder = ModelBuilder("vit_b16", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    with builder.scope("embeddings"):
        x = _tokens(builder, x, hidden, side, options.batch)
    for index in range(options.layers or 12):
        with builder.scope(f"blocks.{index}"):
            x = _block(builder, x, hidden, side * side + 1)
    x = layer_norm(builder, x, hidden, name="norm")
    x = builder.node("Gather", [x, builder.constant(0, np.int64)], axis=1)
    x = fully_connected(builder, x, hidden, 1000, name="head")
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
