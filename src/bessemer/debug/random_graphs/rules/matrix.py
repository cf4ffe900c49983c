"""Matrix products in all their forms, and attention."""

import math
from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import FLOATS, Maker, rule
from bessemer.debug.random_graphs.values import Reject, Value


@rule("MatMul", weight=5)
def matmul(maker: Maker) -> None:
    """Vectors, matrices and stacks of them that broadcast."""
    a = maker.pick((*FLOATS, "i32", "i64", "u32"), (1, 4))
    k = a.shape[-1]
    batch = list(a.shape[:-2]) if a.rank > 2 and maker.chance(0.5) else []
    batch = [1 if maker.chance(0.3) else dim for dim in batch]
    shape = [k] if maker.chance(0.12) else [*batch, k, maker.integer(1, 9)]
    fitting = [v for v in maker.values if v.dtype == a.dtype and v.rank == 2 and v.shape[0] == k]
    b = maker.random.choice(fitting) if fitting and maker.chance(0.5) else maker.fresh(
        a.dtype, shape)
    maker.emit("MatMul", [a, b], work=a.data.size * (b.shape[-1] if b.rank > 1 else 1))


@rule("Gemm", weight=3)
def gemm(maker: Maker) -> None:
    """Both transpositions, both factors, and a bias that broadcasts."""
    a = maker.pick((*FLOATS, "i32", "i64"), (2, 2))
    trans_a, trans_b = maker.integer(0, 1), maker.integer(0, 1)
    m, k = a.shape[::-1] if trans_a else a.shape
    n = maker.integer(1, 9)
    b = maker.fresh(a.dtype, [n, k] if trans_b else [k, n])
    shape = maker.choose([], [1], [n], [1, n], [m, 1], [m, n], [1, 1])
    c = maker.fresh(a.dtype, shape) if maker.chance(0.7) else None
    factors = {}
    if maker.chance(0.4) and a.dtype in FLOATS:
        factors = {"alpha": maker.choose(0.5, -1.25, 2.0), "beta": maker.choose(0.5, -2.0, 0.0)}
    maker.emit("Gemm", [a, b, c], transA=trans_a, transB=trans_b, **factors)


@rule("Einsum", weight=2)
def einsum(maker: Maker) -> None:
    """Products, traces, sums and orders of up to three tensors by letters."""
    letters = "abcdef"
    extents = {letter: maker.choose(1, 2, 3, 4, 5) for letter in letters}
    terms = []
    # Infinities tell in which order three factors are summed.
    for _ in range(maker.choose(1, 2, 2, 2, 2 if maker.hard else 3)):
        term = [maker.random.choice(letters[:4]) for _ in range(maker.integer(0, 3))]
        if maker.chance(0.85):
            term = list(dict.fromkeys(term))
        terms.append("".join(term))
    used = sorted(set("".join(terms)))
    if math.prod(extents[letter] for letter in used) > 20_000:
        raise Reject
    dtype = maker.dtype(("f32", "f64", "i32", "i64"))
    values = [maker.fresh(dtype, [extents[letter] for letter in term]) for term in terms]
    equation = ",".join(terms)
    if maker.chance(0.85):
        kept = maker.random.sample(used, maker.integer(0, len(used)))
        equation += "->" + "".join(kept)
    maker.emit("Einsum", list(values), equation=equation)


@rule("MatMulInteger", "QLinearMatMul", weight=0.7)
def quantized_matmul(maker: Maker) -> None:
    """Products of quantised matrices."""
    m, k, n = maker.integer(1, 6), maker.integer(1, 9), maker.integer(1, 6)
    kind_a, kind_b = maker.choose("u8", "i8"), maker.choose("u8", "i8")
    a = maker.fresh(kind_a, [m, k], low=-128, high=255)
    b = maker.fresh(kind_b, [k, n], low=-128, high=255)
    zero_a = maker.fresh(kind_a, [], low=0, high=100, constant=True)
    zero_b = maker.fresh(kind_b, [], low=0, high=100, constant=True)
    if maker.chance(0.5):
        zeros = maker.choose([], [zero_a], [None, zero_b], [zero_a, zero_b])
        maker.emit("MatMulInteger", [a, b, *zeros])
        return

    def scale() -> Value:
        return maker.given(np.asarray(maker.random.uniform(0.01, 0.5), np.float32), True)

    out = maker.fresh(maker.choose(kind_a, "u8"), [], low=0, high=100, constant=True)
    maker.emit("QLinearMatMul", [a, scale(), zero_a, b, scale(), zero_b, scale(), out])


@rule("Det", weight=0.3)
def determinant(maker: Maker) -> None:
    """Determinants of small matrices."""
    n = maker.integer(1, 4)
    maker.emit("Det", [maker.fresh(maker.choose("f32", "f64"), maker.choose([n, n], [3, n, n]))])


@rule("Attention", weight=0.8)
def attention(maker: Maker) -> None:
    """Scaled dot products with masks, grouped heads, caches and a soft cap."""
    dtype = maker.dtype(("f32", "f32", "f16", "f64"))
    batch, groups, repeat = maker.integer(1, 2), maker.integer(1, 2), maker.integer(1, 2)
    heads, head, value_head = groups * repeat, maker.choose(2, 4, 8), maker.choose(2, 4)
    queries, keys = maker.integer(1, 5), maker.integer(1, 6)
    attributes: dict[str, Any] = {"is_causal": maker.integer(0, 1)}
    if maker.chance(0.3):
        attributes["scale"] = 0.5
    if maker.chance(0.2):
        attributes["softcap"] = 2.0
    if maker.chance(0.5):
        q = maker.fresh(dtype, [batch, heads, queries, head], low=-3, high=3)
        k = maker.fresh(dtype, [batch, groups, keys, head], low=-3, high=3)
        v = maker.fresh(dtype, [batch, groups, keys, value_head], low=-3, high=3)
    else:
        q = maker.fresh(dtype, [batch, queries, heads * head], low=-3, high=3)
        k = maker.fresh(dtype, [batch, keys, groups * head], low=-3, high=3)
        v = maker.fresh(dtype, [batch, keys, groups * value_head], low=-3, high=3)
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
    shape = maker.choose([queries, keys], [batch, 1, queries, keys], [1, heads, queries, keys])
    mask = maker.fresh(maker.choose("bool", dtype), shape) if maker.chance(0.4) else None
    if mask is not None and mask.dtype == "bool" and not mask.data.any(-1).all():
        raise Reject
    maker.emit("Attention", [q, k, v, mask], **attributes)


@rule("RotaryEmbedding", weight=0.4)
def rotary(maker: Maker) -> None:
    """Positions as rotations."""
    dtype = maker.dtype(("f32", "f16"))
    batch, heads, length, head = maker.integer(1, 2), maker.integer(1, 3), maker.integer(1, 4), 4
    x = maker.fresh(dtype, [batch, heads, length, head])
    cos = maker.fresh(dtype, [10, head // 2], low=-1, high=1)
    sin = maker.fresh(dtype, [10, head // 2], low=-1, high=1)
    places = maker.fresh("i64", [batch, length], low=0, high=9)
    maker.emit("RotaryEmbedding", [x, cos, sin, places], interleaved=maker.integer(0, 1))
