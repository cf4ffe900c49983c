"""The bias that a sum starts from: which expressions have one."""

import pytest

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.schedule.bias import bias_of


def product(finish, rows=5, depth=6, columns=33):
    """(sum, output) of a product with what `finish(total, bias, residual)` makes of it."""
    a, b = te.placeholder(f32, (rows, depth), "a"), te.placeholder(f32, (depth, columns), "b")
    bias = te.placeholder(f32, (columns,), "bias")
    residual = te.placeholder(f32, (rows, columns), "residual")
    k = te.reduce_axis(depth)
    total = te.compute(f32, (rows, columns), lambda i, j: te.sum_(a[i, k] * b[k, j], k))
    return total, te.compute(f32, (rows, columns),
                             lambda i, j: finish(total[i, j], bias[j], residual[i, j]))


def gate(total, bias, residual):
    return (total + bias) * te.sigmoid(bias + total) + residual


@pytest.mark.parametrize("finish", [
    lambda t, b, r: t + b, lambda t, b, r: te.maximum(t + b, 0.0), gate,
    lambda t, b, r: (t + b) + r])
def test_a_bias_is_found(finish):
    total, out = product(finish)
    found = bias_of(total, [out])
    assert found is not None
    assert str(found.value).startswith("bias[")


@pytest.mark.parametrize("finish", [
    lambda t, b, r: t * b, lambda t, b, r: t - b, lambda t, b, r: t + r,
    lambda t, b, r: (t + b) * t, lambda t, b, r: (t + b) * (t + r)])
def test_no_bias_where_the_sum_itself_is_read(finish):
    total, out = product(finish)
    assert bias_of(total, [out]) is None


def test_no_bias_where_the_sum_is_a_result():
    total, out = product(gate)
    assert bias_of(total, [total]) is None
    assert bias_of(total, [out, total]) is None
