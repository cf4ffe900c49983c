"""Functions are inlined, and operators that ONNX defines by a function are expanded."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, relu_model, run

from bessemer.core.errors import ModelFormatError
from bessemer.core.registry import OPERATORS
from bessemer.frontends import import_model
from bessemer.frontends.onnx import check_model, expansion
from bessemer.frontends.onnx.source import SourceNode

X = np.array([-1, 0.5, 2], np.float32)


def reference(name, kind):
    attribute = helper.make_attribute("alpha", 0.0)
    attribute.Clear()
    attribute.name, attribute.ref_attr_name, attribute.type = "alpha", name, kind
    return attribute


def leaky_twice():
    """f(x; slope) = LeakyRelu(LeakyRelu(x, slope), 0.5) + (b or nothing)."""
    first = helper.make_node("LeakyRelu", ["x"], ["t"])
    first.attribute.append(reference("slope", 1))
    second = helper.make_node("LeakyRelu", ["t"], ["y"], alpha=0.5)
    return helper.make_function("my", "Twice", ["x", "unused"], ["y"], [first, second],
                                [helper.make_opsetid("", 21)], ["slope"])


def test_function_is_inlined_with_its_attributes():
    nodes = [helper.make_node("Twice", ["x"], ["a"], name="call", domain="my", slope=0.1),
             helper.make_node("Twice", ["a", ""], ["y"], name="again", domain="my")]
    proto = model(nodes, [("x", [3])], [("y", [3])], functions=[leaky_twice()],
                  domains=[("my", 1)])
    leaky = lambda v, a: np.where(v < 0, v * a, v)  # noqa: E731
    expected = leaky(leaky(leaky(leaky(X, 0.1), 0.5), 0.01), 0.5)
    np.testing.assert_allclose(run(proto, X)[0], expected, rtol=1e-6)
    graph = import_model(proto)
    assert [n.name for n in graph.nodes][:2] == ["call/LeakyRelu_0", "call/LeakyRelu_1"]
    assert graph.outputs[0].name == "y"
    assert graph.nodes[1].output.name == "a"
    assert {n.kind for n in check_model(proto).nodes} == {"expanded", "compiled"}


def test_function_errors():
    def call(functions, *inputs, **attributes):
        node = helper.make_node("Twice", inputs, ["y"], name="call", domain="my", **attributes)
        return model([node], [("x", [3])], [("y", [3])], functions=functions, domains=[("my", 1)])

    with pytest.raises(ModelFormatError, match="has no attribute 'q'"):
        import_model(call([leaky_twice()], "x", q=1))
    with pytest.raises(ModelFormatError, match="called with 3 inputs"):
        import_model(call([leaky_twice()], "x", "x", "x"))
    with pytest.raises(ModelFormatError, match="'Twice' of domain 'my' is defined twice"):
        import_model(call([leaky_twice(), leaky_twice()], "x"))
    endless = leaky_twice()
    endless.node[1].op_type, endless.node[1].domain = "Twice", "my"
    endless.node[1].ClearField("attribute")
    endless.opset_import.append(helper.make_opsetid("my", 1))
    with pytest.raises(ModelFormatError, match="must not call itself"):
        import_model(call([endless], "x"))


def test_reference_outside_of_a_function():
    proto = relu_model()
    proto.graph.node[0].op_type = "LeakyRelu"
    proto.graph.node[0].attribute.append(reference("slope", 1))
    with pytest.raises(ModelFormatError, match="in no function"):
        import_model(proto)


@pytest.mark.parametrize("name", ["Celu", "Softsign", "LessOrEqual", "Shrink", "Gelu"])
def test_expansion_means_the_same(monkeypatch, name):
    """The operators we have are expanded through ONNX's bodies and compared with ours."""
    find = OPERATORS.find
    inputs = ["x", "x"] if name == "LessOrEqual" else ["x"]
    proto = model([helper.make_node(name, inputs, ["y"], name="n")], [("x", [3])], [("y", None)])
    ours = run(proto, X)[0]
    monkeypatch.setattr(OPERATORS, "find", lambda key: None if key == name else find(key))
    graph = import_model(proto)
    assert name not in {n.op.op_name for n in graph.nodes}
    assert graph.outputs[0].name == "y"
    np.testing.assert_allclose(run(proto, X)[0], ours, rtol=1e-5, atol=1e-6)


def test_unknown_operator_has_no_function():
    assert expansion.standard_function(SourceNode("n", "Nope", "", 21, [], [])) is None


def test_attribute_of_the_wrong_kind_through_a_function():
    node = helper.make_node("Twice", ["x"], ["y"], name="call", domain="my", slope="steep")
    proto = model([node], [("x", [3])], [("y", [3])], functions=[leaky_twice()],
                  domains=[("my", 1)])
    with pytest.raises(ModelFormatError, match="'alpha' must be FLOAT, not str"):
        import_model(proto)
