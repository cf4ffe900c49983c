"""Corner cases of Resize and of sampling at grids."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Array, both

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.operator import Unlowerable
from bessemer.ir.types import TensorType
from bessemer.ops.grid_sample import AffineGrid, GridSample
from bessemer.ops.resize import Resize
from bessemer.ops.resize_map import MODES, make_map


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def by_scales(op: Resize, x: Array, *scales: float) -> Array:
    return both(op, x, None, np.array(scales, np.float32), known=(2,))


def by_sizes(op: Resize, x: Array, *sizes: int) -> Array:
    return both(op, x, None, None, np.array(sizes), known=(3,))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transformation", sorted(set(MODES) - {"tf_crop_and_resize"}))
def test_scale_one_changes_nothing(mode: str, transformation: str) -> None:
    x = random(1, 2, 3, 4)
    op = Resize(mode=mode, coordinate_transformation_mode=transformation)
    np.testing.assert_array_equal(by_scales(op, x, 1, 1, 1, 1), x)


def test_nearest_upsampling_repeats() -> None:
    x = random(1, 2, 3, 4)
    op = Resize(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    np.testing.assert_array_equal(by_scales(op, x, 1, 1, 2, 3), x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("round_prefer_floor", 0), ("round_prefer_ceil", 1), ("floor", 0), ("ceil", 1)],
)
def test_ties_go_where_the_mode_says(mode: str, expected: int) -> None:
    # Two elements to one: the coordinate is exactly 0.5.
    x = np.array([10.0, 20.0], np.float32)
    assert by_sizes(Resize(nearest_mode=mode), x, 1)[0] == x[expected]


@given(
    st.sampled_from(sorted(set(MODES) - {"tf_crop_and_resize"})),
    st.sampled_from(["linear", "cubic"]), st.integers(2, 6), st.integers(1, 9), st.integers(0, 1),
    st.integers(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_constant_stays_constant(
    transformation: str, mode: str, extent: int, out: int, antialias: int, exclude: int
) -> None:
    op = Resize(
        mode=mode, coordinate_transformation_mode=transformation, antialias=antialias,
        exclude_outside=exclude,
    )
    y = by_sizes(op, np.full((1, extent), 3, np.float32), 1, out)
    np.testing.assert_allclose(y, 3, rtol=1e-5)


def test_align_corners_keeps_the_corners() -> None:
    x = random(5)
    op = Resize(mode="linear", coordinate_transformation_mode="align_corners")
    y = by_sizes(op, x, 9)
    np.testing.assert_allclose(y[::2], x, rtol=1e-6)


def test_coordinates_are_exact() -> None:
    from fractions import Fraction

    third = make_map(0, "half_pixel", 3, 9, Fraction(3))
    # (x + 1/2) / 3 - 1/2 = (x - 1) / 3
    assert [third.base(x) for x in range(9)] == [-1, 0, 0, 0, 1, 1, 1, 2, 2]
    assert third.remainder(1) == 0


@pytest.mark.parametrize(("policy", "shape"), [("not_larger", (4, 8)), ("not_smaller", (6, 12))])
def test_the_aspect_ratio_is_kept(policy: str, shape: tuple[int, int]) -> None:
    op = Resize(axes=(1, 2), keep_aspect_ratio_policy=policy)
    x = random(2, 3, 6)
    assert by_sizes(op, x, 6, 8).shape == (2, *shape)
    sizes = TensorType.of(np.array([6, 8]))
    assert op.infer(TensorType.of(x, False), None, None, sizes).dims == (2, *shape)


def test_outside_of_the_crop_is_the_given_value() -> None:
    op = Resize(
        mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0
    )
    roi = np.array([-1.0, 1.0], np.float32)
    y = both(op, np.array([1.0, 2, 3], np.float32), roi, None, np.array([5]), known=(1, 3))
    np.testing.assert_allclose(y, [7, 7, 1, 2, 3], rtol=1e-6)


def test_symbolic_extents() -> None:
    x = TensorType(f32, (symbol("N"), 3, symbol("H"), 7))
    up = Resize().infer(x, None, TensorType.of(np.array([1, 1, 2, 1.5], np.float32)))
    assert str(up) == "f32[N,3,2*H,10]"
    down = Resize().infer(x, None, TensorType.of(np.array([1, 1, 0.5, 1], np.float32)))
    assert str(down) == "f32[N,3,(H//2),7]"


def test_misuse_is_explained() -> None:
    x = TensorType(f32, (1, 1, 4, 4))
    with pytest.raises(ShapeError, match="one entry for each"):
        Resize().infer(x, None, None, TensorType.of(np.array([3, 3])))
    with pytest.raises(ShapeError, match="mode is 'area'"):
        Resize(mode="area").infer(x)
    with pytest.raises(Unlowerable, match="run time"):
        both(Resize(), random(2, 2), None, np.array([2, 2], np.float32))


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_the_identity_grid_gives_the_image(align: int, mode: str, padding: str) -> None:
    x = random(1, 2, 4, 5)
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    grid = both(AffineGrid(align_corners=align), theta, np.array([1, 2, 4, 5]), known=(1,))
    op = GridSample(align_corners=align, mode=mode, padding_mode=padding)
    np.testing.assert_allclose(both(op, x, grid), x, rtol=1e-4, atol=1e-5)


def test_padding_of_far_positions() -> None:
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 1, 4)
    grid = np.array([[[[9.0, 0.0], [-9.0, 0.0]]]], np.float32)

    def at(padding: str) -> Any:
        op = GridSample(align_corners=1, padding_mode=padding, mode="nearest")
        return both(op, x, grid).reshape(-1).tolist()

    assert at("zeros") == [0, 0]
    assert at("border") == [4, 1]
    # 9 is pixel 15, which mirrors in turns of 6 to 3; -9 is pixel -12, which is 0.
    assert at("reflection") == [4, 1]


def test_taps_of_a_cubic_sample_are_clipped_one_by_one() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    op = GridSample(mode="cubic", padding_mode="border", align_corners=1)
    # Position 3.5 has the taps 2, 3, 3, 3; 1e30 has 3, 3, 3, 3.
    grid = np.array([[[[4 / 3, 0], [1e30, 0]]]], np.float32)
    np.testing.assert_allclose(both(op, x, grid).reshape(-1), [3.09375, 3.0], rtol=1e-6)
