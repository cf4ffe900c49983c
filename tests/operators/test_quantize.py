"""Corner cases of quantisation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import both, lowered

import bessemer
from bessemer.core.dtypes import DTYPES, f32
from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import operator_class
from bessemer.ir.types import TensorType
from bessemer.ops.quantize import (
    DequantizeLinear,
    DynamicQuantizeLinear,
    QuantizeLinear,
    integer_range,
)


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20), st.floats(0.125, 2, width=32),
    st.integers(-128, 127),
)
@settings(max_examples=60, deadline=None)
def test_the_way_back_is_within_half_a_step(
    values: list[float], step: float, zero: int
) -> None:
    x, z = np.array(values, np.float32), np.array(zero, np.int8)
    q = both(QuantizeLinear(), x, scale(step), z)
    back = both(DequantizeLinear(), q, scale(step), z)
    low, high = ((np.array([-128, 127]) - zero) * np.float32(step)).tolist()
    assert (np.abs(back - np.clip(x, low, high)) <= step / 2 * 1.0001).all()


def test_ties_round_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    q = both(QuantizeLinear(output_dtype="i8"), x, scale(1.0))
    assert q.tolist() == [0, 2, 2, 0, -2]


def test_a_sum_behind_dequantisation_sees_a_rounded_product() -> None:
    """q * s + 1 in steps of s lies on ties; with one rounding less, they fall to the other side."""
    q, s = np.arange(-127, 128).astype(np.int8), scale(2 / 255)
    graph = Graph("ties")
    x = graph.add_input("q", TensorType.of(q, keep_value=False))
    step, zero = graph.add_constant("s", s), graph.add_constant("z", np.array(-128, np.int8))
    one = graph.add_constant("one", scale(1))
    back = graph.add_node(DequantizeLinear(), [x, step]).output
    moved = graph.add_node(operator_class("Add")(), [back, one]).output
    graph.outputs = [graph.add_node(QuantizeLinear(), [moved, step, zero]).output]
    (expected,) = run_graph(graph, [q])
    (found,) = bessemer.build(graph).run({"q": q}).values()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["u8", "i8", "u16", "i16", "u4", "i4", "u2", "i2"])
def test_values_saturate(name: str) -> None:
    x = np.array([-1e9, 1e9], np.float32)
    q = QuantizeLinear(output_dtype=name).reference(x, scale(1.0))
    assert q.astype(np.int64).tolist() == list(integer_range(DTYPES[name]))


def test_small_floats_saturate_unless_told_not_to() -> None:
    x = np.array([1e9, -1e9, 1.0], np.float32)
    clipped = QuantizeLinear(output_dtype="f8e4m3fn").reference(x, scale(1.0))
    assert clipped.astype(np.float32).tolist() == [448, -448, 1]
    open_ = QuantizeLinear(output_dtype="f8e5m2", saturate=0).reference(x, scale(1.0))
    assert open_.astype(np.float32).tolist() == [np.inf, -np.inf, 1]


def test_one_scale_for_each_slice() -> None:
    x = np.random.default_rng(0).uniform(-4, 4, (2, 3, 4)).astype(np.float32)
    scales, zeros = np.array([0.1, 0.2, 0.05], np.float32), np.array([1, -2, 3], np.int8)
    whole = both(QuantizeLinear(axis=-2), x, scales, zeros)
    for k in range(3):
        part = QuantizeLinear().reference(x[:, k], scales[k], zeros[k])
        np.testing.assert_array_equal(whole[:, k], part)


def test_blocks_share_a_scale() -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    scales = np.array([[1, 2, 4], [1, 0.5, 0.25]], np.float32)
    q = both(QuantizeLinear(axis=1, block_size=2), x, scales)
    assert q.tolist() == [[0, 1, 1, 2, 1], [5, 6, 14, 16, 36]]
    back = both(DequantizeLinear(axis=1, block_size=2), q, scales)
    assert back[1].tolist() == [5, 6, 7, 8, 9]


def test_large_integers_are_dequantised_exactly() -> None:
    x = np.array([2**24 + 1, -(2**24) - 1], np.int32)
    y = both(DequantizeLinear(), x, scale(2.0))
    assert y.tolist() == [2.0 * (2**24), -2.0 * (2**24)]


def test_one_parameter_may_have_rank_zero_or_one() -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    q = both(QuantizeLinear(), x, scale(0.5), np.array([3], np.int8))
    assert q.tolist() == [[5, 7]]
    assert both(DequantizeLinear(), q, scale(0.5), np.array([3], np.int8)).tolist() == x.tolist()
    types = TensorType.of(x), TensorType(f32, ()), TensorType(DTYPES["i8"], (1,))
    assert str(QuantizeLinear().infer(*types)) == "i8[1,2]"


def test_dynamic_range_holds_zero() -> None:
    x = np.array([2.0, 4.0], np.float32)
    y, step, zero = DynamicQuantizeLinear().reference(x)
    assert zero == 0
    assert step == np.float32(4 / 255)
    for found, expected in zip(lowered(DynamicQuantizeLinear(), x), (y, step, zero)):
        np.testing.assert_array_equal(found, expected)


def test_misfits_are_explained() -> None:
    x = TensorType(f32, (2, 3))
    with pytest.raises(ShapeError, match="does not fit"):
        QuantizeLinear().infer(x, TensorType(f32, (2,)))
    with pytest.raises(ShapeError, match="differ in shape"):
        QuantizeLinear().infer(x, TensorType(f32, (3,)), TensorType(DTYPES["u8"], ()))
    with pytest.raises(ShapeError, match="axis 5"):
        QuantizeLinear(axis=5).infer(x, TensorType(f32, (3,)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["i32", "f32", "f16"])
@pytest.mark.parametrize("result", ["u8", "i8", "i16"])
def test_scales_that_make_no_sense(kind: str, result: str) -> None:
    """0 / 0, x / 0 and NaN: nobody says what they give, but it is the same everywhere."""
    values = [0, 5, -5, 30000] + ([] if kind == "i32" else [np.nan, np.inf, -np.inf])
    x = np.array(values, DTYPES[kind].numpy)
    for step in (0.0, 1e-3, np.nan, np.inf, -0.5):
        both(QuantizeLinear(), x, scale(step), np.array(1, DTYPES[result].numpy))
