"""Attention and MultiHeadAttention: projections, masks and caches around the standard Attention."""

from dataclasses import dataclass

from bessemer.core.dtypes import i64
from bessemer.core.shapes import Sym
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

FILTER = -10000.0
"""What masked scores are lowered by, where the node does not say."""
_SCORES = (
    "Shape", "Squeeze", "Unsqueeze", "Add", "Range", "Less", "GreaterOrEqual", "And", "Greater",
    "Where", "Concat", "Reshape", "Gather", "Mul", "Sub", "Expand", "Attention",
)
ATTENTION = ("Split", *_SCORES)
"""The operators that `attend_joined` may write."""


@dataclass(frozen=True)
class Scores:
    """How scores are scaled and masked; the same in every attention operator."""

    heads: int
    scale: float | None
    causal: int
    mask: Value | None
    """Integers: 1 for a key that counts, or the places where each row of keys ends (and starts)."""
    mask_filter: float | None
    bias: Value | None


def attend(
    d: Draft, q: Value, k: Value, v: Value, past: tuple[Value, Value] | None, scores: Scores,
    outputs: tuple[str, ...],
) -> list[Value]:
    """Writes the standard Attention; the outputs are y, present key, present value and scores.

    Shapes: q, k, v [b, s, h * d] or [b, h, s, d], past [b, h, p, d].
    """
    mask = _merged(d, k, past, scores)
    causal = int(bool(scores.causal) and _check_causal(d, q, k))
    return d.ops(
        "Attention", q, k, v, mask, *(past or ()), names=outputs, is_causal=causal,
        q_num_heads=scores.heads, kv_num_heads=scores.heads, qk_matmul_output_mode=2,
        scale=scores.scale or None,
    )


def _check_causal(d: Draft, q: Value, k: Value) -> bool:
    """False if the bound has no effect: one row may look at every key, wherever it stands.

    Raises UnsupportedOperatorError where runtimes disagree on which keys are previous ones.
    """
    rows = d.type(q).dims[-2]
    keys = d.type(k).dims[-2]
    if isinstance(rows, int) and isinstance(keys, int) and rows not in (1, keys):
        d.refuse(f"unidirectional with {rows} queries and {keys} keys")
    return rows != 1


def _merged(
    d: Draft, k: Value, past: tuple[Value, Value] | None, scores: Scores
) -> Value | None:
    if scores.mask is None:
        return scores.bias
    allowed = _allowed(d, scores.mask, k, past)
    dtype = k.tensor.dtype
    lowered = scores.mask_filter if scores.mask_filter is not None else FILTER
    mask = d.op("Where", allowed, d.constant(0, dtype), d.constant(lowered, dtype))
    return mask if scores.bias is None else d.op("Add", scores.bias, mask)


def _allowed(d: Draft, mask: Value, k: Value, past: tuple[Value, Value] | None) -> Value:
    """The mask as bool [b, 1, 1 or s, t]."""
    dims = d.type(mask).dims
    key_axis = 2 if d.type(k).rank == 4 else 1
    if len(dims) == 1:
        total = d.extent(k, key_axis)
        if past is not None:
            total = d.plus(total, d.extent(past[0], 2))
        return _ranges(d, mask, k, d.arange(total))
    if len(dims) not in (2, 3):
        d.refuse(f"a mask of rank {len(dims)}")
    counted = d.type(k).dims[key_axis]
    if past is not None:
        counted = counted + d.type(past[0]).dims[2]
    if isinstance(counted, int) and isinstance(dims[-1], int) and dims[-1] != counted:
        d.refuse(f"a mask {mask.type} that does not cover all {counted} keys")
    axes = [1, 2] if len(dims) == 2 else [1]
    return d.op("Unsqueeze", d.op("Greater", mask, d.constant(0, mask.tensor.dtype)),
                d.constant(axes))


def _ranges(d: Draft, mask: Value, k: Value, places: Value) -> Value:
    """True where a key lies before its row's end, and not before its start if that is given."""
    count, batch = d.type(mask).dims[0], d.type(k).dims[0]
    wide = d.cast(mask, i64)
    axes = d.constant([1, 2, 3])
    if count == batch:
        return d.op("Less", places, d.op("Unsqueeze", wide, axes))
    if count != 2 * batch:
        known = [dim.symbols() if isinstance(dim, Sym) else set() for dim in (count, batch)]
        if not any(known) or known[0] & known[1]:
            d.refuse(f"a mask {mask.type} for {batch} rows")
        wide = d.op("Concat", wide, _missing_starts(d, mask, k), axis=0)
    halves = d.op("Reshape", wide, d.constant([2, -1]))
    ends, starts = (d.op("Gather", halves, d.constant(half)) for half in range(2))
    before = d.op("Less", places, d.op("Unsqueeze", ends, axes))
    behind = d.op("GreaterOrEqual", places, d.op("Unsqueeze", starts, axes))
    return d.op("And", before, behind)


def _missing_starts(d: Draft, mask: Value, k: Value) -> Value:
    """Zeros for the starts that a mask of so many ends may lack; only a run knows."""
    both = d.op("Mul", d.extent(k, 0), d.constant(2))
    missing = d.op("Sub", both, d.extent(mask, 0))
    return d.op("Expand", d.constant([0]), d.op("Unsqueeze", missing, d.constant([0])))


