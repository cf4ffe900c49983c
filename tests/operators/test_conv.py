"""Corner cases of convolutions."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Array, both

from bessemer import te
from bessemer.core.dtypes import f16, f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import substitute, symbol
from bessemer.ir.types import TensorType
from bessemer.ops.conv import Conv
from bessemer.ops.conv_deform import CausalConvWithState, DeformConv
from bessemer.ops.conv_integer import ConvInteger
from bessemer.ops.conv_transpose import ConvTranspose
from bessemer.te.walk import loads


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def naive(x: Array, w: Array, op: Conv) -> Array:
    """Convolution by its definition, one output element at a time (2-D)."""
    strides, dilations = op.strides or (1, 1), op.dilations or (1, 1)
    top, left, bottom, right = op.pads or (0, 0, 0, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right))).astype(np.float64)
    kh, kw = w.shape[2:]
    oh = (padded.shape[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (padded.shape[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((x.shape[0], w.shape[0], oh, ow))
    channels, filters = w.shape[1], w.shape[0] // op.group
    for n, m, i, j in np.ndindex(*y.shape):
        first = m // filters * channels
        for c, a, b in itertools.product(range(channels), range(kh), range(kw)):
            row, column = i * strides[0] + a * dilations[0], j * strides[1] + b * dilations[1]
            y[n, m, i, j] += padded[n, first + c, row, column] * w[m, c, a, b]
    return y


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...], tuple[int, ...]]:
    group = draw(st.integers(1, 3))
    per_group, filters = draw(st.integers(1, 2)), draw(st.integers(1, 2)) * group
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    spatial = [span + draw(st.integers(0, 3)) for span in spans]
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    op = Conv(group=group, pads=pads, strides=strides, dilations=dilations)
    return op, (2, group * per_group, *spatial), (filters, per_group, *kernel)


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_conv_is_what_the_definition_says(case: Any) -> None:
    op, x_shape, w_shape = case
    x, w = random(*x_shape), random(*w_shape)
    found = op.reference(x, w)
    np.testing.assert_allclose(found, naive(x, w, op), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both(op, x, w), found)


@given(convolutions())
@settings(max_examples=40, deadline=None)
def test_conv_transpose_is_the_adjoint_of_conv(case: Any) -> None:
    op, x_shape, w_shape = case
    x, w = random(*x_shape), random(*w_shape)
    y = random(*op.reference(x, w).shape)
    # What the strides skip at the end must be given back as output padding.
    turn = ConvTranspose(
        group=op.group, pads=op.pads, strides=op.strides, dilations=op.dilations,
        output_padding=tuple(
            (n + p + q - (k - 1) * d - 1) % s
            for n, p, q, k, d, s in zip(
                x_shape[2:], op.pads[:2], op.pads[2:], w_shape[2:], op.dilations, op.strides
            )
        ),
    )
    back = turn.reference(y, w)
    assert back.shape == x.shape
    np.testing.assert_allclose(both(turn, y, w), back, rtol=1e-5, atol=1e-6)
    a = (op.reference(x, w).astype(np.float64) * y).sum()
    b = (x.astype(np.float64) * back).sum()
    assert abs(a - b) < 1e-3 * max(1.0, abs(a))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_pads_give_ceil_of_extent_by_stride(stride: int, mode: str) -> None:
    for extent in range(1, 9):
        op = Conv(strides=(stride,), auto_pad=mode)
        y = op.reference(random(1, 1, extent), random(1, 1, 3))
        assert y.shape[2] == -(-extent // stride)


def test_pads_that_no_window_reaches_need_no_fill() -> None:
    x = te.placeholder(f32, (1, 3, 8, 8))
    w = te.placeholder(f32, (4, 3, 2, 2))
    # The window stops before the pad of one row and column at the end.
    y = Conv(pads=(0, 0, 1, 1), strides=(2, 2)).lower(x, w)
    assert all(load.fill is None for load in loads(y.body))
    y = Conv(pads=(1, 0, 0, 0)).lower(x, w)
    assert any(load.fill is not None for load in loads(y.body))


def test_depthwise_reads_the_channel_of_its_filter() -> None:
    x, w = te.placeholder(f32, (1, 4, 5, 5)), te.placeholder(f32, (4, 1, 3, 3))
    y = Conv(group=4).lower(x, w)
    load = next(load for load in loads(y.body) if load.tensor is x)
    assert load.indices[1] is y.axes[1]


def test_float16_sums_in_float32() -> None:
    x = np.full((1, 4096, 1, 1), 0.5, np.float16)
    w = np.full((1, 4096, 1, 1), 1.0, np.float16)
    assert both(Conv(), x, w)[0, 0, 0, 0] == 2048
    lowered = Conv().lower(te.placeholder(f16, x.shape), te.placeholder(f16, w.shape))
    assert lowered.dtype == f16


def test_symbolic_extents_are_those_of_the_reference() -> None:
    n, h = symbol("N"), symbol("H")
    for op in (Conv(strides=(2, 3), pads=(1, 0, 2, 1)), Conv(strides=(2, 2), auto_pad="SAME_UPPER"),
               Conv(dilations=(2, 1), auto_pad="VALID")):
        inferred = op.infer(TensorType(f32, (n, 2, h, 9)), TensorType(f32, (4, 2, 3, 2)))
        for extent in (7, 8, 9, 10):
            got = [substitute(d, {"N": 2, "H": extent}) for d in inferred.dims]
            assert tuple(got) == op.reference(random(2, 2, extent, 9), random(4, 2, 3, 2)).shape


@pytest.mark.parametrize(
    ("op", "x", "w", "message"),
    [
        (Conv(), (1, 3, 5, 5), (4, 2, 3, 3), "channels of x"),
        (Conv(group=2), (1, 4, 5, 5), (3, 2, 3, 3), "3 filters"),
        (Conv(), (1, 3, 5), (4, 3, 3, 3), "rank"),
        (Conv(), (1, 3, 2, 2), (4, 3, 3, 3), "does not fit"),
        (Conv(pads=(1, 1)), (1, 3, 5, 5), (4, 3, 3, 3), "pads has 2 entries"),
        (Conv(kernel_shape=(2, 2)), (1, 3, 5, 5), (4, 3, 3, 3), "kernel_shape"),
        (Conv(auto_pad="SAME"), (1, 3, 5, 5), (4, 3, 3, 3), "auto_pad"),
        (Conv(strides=(0, 1)), (1, 3, 5, 5), (4, 3, 3, 3), "must be >= 1"),
        (Conv(pads=(-1, 0, 0, 0)), (1, 3, 5, 5), (4, 3, 3, 3), "negative"),
    ],
)
def test_misfits_are_explained(op: Conv, x: Any, w: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        op.infer(TensorType(f32, x), TensorType(f32, w))


@pytest.mark.parametrize("known", [(), (2,)])
def test_integer_padding_is_the_zero_point(known: tuple[int, ...]) -> None:
    x = np.full((1, 1, 3, 3), 7, np.uint8)
    w = np.ones((1, 1, 3, 3), np.uint8)
    y = both(ConvInteger(pads=(1, 1, 1, 1)), x, w, np.array(7, np.uint8), known=known)
    assert (y == 0).all()


def test_deform_conv_without_offsets_is_conv() -> None:
    x, w, bias = random(2, 4, 6, 5), random(4, 2, 3, 3), random(4)
    plain = Conv(group=2, pads=(1, 0, 1, 2), strides=(2, 1)).reference(x, w, bias)
    offset = np.zeros((2, 36, *plain.shape[2:]), np.float32)
    mask = np.ones((2, 18, *plain.shape[2:]), np.float32)
    op = DeformConv(group=2, offset_group=2, pads=(1, 0, 1, 2), strides=(2, 1))
    np.testing.assert_allclose(both(op, x, w, offset, bias, mask), plain, rtol=1e-4, atol=1e-5)


def test_causal_conv_in_pieces_is_the_whole() -> None:
    x, w, bias = random(2, 3, 9), random(3, 1, 4), random(3)
    op = CausalConvWithState(activation="silu")
    whole, state = op.reference(x, w, bias)
    first, carried = op.reference(x[:, :, :2], w, bias)
    second, last = op.reference(x[:, :, 2:], w, bias, carried)
    np.testing.assert_allclose(np.concatenate([first, second], axis=2), whole, rtol=1e-6)
    np.testing.assert_array_equal(last, state)
