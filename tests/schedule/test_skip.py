"""Products with one row leave out the zeros that a Relu makes, and only where that is exact."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

import bessemer
from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.core.errors import ScheduleError
from bessemer.schedule.schedule import Schedule

COLUMNS, DEPTH = 70, 53


def model(weights, rows=1, between=("Relu",)):
    """x, the nodes `between`, and a product with the weights."""
    nodes, name = [], "x"
    for number, op in enumerate(between):
        nodes.append(helper.make_node(op, [name], [f"t{number}"]))
        name = f"t{number}"
    nodes.append(helper.make_node("MatMul", [name, "w"], ["y"]))
    graph = helper.make_graph(
        nodes, "skip", [helper.make_tensor_value_info("x", 1, [rows, DEPTH])],
        [helper.make_tensor_value_info("y", 1, [rows, COLUMNS])],
        [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights_of(rng):
    return rng.standard_normal((DEPTH, COLUMNS)).astype(np.float32)


def skips(engine):
    return any("\nskip" in getattr(step, "schedule", "") for step in engine.plan.steps)


@pytest.mark.parametrize("between", [("Relu",), ("Relu", "Identity")])
def test_the_zeros_of_a_relu_are_left_out(between):
    rng = np.random.default_rng(0)
    weights, x = weights_of(rng), rng.standard_normal((1, DEPTH)).astype(np.float32)
    engine = bessemer.build(model(weights, between=between))
    assert skips(engine)
    expected = np.maximum(x, 0).astype(np.float64) @ weights
    np.testing.assert_allclose(engine.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    nothing = engine.run({"x": -np.abs(x)})["y"]
    np.testing.assert_array_equal(nothing, np.zeros_like(nothing))


def test_what_is_no_number_still_counts():
    rng = np.random.default_rng(1)
    weights, x = np.abs(weights_of(rng)), rng.standard_normal((1, DEPTH)).astype(np.float32)
    engine = bessemer.build(model(weights))
    x[0, 7] = np.nan
    assert np.isnan(engine.run({"x": x})["y"]).all()
    x[0, 7] = np.inf
    assert np.isinf(engine.run({"x": x})["y"]).all()


def test_zeros_times_infinite_weights_are_computed():
    rng = np.random.default_rng(2)
    weights = weights_of(rng)
    weights[3, 5] = np.inf
    engine = bessemer.build(model(weights))
    assert not skips(engine)
    result = engine.run({"x": -np.ones((1, DEPTH), np.float32)})["y"]
    assert np.isnan(result[0, 5])
    assert np.isfinite(np.delete(result, 5)).all()


@pytest.mark.parametrize(("rows", "between"), [(2, ("Relu",)), (1, ("Tanh",)), (1, ())])
def test_other_products_read_everything(rows, between):
    assert not skips(bessemer.build(model(weights_of(np.random.default_rng(3)), rows, between)))


def test_only_iterations_of_reductions_can_be_skipped():
    a, b = te.placeholder(f32, (4, 8), "a"), te.placeholder(f32, (8, 6), "b")
    k = te.reduce_axis(8)
    stage = te.compute(f32, (4, 6), lambda i, j: te.sum_(a[i, k] * b[k, j], k))
    with pytest.raises(ScheduleError, match="a0 is no reduction"):
        Schedule.of(stage).skip("a", "a0")
    schedule = Schedule.of(stage)
    schedule.skip("a", "r0")
    assert Schedule.of(stage).replay(schedule.text).skips == {"r0": "a"}
