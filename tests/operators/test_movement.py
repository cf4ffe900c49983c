"""Corner cases of reshaping, slicing and padding."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import both

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.movement import Concat, Split, Transpose
from bessemer.ops.reshape import Reshape, Squeeze
from bessemer.ops.slicing import Pad, Slice

# The machine may be slow and the cases must be the same every time.
STEADY = settings(deadline=None, derandomize=True, database=None)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _known(array: np.ndarray) -> TensorType:
    return TensorType.of(array)


@st.composite
def _factorings(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Two shapes of equal element count."""
    primes = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), max_size=6))
    shapes = []
    for _ in range(2):
        order = draw(st.permutations(primes))
        cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=3)))
        bounds = [0, *cuts, len(order)]
        shapes.append([int(np.prod(order[a:b])) for a, b in itertools.pairwise(bounds)])
    return shapes[0], shapes[1]


@STEADY
@given(_factorings())
def test_reshape_between_any_shapes(shapes: tuple[list[int], list[int]]) -> None:
    old, new = shapes
    x = np.arange(np.prod(old, dtype=int)).reshape(old)
    both(Reshape(), x, ints(*new), known=(1,))


@STEADY
@given(st.integers(0, 6), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -1, 1, 2]))
def test_slice_follows_python_but_for_starts_before_the_first(
    length: int, start: int, end: int, step: int
) -> None:
    x = np.arange(length)
    made = both(Slice(), x, ints(start), ints(end), ints(0), ints(step), known=(1, 2, 3, 4))
    if step < 0 and end < -length:
        # ONNX clamps such an end to before the first element, Python's slices do too.
        end = -length - 1
    if step < 0 and start < -length:
        start = -length  # ONNX: "for negative stepping it is clamped to [0, dims[axes[i]]-1]"
    np.testing.assert_array_equal(made, x[start:end:step])


@STEADY
@given(
    st.integers(1, 5),
    st.integers(-4, 7),
    st.integers(-4, 7),
    st.sampled_from(["constant", "edge", "reflect", "wrap"]),
)
def test_pad_and_cut_in_any_mode(length: int, begin: int, end: int, mode: str) -> None:
    if length + min(begin, 0) + min(end, 0) < 1:
        return
    made = both(Pad(mode=mode), np.arange(float(length)), ints(begin, end), known=(1,))
    assert made.shape == (length + begin + end,)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, -1), "no whole number"),
        ((-1, -1), "more than one -1"),
        ((7,), "has 6 elements"),
        ((2, -3), "negative extent"),
        ((2, 3, 0), "copies axis 2"),
    ],
)
def test_reshape_misfits(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Reshape().infer(TensorType(f32, (2, 3)), _known(ints(*shape)))


def test_reshape_of_nothing_with_minus_one() -> None:
    x = TensorType(f32, (0, 3))
    assert Reshape().infer(x, _known(ints(0, -1))).shape == (0, 3)
    assert Reshape(allowzero=1).infer(x, _known(ints(0, 7))).shape == (0, 7)


def test_squeeze_of_a_longer_axis_is_refused() -> None:
    with pytest.raises(ShapeError, match="cannot be squeezed"):
        Squeeze().infer(TensorType(f32, (2, 1)), _known(ints(0)))


def test_transpose_by_no_permutation_is_refused() -> None:
    with pytest.raises(ShapeError, match="no permutation"):
        Transpose(perm=(0, 0)).infer(TensorType(f32, (2, 3)))


def test_concat_misfit_names_the_inputs() -> None:
    with pytest.raises(ShapeError, match=r"f32\[2,3\], f32\[3,3\]"):
        Concat(axis=1).infer(TensorType(f32, (2, 3)), TensorType(f32, (3, 3)))


def test_split_into_unequal_parts_makes_the_last_smaller() -> None:
    parts = Split(num_outputs=3).reference(np.arange(7))
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    with pytest.raises(ShapeError, match="does not sum"):
        Split().infer(TensorType(f32, (4,)), _known(ints(1, 2)))
