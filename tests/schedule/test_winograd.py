"""Winograd convolution: its transforms, its error, when it is chosen, and how it is left out."""

import numpy as np
import pytest
from test_rules import convolution, run_kernel

from bessemer import te
from bessemer.compiler.build import build
from bessemer.core.dtypes import f32
from bessemer.core.switches import SWITCHES
from bessemer.ir.graph import Graph
from bessemer.ir.layout import Layout
from bessemer.ir.types import TensorType
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.ops.activation import Relu
from bessemer.ops.conv import Conv
from bessemer.schedule.rule import RULES, applicable_rules
from bessemer.schedule.winograd_division import ERRORS, MAX_SCRATCH_BYTES, Division, window_of
from bessemer.schedule.winograd_transform import (
    tile_sizes,
    transform_input,
    transform_output,
    transform_weights,
)
from bessemer.targets import get_target
from bessemer.te.interpreter import evaluate


def kernel_of(target, *args, **kwargs):
    return simplify_axes(inline_stages(convolution(target.lanes(f32), *args, **kwargs)))


def along(function, values, *outputs):
    """A transform applied to numbers."""
    x = te.placeholder(f32, (len(values),), "x")
    made = function([x[k] for k in range(len(values))], *outputs)
    tensors = tuple(te.compute(f32, (1,), lambda _, value=value: unfused(value)) for value in made)
    return np.array([float(v[0]) for v in evaluate(tensors, {x: np.float32(values)})])


def unfused(expr):
    from bessemer.lower.loops import Fma
    from bessemer.te.walk import rewrite

    return rewrite(expr, lambda node: node.a * node.b + node.c if isinstance(node, Fma) else None)


CUTS = [(outputs, taps) for taps in range(1, 8) for outputs in tile_sizes(taps)]


@pytest.mark.parametrize(("outputs", "taps"), CUTS)
def test_transforms_give_the_sliding_products(outputs, taps):
    rng = np.random.default_rng(0)
    values, row = rng.standard_normal(outputs + taps - 1), rng.standard_normal(taps)
    points = transform_weights(row.reshape(1, 1, 1, taps), 1, outputs).reshape(-1)
    products = along(transform_input, values) * points
    got = along(transform_output, products, outputs)
    wanted = [values[k : k + taps] @ row for k in range(outputs)]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


WINDOWS = [((3, 3), size) for size in ((2, 2), (2, 4), (4, 2), (4, 4))]
WINDOWS += [
    ((5, 5), (2, 2)),
    ((1, 7), (1, 2)),
    ((7, 1), (2, 1)),
    ((5, 3), (4, 4)),
    ((2, 4), (3, 3)),
]


