"""Plugins: a user's operator class, found by ONNX nodes of its domain, run like any other."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bessemer import te
from bessemer.compiler.api import plugin
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import FusionClass, Operator
from bessemer.ir.types import TensorType


@plugin("test.domain.Scale")
class Scale(Operator):
    """y = factor * x, with a tensor expression: fused and compiled."""

    factor: float = 2.0
    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        return x.without_value()

    def reference(self, x):
        return x * x.dtype.type(self.factor)

    def lower(self, x, **_):
        return te.compute(x.dtype, x.shape, lambda *i: x[i] * te.const(self.factor, x.dtype))


@plugin("test.domain.Reverse")
class Reverse(Operator):
    """y = x backwards, with a reference only: runs on the host."""

    def infer(self, x: TensorType) -> TensorType:
        return x.without_value()

    def reference(self, x):
        return np.ascontiguousarray(x[::-1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Scale", ["x"], ["s"], "scale", domain="test.domain", factor=3.0),
         helper.make_node("Relu", ["s"], ["r"], "act"),
         helper.make_node("Reverse", ["r"], ["y"], "back", domain="test.domain")],
        "plugged", [info("x", TensorProto.FLOAT, [4, 3])], [info("y", TensorProto.FLOAT, [4, 3])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("test.domain", 1)]
    path = tmp_path_factory.mktemp("plugins") / "plugged.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
ANSWER = np.maximum(X * 3, 0)[::-1]


def test_onnx_nodes_of_the_domain_use_the_plugin(model):
    graph = import_model(model)
    assert [str(node.op) for node in graph.nodes] == [
        "test.domain.Scale", "Relu", "test.domain.Reverse"
    ]
    assert graph.nodes[0].op.factor == 3.0
    np.testing.assert_allclose(run_graph(graph, [X])[0], ANSWER)


def test_a_plugin_with_an_expression_is_compiled_and_fused(model):
    import bessemer

    engine = bessemer.build(model, plugins=(Scale, Reverse), strict=False)
    np.testing.assert_allclose(engine.run({"x": X})["y"], ANSWER, rtol=1e-6)
    kernel, host = engine.plan.steps
    assert set(kernel.sources) == {"scale", "act"}
    assert host.sources == ("back",)
    assert "no tensor expression" in host.reason


def test_host_steps_are_reported(model, caplog):
    import bessemer

    bessemer.build(model)
    assert "run on the host" in caplog.text
    assert "'back'" in caplog.text
