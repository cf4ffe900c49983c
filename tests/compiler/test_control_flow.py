"""Control flow in engines: compiled bodies give what the interpreter gives."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper

import bessemer
from bessemer.core.dtypes import f32
from bessemer.core.errors import BessemerError, EngineFormatError, ExecutionError, InputError
from bessemer.engine.manifest import MAX_DEPTH, decode_plan, encode_plan
from bessemer.engine.plan import Binding, HostStep, KernelStep
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.ir.types import TensorType
from bessemer.runtime.engine import Engine

BRANCHES = """graph branches(%c: bool[], %x: f32[4], %w: f32[4]) -> (%y, %n) {
  %y, %n = If(%c, %x, %w, then_branch=graph yes(%a: f32[4], %w: f32[4]) -> (%z, %k) {
    %k = Size(%a) from "size"
    %m = Mul(%a, %w) from "mul"
    %z = Softmax(%m) from "softmax"
  }, else_branch=graph no(%a: f32[4], %w: f32[4]) -> (%w, @seven) {
    @seven : i64[] = [7]
  }) from "if"
}"""

SUMMING = """graph summing(%n: i64[], %go: bool[], %x: f32[3], %s: f32[3])
    -> (%last, %all, %count) {
  %last, %all, %count = Loop(%n, %go, %x, %s, captured=1,
    body=graph body(%i: i64[], %c: bool[], %h: f32[3], %t: f32[3])
      -> (%more, %z, %z, %i) {
    @limit : f32[] = [20]
    @axes : i64[1] = [0]
    %z = Add(%h, %t) from "add"
    %m = ReduceMax(%z, @axes, keepdims=0) from "max"
    %more = Less(%m, @limit) from "less"
  }) from "loop"
}"""

NESTED = """graph nested(%n: i64[], %x: f32[2], %c: bool[]) -> (%y) {
  %y = Loop(%n, none, %x, %c, captured=1,
    body=graph outer(%i: i64[], %k: bool[], %h: f32[2], %c: bool[])
      -> (%k, %r) {
    %r = If(%c, %h, %i, then_branch=graph yes(%a: f32[2], %i: i64[]) -> (%z) {
      %z = Loop(%i, none, %a, body=graph inner(%j: i64[], %k: bool[], %v: f32[2]) -> (%k, %w) {
        @two : f32[] = [2]
        %w = Mul(%v, @two) from "double"
      }) from "inner"
    }, else_branch=graph no(%a: f32[2], %i: i64[]) -> (%z) {
      %f = Cast(%i, to="f32") from "cast"
      %z = Add(%a, %f) from "add"
    }) from "if"
  }) from "outer"
}"""

SCAN = """graph scan(%h: f32[2], %x: f32[T,2]) -> (%last, %all) {
  %last, %all = Scan(%h, %x, scan_output_directions=(1,), scan_input_directions=(1,),
    body=graph body(%h: f32[2], %x: f32[2])
      -> (%z, %t) {
    %z = Add(%h, %x) from "add"
    %t = Tanh(%z) from "tanh"
  }) from "scan"
}"""

GROWING = """graph growing(%n: i64[], %x: i64[1]) -> (%y, %s) {
  @one : i64[1] = [1]
  %e = SequenceEmpty(dtype="i64") from "empty"
  %y, %s = Loop(%n, none, %x, %e,
    body=graph body(%i: i64[], %k: bool[], %h: i64[L], %q: seq<i64[...]>)
      -> (%k, %g, %r) {
    @one : i64[1] = [1]
    %p = Reshape(%i, @one) from "reshape"
    %g = Concat(%h, %p, axis=0) from "grow"
    %r = SequenceInsert(%q, %g) from "insert"
  }) from "loop"
}"""

TEXTS = """graph texts(%n: i64[], %x: string[1]) -> (%y) {
  %y = Loop(%n, none, %x, body=graph body(%i: i64[], %k: bool[], %h: string[1]) -> (%k, %g) {
    %g = StringConcat(%h, %h) from "twice"
  }) from "loop"
}"""

F = np.float32
NUMBER = np.int64


def row(*numbers):
    return np.array(numbers, F)


def check(text, *inputs):
    """Builds and runs; compares with the interpreter on the same graph."""
    graph = parse_graph(text)
    # Branches so small would be computed both.
    engine = bessemer.build(graph, strict=False, disable=("select-branches",))
    outputs = list(engine.run(list(inputs)).values())
    expected = run_graph(graph, list(inputs))
    for found, right in zip(outputs, expected, strict=True):
        if isinstance(right, list):
            assert [x.tolist() for x in found] == [x.tolist() for x in right]
        else:
            assert found.dtype == right.dtype
            assert found.shape == right.shape
            if found.dtype.kind in "fc":
                np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
            else:
                assert found.tolist() == right.tolist()
    return engine


@pytest.mark.parametrize("taken", [True, False])
def test_branches_run_compiled(taken):
    engine = check(BRANCHES, np.array(taken), row(1, 2, 3, 4), row(0, 1, 0, 1))
    (step,) = engine.plan.steps
    assert set(step.bodies) == {"then_branch", "else_branch"}
    assert not list(engine.plan.opaque_steps)
    assert any(isinstance(s, KernelStep) for s in step.bodies["then_branch"].steps)
    assert "graph" not in str(step.operator)


@pytest.mark.parametrize(("trips", "go"), [(0, True), (4, False), (1, True), (3, True), (90, True)])
def test_a_loop_ends_by_count_or_condition(trips, go):
    engine = check(SUMMING, np.array(trips), np.array(go), row(1, 2, 3), row(1, 2, 3))
    assert not list(engine.plan.opaque_steps)


def test_one_engine_many_runs_and_contexts():
    graph = parse_graph(SUMMING)
    engine = bessemer.build(graph)
    with engine.create_context() as first, engine.create_context() as second:
        for trips in (5, 0, 2, 7):
            feed = [np.array(trips), np.array(True), row(0, 0, 0), row(1, 1, 1)]
            right = run_graph(graph, feed)
            for context in (first, second):
                for a, b in zip(context.run(feed).values(), right, strict=True):
                    np.testing.assert_array_equal(a, b)
    with pytest.raises(ExecutionError, match="closed"):
        first.run(feed)


@pytest.mark.parametrize("trips", [0, 1, 4])
@pytest.mark.parametrize("taken", [True, False])
def test_bodies_in_bodies(trips, taken):
    engine = check(NESTED, np.array(trips), row(1, -1), np.array(taken))
    assert not list(engine.plan.opaque_steps)
    assert len(list(engine.plan.inner_plans)) == 4


@pytest.mark.parametrize("length", [1, 5])
def test_a_scan_that_is_too_long_to_unroll(length):
    graph = parse_graph(SCAN)
    x = np.arange(2 * length, dtype=F).reshape(length, 2) / 7
    engine = bessemer.build(graph, shapes={"T": length}, disable=("unroll-loops",))
    for found, right in zip(
        engine.run([row(1, 2), x]).values(), run_graph(graph, [row(1, 2), x]), strict=True
    ):
        np.testing.assert_allclose(found, right, rtol=1e-6)
    assert not list(engine.plan.opaque_steps)


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_shapes_that_change_and_sequences(trips):
    check(GROWING, np.array(trips), np.array([9]))


def test_strings_are_carried():
    check(TEXTS, np.array(3), np.array(["ab"], object))


def test_engines_with_bodies_are_stored(tmp_path):
    graph = parse_graph(NESTED)
    engine = bessemer.build(graph)
    path = tmp_path / "nested.plan"
    engine.save(path)
    loaded = bessemer.load(path)
    assert loaded.plan == engine.plan
    assert loaded.plan.format_version == 2
    feed = [np.array(3), row(1, 2), np.array(True)]
    np.testing.assert_array_equal(loaded.run(feed)["y"], run_graph(graph, feed)[0])
    assert "then_branch" in loaded.inspect()


def test_a_branch_that_does_not_fit_is_left_to_the_interpreter():
    text = """graph g(%c: bool[], %x: f32[4]) -> (%y) {
      %y = If(%c, %x, then_branch=graph yes(%a: f32[N]) -> (%z) {
        %z = Exp(%a) from "exp"
      }, else_branch=graph no(%a: f32[N]) -> (%z) {
        @w : f32[3] = [1, 2, 3]
        %z = Mul(%a, @w) from "mul"
      }) from "if"
    }"""
    graph = parse_graph(text)
    for body in graph.nodes[0].op.subgraphs().values():
        body.inputs[0].type = TensorType(f32, (4,))
    engine = bessemer.build(graph)
    (step,) = engine.plan.steps
    assert isinstance(step, HostStep)
    assert set(step.bodies) == {"then_branch"}
    np.testing.assert_allclose(
        engine.run([np.array(True), row(1, 2, 3, 4)])["y"], np.exp(row(1, 2, 3, 4)), rtol=1e-6)
    with pytest.raises((ExecutionError, InputError), match="if"):
        engine.run([np.array(False), row(1, 2, 3, 4)])


def test_a_plan_of_too_many_bodies_in_bodies_is_refused():
    plan = bessemer.build(parse_graph(BRANCHES), disable=("select-branches",)).plan
    (step,) = plan.steps
    data = encode_plan(plan)
    for _ in range(MAX_DEPTH + 2):
        data = encode_plan(plan) | {"steps": [
            {"host": {"name": "if", "operator": step.operator, "inputs": [], "outputs": [],
                      "bodies": {"then_branch": data}}}
        ]}
    with pytest.raises(EngineFormatError, match="nested at most"):
        decode_plan(data)


@pytest.mark.parametrize("width", [1, 3, 4, 16])
def test_stacks_grow(width):
    """Rows of any alignment, more of them than fit at first; two states that change places."""
    text = f"""graph g(%n: i64[], %x: f32[{width}], %y: f32[{width}]) -> (%a, %b, %all, %i) {{
      %a, %b, %all, %i = Loop(%n, none, %x, %y,
        body=graph body(%i: i64[], %c: bool[], %a: f32[{width}], %b: f32[{width}])
          -> (%c, %d, %e, %d, %i) {{
        %f = Cast(%i, to="f32") from "cast"
        %d = Add(%b, %f) from "add"
        %e = Sub(%a, %f) from "sub"
      }}) from "loop"
    }}"""
    graph = parse_graph(text)
    engine = bessemer.build(graph)
    assert not list(engine.plan.opaque_steps)
    x = np.arange(width, dtype=F)
    kept = []
    for trips in (1, 15, 16, 17, 70, 0, 2):
        feed = [np.array(trips), x, x * 2]
        right, found = run_graph(graph, feed), list(engine.run(feed).values())
        kept.append((right, found))
    for right, found in kept:  # no later run wrote into an earlier one's results
        for a, b in zip(found, right, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("axes", [(0, 0), (1, 1), (1, -2)])
def test_scans_along_any_axis(axes):
    text = f"""graph g(%h: f32[3], %x: f32[20,20], %k: f32[20]) -> (%last, %all) {{
      %last, %all = Scan(%h, %x, %k, captured=1, scan_input_axes=({axes[0]},),
        scan_output_axes=({axes[1]},), scan_output_directions=(1,),
        body=graph body(%h: f32[3], %x: f32[20], %k: f32[20]) -> (%z, %t) {{
        @axis : i64[1] = [0]
        %t = Mul(%x, %k) from "mul"
        %m = ReduceMax(%t, @axis, keepdims=1) from "max"
        %z = Add(%h, %m) from "add"
      }}) from "scan"
    }}"""
    graph = parse_graph(text)
    engine = bessemer.build(graph, disable=("unroll-loops",))
    assert not list(engine.plan.opaque_steps)
    rng = np.random.default_rng(0)
    feed = [row(1, 2, 3), rng.random((20, 20), F), rng.random(20, F)]
    for found, right in zip(engine.run(feed).values(), run_graph(graph, feed), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)


def test_extents_of_nodes_of_the_same_name_are_kept_apart():
    """Unnamed nodes in and around a branch are numbered alike; their results differ in extent."""
    kind, truth = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
    info = helper.make_tensor_value_info
    yes = helper.make_graph(
        [helper.make_node("Compress", ["x", "k"], ["q"]),
         helper.make_node("Compress", ["x", "k"], ["v"])], "yes", [], [info("v", kind, [None])])
    no = helper.make_graph(
        [helper.make_node("Identity", ["p"], ["w"])], "no", [], [info("w", kind, [None])])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]),
         helper.make_node("Compress", ["r", "m"], ["p"]),
         helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no),
         helper.make_node("Exp", ["y"], ["z"]),
         helper.make_node("Exp", ["p"], ["e"])],
        "same_names",
        [info("x", kind, [6]), info("m", truth, [6]), info("k", truth, [6]), info("c", truth, [])],
        [info("z", kind, [None]), info("e", kind, [None])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    engine = bessemer.build(model)
    x = row(1, 2, 3, 4, 5, 6)
    some = np.array([True, False, True, False, False, False])
    more = np.array([True, True, True, True, True, False])
    for taken in (True, False):
        found = engine.run([x, some, more, np.array(taken)])
        np.testing.assert_allclose(found["z"], np.exp(x[more if taken else some]), rtol=1e-6)
        np.testing.assert_allclose(found["e"], np.exp(x[some]), rtol=1e-6)


def test_elements_of_different_length():
    text = """graph g(%s: seq<f32[N]>, %y: f32[N]) -> (%a, %b, %t) {
      @first : i64[] = [0]
      @second : i64[] = [1]
      %t = SequenceMap(%s, %y, captured=1, body=graph body(%x: f32[L], %y: f32[N]) -> (%z) {
        @axis : i64[1] = [0]
        %k = ReduceSum(%y, @axis) from "sum"
        %z = Mul(%x, %k) from "mul"
      }) from "map"
      %p = SequenceAt(%t, @first) from "p"
      %q = SequenceAt(%t, @second) from "q"
      %a = Exp(%p) from "a"
      %b = Exp(%q) from "b"
    }"""
    check(text, [row(1, 2), row(3), row()], row(0.5, 0.25, 0.125))


def hostile(change):
    """An engine whose Loop has a body that was changed after the build."""
    engine = bessemer.build(parse_graph(SUMMING))
    (step,) = engine.plan.steps
    body = dataclasses.replace(step.bodies["body"], **change(step.bodies["body"]))
    plan = dataclasses.replace(
        engine.plan, steps=(dataclasses.replace(step, bodies={"body": body}),))
    return Engine(dataclasses.replace(engine.data, plan=plan, plans={}))


MORE_INPUTS = Binding("more", "f32", (3,))


@pytest.mark.parametrize("change", [
    lambda body: {"inputs": (*body.inputs, MORE_INPUTS)},
    lambda body: {"inputs": body.inputs[:3]},
    lambda body: {"outputs": body.outputs[:1]},
    lambda body: {"inputs": (body.inputs[2], *body.inputs[1:2], body.inputs[0], body.inputs[3])},
])
def test_a_body_that_does_not_fit_its_loop_is_an_error(change):
    """Also where it would be entered by pointers alone."""
    with pytest.raises(BessemerError):
        hostile(change).run([np.array(3), np.array(True), row(1, 2, 3), row(1, 2, 3)])


def test_a_condition_of_another_type_writes_nowhere_else():
    condition = Binding("more", "f32", (1000,))
    engine = hostile(lambda body: {"outputs": (condition, *body.outputs[1:])})
    assert len(engine.run([np.array(3), np.array(True), row(1, 2, 3), row(1, 2, 3)])) == 3
