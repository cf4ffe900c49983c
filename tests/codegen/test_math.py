"""Math expansion: accuracy over all f32 numbers, special values, the derivation of tables."""

import math

import numpy as np
import pytest
from fit_math import FITS, fit
from kernel_runner import run_kernel

from bessemer import te
from bessemer.codegen import elementary
from bessemer.codegen.legalize import LIBM, expand_math, libm_calls, libm_symbol
from bessemer.core.dtypes import bf16, f16, f32, f64
from bessemer.core.errors import CodegenError
from bessemer.lower.kernel import Kernel, Operand
from bessemer.targets import get_target, missing_flags
from bessemer.te.expr import UNARY
from bessemer.te.walk import walk

SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 2.0**-126, -(2.0**-126),
     2.0**-149, -(2.0**-149), 3.4028235e38, -3.4028235e38, 88.72283, 88.722839, 88.73, 89.4, 89.5,
     -87.34, -103.97, -103.98, -104, -105, 0.625, 0.92, 1 - 2**-24, 1 + 2**-23, -1 + 2**-24, 4.0,
     20, -20, 10, 16367173 * 2.0**72, 1.5707964, 3.1415927, 2.0**30, 2.0**31],
    np.float32,
)


def _sigmoid(x):
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


# Largest error in units in the last place, and the function in f64.
BOUNDS = {
    "exp": (1.0, np.exp), "expm1": (2.0, np.expm1), "log": (1.0, np.log), "log1p": (2.0, np.log1p),
    "tanh": (1.5, np.tanh), "sigmoid": (2.5, _sigmoid),
    "erf": (1.5, np.vectorize(math.erf, otypes=[np.float64])), "sinh": (2.0, np.sinh),
    "cosh": (2.0, np.cosh), "asinh": (3.0, np.arcsinh), "acosh": (3.0, np.arccosh),
    "atanh": (3.0, np.arctanh), "asin": (2.0, np.arcsin), "acos": (2.0, np.arccos),
    "atan": (2.0, np.arctan), "sin": (3.0, np.sin), "cos": (3.0, np.cos), "tan": (4.0, np.tan),
}


def samples(rng, count=20000):
    bits = rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    ranges = [rng.uniform(-width, width, count).astype(np.float32) for width in (1, 10, 110)]
    return np.concatenate([SPECIAL, bits, *ranges])


def evaluate(build, *arrays, dtype=f32):
    inputs = [te.placeholder(dtype, array.shape) for array in arrays]
    out = te.compute(dtype, arrays[0].shape, lambda i: expand_math(build(*(x[i] for x in inputs))))
    return te.evaluate((out,), dict(zip(inputs, arrays)))[0]


