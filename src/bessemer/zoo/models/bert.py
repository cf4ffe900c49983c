"""BERT-base encoder (Devlin et al. 2018), as exporters spell it out."""

import math

import numpy as np
from onnx import ModelProto, TensorProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.transformer import (
    extent_of,
    gelu_erf,
    join_heads,
    linear,
    spelled_layer_norm,
    split_heads,
    table,
)

_HEAD = 64
_MASKED = -10000.0


def _embeddings(builder: ModelBuilder, ids: str, types: str, vocabulary: int, hidden: int,
                length: int | None) -> str:  # fmt: skip
    words = builder.node("Gather", [table(builder, vocabulary, hidden, name="word.weight"), ids])
    kinds = builder.node("Gather", [table(builder, 2, hidden, name="type.weight"), types])
    positions = _positions(builder, ids, length)
    places = table(builder, max(512, length or 0), hidden, name="position.weight")
    x = builder.node("Add", [words, kinds])
    x = builder.node("Add", [x, builder.node("Gather", [places, positions])])
    return spelled_layer_norm(builder, x, hidden, name="LayerNorm")


def _positions(builder: ModelBuilder, ids: str, length: int | None) -> str:
    """[1, s]: 0, 1, 2 ...; of an open length a part of the longest."""
    if length is not None:
        return builder.constant(np.arange(length)[None], np.int64)
    longest = builder.constant(np.arange(512)[None], np.int64)
    start, axis = (builder.constant([n], np.int64) for n in (0, 1))
    return builder.node("Slice", [longest, start, extent_of(builder, ids, 1), axis])


def _mask(builder: ModelBuilder, mask: str) -> str:
    """[n, s] of ones and zeros -> [n, 1, 1, s] of 0 and -10000."""
    wide = builder.node("Unsqueeze", [mask, builder.constant([1], np.int64)])
    wide = builder.node("Unsqueeze", [wide, builder.constant([2], np.int64)])
    wide = builder.node("Cast", [wide], to=TensorProto.FLOAT)
    inverse = builder.node("Sub", [builder.constant(1.0), wide])
    return builder.node("Mul", [inverse, builder.constant(_MASKED)])


def _attention(builder: ModelBuilder, x: str, mask: str, hidden: int, length: int | None) -> str:
    heads = hidden // _HEAD
    query, key, value = (
        linear(builder, x, hidden, hidden, name=name) for name in ("query", "key", "value")
    )
    query = split_heads(builder, query, length, heads, (0, 2, 1, 3))
    key = split_heads(builder, key, length, heads, (0, 2, 3, 1))
    value = split_heads(builder, value, length, heads, (0, 2, 1, 3))
    scores = builder.node("MatMul", [query, key])
    scores = builder.node("Div", [scores, builder.constant(math.sqrt(_HEAD))])
    scores = builder.node("Add", [scores, mask])
    weights = builder.node("Softmax", [scores], axis=-1)
    context = builder.node("MatMul", [weights, value])
    return join_heads(builder, context, length, hidden)


def _layer(builder: ModelBuilder, x: str, mask: str, hidden: int, length: int | None) -> str:
    with builder.scope("attention"):
        y = _attention(builder, x, mask, hidden, length)
        y = linear(builder, y, hidden, hidden, name="output")
        x = spelled_layer_norm(builder, builder.node("Add", [y, x]), hidden, name="LayerNorm")
    y = gelu_erf(builder, linear(builder, x, hidden, 4 * hidden, name="intermediate"))
    with builder.scope("output"):
        y = linear(builder, y, 4 * hidden, hidden, name="dense", gain=2.0)
        return spelled_layer_norm(builder, builder.node("Add", [y, x]), hidden, name="LayerNorm")


@zoo_model("bert_base")
def bert_base(options: ZooOptions) -> ModelProto:
    """The encoder; token ids, mask and types [n, 128] -> states [n, 128, 768].

    A dynamic one takes up to 512 tokens.
    """
    length = None if options.dynamic else options.size or 128
    hidden = options.channels(768, _HEAD)
    shape = ("batch", "sequence") if length is None else (options.batch, length)
    builder = ModelBuilder("bert_base", options.seed)
    ids, mask, types = (
        builder.input(name, shape, TensorProto.INT64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    vocabulary = max(1000, options.channels(30522, 2))
    with builder.scope("embeddings"):
        x = _embeddings(builder, ids, types, vocabulary, hidden, length)
    added = _mask(builder, mask)
    for index in range(options.layers or 12):
        with builder.scope(f"encoder.layer.{index}"):
            x = _layer(builder, x, added, hidden, length)
    builder.output(x, "last_hidden_state", (*shape, hidden))
    return builder.finish()
