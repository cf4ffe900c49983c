"""Corner cases of element-wise operators: signs, infinities, integer rounding, refusals."""

import numpy as np
import pytest
from running import both

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ShapeError
from bessemer.core.registry import OPERATORS
from bessemer.ir.types import TensorType
from bessemer.ops.activation import Gelu, Softplus
from bessemer.ops.arithmetic import Add, Div, Mod, Pow
from bessemer.ops.arithmetic_unary import IsInf
from bessemer.ops.compare import BitShift
from bessemer.ops.variadic import Clip, Max, Mean

INF, NAN = np.inf, np.nan


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_integer_division_rounds_toward_zero() -> None:
    assert both(Div(), np.array([-7, 7, -7, 7]), np.array([2, -2, -2, 2])).tolist() == [
        -3,
        -3,
        3,
        3,
    ]


def test_integer_division_by_zero_is_zero() -> None:
    assert both(Div(), np.array([5, 0]), np.array([0, 0])).tolist() == [0, 0]


@pytest.mark.parametrize(("fmod", "expected"), [(0, [2, -2, -1, 1]), (1, [-1, 1, -1, 1])])
def test_mod_takes_the_sign_of_one_side(fmod: int, expected: list[int]) -> None:
    made = both(Mod(fmod=fmod), np.array([-7, 7, -7, 7]), np.array([3, -3, -3, 3]))
    assert made.tolist() == expected


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0, -1.0, 0.0])
def test_pow_by_a_constant_is_pow(exponent: float) -> None:
    x = f32(4, 0.25, INF, -INF, 0.0, -0.0, NAN)
    y = np.array(exponent, np.float32)
    both(Pow(), x, y, known=(1,))


def test_pow_of_integers() -> None:
    x, y = np.array([2, -2, 1, 3], np.int32), np.array([10, 3, -1, 0], np.int32)
    assert both(Pow(), x, y).tolist() == [1024, -8, 1, 1]


def test_max_and_clip_pass_nan_on() -> None:
    assert np.isnan(both(Max(), f32(NAN, 1), f32(1, NAN))).all()
    assert np.isnan(both(Clip(), f32(NAN), f32(0).reshape(()), f32(1).reshape(())))


def test_clip_with_crossed_bounds_gives_the_upper_one() -> None:
    made = both(Clip(), f32(-5, 0, 5), np.float32(2).reshape(()), np.float32(-1).reshape(()))
    assert made.tolist() == [-1, -1, -1]


def test_mean_of_half_precision_does_not_overflow() -> None:
    x = np.array([60000], np.float16)
    assert both(Mean(), x, x, x).tolist() == [60000]


@pytest.mark.parametrize(
    ("negative", "positive", "expected"),
    [
        (1, 1, [True, True, False]),
        (1, 0, [False, True, False]),
        (0, 1, [True, False, False]),
        (0, 0, [False, False, False]),
    ],
)
def test_is_inf_by_sign(negative: int, positive: int, expected: list[bool]) -> None:
    op = IsInf(detect_negative=negative, detect_positive=positive)
    assert both(op, f32(INF, -INF, NAN)).tolist() == expected


def test_arithmetic_shift_keeps_the_sign() -> None:
    x, y = np.array([-8, -8, 8, -8], np.int8), np.array([1, 9, 9, -1], np.int8)
    assert both(BitShift(direction="RIGHT"), x, y).tolist() == [-4, -1, 0, -1]
    assert both(BitShift(direction="LEFT"), x, y).tolist() == [-16, 0, 0, 0]


def test_softplus_of_large_numbers() -> None:
    assert both(Softplus(), f32(-1000, 0, 1000)).tolist() == [0, np.float32(np.log(2)), 1000]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_far_from_zero(approximate: str) -> None:
    np.testing.assert_allclose(
        both(Gelu(approximate=approximate), f32(-40, 0, 40)), [0, 0, 40], atol=1e-6
    )


def test_broadcast_misfit_names_the_shapes() -> None:
    a, b = (TensorType(DTYPES["f32"], shape) for shape in ((2, 3), (4,)))
    with pytest.raises(ShapeError, match=r"cannot broadcast \(2, 3\) with \(4,\)"):
        Add().infer(a, b)


def test_mixed_dtypes_are_refused() -> None:
    a, b = TensorType(DTYPES["f32"], (2,)), TensorType(DTYPES["f64"], (2,))
    with pytest.raises(ShapeError, match="one dtype, got f32 and f64"):
        Add().infer(a, b)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Exp", "i32"),
        ("Relu", "bool"),
        ("Neg", "string"),
        ("And", "i8"),
        ("Not", "f32"),
        ("BitwiseNot", "f32"),
        ("Floor", "i64"),
        ("ReduceSum", "bool"),
        ("ArgMax", "string"),
    ],
)
def test_undefined_dtypes_are_refused(name: str, dtype: str) -> None:
    x = TensorType(DTYPES[dtype], (2,))
    inputs = (x, x) if name == "And" else (x,)
    with pytest.raises(ShapeError, match=f"{name} is not defined for {dtype}"):
        OPERATORS.get(name)().infer(*inputs)
