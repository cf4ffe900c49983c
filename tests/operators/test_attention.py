"""Corner cases of attention."""

from typing import Any

import numpy as np
import pytest
from running import Array, both, lowered

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.types import TensorType
from bessemer.ops.attention import Attention, PlainAttention
from bessemer.ops.linear_attention import LinearAttention
from bessemer.ops.rotary import RotaryEmbedding


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def plain(q: Array, k: Array, v: Array, allowed: Any = True) -> Array:
    """Attention by its formula."""
    scores = q.astype(np.float64) @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[3])
    weights = np.where(allowed, np.exp(scores), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


Q, K, V = random(2, 4, 5, 8), random(2, 4, 7, 8), random(2, 4, 7, 3)


def test_plain_attention() -> None:
    np.testing.assert_allclose(both(Attention(), Q, K, V), plain(Q, K, V), rtol=1e-4, atol=1e-5)


def test_a_row_without_keys_gives_zeros() -> None:
    mask = np.ones((5, 7), bool)
    mask[2] = False
    y = both(Attention(), Q, K, V, mask)
    assert (y[:, :, 2] == 0).all()
    np.testing.assert_allclose(y, plain(Q, K, V, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [np.full((1, 7), -np.inf, np.float32), np.zeros((1, 7), bool)])
def test_a_row_of_a_plain_softmax_without_keys_is_nan(mask: Array) -> None:
    rows = np.arange(5)[:, None] == 2
    mask = np.where(rows, mask, mask.dtype.type(mask.dtype.kind != "f"))
    y = both(PlainAttention(), Q, K, V, mask)
    assert np.isnan(y[:, :, 2]).all()
    expected = both(Attention(), Q, K, V, mask)
    np.testing.assert_array_equal(np.delete(y, 2, axis=2), np.delete(expected, 2, axis=2))


def test_shared_heads_are_repeated_heads() -> None:
    grouped = both(Attention(), Q, K[:, :2], V[:, :2])
    repeated = plain(Q, np.repeat(K[:, :2], 2, axis=1), np.repeat(V[:, :2], 2, axis=1))
    np.testing.assert_allclose(grouped, repeated, rtol=1e-4, atol=1e-5)


def test_a_cache_gives_the_last_rows_of_the_whole() -> None:
    q = random(1, 2, 7, 4)
    k, v = random(1, 2, 7, 4) * 2, random(1, 2, 7, 4) * 3
    op = Attention(is_causal=1)
    whole = op.reference(q, k, v)[0]
    inputs = (q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], None, k[:, :, :5], v[:, :, :5])
    step = op.reference(*inputs)
    np.testing.assert_allclose(step[0], whole[:, :, 5:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(step[1], k)
    for found, expected in zip(lowered(op, *inputs), step):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_outer_cache_shifts_the_causal_bound_by_its_length() -> None:
    lengths = np.array([3, 7])
    y = both(Attention(is_causal=1), Q, K, V, None, None, None, lengths)
    rows, keys = np.arange(5)[:, None], np.arange(7)
    for n, length in enumerate(lengths):
        allowed = (keys <= rows + length - 5) & (keys < length)
        expected = plain(Q[n : n + 1], K[n : n + 1], V[n : n + 1], allowed)
        np.testing.assert_allclose(y[n : n + 1], expected, rtol=1e-4, atol=1e-5)
    assert (y[0, :, :2] == 0).all()


def test_windows_bound_both_sides() -> None:
    op = Attention(left_window_size=1, right_window_size=2)
    rows, keys = np.arange(5)[:, None], np.arange(7)
    allowed = (keys >= rows - 1) & (keys <= rows + 2)
    np.testing.assert_allclose(both(op, Q, K, V), plain(Q, K, V, allowed), rtol=1e-4, atol=1e-5)


def test_a_short_mask_hides_the_rest() -> None:
    mask = np.zeros((5, 4), np.float32)
    y = both(Attention(), Q, K, V, mask)
    expected = plain(Q, K[:, :, :4], V[:, :, :4])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_rank_three_holds_heads_in_the_last_axis() -> None:
    flat = [x.transpose(0, 2, 1, 3).reshape(2, x.shape[2], -1) for x in (Q, K, V)]
    y = both(Attention(q_num_heads=4, kv_num_heads=4), *flat)
    expected = plain(Q, K, V).transpose(0, 2, 1, 3).reshape(2, 5, -1)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_symbols_and_misfits() -> None:
    s, p = symbol("S"), symbol("P")
    q = TensorType(f32, (1, 2, s, 4))
    past = TensorType(f32, (1, 2, p, 4))
    types = Attention().infer(q, q, q, None, past, past)
    assert [str(t) for t in types[1:]] == ["f32[1,2,S+P,4]", "f32[1,2,S+P,4]", "f32[1,2,S,S+P]"]
    with pytest.raises(ShapeError, match="together"):
        Attention().infer(q, q, q, None, past)
    with pytest.raises(ShapeError, match="numbers of heads"):
        Attention().infer(*[TensorType(f32, (1, 3, 8))] * 3)
    with pytest.raises(ShapeError, match="cannot share"):
        Attention().infer(
            TensorType(f32, (1, 3, 5, 4)), *[TensorType(f32, (1, 2, 5, 4))] * 2
        )


def test_rotation_keeps_the_length_of_pairs() -> None:
    x = random(1, 2, 5, 8)
    angles = random(5, 4)
    cos, sin = np.cos(angles)[None], np.sin(angles)[None]
    y = both(RotaryEmbedding(), x, cos, sin)
    np.testing.assert_allclose(
        np.hypot(y[..., :4], y[..., 4:]), np.hypot(x[..., :4], x[..., 4:]), rtol=1e-5
    )


def test_linear_attention_in_pieces_is_the_whole() -> None:
    q, k, v = random(1, 6, 8), random(1, 6, 8) / 3, random(1, 6, 4)
    decay, beta = -np.abs(random(1, 6, 2)), np.abs(random(1, 6, 2)) / 4
    op = LinearAttention(q_num_heads=2, kv_num_heads=2)
    whole, state = op.reference(q, k, v, None, decay, beta)
    half = [x[:, :3] for x in (q, k, v, decay, beta)]
    rest = [x[:, 3:] for x in (q, k, v, decay, beta)]
    first, carried = op.reference(*half[:3], None, *half[3:])
    second, last = op.reference(*rest[:3], carried, *rest[3:])
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-5)
    np.testing.assert_allclose(last, state, rtol=1e-5)
