"""A convolution and the depthwise one behind it as one kernel: right, and chosen where it pays."""

from dataclasses import replace

import numpy as np
import pytest
from test_rules import halo, points, random_constant, run_kernel

from bessemer import te
from bessemer.compiler.build import build
from bessemer.core.dtypes import f32
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.layout import Layout
from bessemer.ir.types import TensorType
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.fuse import partition
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.ops.activation import Relu
from bessemer.ops.conv import Conv
from bessemer.ops.variadic import Sum
from bessemer.passes.choose_layouts import ChooseLayouts
from bessemer.passes.runner import run_passes
from bessemer.runtime.cpu import missing_features
from bessemer.schedule.rule import RULES, has_advised_rule
from bessemer.schedule.rules.strips import cheapest, separate_cycles
from bessemer.schedule.strip_nest import StripCut
from bessemer.schedule.strip_parts import StripParts, parts_of
from bessemer.schedule.winograd_division import MAX_SCRATCH_BYTES
from bessemer.targets import get_target


def pair(lanes, n, c, m, h, w, k, stride=1, pad=0, first=1, step=1, planar=False, gate=False,
         bare=False, out_halo=0, dilation=1):
    """x [n, c, h, w] -> m channels by a convolution, then a depthwise k x k one, on blocks."""
    rng = np.random.default_rng(1)
    x = te.placeholder(f32, (n, c, h, w), "x")
    weights = te.placeholder(f32, (m, c, first, first), "weights")
    own = te.placeholder(f32, (m, 1, k, k), "own")
    bias, skip = te.placeholder(f32, (m,), "bias"), te.placeholder(f32, (m,), "skip")

    def follow(total):
        if gate:
            return te.compute(f32, total.shape, lambda *i: total[i] * te.sigmoid(total[i]))
        return te.compute(f32, total.shape, lambda *i: te.maximum(total[i], 0.0))

    edge = first // 2
    wide = Conv(pads=(edge,) * 4, strides=(step, step)).lower(x, weights, None if bare else bias)
    slid = Conv(pads=(pad,) * 4, strides=(stride, stride), group=m,
                dilations=(dilation, dilation)).lower(wide if bare else follow(wide), own,
                                                      None if bare else skip)
    out = slid if bare else follow(slid)
    blocked = Layout.blocked(4, 1, lanes)
    tensors = (weights, own) if bare else (weights, bias, own, skip)
    inputs = [Operand.dense(x, halo(Layout.plain(4) if planar else blocked, edge)),
              *(Operand.dense(t, None, random_constant(t, rng)) for t in tensors)]
    return Kernel("pair", inputs, [Operand.dense(out, halo(blocked, out_halo))])


CASES = [
    lambda v: pair(v, 1, 24, 48, 9, 10, 3, pad=1),
    lambda v: pair(v, 2, 33, 70, 13, 11, 3, stride=2, pad=1, gate=True, out_halo=1),
    lambda v: pair(v, 1, 16, 32, 12, 13, 5, stride=2, pad=2, bare=True),
    lambda v: pair(v, 1, 3, 24, 19, 17, 3, pad=1, first=3, step=2, planar=True),
    lambda v: pair(v, 1, 20, 20, 9, 8, 3, first=3),
    lambda v: pair(v, 1, 1, 8, 9, 9, 3, pad=1, planar=True, gate=True),
    lambda v: pair(v, 1, 5, 16, 11, 12, 3, pad=2, dilation=2, planar=True),
    lambda v: pair(v, 2, 17, 40, 7, 1, 3, pad=1),
]


def made(target, number):
    return simplify_axes(inline_stages(CASES[number](target.lanes(f32))))


def check(target_name, number, count):
    target = get_target(target_name)
    if missing_features(target.requires):
        pytest.skip(f"this machine cannot run {target_name}")
    rng = np.random.default_rng(3)
    for knobs in points(RULES.get("strips")(), made(target, number), target, count):
        kernel = made(target, number)
        assert not RULES.get("strips")().matches(kernel, target)
        arrays = {o.tensor: o.constant if o.constant is not None
                  else rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}
        wanted = te.evaluate(tuple(o.tensor for o in kernel.outputs), arrays)
        for threads in (1, 3):
            got = run_kernel(kernel, arrays, target, "strips", knobs, threads)
            np.testing.assert_allclose(got[0], wanted[0], rtol=2e-4, atol=2e-4, err_msg=str(knobs))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_strips_over_their_space(number):
    check("host", number, 6)


