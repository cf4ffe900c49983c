"""Every schedule rule over sampled points of its space, on odd sizes, against its meaning."""

import itertools
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen"))
from kernel_runner import run_kernel

from bessemer import te
from bessemer.core.dtypes import dtype_from_numpy, f32
from bessemer.core.errors import ScheduleError
from bessemer.ir.layout import Layout
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.ops.attention import Attention, PlainAttention
from bessemer.ops.block_quantized import BlockMatMul, DequantizeBlocks
from bessemer.ops.conv import Conv
from bessemer.ops.pool import MaxPool
from bessemer.ops.softmax import Softmax
from bessemer.runtime.cpu import missing_features
from bessemer.schedule.convolution_shape import convolution_of
from bessemer.schedule.rule import RULES
from bessemer.schedule.rules.convolution import chunk_count
from bessemer.targets import get_target

POINTS = 5


def random_constant(tensor, rng):
    return rng.standard_normal(tensor.shape).astype(np.float32)


def halo(layout, pad):
    return layout.with_halo(((0, 0), (0, 0), (pad, pad), (pad, pad)))


def convolution(lanes, n, c, m, h, w, k, stride=1, pad=0, group=1, planar=False, out_halo=0,
                gate=False):
    """A convolution with bias, residual and ReLU (or Swish) on blocked layouts."""
    rng = np.random.default_rng(1)
    op = Conv(pads=(pad,) * 4, strides=(stride, stride), group=group)
    x, y = te.placeholder(f32, (n, c, h, w), "x"), te.placeholder(f32, (m, c // group, k, k), "w")
    bias = te.placeholder(f32, (m,), "bias")
    total = op.lower(x, y, bias)
    skip = te.placeholder(f32, total.shape, "skip")
    out = te.compute(f32, total.shape, lambda *i: te.maximum(total[i] + skip[i], 0.0))
    if gate:
        out = te.compute(f32, total.shape, lambda *i: total[i] * te.sigmoid(total[i]) + skip[i])
    blocked = Layout.blocked(4, 1, lanes)
    inputs = [Operand.dense(x, halo(Layout.plain(4) if planar else blocked, pad)),
              Operand.dense(y, None, random_constant(y, rng)),
              Operand.dense(bias, None, random_constant(bias, rng)), Operand.dense(skip, blocked)]
    kernel = Kernel("conv", inputs, [Operand.dense(out, halo(blocked, out_halo))])
    if group > 1:
        kernel.notes["filters_per_group"] = m // group
    return kernel


def product(m, n, k, constant=True, batch=(), with_bias=False):
    rng = np.random.default_rng(2)
    a = te.placeholder(f32, (*batch, m, k), "a")
    b = te.placeholder(f32, (k, n) if constant else (*batch, k, n), "b")
    axis = te.reduce_axis(k)
    total = te.compute(f32, (*batch, m, n), lambda *i: te.sum_(
        a[(*i[:-1], axis)] * (b[axis, i[-1]] if constant else b[(*i[:-2], axis, i[-1])]), axis))
    content = random_constant(b, rng) if constant else None
    inputs = [Operand.dense(a), Operand.dense(b, None, content)]
    if with_bias:
        bias = te.placeholder(f32, (n,), "bias")
        inputs.append(Operand.dense(bias))
        out = te.compute(f32, total.shape, lambda *i: te.tanh(total[i] + bias[i[-1]]))
    else:
        out = te.compute(f32, total.shape, lambda *i: te.tanh(total[i]))
    return Kernel("matmul", inputs, [Operand.dense(out)])


def attention(sizes, mask=None, plain=False, **attributes):
    """Attention over [batch, heads, queries, keys, size of queries, size of values]."""
    b, h, s, t, d, e = sizes
    q, k, v = (te.placeholder(f32, shape, name) for name, shape in (
        ("q", (b, h, s, d)), ("k", (b, h, t, d)), ("v", (b, h, t, e))))
    inputs = [q, k, v] if mask is None else [q, k, v, te.placeholder(f32, mask, "mask")]
    y = (PlainAttention if plain else Attention)(**attributes).lower(*inputs)[0]
    return Kernel("attention", [Operand.dense(x) for x in inputs], [Operand.dense(y)])


def transposed_product(m, n, k):
    """a @ b.T with constant b [n, k], as Gemm has it."""
    rng = np.random.default_rng(2)
    a, b = te.placeholder(f32, (m, k), "a"), te.placeholder(f32, (n, k), "b")
    axis = te.reduce_axis(k)
    total = te.compute(f32, (m, n), lambda i, j: te.sum_(a[i, axis] * b[j, axis], axis))
    return Kernel("gemm", [Operand.dense(a), Operand.dense(b, None, random_constant(b, rng))],
                  [Operand.dense(total)])


def few_bits(rows, n, k, bits=4, real_zeros=False):
    """x times weights of a few bits, all of them constants; without rows the weights as floats."""
    rng = np.random.default_rng(4)
    given = {"K": k, "N": n, "block_size": 16, "bits": bits}
    blocks = -(-k // 16)
    contents = [rng.integers(0, 256, (n, blocks, 2 * bits)).astype(np.uint8),
                rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32),
                rng.integers(0, 9, (n, blocks)).astype(np.float32 if real_zeros else np.uint8)]
    tensors = [te.placeholder(dtype_from_numpy(c.dtype), c.shape, f"c{i}")
               for i, c in enumerate(contents)]
    operands = [Operand.dense(t, None, c) for t, c in zip(tensors, contents)]
    if not rows:
        floats = DequantizeBlocks(**given).lower(*tensors)
        return Kernel("floats", operands, [Operand.dense(floats)])
    x = te.placeholder(f32, (*rows, k), "x")
    out = BlockMatMul(**given).lower(x, *tensors)
    return Kernel("few_bits", [Operand.dense(x), *operands], [Operand.dense(out)])


def pooling(lanes, n, c, h, w, k, stride, pad):
    x = te.placeholder(f32, (n, c, h, w), "x")
    out = MaxPool(kernel_shape=(k, k), strides=(stride, stride), pads=(pad,) * 4).lower(
        x, known=(None,), types=())[0]
    blocked = Layout.blocked(4, 1, lanes)
    return Kernel("pool", [Operand.dense(x, blocked)], [Operand.dense(out, halo(blocked, 1))])


def softmax(shape, axis):
    x = te.placeholder(f32, shape, "x")
    out = Softmax(axis=axis).lower(x)
    return Kernel("softmax", [Operand.dense(x)], [Operand.dense(out)])


def reduction(shape, axis):
    x = te.placeholder(f32, shape, "x")
    over = te.reduce_axis(shape[axis])
    kept = tuple(n for k, n in enumerate(shape) if k != axis)
    total = te.compute(f32, kept, lambda *i: te.max_(x[(*i[:axis], over, *i[axis:])], over))
    return Kernel("max", [Operand.dense(x)], [Operand.dense(total)])


def transposed(shape, order, layout=None):
    x = te.placeholder(f32, shape, "x")
    out = te.compute(f32, tuple(shape[k] for k in order),
                     lambda *i: te.exp(x[tuple(i[order.index(k)] for k in range(len(shape)))]))
    return Kernel("transpose", [Operand.dense(x, layout)], [Operand.dense(out)])


CASES = {
    "convolution": [
        lambda v: convolution(v, 1, 32, 48, 7, 7, 1),
        lambda v: convolution(v, 2, 33, 70, 13, 11, 3, stride=2, pad=1, out_halo=1),
        lambda v: convolution(v, 1, 5, 17, 5, 5, 5, pad=2),
        lambda v: convolution(v, 1, 3, 24, 19, 17, 7, stride=2, pad=3, planar=True),
        lambda v: convolution(v, 1, 1, 8, 9, 9, 3, pad=1, planar=True),
        lambda v: convolution(v, 1, 3, 64, 75, 75, 3, stride=2, planar=True),
        lambda v: convolution(v, 1, 64, 64, 5, 7, 3, pad=1, group=2),
        lambda v: convolution(v, 1, 150, 70, 11, 9, 1, gate=True, out_halo=1),
    ],
    "winograd": [
        lambda v: convolution(v, 1, 32, 48, 7, 7, 3, pad=1),
        lambda v: convolution(v, 2, 33, 70, 13, 11, 3, pad=1, out_halo=1),
        lambda v: convolution(v, 3, 20, 17, 9, 8, 3),
        lambda v: convolution(v, 1, 48, 96, 17, 35, 3, pad=1),
    ],
    "window": [
        lambda v: convolution(v, 2, 40, 40, 9, 10, 3, pad=1, group=40, out_halo=2),
        lambda v: convolution(v, 1, 16, 16, 11, 7, 5, stride=2, pad=2, group=16),
        lambda v: convolution(v, 1, 20, 20, 9, 10, 3, pad=1, group=20, gate=True),
        lambda v: pooling(v, 1, 20, 11, 13, 3, 2, 1),
    ],
    "matmul": [
        lambda v: product(13, 37, 29), lambda v: product(1, 100, 33), lambda v: product(7, 16, 8),
        lambda v: product(5, 19, 23, constant=False, batch=(3,)),
        lambda v: product(50, 250, 310),  # weights so large that each block asks for the next one
        lambda v: product(40, 130, 20, batch=(2,)), lambda v: transposed_product(3, 35, 17),
        lambda v: product(13, 37, 129, with_bias=True), lambda v: product(1, 9, 5, with_bias=True),
    ],
    "attention": [
        lambda v: attention((2, 3, 37, 41, 8, 24)), lambda v: attention((1, 2, 5, 7, 3, 5), (5, 7)),
        lambda v: attention((1, 2, 2 * v, 20, 16, 16), is_causal=1),
        lambda v: attention((1, 2, v, 20, 16, 16), (20,), plain=True),
        lambda v: attention((1, 2, 3 * v + 5, 3 * v + 5, 5, 6), is_causal=1, plain=True),
        lambda v: attention((1, 1, 2 * v + 3, 80, 4, 4), right_window_size=7),
    ],
    "computed-matmul": [
        lambda v: few_bits((13,), 37, 48), lambda v: few_bits((1,), 70, 40),
        lambda v: few_bits((2, 3), 33, 33, bits=2, real_zeros=True),
        lambda v: few_bits((5,), 32, 32, bits=8),
    ],
    "rowwise": [
        lambda v: softmax((5, 37), -1), lambda v: softmax((2, 7, 3, 19), 1),
        lambda v: softmax((3, 17 * v + 3), -1), lambda v: softmax((2, 16 * v), -1),
        lambda v: softmax((3, 8 * v + 1), -1), lambda v: softmax((2, 4 * v), -1),
    ],
    "columnwise": [
        lambda v: softmax((2, 7, 3 * v + 5), 1), lambda v: softmax((9, 8 * v), 0),
        lambda v: softmax((3, 5, 11, v), -2),
    ],
    "reduction": [lambda v: reduction((5, 37), 1), lambda v: reduction((37, 19), 0),
                  lambda v: reduction((3, 41, 5), 1)],
    "injective": [lambda v: transposed((5, 37, 3), (2, 0, 1)),
                  lambda v: transposed((2, 20, 3, 5), (0, 2, 3, 1), Layout.blocked(4, 1, v)),
                  lambda v: few_bits((), 37, 48)],
}


def points(rule, kernel, target, count):
    """Sampled knobs of a rule, the default first."""
    space = rule.space(kernel, target)
    names = list(space)
    every = [dict(zip(names, values)) for values in itertools.product(*space.values())]
    random.Random(0).shuffle(every)
    return [{}, *every[:count]]


def check(name, number, target_name, count):
    target = get_target(target_name)
    if missing_features(target.requires):
        pytest.skip(f"this machine cannot run {target_name}")
    rule = RULES.get(name)()
    make = CASES[name][number]
    lanes = target.lanes(f32)
    rng = np.random.default_rng(3)
    for knobs in points(rule, simplify_axes(inline_stages(make(lanes))), target, count):
        kernel = simplify_axes(inline_stages(make(lanes)))
        assert not rule.matches(kernel, target)
        arrays = {o.tensor: o.constant if o.constant is not None
                  else rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}
        wanted = te.evaluate(tuple(o.tensor for o in kernel.outputs), arrays)
        for threads in (1, 3):
            got = run_kernel(kernel, arrays, target, name, knobs, threads)
            for ours, want in zip(got, wanted):
                np.testing.assert_allclose(ours, want, rtol=2e-4, atol=2e-4, err_msg=str(knobs))


PARAMETERS = [pytest.param(n, k, id=f"{n}-{k}") for n, rows in CASES.items()
              for k in range(len(rows))]


@pytest.mark.parametrize(("name", "number"), PARAMETERS)
def test_rule_over_its_space(name, number):
    check(name, number, "host", POINTS)


@pytest.mark.parametrize("target", ["x86-avx2", "x86-64-v2"])
@pytest.mark.parametrize(("name", "number"), PARAMETERS)
def test_rule_default_on_other_targets(name, number, target):
    check(name, number, target, 0)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "x86-avx2", "x86-64-v2"])
