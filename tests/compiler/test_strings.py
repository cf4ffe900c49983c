"""Texts have no memory of their own: other shapes of them are other objects."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bessemer


@pytest.mark.parametrize("before", [["Reshape"], ["Flatten", "Reshape"], ["Identity", "Reshape"]])
@pytest.mark.parametrize("extents", [[4, 1], ["N", 1]], ids=str)
def test_reshaped_texts_reach_host_steps(before, extents):
    nodes, name = [], "x"
    for number, op_type in enumerate(before):
        more = ["shape"] if op_type == "Reshape" else []
        nodes.append(helper.make_node(op_type, [name, *more], [f"t{number}"]))
        name = f"t{number}"
    nodes.append(helper.make_node("StringNormalizer", [name], ["y"], case_change_action="LOWER"))
    text = TensorProto.STRING
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", text, extents)],
        [helper.make_tensor_value_info("y", text, None)],
        [numpy_helper.from_array(np.array([-1]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = np.array([["A"], ["b"], ["C"], ["d"]], object)
    engine = bessemer.build(model, shapes={"x": (4, 1)}, strict=False)
    assert engine.run({"x": x})["y"].tolist() == ["a", "b", "c", "d"]
