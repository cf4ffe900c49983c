"""Corner cases of pooling."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Array, both, lowered

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import substitute, symbol
from bessemer.ir.types import TensorType
from bessemer.ops.global_pool import GlobalAveragePool
from bessemer.ops.pool import AveragePool, MaxPool
from bessemer.ops.roi import MaxRoiPool, MaxUnpool, RoiAlign
from bessemer.ops.window import resolve_window


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


pools = st.builds(
    dict,
    kernel_shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    ceil_mode=st.integers(0, 1),
)


def cells(op: Any, x: Array) -> Any:
    """For every output element: the input positions of its window, padding included."""
    window = resolve_window(
        x.shape[2:], op.kernel_shape, op.strides, op.dilations, op.pads, "NOTSET", op.ceil_mode
    )
    for place in np.ndindex(*window.out):
        yield place, [
            tuple(
                o * s + k * d - low
                for o, s, k, d, low in zip(
                    place, window.strides, inner, window.dilations, window.lows
                )
            )
            for inner in np.ndindex(*window.kernel)
        ]


@given(pools, st.integers(0, 1), st.tuples(*[st.integers(0, 1)] * 4))
@settings(max_examples=50, deadline=None)
def test_average_counts_what_it_should(attributes: Any, include: int, pads: Any) -> None:
    pads = tuple(min(p, k - 1) for p, k in zip(pads, attributes["kernel_shape"] * 2))
    op = AveragePool(**attributes, count_include_pad=include, pads=pads)
    x = random(1, 2, 7, 6)
    y = both(op, x)
    for place, spots in cells(op, x):
        inside = [s for s in spots if 0 <= s[0] < 7 and 0 <= s[1] < 6]
        counted = inside if not include else [
            s for s in spots
            if -pads[0] <= s[0] < 7 + pads[2] and -pads[1] <= s[1] < 6 + pads[3]
        ]
        if not inside:
            continue
        expected = sum(x[0, :, a, b] for a, b in inside) / len(counted)
        np.testing.assert_allclose(y[(0, slice(None), *place)], expected, rtol=1e-4, atol=1e-6)


@given(pools, st.tuples(*[st.integers(0, 1)] * 4), st.integers(0, 1))
@settings(max_examples=50, deadline=None)
def test_maxima_are_at_their_positions(attributes: Any, pads: Any, order: int) -> None:
    pads = tuple(min(p, k - 1) for p, k in zip(pads, attributes["kernel_shape"] * 2))
    op = MaxPool(**attributes, pads=pads, storage_order=order)
    x = random(2, 2, 7, 6)
    values, positions = op.reference(x)
    again, places = lowered(op, x)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(places, positions)
    flat = x if order == 0 else x.transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(flat.reshape(-1)[positions], values)


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2),
    st.integers(0, 1),
)
def test_symbolic_extent_agrees_with_numbers(
    kernel: int, stride: int, dilation: int, low: int, high: int, ceil_mode: int
) -> None:
    def out(extent: Any) -> Any:
        return resolve_window(
            (extent,), (kernel,), (stride,), (dilation,), (low, high), "NOTSET", ceil_mode
        ).out[0]

    general = out(symbol("H"))
    for extent in range((kernel - 1) * dilation + 1, 20):
        assert substitute(general, {"H": extent}) == out(extent)
        if ceil_mode:
            # The last window starts inside the input or the padding before it.
            assert (out(extent) - 1) * stride < extent + low


def test_padding_never_wins_a_maximum() -> None:
    x = np.full((1, 1, 3, 3), -100, np.int8)
    y = both(MaxPool(kernel_shape=(3, 3), pads=(1, 1, 1, 1)), x)
    assert (y == -100).all()


@given(pools, st.tuples(*[st.integers(0, 2)] * 4), st.integers(0, 1), st.integers(0, 1 << 42))
@settings(max_examples=50, deadline=None)
def test_padding_is_no_position_of_a_maximum(
    attributes: Any, pads: Any, order: int, bits: int
) -> None:
    """Elements as small as the padding: minus infinity, and the smallest integer."""
    pads = tuple(min(p, k - 1) for p, k in zip(pads, attributes["kernel_shape"] * 2))
    op = MaxPool(**attributes, pads=pads, storage_order=order)
    small = np.array([bits >> k & 1 for k in range(42)], bool).reshape(1, 1, 7, 6)
    for x in (np.where(small, np.float32(-np.inf), np.float32(1)), np.int8(-128) + ~small):
        values, positions = op.reference(x)
        again, places = lowered(op, x)
        np.testing.assert_array_equal(again, values)
        np.testing.assert_array_equal(places, positions)
        flat = x if order == 0 else x.transpose(0, 1, 3, 2)
        np.testing.assert_array_equal(flat.reshape(-1)[positions], values)


def test_nan_passes_through_a_maximum() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.nan
    y = both(MaxPool(kernel_shape=(2, 2), strides=(2, 2)), x)
    assert np.isnan(y[0, 0, 0, 0])
    assert not np.isnan(y[0, 0, 1:]).any()


def test_unpool_undoes_pool() -> None:
    x = random(2, 3, 6, 8)
    pool = MaxPool(kernel_shape=(2, 2), strides=(2, 2))
    values, positions = pool.reference(x)
    unpool = MaxUnpool(kernel_shape=(2, 2), strides=(2, 2))
    back = unpool.reference(np.abs(values), positions)
    np.testing.assert_array_equal(pool.reference(back)[0], np.abs(values))


def test_pool_needs_a_kernel() -> None:
    with pytest.raises(ShapeError, match="kernel_shape"):
        MaxPool().infer(TensorType(f32, (1, 1, 4, 4)))
    with pytest.raises(ShapeError, match="does not fit"):
        MaxPool(kernel_shape=(5, 5)).infer(TensorType(f32, (1, 1, 4, 4)))


def test_global_average_of_float16_does_not_overflow() -> None:
    x = np.full((1, 1, 64, 64), 1000, np.float16)
    assert both(GlobalAveragePool(), x)[0, 0, 0, 0] == 1000


def test_roi_align_of_a_linear_image_is_linear() -> None:
    rows, columns = np.mgrid[0:10, 0:12].astype(np.float32)
    x = np.stack([rows, columns])[None]
    rois = np.array([[2, 3, 6, 7]], np.float32)
    op = RoiAlign(output_height=2, output_width=2, sampling_ratio=2)
    y = both(op, x, rois, np.array([0]))
    np.testing.assert_allclose(y[0, 0], [[3.5, 3.5], [5.5, 5.5]], rtol=1e-5)
    np.testing.assert_allclose(y[0, 1], [[2.5, 4.5], [2.5, 4.5]], rtol=1e-5)


def test_max_roi_pool_outside_the_image_is_zero() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    rois = np.array([[0, 8, 8, 9, 9], [0, 0, 0, 3, 3]], np.float32)
    y = MaxRoiPool(pooled_shape=(1, 1)).reference(x, rois)
    np.testing.assert_array_equal(y.reshape(-1), [0, 1])
