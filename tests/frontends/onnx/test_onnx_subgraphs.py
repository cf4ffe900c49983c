"""Bodies of If, Loop and Scan: what they take from outside becomes explicit."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model, run

from bessemer.core.errors import ModelFormatError
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph

X = np.array([1, 2, 3], np.float32)


def if_model():
    """y = c ? x + w : inner c ? x : -b, with b = Abs(x) computed outside."""
    inner_then = helper.make_graph([helper.make_node("Identity", ["x"], ["i"])], "it", [],
                                   [info("i", [3])])
    inner_else = helper.make_graph([helper.make_node("Neg", ["b"], ["j"])], "ie", [],
                                   [info("j", [3])])
    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["t"])], "then", [],
                             [info("t", [3])])
    other = helper.make_graph([helper.make_node("If", ["c"], ["e"], name="inner",
                                                then_branch=inner_then, else_branch=inner_else)],
                              "else", [], [info("e", [3])])
    nodes = [helper.make_node("Abs", ["x"], ["b"]),
             helper.make_node("If", ["c"], ["y"], name="outer", then_branch=then,
                              else_branch=other)]
    return model(nodes, [("c", [], TensorProto.BOOL), ("x", [3])], [("y", [3])],
                 {"w": np.ones(3, np.float32)})


def test_if_captures():
    graph = import_model(if_model())
    node = graph.nodes[-1]
    assert [v.name for v in node.inputs] == ["c", "x", "b"] or \
        sorted(v.name for v in node.inputs) == ["b", "c", "c", "x"]
    then, other = node.op.then_branch, node.op.else_branch
    assert len(then.inputs) == len(other.inputs) == len(node.inputs) - 1
    assert [v.name for v in then.inputs] == [v.name for v in other.inputs]
    assert then.nodes[0].inputs[1].is_constant
    assert run(if_model(), np.array(True), X)[0].tolist() == [2, 3, 4]
    assert run(if_model(), np.array(False), X)[0].tolist() == [-1, -2, -3]


def loop_model(body_nodes, carried_shape, outputs, body_inputs=None):
    body = helper.make_graph(
        body_nodes,
        "body", body_inputs or [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL),
                                info("v", None)],
        [info("go_on", [], TensorProto.BOOL), info("v_out", None), info("scan", None)])
    node = helper.make_node("Loop", ["n", "", "x"], outputs, name="loop", body=body)
    return model([node], [("n", [], TensorProto.INT64), ("x", carried_shape)],
                 [(name, None) for name in outputs], {"step": np.float32([2])})


BODY = [
    helper.make_node("Identity", ["go"], ["go_on"]),
    helper.make_node("Add", ["v", "step"], ["v_out"]),
    helper.make_node("Identity", ["v_out"], ["scan"]),
]


def test_loop():
    proto = loop_model(BODY, [3], ["last", "every"])
    last, every = run(proto, np.array(4), X)
    assert last.tolist() == [9, 10, 11]
    assert every.shape == (4, 3)
    graph = import_model(proto)
    assert graph.outputs[0].type.shape == (3,)


def test_loop_whose_value_grows():
    nodes = [BODY[0], helper.make_node("Concat", ["v", "step"], ["v_out"], axis=0),
             helper.make_node("ReduceSum", ["v_out"], ["scan"], keepdims=0)]
    proto = loop_model(nodes, [3], ["last", "every"])
    graph = import_model(proto)
    assert not graph.outputs[0].type.is_static
    last, every = run(proto, np.array(2), X)
    assert last.tolist() == [1, 2, 3, 2, 2]
    assert every.tolist() == [8, 10]


def test_scan_captures():
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Mul", ["t", "f"], ["o"])],
        "body", [info("s", []), info("v", [])], [info("t", []), info("o", [])])
    node = helper.make_node("Scan", ["init", "x"], ["final", "all"], num_scan_inputs=1, body=body)
    proto = model([node], [("init", []), ("x", [3]), ("f", [])], [("final", []), ("all", [3])])
    final, every = run(proto, np.float32(0), X, np.float32(10))
    assert final == 6
    assert every.tolist() == [10, 30, 60]


def test_body_errors():
    proto = if_model()
    branch = proto.graph.node[1].attribute[0].g
    branch.node[0].input[0] = "nothing"
    with pytest.raises(ModelFormatError, match=r"uses 'nothing'|'nothing', which no"):
        import_model(proto)
    names = [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("v", None)]
    proto = loop_model(BODY, [3], ["last", "every"], [*names, info("more", [])])
    with pytest.raises(ModelFormatError, match="the body has 4 inputs, but Loop feeds it 3"):
        import_model(proto)


@pytest.mark.parametrize("shape", [[2, 3], ["N", 3], ["N", "M"]], ids=str)
def test_branch_that_does_not_fit_and_never_runs(shape):
    """Exporters write `if x.shape[1] == 1: x = squeeze(x, 1)` also where x has other extents."""
    then = helper.make_graph([helper.make_node("Squeeze", ["x", "axis"], ["t"])], "then", [],
                             [info("t", None)])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [],
                              [info("e", None)])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "axis"], ["d"]),
        helper.make_node("Equal", ["d", "axis"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    proto = model(nodes, [("x", shape)], [("y", None)], {"axis": np.array([1])})
    x = np.ones((2, 3), np.float32)
    assert run(proto, x)[0].shape == (2, 3)
    fixed = import_model(import_model(proto), shapes={"x": (2, 3)})
    assert run_graph(fixed, [x])[0].shape == (2, 3)
