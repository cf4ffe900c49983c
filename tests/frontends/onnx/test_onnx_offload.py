"""Nodes left to ONNX Runtime: which, how they are grouped, and what the engine does with them."""

import importlib
import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model

import bessemer
from bessemer.core.errors import MissingExtraError, SettingsError, UnsupportedOperatorError
from bessemer.frontends import import_model
from bessemer.frontends.formats import Fallback
from bessemer.frontends.onnx import check_model
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import constant_table, print_graph
from bessemer.ops.offload import Offload, offloads_of

ort = pytest.importorskip("onnxruntime")

MS = "com.microsoft"
ORT = Fallback(("onnxruntime",), ("*cdist",))
ALLOWED = {"allow_fallback": ["onnxruntime"], "fallback_nodes": ["*cdist"]}
DOMAINS = [(MS, 1)]
A = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
B = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


def node(op, inputs, outputs, name=None, domain="", **attributes):
    return helper.make_node(
        op, inputs, outputs, name=name or outputs[0], domain=domain, **attributes
    )


def distance(a="a", b="b", out="d", name="cdist"):
    """Distances of all pairs of rows: an operator of which ONNX Runtime infers no shape."""
    return node("CDist", [a, b], [out], name, MS, metric="euclidean")


def distance_model(rows_a=4, rows_b=5):
    """y = relu(cdist(relu(a), b)) + 1."""
    nodes = [
        node("Relu", ["a"], ["r"]),
        distance("r"),
        node("Relu", ["d"], ["e"]),
        node("Add", ["e", "one"], ["y"]),
    ]
    return model(
        nodes,
        [("a", [rows_a, 3]), ("b", [rows_b, 3])],
        [("y", [rows_a, rows_b])],
        {"one": np.float32(1)},
        domains=DOMAINS,
    )


def by_runtime(proto, *inputs):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs)))


def offloaded(graph):
    """Source nodes of each offload of the main graph."""
    return [n.sources for n in graph.nodes if isinstance(n.op, Offload)]


def unknown_model():
    """y = neg(sample(x)): SampleOp is an identity that ONNX Runtime keeps for its own tests."""
    nodes = [node("SampleOp", ["x"], ["s"], "sample", MS), node("Neg", ["s"], ["y"])]
    return model(nodes, [("x", ["N", 3])], [("y", ["N", 3])], domains=DOMAINS)


def test_without_permission_every_node_is_listed():
    proto = unknown_model()
    proto.graph.node.append(node("NoSuch", ["x"], ["z"], "other", "my.domain"))
    with pytest.raises(UnsupportedOperatorError) as error:
        bessemer.build(proto)
    for text in (
        "'sample': SampleOp of com.microsoft",
        "'other': NoSuch of my.domain",
        "allow_fallback=['onnxruntime']",
        "--allow-fallback onnxruntime",
    ):
        assert text in str(error.value)


def test_unknown_operators_are_left_to_it():
    assert not check_model(unknown_model()).ok
    graph = import_model(unknown_model(), fallback=Fallback(ORT.runtimes))
    assert offloaded(graph) == [("sample",)]
    assert [str(dim) for dim in graph.outputs[0].type.shape] == ["N", "3"]
    engine = bessemer.build(unknown_model(), shapes={"N": 4}, allow_fallback=["onnxruntime"])
    np.testing.assert_array_equal(engine.run({"x": A})["y"], -A)


def test_engine_runs_the_node_in_onnxruntime(tmp_path):
    proto = distance_model()
    engine = bessemer.build(proto, **ALLOWED)
    expected = by_runtime(proto, A, B)[0]
    np.testing.assert_allclose(engine.run({"a": A, "b": B})["y"], expected, rtol=1e-6)
    engine.save(tmp_path / "e.plan")
    loaded = bessemer.load(tmp_path / "e.plan")
    for _ in range(2):
        np.testing.assert_allclose(loaded.run({"a": A, "b": B})["y"], expected, rtol=1e-6)
    assert loaded.plan.options["offloaded"] == ["cdist (com.microsoft.CDist)"]
    assert loaded.plan.versions["onnxruntime"] == ort.__version__
    assert "cdist (com.microsoft.CDist)" in loaded.inspect()
    json.dumps(loaded.describe())


def test_symbolic_dimensions_reach_the_results():
    proto = distance_model("N", "M")
    proto.graph.value_info.append(info("e", ["N", "M"]))
    graph = import_model(proto, fallback=Fallback(ORT.runtimes, (*ORT.nodes, "r", "e")))
    assert offloaded(graph) == [("r", "cdist", "e")]
    assert [str(dim) for dim in graph.outputs[0].type.shape] == ["N", "M"]
    fixed = import_model(graph, shapes={"N": 4, "M": 5})
    assert fixed.outputs[0].type.shape == (4, 5)
    np.testing.assert_allclose(
        run_graph(fixed, [A, B])[0], by_runtime(distance_model(), A, B)[0], rtol=1e-6
    )


