"""The text that tuning records are kept under: what changes it, what does not, and reading it."""

import numpy as np
import pytest
from kernels import convolution, product

from bessemer.core.errors import ModelFormatError
from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target
from bessemer.tune.description import describe_kernel, kernel_key, parse_kernel
from bessemer.tune.features import features_of

AVX512, AVX2 = get_target("x86-avx512"), get_target("x86-avx2")


def test_names_and_weights_do_not_matter():
    one = describe_kernel(convolution())
    assert describe_kernel(convolution(names=("input_7", "sum"))) == one
    assert describe_kernel(convolution(seed=9)) == one


@pytest.mark.parametrize("other", [
    convolution(size=15), convolution(filters=64), convolution(window=3, pad=1), product()])
def test_what_is_computed_matters(other):
    assert describe_kernel(other) != describe_kernel(convolution())


def test_layouts_matter():
    inner, padded = convolution(size=14), convolution(size=14)
    halo = padded.inputs[0].layout.with_halo(((0, 0), (0, 0), (1, 1), (1, 1)))
    padded.inputs[0] = type(padded.inputs[0]).dense(padded.inputs[0].tensor, halo)
    assert describe_kernel(inner) != describe_kernel(padded)


def test_chips_and_threads_have_keys_of_their_own():
    kernel = convolution()
    keys = {kernel_key(kernel, AVX512, 2), kernel_key(kernel, AVX512, 1),
            kernel_key(kernel, AVX2, 2)}
    assert len(keys) == 3
    assert kernel_key(convolution(seed=3), AVX512, 2) in keys


@pytest.mark.parametrize("kernel", [convolution(), convolution(window=3), product()],
                         ids=["1x1", "3x3", "product"])
def test_a_kernel_is_read_back(kernel):
    found = parse_kernel(describe_kernel(kernel))
    assert describe_kernel(found) == describe_kernel(kernel)
    made = make_loops(kernel, AVX512, "kernel")
    again = make_loops(found, AVX512, "kernel", made.rule, made.knobs)
    assert np.array_equal(features_of(kernel, made, AVX512, 2),
                          features_of(found, again, AVX512, 2))


@pytest.mark.parametrize("text", [
    "nonsense", "in i0 f99[2] constant", "out s0 f32[2] 0; 0:0 strides 1 offset 0",
    "s0[a0:2] f32 = i7[a0]"])
def test_other_texts_are_refused(text):
    with pytest.raises(ModelFormatError):
        parse_kernel(text)