def ulps(got, want):
    """Error in units in the last place of the f32 result; inf where a special value is wrong."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        same = (np.isnan(got) & np.isnan(rounded)) | (
            (got == rounded) & (np.signbit(got) == np.signbit(rounded)))
        unit = np.spacing(np.minimum(np.abs(rounded), np.float32(3.4e38))).astype(np.float64)
        error = np.abs(got.astype(np.float64) - want) / unit
    error = np.where(np.isfinite(got) & np.isfinite(rounded), error, np.inf)
    return np.where(same, 0, error)


@pytest.mark.parametrize("op", BOUNDS)
def test_accuracy(op):
    bound, function = BOUNDS[op]
    x = samples(np.random.default_rng(1))
    got = evaluate(lambda a: te.unary(op, a), x)
    with np.errstate(all="ignore"):
        error = ulps(got, function(x.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= bound, (x[worst], got[worst])


def test_gate_accuracy():
    rng = np.random.default_rng(7)
    x = samples(rng)
    a = np.where(rng.random(x.size) < 0.5, x, rng.uniform(-9, 9, x.size)).astype(np.float32)
    got = evaluate(lambda p, q: p * te.sigmoid(q), a, x)
    with np.errstate(all="ignore"):
        gates = _sigmoid(x.astype(np.float64))
        gates = np.where(gates < 2.0**-126, 0.0, gates)
        error = ulps(got, a.astype(np.float64) * gates)
        tiny = np.abs(a * gates) < 2.0**-120
    worst = int(np.where(tiny, 0, error).argmax())
    assert error[worst] <= 4.0, (a[worst], x[worst], got[worst])
    assert np.abs(got[tiny]).max() < 2.0**-119


@pytest.mark.parametrize("op", ["erf", "tanh"])
@pytest.mark.parametrize("swapped", [False, True])
def test_gelu_sum_accuracy(op, swapped):
    x = samples(np.random.default_rng(8), 40000)
    got = evaluate(lambda a: 1.0 + te.unary(op, a) if swapped else te.unary(op, a) + 1.0, x)
    with np.errstate(all="ignore"):
        error = np.abs(got - (1 + BOUNDS[op][1](x.astype(np.float64))))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(x))
    assert np.nanmax(error) <= 3e-7, (x[np.nanargmax(error)], np.nanmax(error))
    assert (got[x > 10] == 2).all()
    if op == "erf":
        assert (got[x < -4] == 0).all()


def test_power_accuracy():
    rng = np.random.default_rng(2)
    x, y = (part.ravel() for part in np.meshgrid(SPECIAL, SPECIAL))
    x = np.concatenate([x, rng.uniform(0, 10, 20000).astype(np.float32), samples(rng, 5000)])
    y = np.concatenate([y, rng.uniform(-50, 50, x.size - y.size).astype(np.float32)])
    y[-500:] = np.rint(y[-500:])
    got = evaluate(te.power, x, y)
    with np.errstate(all="ignore"):
        error = ulps(got, np.power(x.astype(np.float64), y.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= 0.6, (x[worst], y[worst], got[worst])


@pytest.mark.parametrize("y", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
def test_constant_power(y):
    x = np.concatenate([SPECIAL, np.linspace(-9, 9, 999, dtype=np.float32)])
    got = evaluate(lambda a: te.power(a, y), x)
    with np.errstate(all="ignore"):
        # An array of exponents: for a scalar 0.5, numpy takes the square root, also of -inf.
        want = np.power(x.astype(np.float64), np.full(x.shape, y))
        error = ulps(got, want)
        tiny = np.abs(want) < 2.0**-126
    assert error[~tiny].max() <= 2.0
    expanded = expand_math(te.power(te.placeholder(f32, ())[()], y))
    assert not any(node.dtype == f64 for node in walk(expanded))


@pytest.mark.parametrize("dtype", [f16, bf16])
@pytest.mark.parametrize("op", ["exp", "tanh", "rsqrt", "sigmoid"])
def test_small_floats_go_through_f32(op, dtype):
    x = np.linspace(0.01, 8, 100).astype(dtype.numpy)
    got = evaluate(lambda a: te.unary(op, a), x, dtype=dtype)
    want = evaluate(lambda a: te.unary(op, a), x.astype(np.float32))
    np.testing.assert_array_equal(got, want.astype(dtype.numpy))


def test_sign_and_floor_mod():
    x = np.array([-2, -0.0, 0, 3, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(evaluate(lambda a: te.unary("sign", a), x), np.sign(x))
    a = np.array([5, -5, 5, -5, 0, 5.5, -1e-9], np.float32)
    b = np.array([3, 3, -3, -3, 2, -np.inf, 3], np.float32)
    np.testing.assert_array_equal(evaluate(lambda p, q: p % q, a, b), np.mod(a, b))


def test_every_f32_function_is_expanded():
    a = te.placeholder(f32, ())[()]
    kept = {"neg", "abs", "not", "floor", "ceil", "round", "trunc", "sqrt", "isnan", "isinf",
            "invert", "rounded"}
    for op in UNARY:
        nodes = walk(expand_math(te.unary(op, a)))
        left = {node.op for node in nodes if isinstance(node, te.Unary)}
        assert left <= kept, op
    assert libm_calls(expand_math(te.power(a, a) + te.erf(te.sin(a)))) == set()


def test_f64_functions_are_calls():
    a = te.placeholder(f64, ())[()]
    assert libm_calls(expand_math(te.sigmoid(a) + te.erf(a))) == {"exp", "erf"}
    assert libm_symbol("pow", f64) == "pow"
    assert LIBM["fmod", f32] == "fmodf"
    with pytest.raises(CodegenError, match="sqrt of f64"):
        libm_symbol("sqrt", f64)


@pytest.mark.parametrize("name", FITS)
def test_tables_are_the_derived_ones(name):
    coefficients, worst = fit(*FITS[name])
    # Gates, which take the short one, may be wrong by 4 ulp.
    assert worst < (2.0**-23 if name == "EXP_SHORT" else 2.0**-27)
    np.testing.assert_allclose(getattr(elementary, f"_{name}"), coefficients, rtol=1e-3)


def run_compiled(build, x, target, runner):
    tensor = te.placeholder(f32, x.shape)
    out = te.compute(f32, x.shape, lambda i: build(tensor[i]))
    kernel = Kernel("k", [Operand.dense(tensor)], [Operand.dense(out)])
    return runner(kernel, {tensor: x}, target=target)[0]


@pytest.mark.parametrize("op", BOUNDS)
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-avx2", "x86-avx512"])
def test_compiled_accuracy(op, name):
    target = get_target(name)
    if missing_flags(target):
        pytest.skip(f"this machine lacks {missing_flags(target)}")
    bound, function = BOUNDS[op]
    x = samples(np.random.default_rng(4), 5000)
    got = run_compiled(lambda a: te.unary(op, a), x, target, run_kernel)
    with np.errstate(all="ignore"):
        error = ulps(got, function(x.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= bound, (x[worst], got[worst])


@pytest.mark.parametrize("y", [0.5, 1.7, -3.0])
def test_compiled_power(y):
    x = samples(np.random.default_rng(5), 5000)
    got = run_compiled(lambda a: te.power(a, y), x, get_target("host"), run_kernel)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), np.full(x.shape, np.float64(np.float32(y))))
        error = ulps(got, want)
    worst = int(error.argmax())
    assert error[worst] <= 1.0, (x[worst], got[worst])
