"""Unrolled loops make long chains of small operators; they must build and stay right."""

import numpy as np
from onnx import TensorProto, helper

import bessemer


def scan_of(steps: int) -> bytes:
    """s = tanh(s * x + x) over the elements of a vector."""
    nodes = [helper.make_node("Mul", ["s", "x"], ["m"]), helper.make_node("Add", ["m", "x"], ["a"]),
             helper.make_node("Tanh", ["a"], ["t"]), helper.make_node("Identity", ["t"], ["o"])]

    def scalar(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [])

    body = helper.make_graph(nodes, "b", [scalar("s"), scalar("x")], [scalar("t"), scalar("o")])
    scan = helper.make_node("Scan", ["i", "xs"], ["f", "ys"], body=body, num_scan_inputs=1)
    xs = helper.make_tensor_value_info("xs", TensorProto.FLOAT, [steps])
    graph = helper.make_graph([scan], "long", [scalar("i"), xs], [scalar("f")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_a_scan_over_448_scalars():
    xs = np.linspace(-1, 1, 448).astype(np.float32)
    state = np.float32(0.1)
    for x in xs:
        state = np.tanh(state * x + x)
    got = bessemer.build(scan_of(len(xs))).run({"i": np.float32(0.1), "xs": xs})
    np.testing.assert_allclose(got["f"], state, rtol=1e-5)
