"""Corner cases of reductions: empty extents, overflow, infinities, positions of ties."""

import numpy as np
import pytest
from running import both

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.registry import OPERATORS
from bessemer.core.shapes import symbol
from bessemer.ir.types import TensorType
from bessemer.ops.arg_reduce import ArgMax, ArgMin, CumProd, CumSum
from bessemer.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceMean, ReduceSum, ReduceSumSquare

AXIS_1 = np.array([1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ReduceSum", 0),
        ("ReduceProd", 1),
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
        ("ReduceL2", 0),
        ("ReduceMean", np.nan),
    ],
)
def test_reduction_over_nothing(name: str, expected: float) -> None:
    made = both(OPERATORS.get(name)(keepdims=0), np.zeros((2, 0), np.float32), AXIS_1, known=(1,))
    np.testing.assert_array_equal(made, np.full(2, expected, np.float32))


def test_sum_of_half_precision_accumulates_in_single() -> None:
    x = np.ones((1, 4096), np.float16)
    assert both(ReduceSum(), x, AXIS_1, known=(1,)).tolist() == [[4096]]


def test_mean_of_integers_rounds_toward_zero() -> None:
    x = np.array([[-1, -2], [1, 2]], np.int32)
    assert both(ReduceMean(keepdims=0), x, AXIS_1, known=(1,)).tolist() == [-1, 1]


def test_log_sum_exp_of_large_and_infinite() -> None:
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    made = both(ReduceLogSumExp(keepdims=0), x, AXIS_1, known=(1,))
    np.testing.assert_allclose(made, [1000 + np.log(2), -np.inf, np.inf], rtol=1e-6)


def test_no_axes_and_noop_still_applies_the_element_step() -> None:
    x = np.array([1, -3], np.float32)
    made = both(ReduceSumSquare(noop_with_empty_axes=1), x, np.zeros(0, np.int64), known=(1,))
    assert made.tolist() == [1, 9]


def test_max_passes_nan_on() -> None:
    assert np.isnan(both(ReduceMax(keepdims=0), np.array([1, np.nan, 2], np.float32)))


@pytest.mark.parametrize("cls", [ArgMax, ArgMin])
@pytest.mark.parametrize("last", [0, 1])
def test_position_of_ties(cls: type[ArgMax], last: int) -> None:
    x = np.array([3, 3, 3], np.float32)
    assert both(cls(keepdims=0, select_last_index=last), x) == (2 if last else 0)


def test_arg_max_over_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="axis of extent 0"):
        ArgMax(axis=1).infer(TensorType(f32, (2, 0)))


@pytest.mark.parametrize("length", [1, 2, 5, 8, 33])
def test_running_folds_of_any_length(length: int) -> None:
    x = np.linspace(0.5, 1.5, length)
    np.testing.assert_allclose(both(CumSum(), x, np.array(0), known=(1,)), np.cumsum(x))
    np.testing.assert_allclose(both(CumProd(), x, np.array(0), known=(1,)), np.cumprod(x))


def test_cum_sum_exclusive_and_reverse() -> None:
    x = np.array([1, 2, 3])
    assert both(CumSum(exclusive=1), x, np.array(0), known=(1,)).tolist() == [0, 1, 3]
    assert both(CumSum(reverse=1), x, np.array(0), known=(1,)).tolist() == [6, 5, 3]
    assert both(CumSum(exclusive=1, reverse=1), x, np.array(0), known=(1,)).tolist() == [5, 3, 0]


def test_unknown_axes_keep_the_rank() -> None:
    x = TensorType(f32, (symbol("N"), 3))
    made = ReduceSum().infer(x, TensorType(TensorType.of(AXIS_1).dtype, (1,)))
    assert made.shape is not None
    assert len(made.shape) == 2


def test_repeated_axes_are_refused() -> None:
    with pytest.raises(ShapeError, match="name one axis twice"):
        ReduceSum().infer(TensorType(f32, (2, 3)), TensorType.of(np.array([1, -1])))
