"""Corner cases of element types: small floats, strings, saturation; and Einsum's equations."""

import ml_dtypes
import numpy as np
import pytest
from running import both

from bessemer.core.dtypes import DTYPES, f32
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.cast import BitCast, Cast, convert
from bessemer.ops.einsum import Einsum

INF, NAN = np.inf, np.nan


def _f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("name", "saturate", "expected"),
    [
        ("f8e4m3fn", True, [448, -448, 448, 1]),
        ("f8e4m3fn", False, [NAN, NAN, NAN, 1]),
        ("f8e5m2", True, [57344, -57344, 57344, 1]),
        ("f8e5m2", False, [INF, -INF, INF, 1]),
        ("f8e4m3fnuz", True, [240, -240, 240, 1]),
        ("f8e5m2fnuz", False, [NAN, NAN, NAN, 1]),
    ],
)
def test_small_floats_out_of_range(name: str, saturate: bool, expected: list[float]) -> None:
    made = convert(_f32(INF, -1e9, 1e9, 1), DTYPES[name], saturate)
    np.testing.assert_array_equal(made.astype(np.float32), _f32(*expected))
    assert np.isnan(convert(_f32(NAN), DTYPES[name], saturate).astype(np.float32)).all()


@pytest.mark.parametrize(
    ("mode", "expected"), [("up", [1, 2, 4, 4]), ("down", [1, 1, 2, 2]), ("nearest", [1, 1, 4, 4])]
)
def test_powers_of_two_round_as_asked(mode: str, expected: list[float]) -> None:
    made = convert(_f32(1, 1.25, 3, 3.5), DTYPES["f8e8m0"], True, mode)
    assert made.astype(np.float32).tolist() == expected


def test_integers_wrap() -> None:
    assert both(Cast(to="i8"), np.array([200, -129, 5], np.int16)).tolist() == [-56, 127, 5]


def test_floats_truncate_toward_zero() -> None:
    assert both(Cast(to="i32"), _f32(2.9, -2.9, -0.5)).tolist() == [2, -2, 0]


def test_not_a_number_is_true() -> None:
    assert both(Cast(to="bool"), _f32(NAN, 0, -0.0, 0.1)).tolist() == [True, False, False, True]


def test_strings_to_numbers_and_back() -> None:
    words = np.array(["+INF", "inf", "-Inf", "NaN", "1e3", "-2.5"], object)
    np.testing.assert_array_equal(
        convert(words, DTYPES["f32"]), _f32(INF, INF, -INF, NAN, 1000, -2.5)
    )
    assert convert(_f32(0.47, 1), DTYPES["string"]).tolist() == ["0.47", "1.0"]


def test_bfloat_bits() -> None:
    x = np.array([1.0, -2.0], ml_dtypes.bfloat16)
    assert both(BitCast(to="u16"), x).tolist() == [0x3F80, 0xC000]
    with pytest.raises(ShapeError, match="the widths differ"):
        BitCast(to="i8").infer(TensorType(f32, (2,)))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ij", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("i...,j...->ij...", [(2, 4), (3, 4)]),
        ("...i->...", [(2, 3, 4)]),
        (",i->i", [(), (3,)]),
        ("ij,jk,kl,lm->im", [(2, 3), (3, 4), (4, 2), (2, 3)]),
        ("iij->ij", [(3, 3, 2)]),
        ("aB,Bc->ca", [(2, 3), (3, 4)]),
    ],
)
def test_equations(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.random(shape) for shape in shapes]
    found = both(Einsum(equation=equation), *arrays)
    np.testing.assert_allclose(found, np.einsum(equation, *arrays))


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij,jk->il", "puts out"),
        ("ij->i", "names 1 inputs"),
        ("i,j->ij", "does not fit"),
        ("i1,jk->i", "letters"),
        ("ij,ij->ij", "extents"),
    ],
)
def test_bad_equations(equation: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Einsum(equation=equation).infer(TensorType(f32, (2, 3)), TensorType(f32, (3, 4)))