def test_engine_of_open_shapes():
    proto = distance_model("N", "M")
    for rows in (2, 4):
        engine = bessemer.build(proto, shapes={"N": rows, "M": 5}, **ALLOWED)
        got = engine.run({"a": A[:rows], "b": B})["y"]
        np.testing.assert_allclose(got, by_runtime(proto, A[:rows], B)[0], rtol=1e-6)


def chain(*names):
    """x -> Neg -> Neg ..., one node for each name."""
    before = ["x", *names[:-1]]
    return [node("Neg", [a], [b]) for a, b in zip(before, names)]


@pytest.mark.parametrize(("nodes", "patterns", "expected"), [
    (chain("p", "q", "r"), ["p", "q"], [("p", "q")]),
    (chain("p", "q", "r"), ["p", "r"], [("p",), ("r",)]),
    # r reads p directly and through q, which is computed here: joining would make a cycle.
    ([*chain("p", "q"), node("Add", ["p", "q"], ["r"])], ["p", "r"], [("p",), ("r",)]),
    # s reads p, and something that does not depend on p: one group.
    ([node("Neg", ["x"], ["q"]), node("Abs", ["x"], ["p"]), node("Add", ["p", "q"], ["r"])],
     ["p", "r"], [("p", "r")]),
    # Two branches that meet.
    ([node("Neg", ["x"], ["p"]), node("Abs", ["x"], ["q"]), node("Add", ["p", "q"], ["r"])],
     ["*"], [("p", "q", "r")]),
    # p and r, q and s would fit each alone, but not both: the groups would need each other.
    ([node("Neg", ["x"], ["p"]), node("Abs", ["x"], ["q"]), node("Exp", ["q"], ["t"]),
      node("Exp", ["p"], ["u"]), node("Add", ["p", "t"], ["v"]), node("Add", ["q", "u"], ["w"]),
      node("Add", ["v", "w"], ["r"])],
     ["p", "q", "v", "w"], None),
])  # fmt: skip
def test_grouping(nodes, patterns, expected):
    last = nodes[-1].output[0]
    proto = model(nodes, [("x", [2, 3])], [(last, [2, 3])])
    graph = import_model(proto, fallback=Fallback(("onnxruntime",), tuple(patterns)))
    if expected is not None:
        assert offloaded(graph) == expected
    x = A[:2]
    np.testing.assert_allclose(run_graph(graph, [x])[0], by_runtime(proto, x)[0], rtol=1e-5)


def test_results_read_outside_leave_the_group():
    nodes = [*chain("p", "q"), node("Add", ["p", "q"], ["r"])]
    proto = model(nodes, [("x", [2])], [("r", [2]), ("p", [2])])
    graph = import_model(proto, fallback=Fallback(("onnxruntime",), ("p", "q")))
    assert [v.name for v in graph.nodes[0].outputs] == ["p", "q"]


def if_model():
    """y = cdist(a, b + 1) if flag else a @ b^T, both through names from outside."""
    then = helper.make_graph(
        [
            node("Add", ["b", "one"], ["c"]),
            distance("a", "c", "t", "in_cdist"),
            node("Relu", ["t"], ["u"]),
        ],
        "then",
        [],
        [info("u", None)],
    )
    other = helper.make_graph(
        [node("Transpose", ["b"], ["bt"], perm=[1, 0]), node("MatMul", ["a", "bt"], ["v"])],
        "else",
        [],
        [info("v", None)],
    )
    nodes = [node("If", ["flag"], ["y"], "choose", then_branch=then, else_branch=other)]
    return model(
        nodes,
        [("flag", [], TensorProto.BOOL), ("a", [4, 3]), ("b", [5, 3])],
        [("y", [4, 5])],
        {"one": np.float32(1)},
        domains=DOMAINS,
    )


def test_in_a_branch(tmp_path):
    proto = if_model()
    engine = bessemer.build(proto, **ALLOWED)
    engine.save(tmp_path / "e.plan")
    engine = bessemer.load(tmp_path / "e.plan")
    for flag in (True, False):
        feed = {"flag": np.array(flag), "a": A, "b": B}
        np.testing.assert_allclose(
            engine.run(feed)["y"], by_runtime(proto, *feed.values())[0], rtol=1e-5
        )
    assert engine.plan.options["offloaded"] == ["choose/then_branch/in_cdist (com.microsoft.CDist)"]


def test_a_whole_if_is_offloaded_with_what_it_reads_from_outside():
    proto = if_model()
    graph = import_model(proto, fallback=Fallback(("onnxruntime",), ("choose",)))
    assert offloaded(graph) == [("choose",)]
    got = run_graph(graph, [np.array(True), A, B])[0]
    np.testing.assert_allclose(got, by_runtime(proto, np.array(True), A, B)[0], rtol=1e-6)


