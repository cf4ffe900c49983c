"""GroupQueryAttention: rotation, a cache of keys and values, and attention over it."""

from dataclasses import dataclass

import numpy as np

from bessemer.core.dtypes import i64
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value


@dataclass(frozen=True)
class _Steps:
    """Where the new rows of each sequence lie."""

    count: Value
    """How many rows are new, an i64 scalar."""
    starts: Value
    """How many rows lie before the new ones, i64 [b]."""
    ends: Value
    """How many rows there are then, i64 [b]."""
    total: Value
    """The most rows that a sequence has, an i64 scalar."""
    is_prompt: Value | bool
    """Whether nothing lies before the new rows; a bool scalar where that shows at run time only."""


def _steps(d: Draft, q: Value, seqlens: Value, total: Value, *, has_past: bool) -> _Steps:
    """The steps by the lengths that the node is told: seqlens i32 [b] is one less than each."""
    count = d.extent(q, 1)
    ends = d.op("Add", d.cast(d.op("Reshape", seqlens, d.constant([-1])), i64), d.constant(1))
    known = total.constant if total.constant is not None else total.tensor.value
    if known is not None:
        most = d.constant(int(known.reshape(-1)[0]))
    else:
        most = d.cast(d.op("Reshape", total, d.constant([])), i64)
    before = d.op("Sub", ends, count)
    none = d.op("Expand", d.constant(0), d.op("Shape", ends))
    if not has_past:
        return _Steps(count, none, ends, most, True)
    if known is not None and count.constant is not None:
        is_prompt = int(known.reshape(-1)[0]) == int(count.constant)
        return _Steps(count, none if is_prompt else before, ends, most, is_prompt)
    prompt = d.op("Equal", most, count)
    return _Steps(count, d.op("Where", prompt, none, before), ends, most, prompt)


def _separate(
    d: Draft, query: Value, key: Value | None, value: Value | None, heads: int, shared: int
) -> tuple[Value, Value, Value]:
    """Query, key and value, which may lie side by side in the query."""
    d.dims(query, 3)
    if key is not None and value is not None:
        d.dims(key, 3)
        d.dims(value, 3)
        return query, key, value
    if key is not None or value is not None:
        d.invalid("key and value must be given together")
    size = d.size(query, 2) // (heads + 2 * shared)
    sizes = d.constant([heads * size, shared * size, shared * size])
    q, k, v = d.ops("Split", query, sizes, axis=-1, names=("", "", ""))
    return q, k, v


def _positions(d: Draft, steps: _Steps, given: Value | None) -> Value:
    """The position of each new row, [b, s]; in a prompt the first one given is where all start."""
    rows = d.arange(steps.count)
    places = d.op("Add", d.op("Unsqueeze", steps.starts, d.constant([1])), rows)
    if given is None:
        return places
    d.dims(given, 2)
    first = d.op("Slice", given, d.constant([0, 0]), d.constant([1, 1]))
    prompt = d.op("Add", places, first)
    if isinstance(steps.is_prompt, bool):
        return prompt if steps.is_prompt else given
    return d.op("Where", steps.is_prompt, prompt, given)


def _present(
    d: Draft, new: Value, past: Value | None, steps: _Steps, shared: int, name: str
) -> Value:
    """The cache with the new rows in it, [b, h, t, d]; it grows where they do not fit."""
    split = d.op("Reshape", new, d.constant([0, 0, shared, -1]))
    rows = d.transpose(split, 0, 2, 1, 3, name="" if past is not None else name)
    if past is None:
        return rows
    capacity = d.extent(past, 2)
    if capacity.constant is not None and steps.total.constant is not None:
        missing = d.constant(max(int(steps.total.constant) - int(capacity.constant), 0))
    else:
        missing = d.op("Max", d.op("Sub", steps.total, capacity), d.constant(0))
    if missing.constant is None or int(missing.constant):
        pads = d.op("Concat", d.constant([0]), d.op("Unsqueeze", missing, d.constant([0])), axis=0)
        past = d.op("Pad", past, pads, None, d.constant([2]))
    return d.op("TensorScatter", past, rows, steps.starts, name=name)


