"""What kernels have to do: operations, and instructions of the vector units."""

import pytest

from bessemer import te
from bessemer.compiler.work import kernel_flops, kernel_instructions
from bessemer.core.dtypes import f32, f64
from bessemer.lower.kernel import Kernel, Operand


def mapped(function, dtype=f32):
    """100 elements y = function(x)."""
    x = te.placeholder(dtype, (100,), "x")
    y = te.compute(dtype, (100,), lambda i: function(x[i]))
    return Kernel("mapped", [Operand.dense(x)], [Operand.dense(y)])


@pytest.mark.parametrize(("function", "flops", "instructions"), [
    (lambda x: x + 1.0, 1, 1), (lambda x: x * 2.0 + 1.0, 2, 1), (lambda x: -x * x + x * 3.0, 4, 2),
    (lambda x: te.maximum(x, 0.0), 1, 1), (lambda x: 1.0 * x, 1, 0), (lambda x: 1.0 / x, 1, 3),
    (lambda x: (x + 1.0) * te.abs_(x + 1.0), 4, 3), (lambda x: te.where(x > 0.0, x, 0.5), 0, 1)])
def test_what_one_element_takes(function, flops, instructions):
    kernel = mapped(function)
    assert kernel_flops(kernel) == 100 * flops
    assert kernel_instructions(kernel) == 100 * instructions


def test_functions_count_as_their_formulas():
    swish = kernel_instructions(mapped(lambda x: x * te.sigmoid(1.0 * x)))
    assert 1500 <= swish <= 1700
    assert kernel_instructions(mapped(te.tanh)) > swish


def test_elements_of_eight_bytes_take_two_places():
    assert kernel_instructions(mapped(lambda x: x + 1.0, f64)) == 200


def product(scaled):
    """A product of 3 x 4 and 4 x 5, with the rows of the first scaled, and a bias."""
    x, w = te.placeholder(f32, (3, 4), "x"), te.placeholder(f32, (4, 5), "w")
    scale, bias = te.placeholder(f32, (4,), "scale"), te.placeholder(f32, (5,), "bias")
    k = te.reduce_axis(4)
    total = te.compute(f32, (3, 5), lambda i, j: te.sum_(
        (x[i, k] * scale[k] if scaled else x[i, k]) * w[k, j], k))
    out = te.compute(f32, (3, 5), lambda i, j: te.maximum(total[i, j] + bias[j], 0.0))
    return Kernel("product", [Operand.dense(t) for t in (x, w, scale, bias)], [Operand.dense(out)])


def test_a_product_is_one_instruction_for_each_multiply_add():
    kernel = product(scaled=False)
    assert kernel_flops(kernel) == 2 * 60 + 2 * 15
    assert kernel_instructions(kernel) == 60 + 15


def test_a_factor_is_computed_once_for_each_of_its_own_elements():
    plain, scaled = product(scaled=False), product(scaled=True)
    assert kernel_flops(scaled) - kernel_flops(plain) == 12
    assert kernel_instructions(scaled) - kernel_instructions(plain) == 12


def test_other_reductions_count_each_step():
    x = te.placeholder(f32, (3, 4), "x")
    k = te.reduce_axis(4)
    y = te.compute(f32, (3,), lambda i: te.sum_(x[i, k], k))
    kernel = Kernel("sums", [Operand.dense(x)], [Operand.dense(y)])
    assert kernel_flops(kernel) == kernel_instructions(kernel) == 12