@pytest.mark.parametrize("target", ["x86-avx2", "x86-64-v2"])
@pytest.mark.parametrize("number", range(len(CASES)))
def test_strips_on_other_targets(number, target):
    check(target, number, 0)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_scratch_fits_and_every_thread_has_work(threads):
    target = replace(get_target("x86-avx512"), cores=threads)
    for c, m, size, k, stride in ((16, 96, 112, 3, 2), (24, 144, 56, 3, 1), (160, 960, 7, 3, 1),
                                  (40, 240, 28, 5, 1), (16, 16, 640, 3, 1)):
        kernel = simplify_axes(inline_stages(pair(16, 1, c, m, size, size, k, stride, k // 2)))
        parts = parts_of(kernel)
        assert isinstance(parts, StripParts)
        _, knobs = cheapest(parts, target)
        cut = StripCut.of(parts, knobs["rows"], knobs["vectors"], 16)
        assert cut.scratch_bytes(16) <= MAX_SCRATCH_BYTES
        assert cut.strips * cut.groups >= threads


def test_many_threads_do_not_compute_many_rows_twice():
    """A pair whose strips would be too thin is better apart: the formula says so."""
    target = replace(get_target("x86-avx512"), cores=64)
    kernel = simplify_axes(inline_stages(pair(16, 1, 256, 16, 7, 7, 5, 1, 2)))
    assert cheapest(parts_of(kernel), target)[0] > separate_cycles(parts_of(kernel), target)
    assert not has_advised_rule(kernel, target)


def graph(order="pair", first=1, group=16, size=14):
    rng = np.random.default_rng(0)
    g = Graph("g")
    x = g.add_input("x", TensorType(f32, (1, 8, size, size)))
    w = g.add_constant("w", rng.standard_normal((16, 8, first, first)).astype(np.float32))
    own = g.add_constant(
        "own", rng.standard_normal((16, 16 // group, 3, 3)).astype(np.float32))
    wide = g.add_node(Conv(pads=(first // 2,) * 4), [x, w], name="wide").output
    mid = g.add_node(Relu(), [wide], name="mid").output
    slid = g.add_node(Conv(group=group, pads=(1,) * 4), [mid, own], name="slid").output
    out = g.add_node(Relu(), [slid], name="out").output
    if order == "shared":
        out = g.add_node(Sum(), [out, mid], name="sum").output
    g.outputs += [out, mid] if order == "output" else [out]
    return g


def laid_out(g):
    run_passes(g, (ChooseLayouts(block=16),))
    return partition(g)


def test_a_depthwise_convolution_joins_the_one_before():
    (group,) = [group for group in laid_out(graph()).groups if group.seam]
    assert [[node.name for node in part.nodes] for part in group.parts()] == [
        ["wide", "mid"], ["slid", "out"]]


@pytest.mark.parametrize(("options", "reason"), [
    ({"order": "shared"}, "users"), ({"order": "output"}, "output of the model")])
def test_what_others_read_is_stored(options, reason):
    found = laid_out(graph(**options))
    assert all(not group.seam for group in found.groups)
    assert any(reason in note.reason for note in found.notes)


def test_grouped_convolutions_stay_apart():
    assert all(not group.seam for group in laid_out(graph(group=4)).groups)


@pytest.mark.parametrize(("first", "kernels"), [(1, 1), (3, 2)])
def test_the_engine_has_one_kernel_where_it_pays(first, kernels):
    g = graph(first=first, size=28)
    x = np.random.default_rng(1).standard_normal((1, 8, 28, 28)).astype(np.float32)
    (wanted,) = run_graph(g, [x])
    engine = build(g)
    rules = [step.rule for step in engine.plan.steps if step.rule != "injective"]
    assert rules.count("strips") == (kernels == 1)
    assert len(rules) == kernels
    (got,) = engine.run({"x": x}).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