def test_in_a_function_with_attributes():
    inner = distance("x", "w", "y")
    del inner.attribute[:]
    inner.attribute.add(name="metric", ref_attr_name="kind", type=3)
    function = helper.make_function(
        "my",
        "Far",
        ["x", "w"],
        ["z"],
        [inner, node("Neg", ["y"], ["z"])],
        [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)],
        ["kind"],
    )
    nodes = [node("Far", ["a", "b"], ["y"], "call", "my", kind="sqeuclidean")]
    proto = model(
        nodes,
        [("a", [4, 3]), ("b", [5, 3])],
        [("y", [4, 5])],
        functions=[function],
        domains=[*DOMAINS, ("my", 1)],
    )
    graph = import_model(proto, fallback=ORT)
    assert offloaded(graph) == [("call/cdist",)]
    np.testing.assert_allclose(run_graph(graph, [A, B])[0], by_runtime(proto, A, B)[0], rtol=1e-6)
    whole = import_model(proto, fallback=Fallback(ORT.runtimes, ("call",)))
    assert offloaded(whole) == [("call",)]
    np.testing.assert_allclose(run_graph(whole, [A, B])[0], by_runtime(proto, A, B)[0], rtol=1e-6)


def test_constants_that_the_nodes_read_are_their_initializers():
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    proto = model(
        nodes,
        [("x", [1, 2, 6, 6])],
        [("y", [1, 3, 4, 4])],
        {"w": np.ones((3, 2, 3, 3), np.float32)},
    )
    graph = import_model(proto, fallback=Fallback(ORT.runtimes, ("c",)))
    assert [len(n.inputs) for n in graph.nodes] == [2, 1]  # the file and x; c
    assert graph.outputs[0].type.shape == (1, 3, 4, 4)
    again = parse_graph(print_graph(graph), constant_table(graph))
    x = np.ones((1, 2, 6, 6), np.float32)
    np.testing.assert_allclose(run_graph(again, [x])[0], np.full((1, 3, 4, 4), 18), rtol=1e-6)


def test_scalars_strings_and_sequences():
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Neg", ["s"], ["y"]),
        node("Cast", ["y"], ["t"], to=TensorProto.STRING),
        node("SplitToSequence", ["x"], ["q"], keepdims=0),
        node("SequenceAt", ["q", "i"], ["z"]),
    ]
    proto = model(
        nodes,
        [("x", [3])],
        [("y", []), ("t", [], TensorProto.STRING), ("z", None)],
        {"i": np.int64(1)},
    )
    graph = import_model(proto, fallback=Fallback(ORT.runtimes, ("s", "t", "q")))
    assert len(offloaded(graph)) == 3
    assert graph.nodes[1].inputs[0].type.shape == () or graph.nodes[0].outputs[0].type.shape == ()
    y, text, z = run_graph(graph, [np.array([1, 2, 4], np.float32)])
    assert (float(y), str(text[()]), float(z)) == (-7, "-7", 2)


def test_unknown_shapes():
    # ONNX Runtime infers nothing for CDist; the declared shape counts for the result.
    proto = distance_model("N", "M")
    graph = import_model(proto, fallback=ORT)
    assert graph.nodes[1].outputs[0].type.shape is None
    proto.graph.value_info.append(info("d", ["N", "M"]))
    graph = import_model(proto, fallback=ORT)
    assert [str(dim) for dim in graph.nodes[1].outputs[0].type.shape] == ["N", "M"]


def test_what_neither_knows():
    proto = model(
        [node("NoSuch", ["x"], ["y"], "odd", "my")], [("x", [2])], [("y", [2])], domains=[("my", 1)]
    )
    with pytest.raises(UnsupportedOperatorError, match=r"cannot run odd \(my.NoSuch\)"):
        import_model(proto, fallback=Fallback(ORT.runtimes))


def test_settings():
    with pytest.raises(SettingsError, match="torch runs no ONNX operators"):
        bessemer.build(distance_model(), allow_fallback=["torch"])
    with pytest.raises(SettingsError, match="no runtime to run them"):
        bessemer.build(distance_model(), fallback_nodes=["y"])
    with pytest.raises(SettingsError, match="no node has a name like 'nothing\\*'"):
        import_model(distance_model(), fallback=Fallback(ORT.runtimes, ("nothing*",)))


def test_check_reports_what_is_left():
    report = check_model(if_model(), Fallback(ORT.runtimes, (*ORT.nodes, "v")))
    assert report.ok
    assert sorted(n.path for n in report.offloaded) == [
        "choose/else_branch/v",
        "choose/then_branch/in_cdist",
    ]
    graph = import_model(if_model(), fallback=ORT)
    assert [op.nodes for op in offloads_of(graph)] == [
        ("choose/then_branch/in_cdist (com.microsoft.CDist)",)
    ]


@pytest.fixture
def no_onnxruntime(monkeypatch):
    real = importlib.import_module

    def refuse(name, package=None):
        if name.startswith("onnxruntime"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)


def test_loading_without_onnxruntime(tmp_path, request):
    for proto in (distance_model(), if_model()):
        bessemer.build(proto, **ALLOWED).save(tmp_path / "e.plan")
    request.getfixturevalue("no_onnxruntime")
    with pytest.raises(MissingExtraError, match=r"not installed.*CDist.*pip install"):
        bessemer.load(tmp_path / "e.plan")
