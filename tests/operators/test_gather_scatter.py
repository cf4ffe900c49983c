"""Corner cases of reads and writes at computed places."""

import numpy as np
import pytest
from running import both, lowered

from bessemer.core.dtypes import DTYPES, f32, i64
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.gather import Gather, GatherElements, GatherND, OneHot
from bessemer.ops.scatter import ScatterElements, ScatterND, TensorScatter
from bessemer.ops.select import TopK, Unique

RNG = np.random.default_rng(5)


def test_gather_counts_negative_indices_from_the_end() -> None:
    x = np.arange(5.0)
    assert both(Gather(), x, np.array([-1, 0, -5])).tolist() == [4, 0, 0]


def test_gather_out_of_range_stays_inside_the_tensor() -> None:
    # The reference refuses; compiled code may give anything but must not read outside.
    made = lowered(Gather(), np.arange(5.0), np.array([99, -99]))[0]
    assert set(made.tolist()) <= set(range(5))
    with pytest.raises(IndexError):
        Gather().reference(np.arange(5.0), np.array([99]))


def test_indices_that_reach_beyond_the_data_are_refused() -> None:
    with pytest.raises(ShapeError, match="reach beyond"):
        GatherElements(axis=0).infer(TensorType(f32, (2, 3)), TensorType(i64, (2, 4)))
    with pytest.raises(ShapeError, match="too long"):
        GatherND().infer(TensorType(f32, (2, 3)), TensorType(i64, (1, 3)))


def test_float_indices_are_refused() -> None:
    with pytest.raises(ShapeError, match="needs integer indices, got f32"):
        Gather().infer(TensorType(f32, (2,)), TensorType(f32, (1,)))


def test_gather_nd_with_batches() -> None:
    x = RNG.random((2, 3, 4))
    indices = np.array([[[1]], [[2]]])
    np.testing.assert_array_equal(
        both(GatherND(batch_dims=1), x, indices)[:, 0], [x[0, 1], x[1, 2]]
    )


def test_one_hot_of_an_index_outside_is_off() -> None:
    made = both(OneHot(), np.array([-4, -1, 3]), np.array([3]), np.array([5, 7]), known=(1,))
    assert made.tolist() == [[5, 5, 5], [5, 5, 7], [5, 5, 5]]


def test_the_last_of_repeated_updates_wins() -> None:
    x, updates = np.zeros(3), np.array([1.0, 2, 3])
    assert both(ScatterElements(), x, np.array([1, 1, 1]), updates).tolist() == [0, 3, 0]
    assert both(ScatterND(), x, np.array([[1], [1], [0]]), updates).tolist() == [3, 2, 0]


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements_smaller_than_the_data(reduction: str) -> None:
    x, updates = RNG.random((4, 5)), RNG.random((2, 3))
    indices = np.array([[0, -1, 2], [3, 0, 2]])
    made = both(ScatterElements(axis=0, reduction=reduction), x, indices, updates)
    np.testing.assert_array_equal(made[:, 3:], x[:, 3:])


def test_tensor_scatter_wraps_in_a_circular_cache() -> None:
    cache, update = np.zeros((1, 4, 1)), np.array([[[1.0], [2.0], [3.0]]])
    made = both(TensorScatter(mode="circular"), cache, update, np.array([3]))
    assert made.reshape(-1).tolist() == [2, 3, 0, 1]


def test_top_k_prefers_the_first_of_ties_and_puts_nan_on_top() -> None:
    x = np.array([1, np.nan, 2, 2, np.inf, np.nan], np.float32)
    for op in (TopK(), TopK(largest=0)):
        found = lowered(op, x, np.array([6]), known=(1,))
        for a, b in zip(found, op.reference(x, np.array([6]))):
            np.testing.assert_array_equal(a, b)
    assert TopK().reference(x, np.array([4]))[1].tolist() == [1, 5, 4, 2]
    assert TopK(largest=0).reference(x, np.array([3]))[1].tolist() == [0, 2, 3]


def test_top_k_of_too_many_is_refused() -> None:
    with pytest.raises(ShapeError, match="TopK of 4 out of 3"):
        TopK().infer(TensorType(f32, (3,)), TensorType.of(np.array([4])))


def test_unique_in_order_of_appearance() -> None:
    values, first, inverse, counts = Unique(sorted=0).reference(np.array([2, 1, 1, 3, 4, 3]))
    assert values.tolist() == [2, 1, 3, 4]
    assert first.tolist() == [0, 1, 3, 4]
    assert inverse.tolist() == [0, 1, 1, 2, 3, 2]
    assert counts.tolist() == [1, 2, 2, 1]


def test_all_compiled_dtypes_gather() -> None:
    for name in ("i8", "u16", "bf16", "f64", "bool"):
        x = np.arange(4).astype(DTYPES[name].numpy)
        assert lowered(Gather(), x, np.array([2]))[0].dtype == x.dtype
