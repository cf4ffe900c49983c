"""com.microsoft: Attention, MultiHeadAttention, QAttention, RotaryEmbedding."""

import numpy as np
import pytest
from contrib_node import (
    bytes_of,
    case,
    compare,
    f32,
    feeds,
    floats,
    node_model,
    rival,
    signed,
    small,
    zero,
)
from onnx_models import run

import bessemer
from bessemer.core.errors import UnsupportedOperatorError
from bessemer.frontends import import_model

B, S, T, N, H = 2, 4, 6, 2, 3
D = N * H
_PADDING = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
_X, _W, _BIAS = floats(B, S, 5), floats(5, 3 * D), floats(3 * D)
_PAST = floats(2, B, N, 3, H)


def _ints(*values):
    return np.array(values, np.int32)


JOINED = [
    case("Attention", _X, _W, _BIAS, num_heads=N, compiled=True),
    case("Attention", _X, _W, _BIAS, _PADDING, num_heads=N, compiled=True),
    case("Attention", _X, _W, _BIAS, _PADDING, num_heads=N, unidirectional=1),
    case("Attention", _X, _W, _BIAS, small(0, 2, B, S, S), num_heads=N),
    case("Attention", _X, _W, _BIAS, small(0, 2, B, S, S), num_heads=N, unidirectional=1, scale=0.3,
         mask_filter_value=-5.0),
    case("Attention", _X, _W, _BIAS, _ints(2, 3), num_heads=N, compiled=True),
    case("Attention", _X, _W, _BIAS, _ints(4, 3, 1, 0), num_heads=N),
    case("Attention", _X, _W, _BIAS, _ints(0, 3), num_heads=N),
    case("Attention", _X, _W, _BIAS, None, _PAST, num_heads=N, unidirectional=1,
         outputs=("y0", "y1"), compiled=True),
    case("Attention", _X, _W, _BIAS, small(0, 2, B, 7), _PAST, num_heads=N, outputs=("y0", "y1")),
    case("Attention", _X, _W, _BIAS, _ints(5, 7), _PAST, num_heads=N, outputs=("y0", "y1")),
    case("Attention", _X, _W, _BIAS, num_heads=N, outputs=("y0", "y1")),
    case("Attention", _X, _W, _BIAS, None, None, floats(B, N, S, S), num_heads=N),
    case("Attention", _X, _W, _BIAS, _PADDING, None, floats(1, N, S, S), num_heads=N),
    case("Attention", _X, _W, _BIAS, _PADDING, None, floats(1, 1, S, S), num_heads=N),
    case("Attention", _X, floats(5, 6 + 6 + 8), floats(20), num_heads=N,
         qkv_hidden_sizes=(6, 6, 8)),
    case("Attention", _X[:, :1], _W, _BIAS, None, _PAST, num_heads=N, unidirectional=1,
         outputs=("y0", "y1")),
]
_Q, _K, _V = floats(B, S, D), floats(B, T, D), floats(B, T, 8)
_OLD = (floats(B, N, 3, H), floats(B, N, 3, H))
SEPARATE = [
    case("MultiHeadAttention", _Q, _K, _V, num_heads=N, compiled=True),
    case("MultiHeadAttention", _Q, _K, _V, floats(D + D + 8), num_heads=N, scale=0.2),
    case("MultiHeadAttention", _Q, _K, _V, None, _ints(4, 6), num_heads=N),
    case("MultiHeadAttention", _Q, _K, _V, None, small(0, 2, B, T), num_heads=N),
    case("MultiHeadAttention", _Q, _K, _V, None, small(0, 2, B, S, T), num_heads=N,
         mask_filter_value=-3.0),
    case("MultiHeadAttention", _Q, _K, _V, None, None, floats(B, N, S, T), num_heads=N),
    case("MultiHeadAttention", _Q, _K, _V, None, small(0, 2, B, T), floats(1, N, S, T), num_heads=N,
         outputs=("y0", "", "", "y3f"), compiled=True),
    case("MultiHeadAttention", _Q, _K, _V, None, None, floats(1, 1, S, T), num_heads=N,
         outputs=("y0", "y1", "y2", "y3f")),
    case("MultiHeadAttention", _Q, _K, _V, num_heads=N, outputs=("y0", "y1", "y2")),
    case("MultiHeadAttention", _Q, floats(B, S, D), floats(B, S, D), None, None, None, *_OLD,
         num_heads=N, unidirectional=1, outputs=("y0", "y1", "y2"), compiled=True),
    case("MultiHeadAttention", _Q, floats(B, S, D), floats(B, S, D), floats(3 * D), None, None,
         *_OLD, num_heads=N, outputs=("y0", "y1", "y2")),
    case("MultiHeadAttention", _Q[:, :1], _K, _V, num_heads=N, unidirectional=1),
    case("MultiHeadAttention", _Q, floats(B, N, T, H), floats(B, N, T, H), num_heads=N,
         compiled=True),
    case("MultiHeadAttention", _Q, floats(B, N, T, H), floats(B, N, T, H), floats(3 * D),
         num_heads=N),
]
_SCALES = [f32(0.02), f32(0.01)]
_COLUMNS = [f32(0.02), f32([0.01] * 18)]
QUANTISED = [
    case("QAttention", bytes_of(B, S, 5), signed(5, 18), floats(18), *_SCALES, None,
         zero(120), zero(3, np.int8), num_heads=N, compiled=True),
    case("QAttention", bytes_of(B, S, 5), bytes_of(5, 18), floats(18), *_SCALES, None,
         zero(120), zero(130), num_heads=N, unidirectional=1),
    case("QAttention", bytes_of(B, S, 5), signed(5, 18), floats(18), *_COLUMNS, _ints(3, 4),
         zero(120), zero([2] * 18, np.int8), num_heads=N),
    case("QAttention", bytes_of(B, S, 5), signed(5, 18), floats(18), *_COLUMNS, None, zero(120),
         zero([2] * 18, np.int8), _PAST, num_heads=N, unidirectional=1, outputs=("y0", "y1")),
]
_ROWS = small(0, 9, B, S, dtype=np.int64)
_FIRST = np.array([2], np.int64)
ROTARY = [
    part for inner in (0, 1) for part in (
        case("RotaryEmbedding", floats(B, S, N * 8), _ROWS, floats(9, 4), floats(9, 4),
             interleaved=inner, compiled=bool(inner)),
        case("RotaryEmbedding", floats(B, S, N * 8), _FIRST, floats(9, 4), floats(9, 4),
             interleaved=inner),
        case("RotaryEmbedding", floats(B, N, S, 8), _ROWS, floats(9, 4), floats(9, 4),
             interleaved=inner),
        case("RotaryEmbedding", floats(B, S, N * 8), _ROWS, floats(9, 2), floats(9, 2),
             interleaved=inner, num_heads=N, rotary_embedding_dim=4),
        case("RotaryEmbedding", floats(B, N, S, 8), _FIRST, floats(9, 2), floats(9, 2),
             interleaved=inner, num_heads=N, rotary_embedding_dim=4, compiled=not inner),
    )
]


