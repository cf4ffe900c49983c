"""GPT-2 small, the pass over the prompt (Radford et al. 2019), tied output weights."""

import math

import numpy as np
from onnx import ModelProto, TensorProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.transformer import (
    gelu_tanh,
    join_heads,
    spelled_layer_norm,
    split_heads,
    table,
)

_HEAD = 64
_EPSILON = 1e-5
_MASKED = float(np.finfo(np.float32).min)


def _projection(
    builder: ModelBuilder, x: str, inputs: int, outputs: int, length: int, *, name: str,
    gain: float = 1.0,
) -> str:  # fmt: skip
    """[n, s, inputs] -> [n, s, outputs]: Reshape, Gemm, Reshape, as GPT-2 exports have it."""
    weight = builder.normal((inputs, outputs), math.sqrt(gain / inputs))
    with builder.scope(name):
        flat = builder.node("Reshape", [x, builder.constant([-1, inputs], np.int64)])
        operands = [
            flat,
            builder.weight("weight", weight),
            builder.weight("bias", builder.normal((outputs,), 0.05)),
        ]
        y = builder.node("Gemm", operands)
        return builder.node("Reshape", [y, builder.constant([-1, length, outputs], np.int64)])


def _attention(builder: ModelBuilder, x: str, hidden: int, length: int) -> str:
    heads = hidden // _HEAD
    joined = _projection(builder, x, hidden, 3 * hidden, length, name="c_attn")
    sizes = builder.constant([hidden] * 3, np.int64)
    query, key, value = builder.nodes("Split", [joined, sizes], 3, axis=2)
    query = split_heads(builder, query, length, heads, (0, 2, 1, 3))
    key = split_heads(builder, key, length, heads, (0, 2, 3, 1))
    value = split_heads(builder, value, length, heads, (0, 2, 1, 3))
    scores = builder.node("MatMul", [query, key])
    scores = builder.node("Div", [scores, builder.constant(math.sqrt(_HEAD))])
    seen = builder.constant(np.tril(np.ones((1, 1, length, length))), np.bool_)
    scores = builder.node("Where", [seen, scores, builder.constant(_MASKED)])
    weights = builder.node("Softmax", [scores], axis=-1)
    context = join_heads(builder, builder.node("MatMul", [weights, value]), length, hidden)
    return _projection(builder, context, hidden, hidden, length, name="c_proj")


def _block(builder: ModelBuilder, x: str, hidden: int, length: int) -> str:
    y = spelled_layer_norm(builder, x, hidden, name="ln_1", epsilon=_EPSILON)
    with builder.scope("attn"):
        x = builder.node("Add", [_attention(builder, y, hidden, length), x])
    y = spelled_layer_norm(builder, x, hidden, name="ln_2", epsilon=_EPSILON)
    with builder.scope("mlp"):
        y = gelu_tanh(builder, _projection(builder, y, hidden, 4 * hidden, length, name="c_fc"))
        y = _projection(builder, y, 4 * hidden, hidden, length, name="c_proj", gain=0.5)
    return builder.node("Add", [x, y])


@zoo_model("gpt2_prefill")
def gpt2_prefill(options: ZooOptions) -> ModelProto:
    """The network; token ids [n, 128] -> logits [n, 128, 50257]."""
    length = options.size or 128
    hidden = options.channels(768, _HEAD)
    vocabulary = max(1000, options.channels(50257, 1))
    builder = ModelBuilder("gpt2_prefill", options.seed)
    ids = builder.input("input_ids", (options.batch, length), TensorProto.INT64)
    with builder.scope("transformer"):
        words = table(builder, vocabulary, hidden, name="wte.weight", scale=hidden**-0.5)
        places = table(builder, max(1024, length), hidden, name="wpe.weight", scale=0.02)
        positions = builder.constant(np.arange(length)[None], np.int64)
        x = builder.node("Gather", [words, ids])
        x = builder.node("Add", [x, builder.node("Gather", [places, positions])])
        for index in range(options.layers or 12):
            with builder.scope(f"h.{index}"):
                x = _block(builder, x, hidden, length)
        x = spelled_layer_norm(builder, x, hidden, name="ln_f", epsilon=_EPSILON)
    with builder.scope("lm_head"):
        x = builder.node("MatMul", [x, builder.node("Transpose", [words], perm=[1, 0])])
    builder.output(x, "logits", (options.batch, length, vocabulary))
    return builder.finish()
