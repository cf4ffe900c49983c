"""Tiny ONNX models for the tests, and a run of them by the operators' references."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph

FLOAT = TensorProto.FLOAT


def info(name, shape, elem=FLOAT):
    """A ValueInfoProto."""
    return helper.make_tensor_value_info(name, elem, shape)


def model(nodes, inputs, outputs, constants=None, opset=21, functions=(), domains=(), ir=10):
    """A ModelProto; inputs and outputs are (name, shape[, element type]), constants by name."""
    graph = helper.make_graph(
        nodes, "g", [info(*i) for i in inputs], [info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*d) for d in domains)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    made.ir_version = ir
    return made


def run(proto, *inputs, shapes=None):
    """The outputs of a model by the references."""
    return run_graph(import_model(proto, shapes=shapes), list(inputs))


def relu_model(**options):
    """y = Relu(x), x f32[2,3]."""
    return model([helper.make_node("Relu", ["x"], ["y"], name="relu")], [("x", [2, 3])],
                 [("y", [2, 3])], **options)