def attend_joined(
    d: Draft, joined: Value, sizes: tuple[int, int, int], past: Value | None, scores: Scores
) -> None:
    """Writes attention over [b, s, q + k + v], with past and present as [2, b, h, p, d]."""
    q, k, v = d.ops("Split", joined, d.constant(sizes), axis=-1, names=("", "", ""))
    pair = None
    if past is not None:
        d.dims(past, 5)
        pair = (d.op("Gather", past, d.constant(0), axis=0),
                d.op("Gather", past, d.constant(1), axis=0))
    if not d.outputs[1]:
        attend(d, q, k, v, pair, scores, d.outputs[:1])
        return
    made = attend(d, q, k, v, pair, scores, (d.outputs[0], *d.unnamed("key", "value")))
    axis = d.constant([0])
    keys, values = (d.op("Unsqueeze", each, axis) for each in made[1:])
    d.op("Concat", keys, values, axis=0, name=d.outputs[1])


@contrib("Attention", outputs=2, becomes=("MatMul", *ATTENTION))
def attention(
    d: Draft, x: Value, weights: Value, bias: Value | None, mask: Value | None,
    past: Value | None, attention_bias: Value | None, past_length: Value | None, *,
    num_heads: int, unidirectional: int = 0, qkv_hidden_sizes: tuple[int, ...] = (),
    scale: float | None = None, mask_filter_value: float | None = None, do_rotary: int = 0,
    past_present_share_buffer: int = 0, rotary_embedding_dim: int = 0,
) -> None:
    """Self-attention with the projection x @ weights + bias in front."""
    if do_rotary or rotary_embedding_dim:
        d.refuse("do_rotary")
    if past_present_share_buffer or past_length is not None:
        d.refuse("past_present_share_buffer")
    width = d.size(weights, 1)
    sizes = tuple(qkv_hidden_sizes) or (width // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != width:
        d.invalid(f"weights {weights.type} do not hold query, key and value of sizes {sizes}")
    joined = d.op("MatMul", x, weights)
    if bias is not None:
        joined = d.op("Add", joined, bias)
    scores = Scores(num_heads, scale, unidirectional, mask, mask_filter_value, attention_bias)
    attend_joined(d, joined, (sizes[0], sizes[1], sizes[2]), past, scores)


@contrib(
    "MultiHeadAttention", outputs=4,
    becomes=("Slice", *ATTENTION),
)
def multi_head_attention(
    d: Draft, query: Value, key: Value | None, value: Value | None, bias: Value | None,
    mask: Value | None, attention_bias: Value | None, past_key: Value | None,
    past_value: Value | None, past_length: Value | None, indirection: Value | None, *,
    num_heads: int, scale: float | None = None, mask_filter_value: float | None = None,
    unidirectional: int = 0,
) -> None:
    """Attention behind projections that other nodes make; inputs may be packed in one tensor."""
    if past_length is not None or indirection is not None:
        d.refuse("past_sequence_length or cache_indirection")
    q, k, v = _unpacked(d, query, key, value)
    if bias is not None:
        q, k, v = _biased(d, q, k, v, bias)
    if (past_key is None) != (past_value is None):
        d.invalid("past_key and past_value must be given together")
    past = None
    if past_key is not None and past_value is not None:
        past = (past_key, past_value)
    scores = Scores(num_heads, scale, unidirectional, mask, mask_filter_value, attention_bias)
    attend(d, q, k, v, past, scores, d.outputs)


def _unpacked(
    d: Draft, query: Value, key: Value | None, value: Value | None
) -> tuple[Value, Value, Value]:
    """Query, key and value, which may be [b, s, h, 3, d] in one or [b, s, h, 2, d] in the key."""
    if key is None:
        if d.type(query).rank != 5 or value is not None:
            d.refuse("a query of rank 3 without key, or a value without key")
        q, k, v = (_part(d, query, part) for part in range(3))
        return q, k, v
    d.dims(query, 3)
    if value is None:
        d.dims(key, 5)
        return query, _part(d, key, 0), _part(d, key, 1)
    d.dims(key, 3, 4)
    d.dims(value, d.type(key).rank)
    return query, key, value


def _part(d: Draft, packed: Value, part: int) -> Value:
    """One of the tensors packed in [b, s, h, parts, d], as [b, s, h * d]."""
    chosen = d.op("Gather", packed, d.constant(part), axis=3)
    return d.op("Reshape", chosen, d.constant([0, 0, -1]))


def _biased(
    d: Draft, q: Value, k: Value, v: Value, bias: Value
) -> tuple[Value, Value, Value]:
    """Query, key and value plus their parts of the bias; keys of rank 4 have theirs already."""
    if d.type(k).rank == 4:
        first = d.op("Slice", bias, d.constant([0]), d.constant([d.size(q, 2)]))
        return d.op("Add", q, first), k, v
    sizes = [d.size(each, 2) for each in (q, k, v)]
    parts = d.ops("Split", bias, d.constant(sizes), axis=0, names=("", "", ""))
    q, k, v = (d.op("Add", each, part) for each, part in zip((q, k, v), parts, strict=True))
    return q, k, v
