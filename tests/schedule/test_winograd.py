"""Winograd convolution: its transforms, its error, when it is chosen, and how it is left out."""

import numpy as np
import pytest
from test_rules import convolution, run_kernel

from bessemer import te
from bessemer.compiler.build import build
from bessemer.core.dtypes import f32
from bessemer.core.switches import SWITCHES
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import inline_stages
from bessemer.ops.activation import Relu
from bessemer.ops.conv import Conv
from bessemer.schedule.rule import RULES, applicable_rules
from bessemer.schedule.winograd_division import ERRORS, MAX_SCRATCH_BYTES, Division, window_of
from bessemer.schedule.winograd_transform import (
    points_of,
    transform_input,
    transform_output,
    transform_weights,
)
from bessemer.targets import get_target
from bessemer.te.interpreter import evaluate


def kernel_of(target, *args, **kwargs):
    return simplify_axes(inline_stages(convolution(target.lanes(f32), *args, **kwargs)))


def along(function, values, outputs):
    """A transform applied to numbers."""
    x = te.placeholder(f32, (len(values),), "x")
    made = function([x[k] for k in range(len(values))], outputs)
    tensors = tuple(te.compute(f32, (1,), lambda _, value=value: unfused(value)) for value in made)
    return np.array([float(v[0]) for v in evaluate(tensors, {x: np.float32(values)})])


def unfused(expr):
    from bessemer.lower.loops import Fma
    from bessemer.te.expr import rewrite

    return rewrite(expr, lambda node: node.a * node.b + node.c if isinstance(node, Fma) else None)


@pytest.mark.parametrize("outputs", [2, 4])
def test_transforms_give_the_sliding_products(outputs):
    rng = np.random.default_rng(0)
    values, taps = rng.standard_normal(points_of(outputs)), rng.standard_normal(3)
    weights = np.zeros((1, 1, 3, 3))
    weights[0, 0, :, 0] = taps  # along the rows; the columns see one tap at the first place
    points = transform_weights(weights, outputs, 2).reshape(points_of(outputs), 4)[:, 0] * -1
    products = along(transform_input, values, outputs) * points
    got = along(transform_output, products, outputs)
    np.testing.assert_allclose(
        got, [values[k : k + 3] @ taps for k in range(outputs)], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("channels", [16, 256])
def test_errors_stay_below_the_stated_bound(rows, columns, channels):
    target = get_target("host")
    kernel = kernel_of(target, 1, channels, 32, 20, 21, 3, pad=1)
    rng = np.random.default_rng(5)
    arrays = {
        o.tensor: o.constant
        if o.constant is not None
        else rng.standard_normal(o.shape).astype(np.float32)
        for o in kernel.inputs
    }
    x, w, bias, skip = (arrays[o.tensor].astype(np.float64) for o in kernel.inputs)
    exact = Conv(pads=(1, 1, 1, 1)).reference(x, w, bias)
    wanted = np.maximum(exact + skip, 0)
    (got,) = run_kernel(kernel, arrays, target, "winograd", {"rows": rows, "columns": columns})
    error = np.abs(got - wanted).max() / np.abs(exact).max()
    assert error < float(ERRORS[max(rows, columns)])


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
    assert "3x3" in rule.matches(kernel_of(target, 1, 32, 32, 9, 9, 5, pad=2), target)
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


def test_every_switch_is_a_rule():
    assert set(SWITCHES) <= set(RULES.names())
