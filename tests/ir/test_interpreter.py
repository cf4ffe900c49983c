"""The numpy interpreter."""

import numpy as np
import pytest

from bessemer.core.errors import InputError, VerifyError
from bessemer.ir.interpreter import run_graph, run_graph_values
from bessemer.ir.parser import parse_graph


@pytest.fixture
def graph():
    return parse_graph("""graph g(%x: f32[N]) -> (%y, %x, @c) {
      @c : f32[1] = [2]
      %a = Relu(%x)
      %y = Add(%a, @c)
    }""")


def test_outputs_may_be_inputs_and_constants(graph):
    x = np.array([-1, 3], np.float32)
    y, same, c = run_graph(graph, [x])
    assert y.tolist() == [2, 5]
    assert same is x
    assert c.tolist() == [2]


def test_values_by_name(graph):
    x = np.array([-1, 3], np.float32)
    assert set(run_graph_values(graph, {"x": x})) == {"a", "y", "x", "c"}
    assert set(run_graph_values(graph, {"x": x}, keep=())) == {"y", "x", "c"}


def test_missing_input(graph):
    with pytest.raises(InputError, match="x"):
        run_graph_values(graph, {})
    with pytest.raises(InputError, match="takes 1 inputs, got 2"):
        run_graph(graph, [1, 2])


def test_a_failing_reference_names_its_node(graph):
    with pytest.raises(ValueError) as caught:
        run_graph(parse_graph("""graph g(%x: f32[N], %z: f32[M]) -> (%y) {
          %y = Add(%x, %z) from "plus"
        }"""), [np.zeros(2, np.float32), np.zeros(3, np.float32)])
    assert "plus" in caught.value.__notes__[0]


def test_a_reference_of_another_dtype_is_refused(graph):
    with pytest.raises(VerifyError, match="gives f64"):
        run_graph(graph, [np.array([1.0, 2.0])])


def test_no_warning_for_division_by_zero():
    graph = parse_graph("graph g(%x: f32[1]) -> (%y) {\n %y = Div(%x, %x)\n}")
    assert np.isnan(run_graph(graph, [np.zeros(1, np.float32)])[0][0])