@pytest.mark.parametrize(("name", "number"), PARAMETERS)
def test_rule_over_its_whole_space(name, number, target):
    check(name, number, target, 10_000)


@pytest.mark.parametrize(("channels", "filters"), [(960, 320), (1152, 320), (960, 160)])
def test_weights_larger_than_the_image_are_divided_evenly(channels, filters):
    target = replace(get_target("x86-avx512"), cores=2)
    kernel = simplify_axes(inline_stages(convolution(16, 1, channels, filters, 7, 7, 1)))
    knobs = RULES.get("convolution")().default(kernel, target)
    assert knobs["share"] == "filters"
    assert filters // 16 // knobs["vectors"] % 2 == 0


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_chunks_of_pixels_give_every_thread_work(threads):
    target = replace(get_target("x86-avx512"), cores=threads)
    for size in (3, 7, 14, 56):
        kernel = simplify_axes(inline_stages(convolution(16, 1, 32, 16, size, size, 1)))
        shape = convolution_of(kernel)
        count = chunk_count(shape, size * size, True, 6, 1, 1, target)
        assert 1 <= count <= size * size
        assert size < 14 or count % threads == 0 or count >= 2 * threads


@pytest.mark.parametrize(("rows", "depth", "columns", "share"), [
    (128, 768, 3072, "columns"), (197, 3072, 768, "columns"), (1024, 768, 3072, "rows"),
    (1024, 3072, 4096, "columns"), (1024, 768, 768, "rows"),
])
def test_threads_divide_the_rows_of_tall_products(rows, depth, columns, share):
    target = replace(get_target("x86-avx512"), cores=2, l2_bytes=1 << 20)
    kernel = simplify_axes(inline_stages(product(rows, columns, depth)))
    assert RULES.get("matmul")().default(kernel, target)["share"] == share


@pytest.mark.parametrize("filters", [1, 5, 20])
def test_reductions_of_blocked_outputs_write_the_zeros_behind_the_last_channel(filters):
    target = get_target("host")
    made = convolution(target.lanes(f32), 1, 32, filters, 5, 7, 1)
    kernel = simplify_axes(inline_stages(made))
    rule = RULES.get("reduction")()
    rng = np.random.default_rng(0)
    arrays = {o.tensor: rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}
    (wanted,) = run_kernel(kernel, arrays, target, "convolution")
    for knobs in (rule.default(kernel, target), *({"vector": v} for v in rule.space(
            kernel, target)["vector"])):
        (got,) = run_kernel(kernel, arrays, target, "reduction", knobs)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    for vector in ("reduction", "none"):
        with pytest.raises(ScheduleError, match="in blocks"):
            run_kernel(kernel, arrays, target, "reduction", {"vector": vector})
