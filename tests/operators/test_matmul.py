"""Corner cases of matrix products."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Array, both

from bessemer.core.dtypes import f32, f64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.types import TensorType
from bessemer.ops.matmul import Gemm, MatMul
from bessemer.ops.matmul_integer import MatMulInteger, QLinearMatMul


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


extent = st.integers(1, 3)


@given(
    st.lists(st.sampled_from([1, 2]), max_size=2),
    st.lists(st.booleans(), min_size=2, max_size=2), extent, extent, extent, st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_batches_broadcast(
    batch: list[int], ones: list[bool], m: int, k: int, n: int, drop: int
) -> None:
    a_batch = [1 if one else d for d, one in zip(batch, ones)]
    a, b = random(*a_batch, m, k), random(*batch[drop:], k, n)
    np.testing.assert_allclose(both(MatMul(), a, b), a @ b, rtol=1e-5)


@pytest.mark.parametrize(("a", "b"), [((3,), (3,)), ((3,), (2, 3, 4)), ((2, 4, 3), (3,))])
def test_vectors(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = random(*a), random(*b)
    np.testing.assert_allclose(both(MatMul(), x, y), x @ y, rtol=1e-5)


def test_types_and_extents_must_fit() -> None:
    with pytest.raises(ShapeError, match="inner extents 3 and 4"):
        MatMul().infer(TensorType(f32, (2, 3)), TensorType(f32, (4, 5)))
    with pytest.raises(ShapeError, match="f32 and f64"):
        MatMul().infer(TensorType(f32, (2, 3)), TensorType(f64, (3, 5)))
    with pytest.raises(ShapeError, match="scalar"):
        MatMul().infer(TensorType(f32, ()), TensorType(f32, (3, 5)))
    with pytest.raises(ShapeError, match="does not broadcast"):
        Gemm().infer(
            TensorType(f32, (2, 3)), TensorType(f32, (3, 5)), TensorType(f32, (2, 1, 5))
        )


def test_symbols_pass_through() -> None:
    n = symbol("N")
    assert str(MatMul().infer(TensorType(f32, (n, 2, 3)), TensorType(f32, (3, 4)))) == "f32[N,2,4]"
    gemm = Gemm(transA=1).infer(
        TensorType(f32, (3, n)), TensorType(f32, (3, 4)), TensorType(f32, (4,))
    )
    assert str(gemm) == "f32[N,4]"


def test_gemm_with_beta_zero_ignores_c() -> None:
    a, b = random(2, 3), random(3, 4)
    c = np.full((2, 4), np.nan, np.float32)
    np.testing.assert_allclose(both(Gemm(beta=0.0), a, b, c), a @ b, rtol=1e-5)


def test_integer_product_wraps_in_32_bits() -> None:
    a = np.full((1, 3), 255, np.uint8)
    b = np.full((3, 1), 255, np.uint8)
    y = both(MatMulInteger(), a, b, np.array(255, np.uint8), np.array([0], np.uint8))
    assert y.dtype == np.int32
    assert y[0, 0] == 0


def test_quantised_product_saturates() -> None:
    scalar = np.array(1.0, np.float32)
    zero = np.array(0, np.uint8)
    a = np.full((1, 2), 200, np.uint8)
    y = both(QLinearMatMul(), a, scalar, zero, a.T.copy(), scalar, zero, scalar, zero)
    assert y[0, 0] == 255


def test_quantised_rows_have_their_own_scales() -> None:
    a = np.array([[1, 2], [3, 4]], np.int8)
    scales = np.array([1.0, 0.5], np.float32)
    zeros = np.array([0, 1], np.int8)
    one, zero = np.array(1.0, np.float32), np.array(0, np.int8)
    b = np.eye(2, dtype=np.int8)
    y = both(QLinearMatMul(), a, scales, zeros, b, one, zero, one, zero)
    # The second row is (3 - 1, 4 - 1) * 0.5, rounded half to even.
    np.testing.assert_array_equal(y, [[1, 2], [1, 2]])
