"""A short run of the fuzzer of graphs; `python -m bessemer.debug.fuzz_graphs` is the long one."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper

from bessemer.debug.fuzz_graphs import fuzz
from bessemer.debug.random_graphs.maker import ALL, RULES, make_graph
from bessemer.debug.random_graphs.minimise import minimise
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.oracles import Rival, reference_values, run_engine
from bessemer.debug.random_graphs.verdict import Judge


def test_graphs_are_repeatable_and_valid():
    for index in range(30):
        first, again = make_graph(5, index), make_graph(5, index)
        model = first.model()
        assert model.SerializeToString() == again.model().SerializeToString()
        onnx.checker.check_model(model)
        assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(
            first.feed().values(), again.feed().values(), strict=True))


def test_most_operators_take_part():
    models = (make_graph(6, index).model() for index in range(150))
    seen = {(node.domain, node.op_type) for model in models for node in model.graph.node}
    assert len(seen) > 210
    domains = Counter(domain for domain, _ in seen)
    assert domains["ai.onnx.ml"] >= 12
    assert domains["com.microsoft"] >= 35
    assert len(RULES.names()) > 130


def test_a_focus_names_files_of_rules():
    def share(focus):
        nodes = [node for index in range(20) for node in make_graph(9, index, focus).nodes]
        return sum(node.domain == "ai.onnx.ml" for node in nodes) / len(nodes)

    assert share(["ml_models", "ml_features"]) > 3 * share([])
    graph = make_graph(9, 3, ["strings"]).model()
    assert graph.SerializeToString() == make_graph(9, 3, ["strings"]).model().SerializeToString()


def test_random_numbers_stay_inside_the_graph():
    for index in range(40):
        model = make_graph(10, index, ["chance"]).model()
        given = {info.name for info in model.graph.output}
        for node in model.graph.node:
            if node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
                assert not given & set(node.output)


def test_narrow_numbers_stay_inside_the_graph():
    kinds = set()
    for index in range(60):
        maker = make_graph(11, index, ["narrow"])
        model = maker.model()
        given = {info.type.tensor_type.elem_type
                 for info in (*model.graph.input, *model.graph.output)}
        assert given < {onnx_dtype(name) for name in (*ALL, "string")}
        for node in model.graph.node:
            kinds |= {a.i for a in node.attribute if a.name in ("to", "output_dtype")}
    assert len(kinds & {17, 18, 19, 20, 21, 22, 23, 24, 25, 26}) > 5


def test_no_disagreement():
    pytest.importorskip("onnxruntime")
    report = fuzz(60, seed=1234, symbols="fixed")
    assert report.counts["cases"] == 60
    assert not [entry["message"] for entry in report.findings]


def small_model(x):
    nodes = [helper.make_node("Abs", ["x"], ["a"], "n1"),
             helper.make_node("Sub", ["a", "x"], ["b"], "n2"),
             helper.make_node("Floor", ["b"], ["y"], "n3"),
             helper.make_node("Neg", ["x"], ["z"], "n4")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, x.shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in ("y", "z")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_judge_sees_wrong_numbers_and_leaves_unstable_ones():
    x = np.array([-0.3, -1.0, 0.7], np.float32)
    model, feed = small_model(x), {"x": x}
    graph, values = reference_values(model, feed)
    judge = Judge(graph, feed, values)
    good = run_engine(model, feed)
    assert judge.compare(good) == []
    assert judge.compare({"y": good["y"], "z": good["z"] * np.float32(1.001)})[0].name == "z"
    # Floor(2.0) may become 1 where rounding decides, Floor(0.6) may not.
    assert judge.compare({"y": good["y"] - np.array([0, 1, 0], np.float32)}) == []
    assert judge.compare({"y": good["y"] - np.array([1, 0, 0], np.float32)})


def test_a_wrong_model_becomes_short():
    x = np.array([-0.3, -1.0, 0.7], np.float32)
    model, _ = minimise(small_model(x), {"x": x}, "y",
                        lambda m, _: any(n.op_type == "Sub" for n in m.graph.node))
    assert [node.op_type for node in model.graph.node] == ["Sub"]


def test_the_rival_leaves_out_what_it_cannot_run():
    pytest.importorskip("onnxruntime")
    import ml_dtypes

    x = np.ones(3, ml_dtypes.bfloat16)
    nodes = [helper.make_node("Add", ["x", "x"], ["a"], "n1"),
             helper.make_node("Cast", ["a"], ["y"], "n2", to=1)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 16, [3])],
                              [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    _, values = reference_values(model, {"x": x})
    rival = Rival()
    assert rival.run(model, {"x": x}, values)["y"].tolist() == [2, 2, 2]
    assert any(reason.startswith("Add") for reason in rival.refusals)
