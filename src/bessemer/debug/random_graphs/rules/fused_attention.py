"""com.microsoft: attention with projections, masks, caches and grouped heads.

Numbers are small and finite: whether what is masked out may still give NaN is not defined. The
number of features is never open, as in every exported model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.rules.fused import microsoft
from bessemer.debug.random_graphs.values import Value


def _floats(maker: Maker, shape: Sequence[int], constant: bool | None = None) -> Value:
    return maker.fresh("f32", shape, low=-2.0, high=2.0, constant=constant, fixed=1)


def _lengths(maker: Maker, batch: Value, most: int) -> Value:
    """A length for each sequence of a batch, of which it has the symbol."""
    value = maker.fresh("i32", batch.shape[:1], low=1, high=most, constant=False)
    value.symbols = batch.symbols[:1]
    return value


@rule("com.microsoft.Attention", weight=0.6)
def attention(maker: Maker) -> None:
    """Self-attention behind one projection."""
    batch, length, width = maker.integer(1, 2), maker.integer(1, 5), maker.integer(2, 6)
    heads, head = maker.integer(1, 2), maker.choose(2, 4)
    hidden = heads * head
    past = maker.integer(1, 3) if maker.chance(0.3) else 0
    x = _floats(maker, [batch, length, width])
    weights = _floats(maker, [width, 3 * hidden], True)
    bias = _floats(maker, [3 * hidden], True)
    total = length + past
    mask = cache = added = None
    match maker.integer(0, 4):
        case 0:
            mask = _lengths(maker, x, total)
        case 1:
            mask = maker.fresh("i32", [batch, total], low=0, high=1)
        case 2:
            mask = maker.fresh("i32", [batch, length, total], low=0, high=1)
    if past:
        cache = _floats(maker, [2, batch, heads, past, head])
    elif maker.chance(0.3):
        added = _floats(maker, [maker.choose(1, batch), heads, length, length])
    given: dict[str, Any] = {"scale": 0.3} if maker.chance(0.3) else {}
    microsoft(
        maker,
        "Attention",
        x,
        weights,
        bias,
        mask,
        cache,
        added,
        num_heads=heads,
        outputs=2 if past else 1,
        unidirectional=maker.integer(0, 1),
        **given,
    )


@rule("MultiHeadAttention", weight=0.6)
def multi_head(maker: Maker) -> None:
    """Attention of separate queries, keys and values."""
    batch, queries, keys = maker.integer(1, 2), maker.integer(1, 5), maker.integer(1, 6)
    heads, head, value_head = maker.integer(1, 3), maker.choose(2, 4), maker.choose(2, 4)
    past = maker.integer(1, 3) if maker.chance(0.25) else 0
    if past:
        value_head, keys = head, queries
    hidden, values = heads * head, heads * value_head
    query = _floats(maker, [batch, queries, hidden])
    key, value = (_floats(maker, [batch, keys, size]) for size in (hidden, values))
    if not past and maker.chance(0.2):
        key, value = (_floats(maker, [batch, heads, keys, size]) for size in (head, value_head))
    bias = (
        _floats(maker, [2 * hidden + values]) if key.rank == 3 and maker.chance(0.4) else None
    )
    total = keys + past
    mask = added = None
    if not past and maker.chance(0.4):
        shape = maker.choose([batch, total], [batch, queries, total])
        mask = maker.fresh("i32", shape, low=0, high=1)
    if maker.chance(0.3):
        added = _floats(maker, [maker.choose(1, batch), maker.choose(1, heads), queries, total])
    old = [_floats(maker, [batch, heads, past, head]) for _ in range(2)] if past else []
    given: dict[str, Any] = {"scale": 0.4} if maker.chance(0.3) else {}
    if queries == total or past:
        given["unidirectional"] = maker.integer(0, 1)
    microsoft(
        maker,
        "MultiHeadAttention",
        query,
        key,
        value,
        bias,
        mask,
        added,
        *old,
        outputs=3 if past else 1,
        num_heads=heads,
        **given,
    )


@rule("GroupQueryAttention", weight=0.6)
def grouped(maker: Maker) -> None:
    """Causal attention over a cache. All sequences are equally long: else rows are undefined."""
    batch, groups, repeat = maker.integer(1, 2), maker.integer(1, 2), maker.integer(1, 2)
    heads, size = groups * repeat, 16
    past = maker.integer(1, 4) if maker.chance(0.5) else 0
    rows = maker.integer(1, 4) if not past else 1
    total = rows + past
    query, key, value = (
        _floats(maker, [batch, rows, count * size]) for count in (heads, groups, groups)
    )
    caches: list[Value | None] = [None, None]
    if past:
        caches = [_floats(maker, [batch, groups, past, size]) for _ in range(2)]
    ends = maker.given(np.full(batch, total - 1, np.int32), maker.chance(0.5))
    count = maker.given(np.asarray(total, np.int32), True)
    given: dict[str, Any] = {}
    tables: list[Value | None] = []
    if maker.chance(0.5):
        tables = [maker.fresh("f32", [16, 8], low=-1.0, high=1.0, fixed=8) for _ in range(2)]
        given = {"do_rotary": 1, "rotary_interleaved": maker.integer(0, 1)}
    if maker.chance(0.3):
        given["local_window_size"] = maker.integer(1, 4)
    if maker.chance(0.2):
        given["softcap"] = 2.0
    if maker.chance(0.3):
        given["scale"] = 0.2
    microsoft(
        maker,
        "GroupQueryAttention",
        query,
        key,
        value,
        *caches,
        ends,
        count,
        *tables,
        outputs=3,
        num_heads=heads,
        kv_num_heads=groups,
        **given,
    )


@rule("QAttention", weight=0.4)
def quantized(maker: Maker) -> None:
    """Self-attention behind a projection of integers."""
    batch, length, width = maker.integer(1, 2), maker.integer(1, 4), maker.integer(2, 6)
    heads, head = maker.integer(1, 2), maker.choose(2, 4)
    hidden = 3 * heads * head
    kind = maker.choose("i8", "u8")
    x = maker.fresh("u8", [batch, length, width], low=0, high=255)
    weight = maker.fresh(kind, [width, hidden], low=-127, high=127, constant=True)
    bias = _floats(maker, [hidden], True)
    shape = [hidden] if maker.chance(0.3) else []
    scales = [maker.fresh("f32", dims, low=0.005, high=0.05, constant=True) for dims in ([], shape)]
    zeros = [
        maker.fresh("u8", [], low=90, high=150, constant=True),
        maker.fresh(kind, shape, low=0, high=3, constant=True),
    ]
    mask = _lengths(maker, x, length) if maker.chance(0.4) else None
    microsoft(
        maker,
        "QAttention",
        x,
        weight,
        bias,
        *scales,
        mask,
        *zeros,
        num_heads=heads,
        unidirectional=maker.integer(0, 1),
    )


@rule("com.microsoft.LinearAttention", "com.microsoft.CausalConvWithState", weight=0.3)
def recurrent(maker: Maker) -> None:
    """States carried from call to call."""
    batch, length = maker.integer(1, 2), maker.integer(1, 5)
    if maker.chance(0.5):
        channels, width = maker.integer(1, 5), maker.integer(2, 4)
        bias = _floats(maker, [channels]) if maker.chance(0.5) else None
        past = _floats(maker, [batch, channels, width - 1]) if maker.chance(0.5) else None
        microsoft(maker, "CausalConvWithState", _floats(maker, [batch, channels, length]),
                  _floats(maker, [channels, 1, width]), bias, past, outputs=2,
                  activation=maker.choose("none", "silu"))
        return
    shared, repeat, size, values = (maker.integer(1, 2), maker.integer(1, 2), maker.choose(2, 4),
                                    maker.choose(2, 3))
    query, key, value = (_floats(maker, [batch, length, width]) for width in (
        shared * repeat * size, shared * size, shared * values))
    update = maker.choose("linear", "gated", "delta", "gated_delta")
    past = _floats(maker, [batch, shared, size, values]) if maker.chance(0.5) else None
    decay = beta = None
    if "gated" in update:
        decay = maker.fresh("f32", [batch, length, shared], low=-2.0, high=0.0, fixed=1)
    if "delta" in update:
        beta = maker.fresh("f32", [batch, length, shared], low=0.0, high=1.0, fixed=1)
    microsoft(maker, "LinearAttention", query, key, value, past, decay, beta, outputs=2,
              q_num_heads=shared * repeat, kv_num_heads=shared, update_rule=update)


@rule("MoE", weight=0.4)
def experts(maker: Maker) -> None:
    """The best of some small networks for each token."""
    count, width, inner = maker.integer(2, 4), maker.integer(2, 6), maker.integer(2, 5)
    rows = maker.choose([maker.integer(1, 5)], [2, maker.integer(1, 3)])
    kind = maker.choose("relu", "gelu", "silu", "identity", "swiglu")
    both = 2 if kind == "swiglu" else 1
    biases = maker.chance(0.6)
    x = _floats(maker, [*rows, width])
    router = _floats(maker, [int(np.prod(rows)), count])
    given: dict[str, Any] = {"swiglu_fusion": 1, "activation_alpha": 1.5} if both == 2 else {}
    microsoft(
        maker, "MoE", x, router, _floats(maker, [count, both * inner, width], True),
        _floats(maker, [count, both * inner], True) if biases else None,
        _floats(maker, [count, width, inner], True),
        _floats(maker, [count, width], True) if biases else None, activation_type=kind,
        k=maker.integer(1, count), normalize_routing_weights=maker.integer(0, 1), **given)
