"""The verifier finds every kind of fault and lists them all."""

import numpy as np
import pytest

from bessemer.core.dtypes import f32, i64
from bessemer.core.errors import VerifyError
from bessemer.ir.graph import Node, Value
from bessemer.ir.operator import operator_class
from bessemer.ir.parser import parse_graph
from bessemer.ir.types import TensorType
from bessemer.ir.verifier import find_faults, verify


@pytest.fixture
def graph():
    return parse_graph("""graph g(%x: f32[2]) -> (%y) {
      @c : f32[2] = [1, 2]
      %a = Relu(%x)
      %y = Add(%a, @c)
    }""")


def test_a_sound_graph_passes(graph):
    verify(graph)


def test_wrong_order(graph):
    graph.nodes.reverse()
    assert any("before it is computed" in fault for fault in find_faults(graph))


def test_wrong_type(graph):
    graph.nodes[0].output.type = TensorType(i64, (2,))
    assert any("inferred is" in fault for fault in find_faults(graph))


def test_symbolic_extent_fits_any(graph):
    graph.nodes[0].output.type = TensorType(f32, None)
    verify(graph)


def test_wrong_users(graph):
    graph.inputs[0].users.clear()
    assert any("does not know its user" in fault for fault in find_faults(graph))


def test_foreign_user(graph):
    Node("stranger", operator_class("Relu")(), graph.inputs, [Value("s", graph.inputs[0].type)])
    assert any("not in the graph" in fault for fault in find_faults(graph))


def test_output_that_nothing_computes(graph):
    graph.outputs.append(Value("ghost", TensorType(f32, (2,))))
    assert any("'ghost' is not computed" in fault for fault in find_faults(graph))


def test_wrong_constant(graph):
    graph.constants()[0].constant = np.zeros(3, np.float32)
    assert any("its data is f32[3]" in fault for fault in find_faults(graph))


def test_all_faults_are_listed(graph):
    graph.nodes[0].name = graph.nodes[1].name
    graph.nodes[0].output.name = "x"
    with pytest.raises(VerifyError, match=r"2 fault\(s\)[\s\S]*values are named[\s\S]*nodes are"):
        verify(graph)


def test_wrong_placement():
    graph = parse_graph("""graph g(%x: f32[1,4]) -> (%y) {
      %a = Relu(%x) : f32[1,4] in %c axis 1 start 5
      %c = Concat(%a, %a, axis=1)
      %y = Relu(%c)
    }""")
    assert any("cannot lie in 'c'" in fault for fault in find_faults(graph))
