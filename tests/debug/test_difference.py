"""Comparison of tensors: norms, places, NaN, dtypes; and of whole graphs."""

import numpy as np
import pytest

from bessemer.debug.difference import compare_arrays, compare_named, tolerance_of, worst_first


def test_norm_error_and_place():
    expected = np.zeros((2, 3), np.float32)
    expected[0, 0] = 10
    found = expected.copy()
    found[1, 2] = 0.1
    difference = compare_arrays("y", expected, found)
    assert difference.norm_error == pytest.approx(0.01)
    assert difference.where == (1, 2)
    assert difference.found == pytest.approx(0.1)
    assert not difference.within


def test_nan_and_infinity():
    a = np.array([np.nan, np.inf, 1.0], np.float32)
    assert compare_arrays("y", a, a.copy()).within
    assert not compare_arrays("y", a, np.array([0, np.inf, 1], np.float32)).within
    assert not compare_arrays("y", a, np.array([np.nan, -np.inf, 1], np.float32)).within
    clean = np.ones(3, np.float32)
    assert not compare_arrays("y", clean, np.array([1, np.nan, 1], np.float32)).within


def test_shapes_and_dtypes_must_agree():
    a = np.ones(3, np.float32)
    assert compare_arrays("y", a, np.ones((3, 1), np.float32)).reason.startswith("shape")
    assert compare_arrays("y", a, np.ones(3)).reason.startswith("dtype")
    assert compare_arrays("y", np.zeros((0, 2)), np.zeros((0, 2))).within


def test_integers_are_exact():
    assert tolerance_of(np.int64) == 0
    assert not compare_arrays("y", np.array([1000000]), np.array([1000001])).within
    assert compare_arrays("y", np.array([True]), np.array([True])).within


def test_sequences_and_absent_values():
    a = {"s": [np.ones(2), np.zeros(1)], "o": None, "x": np.ones(1)}
    b = {"s": [np.ones(2), np.ones(1)], "o": None, "x": np.ones(1), "z": np.ones(1)}
    ranked = worst_first(compare_named(a, b))
    assert ranked[0].name == "s[1]"
    assert [d.within for d in ranked] == [False, True, True]


def test_zero_expected_uses_the_absolute_error():
    zero = np.zeros(4, np.float32)
    assert compare_arrays("y", zero, zero + np.float32(1e-6)).within
    assert not compare_arrays("y", zero, zero + np.float32(1e-2)).within
