"""Normalisations with sums and embeddings fused in: SkipLayerNormalization and its kin."""

import numpy as np

from bessemer.core.dtypes import f32, i32
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

TINY = float(np.float32(1e-12))


def _rms(
    d: Draft, x: Value, scale: Value, epsilon: float, axis: int, y: str, inverse: str
) -> None:
    """RMSNormalization; its inverse deviation is written as nodes of its own where it is wanted."""
    d.op("RMSNormalization", x, scale, axis=axis, epsilon=epsilon, name=y)
    if inverse:
        rank = d.type(x).rank
        axes = d.constant(range(axis + rank if axis < 0 else axis, rank))
        wide = d.cast(x, f32) if x.tensor.dtype.bits < 32 else x
        square = d.op("ReduceMean", d.op("Mul", wide, wide), axes, keepdims=1)
        shifted = d.op("Add", square, d.constant(epsilon, wide.tensor.dtype))
        d.op("Reciprocal", d.op("Sqrt", shifted), name=inverse)


@contrib(
    "SimplifiedLayerNormalization", domain="", outputs=2,
    becomes=("RMSNormalization", "ReduceMean", "Mul", "Add", "Sqrt", "Reciprocal"),
)
def simplified_layer_norm(
    d: Draft, x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> None:
    """RMSNormalization before it had that name: x / sqrt(mean(x * x) + epsilon) * scale."""
    if stash_type != 1 and x.tensor.dtype != f32:
        d.refuse(f"stash_type {stash_type}")
    _rms(d, x, scale, epsilon, axis, *d.outputs)


def _skip_sum(d: Draft, x: Value, skip: Value, bias: Value | None, name: str) -> Value:
    if bias is None:
        return d.op("Add", x, skip, name=name)
    return d.op("Add", d.op("Add", x, skip), bias, name=name)


@contrib("SkipLayerNormalization", outputs=4, becomes=("Add", "LayerNormalization"))
def skip_layer_norm(
    d: Draft, x: Value, skip: Value, gamma: Value, beta: Value | None, bias: Value | None, *,
    epsilon: float = TINY,
) -> None:
    """LayerNormalization of x + skip + bias, and that sum."""
    total = _skip_sum(d, x, skip, bias, d.outputs[3])
    d.ops("LayerNormalization", total, gamma, beta, epsilon=epsilon, names=d.outputs[:3])


@contrib(
    "SkipSimplifiedLayerNormalization", outputs=4,
    becomes=("Add", "RMSNormalization", "ReduceMean", "Mul", "Sqrt", "Reciprocal"),
)
def skip_simplified_layer_norm(
    d: Draft, x: Value, skip: Value, gamma: Value, bias: Value | None, *, epsilon: float = TINY
) -> None:
    """RMSNormalization of x + skip + bias, and that sum."""
    if d.outputs[1]:
        d.refuse("output 1 (mean)")
    total = _skip_sum(d, x, skip, bias, d.outputs[3])
    _rms(d, total, gamma, epsilon, -1, d.outputs[0], d.outputs[2])


_EMBED = ("Gather", "Add", "LayerNormalization", "Equal", "Cast", "ReduceSum", "Shape", "Squeeze",
          "Range", "Unsqueeze", "Expand")


@contrib("EmbedLayerNormalization", outputs=3, becomes=(*_EMBED, "Identity"))
def embed_layer_norm(
    d: Draft, ids: Value, segment_ids: Value | None, words: Value, positions: Value,
    segments: Value | None, gamma: Value, beta: Value, mask: Value | None,
    position_ids: Value | None, *, epsilon: float = TINY, mask_index_type: int = 0,
) -> None:
    """LayerNormalization of word + position + segment embeddings, and how many words there are."""
    places = d.arange(d.extent(ids, 1)) if position_ids is None else position_ids
    total = d.op("Add", d.op("Gather", words, ids), d.op("Gather", positions, places))
    if segments is not None and segment_ids is not None:
        total = d.op("Add", total, d.op("Gather", segments, segment_ids))
    d.op("LayerNormalization", total, gamma, beta, epsilon=epsilon, name=d.outputs[0])
    d.result(total, 2)
    _mask_index(d, ids, mask)


@contrib(
    "QEmbedLayerNormalization", outputs=2, becomes=(*_EMBED, "DequantizeLinear")
)
def quantized_embed_layer_norm(
    d: Draft, ids: Value, segment_ids: Value | None, words: Value, positions: Value,
    segments: Value | None, gamma: Value, beta: Value, mask: Value | None, words_scale: Value,
    positions_scale: Value, segments_scale: Value | None, gamma_scale: Value, beta_scale: Value,
    words_zero: Value, positions_zero: Value, segments_zero: Value | None, gamma_zero: Value,
    beta_zero: Value, *, epsilon: float = TINY,
) -> None:
    """EmbedLayerNormalization with quantised tables, of which only the used rows become real."""

    def rows(table: Value, places: Value, scale: Value, zero: Value | None) -> Value:
        return d.op("DequantizeLinear", d.op("Gather", table, places), scale, zero)

    total = d.op("Add", rows(words, ids, words_scale, words_zero),
                 rows(positions, d.arange(d.extent(ids, 1)), positions_scale, positions_zero))
    if segments is not None and segment_ids is not None and segments_scale is not None:
        extra = rows(segments, segment_ids, segments_scale, segments_zero)
        total = d.op("Add", total, extra)
    scale = d.op("DequantizeLinear", gamma, gamma_scale, gamma_zero)
    shift = d.op("DequantizeLinear", beta, beta_scale, beta_zero)
    d.op("LayerNormalization", total, scale, shift, epsilon=epsilon, name=d.outputs[0])
    _mask_index(d, ids, mask)


def _mask_index(d: Draft, ids: Value, mask: Value | None) -> None:
    """Output 1: how many ones each row of the mask has; zeros without a mask."""
    if not d.outputs[1]:
        return
    if mask is None:
        batch = d.op("Unsqueeze", d.extent(ids, 0), d.constant([0]))
        d.op("Expand", d.constant(0, i32), batch, name=d.outputs[1])
    else:
        ones = d.cast(d.op("Equal", mask, d.constant(1, i32)), i32)
        d.op("ReduceSum", ones, d.constant([1]), keepdims=0, name=d.outputs[1])
