"""Bisection names a planted fault: in a pass, in a kernel, in the engine as a whole, or nowhere."""

import numpy as np
import pytest

from bessemer.compiler.api import Network
from bessemer.debug.bisect import bisect
from bessemer.debug.compare import compare_graph
from bessemer.debug.extra_outputs import with_extra_outputs
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph_values


@pytest.fixture
def graph() -> Graph:
    network = Network("chain")
    value = network.add_input("x", "f32", (2, 3))
    for name in ("a", "b", "c"):
        value = network.add("Relu", value, name=name, outputs=[f"{name}_out"])
        value = network.add("Mul", value, 2.0, name=f"{name}_twice", outputs=[f"{name}_double"])
    network.mark_output(value, "y")
    return network.graph


INPUTS = {"x": np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3)}


def by_interpreter(graph, inputs):
    return run_graph_values(graph, inputs, keep=())


def boundaries(graph):
    return [(node.name, [value.name for value in node.outputs]) for node in graph.nodes]


def broken_at(name):
    """An executor that computes one value wrongly, and what follows from it too."""

    def run(graph, inputs):
        outputs = run_graph_values(graph, inputs, keep=())
        order = [value.name for node in graph.nodes for value in node.outputs]
        later = set(order[order.index(name):])
        return {key: data * 1.5 if key in later else data for key, data in outputs.items()}

    return run


def harmless(graph, observer):
    observer("nothing", graph)


def test_all_right(graph):
    finding = bisect(graph, INPUTS, run_passes=harmless, run=by_interpreter, boundaries=boundaries)
    assert not finding.found
    assert "nothing" in finding.checked
    assert "c_twice" in finding.checked


def test_names_the_pass(graph):
    def passes(working, observer):
        observer("good-one", working)
        node = working.find_node("b")
        node.op = type(working.find_node("b_twice").op)()  # Mul of one input: wrong on purpose
        node.set_inputs([node.inputs[0], node.inputs[0]])
        observer("bad-one", working)
        observer("later", working)

    finding = bisect(graph, INPUTS, run_passes=passes, run=by_interpreter, boundaries=boundaries)
    assert (finding.stage, finding.name) == ("pass", "bad-one")
    assert not finding.worst.within


def test_names_the_kernel(graph):
    finding = bisect(
        graph, INPUTS, run_passes=harmless, run=broken_at("b_double"), boundaries=boundaries
    )
    assert (finding.stage, finding.name) == ("kernel", "b_twice")


def test_fault_that_hides_when_values_are_kept(graph):
    def run(graph, inputs):
        outputs = run_graph_values(graph, inputs, keep=())
        return outputs if len(outputs) > 1 else {name: data + 1 for name, data in outputs.items()}

    finding = bisect(graph, INPUTS, run_passes=harmless, run=run, boundaries=boundaries)
    assert finding.stage == "engine"


def test_extra_outputs_keep_the_original(graph):
    extended = with_extra_outputs(graph)
    assert [value.name for value in graph.outputs] == ["y"]
    assert {value.name for value in extended.outputs} >= {"a_out", "b_double", "y"}
    assert [v.name for v in with_extra_outputs(graph, ["b_out"]).outputs] == ["y", "b_out"]


def test_compare_all_values_finds_the_first_wrong_one(graph):
    comparison = compare_graph(graph, INPUTS, broken_at("b_double"), all_values=True)
    wrong = [item.name for item in comparison.differences if not item.within]
    assert "a_double" not in wrong
    assert "b_double" in wrong
    assert not comparison.agrees
    assert compare_graph(graph, INPUTS, by_interpreter).agrees
