"""Corner cases of normalisations and softmax."""

import numpy as np
import pytest
from running import Array, both, lowered

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.normalize import LayerNormalization, LpNormalization, RMSNormalization
from bessemer.ops.normalize_channels import (
    LRN,
    BatchNormalization,
    GroupNormalization,
    InstanceNormalization,
)
from bessemer.ops.softmax import Hardmax, LogSoftmax, Softmax


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    x = random(4, 64) + 1000
    ones = np.ones(64, np.float32)
    y = LayerNormalization().reference(x, ones)[0]
    exact = x.astype(np.float64) - x.astype(np.float64).mean(axis=1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, exact, atol=1e-3)
    np.testing.assert_allclose(lowered(LayerNormalization(), x, ones)[0], exact, atol=1e-3)


def test_group_normalisation_between_instance_and_layer() -> None:
    x, scale, bias = random(2, 6, 5, 4), random(6), random(6)
    by_channel = GroupNormalization(num_groups=6).reference(x, scale, bias)
    instance = InstanceNormalization().reference(x, scale, bias)
    np.testing.assert_allclose(by_channel, instance, rtol=1e-4, atol=1e-5)
    whole = GroupNormalization(num_groups=1).reference(x, np.ones(6, "f4"), np.zeros(6, "f4"))
    layer = LayerNormalization(axis=1).reference(x, np.ones((6, 5, 4), np.float32))[0]
    np.testing.assert_allclose(whole, layer, rtol=1e-4, atol=1e-5)


def test_rms_of_float16_is_formed_in_float32() -> None:
    x = np.full((1, 8), 300, np.float16)
    y = both(RMSNormalization(), x, np.ones(8, np.float16))
    np.testing.assert_allclose(y.astype(np.float32), 1, rtol=1e-3)


def test_a_zero_vector_stays_zero() -> None:
    x = np.array([[0, 0], [3, 4]], np.float32)
    np.testing.assert_allclose(both(LpNormalization(), x), [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_batch_normalisation_in_training() -> None:
    x, ones, zeros = random(8, 3, 5), np.ones(3, np.float32), np.zeros(3, np.float32)
    op = BatchNormalization(training_mode=1, momentum=0.75)
    y, mean, variance = op.reference(x, ones, zeros, zeros, ones)
    np.testing.assert_allclose(y.mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(mean, 0.25 * x.mean(axis=(0, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * x.var(axis=(0, 2)), rtol=1e-4)
    for got, want in zip(lowered(op, x, ones, zeros, zeros, ones), (y, mean, variance)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_lrn_sums_the_neighbours(size: int) -> None:
    x = random(1, 5, 2)
    y = both(LRN(size=size, alpha=0.5, beta=1.0, bias=2.0), x)
    for c in range(5):
        low, high = max(0, c - (size - 1) // 2), min(4, c + size // 2)
        total = (x[0, low : high + 1] ** 2).sum(axis=0)
        np.testing.assert_allclose(y[0, c], x[0, c] / (2 + 0.5 / size * total), rtol=1e-5)


@pytest.mark.parametrize("op", [Softmax(), LogSoftmax()])
def test_softmax_of_huge_values(op: Operator) -> None:
    x = np.array([[1e4, 1e4, -1e4], [-1e30, 0, -np.inf]], np.float32)
    y = both(op, x)
    assert not np.isnan(y).any()
    p = np.exp(y) if isinstance(op, LogSoftmax) else y
    np.testing.assert_allclose(p, [[0.5, 0.5, 0], [0, 1, 0]], atol=1e-6)


def test_hardmax_takes_the_first_of_equals() -> None:
    np.testing.assert_array_equal(
        both(Hardmax(axis=0), np.array([[1, 2], [1, 3]], np.float32)), [[1, 0], [0, 1]]
    )


def test_misfits_are_explained() -> None:
    x = TensorType(f32, (2, 6, symbol("H")))
    with pytest.raises(ShapeError, match="axis 3"):
        Softmax(axis=3).infer(x)
    with pytest.raises(ShapeError, match="4 groups"):
        GroupNormalization(num_groups=4).infer(x, TensorType(f32, (6,)), TensorType(f32, (6,)))
    with pytest.raises(ShapeError, match="scale has 5 entries"):
        InstanceNormalization().infer(x, TensorType(f32, (5,)), TensorType(f32, (6,)))
    with pytest.raises(ShapeError, match="does not broadcast"):
        LayerNormalization(axis=1).infer(x, TensorType(f32, (5, 1)))