@pytest.mark.rivals
@pytest.mark.parametrize("given", [*JOINED, *SEPARATE, *QUANTISED, *ROTARY])
def test_agrees_with_onnxruntime(given):
    given.check()


@pytest.mark.rivals
def test_packed_heads_equal_separate_ones():
    """ONNX Runtime reads packed heads on GPUs only."""
    packed = floats(B, S, N, 3, H)
    parts = [packed[:, :, :, k].reshape(B, S, D) for k in range(3)]
    (expected,) = rival(node_model("MultiHeadAttention", parts, num_heads=N), feeds(parts))
    compare(run(node_model("MultiHeadAttention", [packed], num_heads=N), packed)[0], expected)
    both = [parts[0], packed[:, :, :, 1:]]
    compare(run(node_model("MultiHeadAttention", both, num_heads=N), *both)[0], expected)


@pytest.mark.rivals
def test_symbolic_batch_and_length():
    inputs = [_X, _W, _BIAS, _ints(2, 3)]
    proto = node_model("Attention", inputs, constants=(1, 2), num_heads=N)
    expected = rival(proto, feeds(inputs, (1, 2)))[0]
    for value in proto.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim[:2]):
            dim.dim_param = f"d{axis}"
    compare(run(proto, _X, inputs[3])[0], expected)


@pytest.mark.rivals
@pytest.mark.parametrize(("rows", "mask"), [(2, _ints(2, 3)), (2, _ints(4, 3, 1, 0)),
                                            (1, _ints(3)), (1, _ints(3, 1))])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_mask_of_ends_or_of_ends_and_starts_for_any_number_of_rows(rows, mask, fixed):
    inputs = [_X[:rows], _W, _BIAS, mask]
    proto = node_model("Attention", inputs, constants=(1, 2), num_heads=N)
    feed = feeds(inputs, (1, 2))
    expected = rival(proto, feed)[0]
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    if not fixed:
        proto.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "places"
    compare(run(proto, inputs[0], mask)[0], expected)
    compare(next(iter(bessemer.build(proto).run(feed).values())), expected)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "words"),
    [
        ("Attention", (_X, _W, _BIAS), {"do_rotary": 1}, "do_rotary"),
        ("Attention", (_X, _W, _BIAS, None, _PAST), {"past_present_share_buffer": 1}, "share_buf"),
        ("Attention", (_X, _W, _BIAS, small(0, 2, B, 1, S, S)), {}, "a mask of rank 4"),
        ("Attention", (_X, _W, _BIAS, small(0, 2, B, S + 1)), {}, "does not cover all 4 keys"),
        ("Attention", (_X, _W, _BIAS, small(0, 2, 3 * B + 2)), {}, "a mask .* for 2 rows"),
        ("MultiHeadAttention", (_Q, _K, _V), {"unidirectional": 1}, "4 queries and 6 keys"),
        ("MultiHeadAttention", (floats(B, S, 3 * D),), {}, "a query of rank 3 without key"),
        ("MultiHeadAttention", (_Q, _K, _V, None, None, None, *_OLD, _ints(3)), {}, "past_sequ"),
    ],
)
def test_options_that_are_not_supported_are_named(op_type, inputs, attributes, words):
    with pytest.raises(UnsupportedOperatorError, match=words) as caught:
        import_model(node_model(op_type, inputs, num_heads=N, **attributes))
    assert f"it ({op_type})" in str(caught.value)


@pytest.mark.parametrize("attributes", [{"scale": 2.0}, {"is_packed_batching": 1}])
def test_rotary_options_that_are_not_supported_are_named(attributes):
    inputs = [floats(B, S, N * 8), _ROWS, floats(9, 4), floats(9, 4)]
    with pytest.raises(UnsupportedOperatorError, match=next(iter(attributes))):
        import_model(node_model("RotaryEmbedding", inputs, **attributes))