def windowed(target, channels, filters, height, width, kernel, batch=1):
    """A padded convolution with any window."""
    rng = np.random.default_rng(4)
    rows, columns = kernel
    pads = (rows // 2, columns // 2, (rows - 1) // 2, (columns - 1) // 2)
    x = te.placeholder(f32, (batch, channels, height, width), "x")
    w = te.placeholder(f32, (filters, channels, rows, columns), "w")
    total = Conv(pads=pads).lower(x, w)
    blocked = Layout.blocked(4, 1, target.lanes(f32))
    halo = blocked.with_halo(((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    content = rng.standard_normal(w.shape).astype(np.float32)
    inputs = [Operand.dense(x, halo), Operand.dense(w, None, content)]
    made = Kernel("conv", inputs, [Operand.dense(total, blocked)])
    return simplify_axes(inline_stages(made)), Conv(pads=pads), content


@pytest.mark.parametrize(("taps", "size"), WINDOWS)
@pytest.mark.parametrize("channels", [16, 256])
def test_errors_stay_below_the_stated_bound(taps, size, channels):
    target = get_target("host")
    kernel, op, weights = windowed(target, channels, 32, 20, 21, taps, batch=2)
    x = np.random.default_rng(5).standard_normal((2, channels, 20, 21)).astype(np.float32)
    wanted = op.reference(x.astype(np.float64), weights.astype(np.float64))
    arrays = {o.tensor: o.constant if o.constant is not None else x for o in kernel.inputs}
    knobs = {"rows": size[0], "columns": size[1]}
    (got,) = run_kernel(kernel, arrays, target, "winograd", knobs)
    bound = ERRORS[max(m + r - 1 for m, r in zip(size, taps, strict=True))]
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < float(bound)


def test_scratch_fits_the_stack():
    target = get_target("host")
    lanes = target.lanes(f32)
    kernel = kernel_of(target, 1, 2048, 512, 20, 20, 3, pad=1)
    window = window_of(kernel, lanes)
    for knobs in (
        {"tiles": 49, "channels": 0, "filters": 16},
        {"tiles": 1, "channels": 64, "filters": 32},
    ):
        full = {"rows": 4, "columns": 4, "parts": 1, "vectors": 2, "pixels": 14, "unroll": 4}
        cut = Division.of(window, full | knobs, lanes)
        used = 4 * cut.points * (cut.tiles | 1) * (cut.channels + cut.filters)
        assert used <= MAX_SCRATCH_BYTES
        assert cut.channels * cut.passes >= 2048
        assert cut.filters * cut.groups >= 512


def test_it_is_advised_where_it_pays():
    target = get_target("x86-avx512")

    def first(*args, **kwargs):
        return applicable_rules(kernel_of(target, *args, **kwargs), target)[0][0].name

    assert first(1, 64, 64, 56, 56, 3, pad=1) == "winograd"
    assert first(1, 256, 256, 14, 14, 3, pad=1) == "winograd"
    assert first(1, 64, 64, 56, 56, 3, pad=1, stride=2) == "convolution"
    assert first(1, 64, 64, 2, 2, 3, pad=1) == "convolution"
    rules = [
        rule.name
        for rule in applicable_rules(kernel_of(target, 1, 64, 64, 2, 2, 3, pad=1), target)[0]
    ]
    assert "winograd" in rules  # a tuner may try it all the same


def test_strides_groups_and_other_windows_are_refused():
    target = get_target("host")
    rule = RULES.get("winograd")()
    assert "stride" in rule.matches(kernel_of(target, 1, 32, 32, 9, 9, 3, stride=2, pad=1), target)
    assert "9x9" in rule.matches(kernel_of(target, 1, 32, 32, 19, 19, 9, pad=4), target)
    assert rule.matches(kernel_of(target, 1, 32, 32, 9, 9, 1), target)
    assert rule.matches(kernel_of(target, 1, 64, 64, 9, 9, 3, pad=1, group=2), target)


def network():
    rng = np.random.default_rng(7)
    graph = Graph("net")
    x = graph.add_input("x", TensorType(f32, (1, 32, 30, 30)))
    w = graph.add_constant("w", rng.standard_normal((48, 32, 3, 3)).astype(np.float32))
    y = graph.add_node(Conv(pads=(1, 1, 1, 1)), [x, w], name="conv").output
    graph.outputs.append(graph.add_node(Relu(), [y], name="relu").output)
    return graph, {"x": rng.standard_normal((1, 32, 30, 30)).astype(np.float32)}


def test_an_engine_names_the_rule_and_its_error_and_can_do_without():
    graph, inputs = network()
    engine = build(graph)
    (step,) = [s for s in engine.plan.steps if getattr(s, "rule", "") == "winograd"]
    assert "errors up to" in step.schedule
    plain = build(graph, disable=["winograd"])
    assert not [s for s in plain.plan.steps if getattr(s, "rule", "") == "winograd"]
    (ours,), (direct,) = engine.run(inputs).values(), plain.run(inputs).values()
    np.testing.assert_allclose(ours, direct, rtol=0, atol=1e-5 * np.abs(direct).max())


def test_results_do_not_depend_on_the_number_of_threads():
    graph, inputs = network()
    results = [next(iter(build(graph, threads=n).run(inputs).values())) for n in (1, 2, 3)]
    for other in results[1:]:
        assert np.array_equal(results[0], other)


def test_every_switch_is_a_rule_or_the_padding_of_rows():
    assert set(SWITCHES) <= {*RULES.names(), "pad-rows"}