def _with_sink(
    d: Draft, keys: Value, steps: _Steps, causal: int, window: int, bias: Value | None,
    sink: Value, heads: int,
) -> Value:
    """The mask [b, h, s, t + 1]; its last column is the score of a key that counts for nothing."""
    dtype = keys.tensor.dtype
    rank4 = d.constant([1, 2, 3])
    places = d.arange(d.extent(keys, 2))
    rows = d.op("Unsqueeze", d.arange(steps.count), d.constant([1]))
    row = d.op("Add", d.op("Unsqueeze", steps.starts, rank4), rows)
    if causal:
        allowed = d.op("LessOrEqual", places, row)
    else:
        allowed = d.op("Less", places, d.op("Unsqueeze", steps.ends, rank4))
    if window > 0:
        near = d.op("Greater", places, d.op("Sub", row, d.constant(window)))
        allowed = d.op("And", allowed, near)
    if bias is None:
        bias = d.constant(0, dtype)
    elif d.type(bias).dims[3] != d.type(keys).dims[2]:
        d.refuse("an attention bias that is shorter than the cache beside a sink")
    mask = d.op("Where", allowed, bias, d.constant(-np.inf, dtype))
    axis = d.constant([0])
    batch, count = (d.op("Unsqueeze", e, axis) for e in (d.extent(keys, 0), steps.count))
    width = d.op("Unsqueeze", d.extent(keys, 2), axis)
    shape = [d.op("Concat", batch, d.constant([heads]), count, last, axis=0)
             for last in (width, d.constant([1]))]
    column = d.op("Expand", d.op("Reshape", sink, d.constant([1, -1, 1, 1])), shape[1])
    return d.op("Concat", d.op("Expand", mask, shape[0]), column, axis=3)


@contrib(
    "GroupQueryAttention", outputs=4,
    becomes=(
        "Reshape", "Shape", "Squeeze", "Unsqueeze", "Cast", "Add", "Sub", "Expand", "Equal",
        "Where", "Split", "Range", "Slice", "Max", "Concat", "Pad", "Transpose", "TensorScatter",
        "LessOrEqual", "Less", "Greater", "And", "RotaryEmbedding", "Attention",
    ),
)
def group_query_attention(
    d: Draft, query: Value, key: Value | None, value: Value | None, past_key: Value | None,
    past_value: Value | None, seqlens: Value, total: Value, cos: Value | None, sin: Value | None,
    position_ids: Value | None, attention_bias: Value | None, head_sink: Value | None,
    k_scale: Value | None, v_scale: Value | None, q_norm: Value | None, k_norm: Value | None, *,
    num_heads: int, kv_num_heads: int, scale: float | None = None, softcap: float = 0.0,
    do_rotary: int = 0, rotary_interleaved: int = 0, local_window_size: int = -1,
    smooth_softmax: int = -1, causal: int = 1, qk_output: int = 0, k_quant_type: str = "NONE",
    v_quant_type: str = "NONE", kv_cache_bit_width: int = 0, sliding_window_cache: int = 0,
    qk_norm_epsilon: float = 1e-6,
) -> None:
    """Causal attention of grouped heads over a cache to which the new rows are added.

    Shapes: query [b, s, h * d], key and value [b, s, g * d] (or all in query), past [b, g, p, d],
    seqlens [b], total [], cos and sin [positions, half] -> y like query, present [b, g, t, d].
    """
    if qk_output or d.outputs[3]:
        d.refuse("qk_output")
    if {k_quant_type, v_quant_type} != {"NONE"} or kv_cache_bit_width or k_scale or v_scale:
        d.refuse("a quantised cache (k_quant_type, v_quant_type, kv_cache_bit_width)")
    if sliding_window_cache:
        d.refuse("sliding_window_cache")
    if q_norm is not None or k_norm is not None:
        d.refuse("q_norm_weight or k_norm_weight")
    q, k, v = _separate(d, query, key, value, num_heads, kv_num_heads)
    steps = _steps(d, q, seqlens, total, has_past=past_key is not None)
    if do_rotary:
        if cos is None or sin is None:
            d.invalid("do_rotary needs cos_cache and sin_cache")
        places = _positions(d, steps, position_ids)
        width = 2 * d.size(cos, 1)
        q, k = (
            d.op("RotaryEmbedding", x, cos, sin, places, num_heads=heads,
                 rotary_embedding_dim=width, interleaved=rotary_interleaved)
            for x, heads in ((q, num_heads), (k, kv_num_heads))
        )
    keys = _present(d, k, past_key, steps, kv_num_heads, d.outputs[1])
    values = _present(d, v, past_value, steps, kv_num_heads, d.outputs[2])
    shared = {"q_num_heads": num_heads, "kv_num_heads": kv_num_heads, "scale": scale or None,
              "softcap": softcap}
    if head_sink is None and smooth_softmax == 1:
        head_sink = d.constant(np.zeros(num_heads), q.tensor.dtype)
    if head_sink is not None:
        mask = _with_sink(d, keys, steps, causal, local_window_size, attention_bias, head_sink,
                          num_heads)
        one, axis = d.constant([0, 1]), d.constant([2])
        keys, values = (d.op("Pad", cache, one, None, axis) for cache in (keys, values))
        d.op("Attention", q, keys, values, mask, name=d.outputs[0], **shared)
        return
    lengths = d.op("Add", steps.starts, steps.count) if causal else steps.ends
    d.op("Attention", q, keys, values, attention_bias, None, None, lengths, name=d.outputs[0],
         is_causal=int(bool(causal)), left_window_size=max(local_window_size, 0) - 1, **shared)
