"""What the fuzzer takes for known, and what it must not."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bessemer.debug.random_graphs.cases import Outcome, try_model
from bessemer.debug.random_graphs.deviations import KNOWN, known_deviation
from bessemer.debug.random_graphs.examine import examine
from bessemer.debug.random_graphs.oracles import Rival, reference_values
from bessemer.debug.random_graphs.verdict import Judge


def model_of(nodes, inputs, outputs, opset=20):
    def info(name, array):
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    results = [helper.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "g", [info(*item) for item in inputs.items()], results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def judged(model, inputs, got, status="wrong"):
    graph, values = reference_values(model, inputs)
    (what,) = Judge(graph, inputs, values).compare(got)
    return Outcome(status, what.text, what.name, what.want, what.got, differs=what.differs)


def test_transforms_may_differ_only_where_infinities_are():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 8, 1)).astype(np.float32)
    x[1, 3] = np.inf
    model = model_of([helper.make_node("DFT", ["x"], ["y"])], {"x": x}, ["y"])
    want = reference_values(model, {"x": x})[1]["y"]
    hit, other = want.copy(), want.copy()
    hit[1, 0, 1], other[0, 0, 1] = 3.0, 3.0
    assert known_deviation(model, {"x": x}, judged(model, {"x": x}, {"y": hit}))
    assert not known_deviation(model, {"x": x}, judged(model, {"x": x}, {"y": other}))


def test_what_is_known_of_others_is_no_excuse_for_us():
    x = np.array([[1.0, np.nan, 3.0]], np.float32)
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)
    model = model_of([node], {"x": x}, ["y"])
    got = {"y": np.array([2])}
    assert known_deviation(model, {"x": x}, judged(model, {"x": x}, got, "rival")) == "nan-order"
    assert not known_deviation(model, {"x": x}, judged(model, {"x": x}, got))


def test_quotients_in_f16_excuse_only_what_they_round():
    x = np.array([[6.168, 1.0, 3.0]], np.float16)
    inputs = {"x": x, "s": np.array([0.3738], np.float16), "z": np.array([-7], np.int16)}
    model = model_of([helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=0)], inputs,
                     ["y"], opset=21)
    want = reference_values(model, inputs)[1]["y"]
    assert want[0, 0] == 9
    hit, other = want.copy(), want.copy()
    hit[0, 0] += 1
    other[0, 1] += 1
    for got, known in ((hit, "quantize-half"), (other, None)):
        found = Outcome("rival", "", "y", want, got, differs=got != want)
        assert (known_deviation(model, inputs, found) or None) == known


def test_an_infinity_excuses_only_the_numbers_that_it_reaches():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 2, 5)).astype(np.float32)
    x[1, 1, 2] = np.inf
    inputs = {"x": x, "s": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"])
    model = model_of([node], inputs, ["y"])
    want = reference_values(model, inputs)[1]["y"]
    hit, other = want.copy(), want.copy()
    hit[1, 1], other[0, 0, 0] = 0.5, 0.5
    found = [known_deviation(model, inputs, judged(model, inputs, {"y": got}, "rival"))
             for got in (hit, other)]
    assert found == ["normalisation-rounding", ""]


def test_nan_excuses_no_other_numbers():
    inputs = {"a": np.array([np.nan, 1.0, 2.0], np.float32), "b": np.ones(3, np.float32)}
    model = model_of([helper.make_node("Max", ["a", "b"], ["y"])], inputs, ["y"])
    found = [known_deviation(model, inputs, judged(
        model, inputs, {"y": np.array(got, np.float32)}, "rival"))
        for got in ([1.0, 1.0, 2.0], [np.nan, 1.0, 1.0])]
    assert found == ["nan-order", ""]


def test_an_infinity_that_a_wider_sum_does_not_have_is_allowed():
    inputs = {"a": np.array([[1e30, 1.0]], np.float32),
              "b": np.array([[1e30], [-np.inf]], np.float32)}
    model = model_of([helper.make_node("MatMul", ["a", "b"], ["y"])], inputs, ["y"])
    graph, values = reference_values(model, inputs)
    judge = Judge(graph, inputs, values)
    assert judge.compare({"y": np.array([[-np.inf]], np.float32)}) == []
    assert judge.compare({"y": np.array([[np.nan]], np.float32)}) == []


def test_scales_are_not_moved_by_noise():
    inputs = {"x": np.arange(4, dtype=np.float32), "s": np.array([2.0], np.float32)}
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest")
    model = model_of([node], inputs, ["y"])
    graph, values = reference_values(model, inputs)
    assert Judge(graph, inputs, values).compare({"y": np.zeros(8, np.float32)})


def test_a_known_deviation_hides_no_other_one():
    pytest.importorskip("onnxruntime")
    x = np.array([[0.5, np.nan, 1.5]], np.float32)
    nodes = [helper.make_node("ArgMax", ["x"], ["first"], "n1", axis=1),
             helper.make_node("Neg", ["x"], ["second"], "n2")]
    model = model_of(nodes, {"x": x}, ["first", "second"])

    class Broken(Rival):
        """An oracle that is wrong about Neg."""

        def run(self, model, inputs, values, trusted=()):
            found = dict(super().run(model, inputs, values, trusted))
            if "second" in found:
                found["second"] = found["second"] + 1
            return found

    rival = Rival()
    outcome = try_model(model, {"x": x}, rival)
    outcome.model, outcome.inputs = model, {"x": x}
    assert (outcome.status, outcome.output) == ("rival", "first")
    assert examine(outcome, rival, "both", "case", None).status == "known"
    outcome = try_model(model, {"x": x}, Broken())
    outcome.model, outcome.inputs = model, {"x": x}
    found = examine(outcome, Broken(), "both", "case", None)
    assert found.status == "rival"
    assert "Neg" in found.message


def test_every_known_deviation_is_described():
    text = (Path(__file__).parents[2] / "docs" / "fuzzing.md").read_text()
    table = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    assert [name for name in KNOWN.names() if name not in table] == []


def test_integers_half_way_may_be_rounded_either_way():
    inputs = {"x": np.array([[0, 1, 5]], np.uint8)}
    sizes = helper.make_node("Constant", [], ["s"], value_ints=[1, 6])
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="linear",
                            coordinate_transformation_mode="asymmetric")
    model = model_of([sizes, node], inputs, ["y"])
    graph, values = reference_values(model, inputs)
    assert values["y"].tolist() == [[0, 0, 1, 3, 5, 5]]
    judge = Judge(graph, inputs, values)
    assert judge.compare({"y": values["y"] + np.array([0, 1, 0, 0, 0, 0], np.uint8)}) == []
    assert judge.compare({"y": values["y"] + np.array([0, 0, 0, 1, 0, 0], np.uint8)})
