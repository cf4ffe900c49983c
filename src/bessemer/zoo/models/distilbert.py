"""DistilBERT encoder (Sanh et al. 2019): half of BERT's layers, no token types."""

import math

import numpy as np
from onnx import ModelProto, TensorProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.transformer import (
    gelu_erf,
    join_heads,
    layer_norm,
    linear,
    split_heads,
    table,
)

_HEAD = 64
_EPSILON = 1e-12


def _embeddings(builder: ModelBuilder, ids: str, vocabulary: int, hidden: int, length: int) -> str:
    words = builder.node("Gather", [table(builder, vocabulary, hidden, name="word.weight"), ids])
    places = table(builder, max(512, length), hidden, name="position.weight")
    positions = builder.constant(np.arange(length)[None], np.int64)
    x = builder.node("Add", [words, builder.node("Gather", [places, positions])])
    return layer_norm(builder, x, hidden, name="LayerNorm", epsilon=_EPSILON)


def _attention(builder: ModelBuilder, x: str, hidden_keys: str, hidden: int, length: int) -> str:
    """Self-attention; `hidden_keys` [n, 1, 1, s] is true where a key must not be seen."""
    heads = hidden // _HEAD
    query, key, value = (
        linear(builder, x, hidden, hidden, name=name) for name in ("q_lin", "k_lin", "v_lin")
    )
    query = split_heads(builder, query, length, heads, (0, 2, 1, 3))
    key = split_heads(builder, key, length, heads, (0, 2, 3, 1))
    value = split_heads(builder, value, length, heads, (0, 2, 1, 3))
    query = builder.node("Div", [query, builder.constant(math.sqrt(_HEAD))])
    scores = builder.node("MatMul", [query, key])
    least = builder.constant(float(np.finfo(np.float32).min))
    scores = builder.node("Where", [hidden_keys, least, scores])
    context = builder.node("MatMul", [builder.node("Softmax", [scores], axis=-1), value])
    return linear(builder, join_heads(builder, context, length, hidden), hidden, hidden,
                  name="out_lin")


def _layer(builder: ModelBuilder, x: str, hidden_keys: str, hidden: int, length: int) -> str:
    with builder.scope("attention"):
        y = _attention(builder, x, hidden_keys, hidden, length)
    x = layer_norm(builder, builder.node("Add", [y, x]), hidden, name="sa_layer_norm",
                   epsilon=_EPSILON)
    with builder.scope("ffn"):
        y = gelu_erf(builder, linear(builder, x, hidden, 4 * hidden, name="lin1"))
        y = linear(builder, y, 4 * hidden, hidden, name="lin2", gain=2.0)
    return layer_norm(builder, builder.node("Add", [y, x]), hidden, name="output_layer_norm",
                      epsilon=_EPSILON)


@zoo_model("distilbert")
def distilbert(options: ZooOptions) -> ModelProto:
    """The encoder; token ids and mask [n, 128] -> states [n, 128, 768]."""
    length, hidden = options.size or 128, options.channels(768, _HEAD)
    shape = (options.batch, length)
    builder = ModelBuilder("distilbert", options.seed)
    ids, mask = (
        builder.input(name, shape, TensorProto.INT64) for name in ("input_ids", "attention_mask")
    )
    with builder.scope("embeddings"):
        vocabulary = max(1000, options.channels(30522, 2))
        x = _embeddings(builder, ids, vocabulary, hidden, length)
    wide = builder.node("Unsqueeze", [mask, builder.constant([1, 2], np.int64)])
    hidden_keys = builder.node("Equal", [wide, builder.constant(0, np.int64)])
    for index in range(options.layers or 6):
        with builder.scope(f"transformer.layer.{index}"):
            x = _layer(builder, x, hidden_keys, hidden, length)
    builder.output(x, "last_hidden_state", (*shape, hidden))
    return builder.finish()
