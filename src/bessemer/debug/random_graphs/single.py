"""What one node gives, by our references: the operator's own, or those of what it is written as."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from onnx import ValueInfoProto, helper, numpy_helper

from bessemer.core.errors import BessemerError
from bessemer.core.registry import OPERATORS
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.models import model_of, onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value
from bessemer.frontends import import_model
from bessemer.frontends.onnx.attributes import build_operator
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_graph
from bessemer.ir.operator import outputs_of


# Attribute values are of every kind that operators have.
def evaluate(op: str, arrays: Sequence[Array | None], attributes: dict[str, Any]) -> list[Any]:
    """The results by the operator's reference. Raises: Reject if it refuses."""
    given = {key: tuple(value) if isinstance(value, list) else value
             for key, value in attributes.items() if value is not None}
    try:
        with np.errstate(all="ignore"):
            made = build_operator(OPERATORS.get(op), given, op)
            return list(outputs_of(made.reference(*arrays)))
    except (BessemerError, *REFERENCE_ERRORS) as error:
        raise Reject from error


def run_alone(node: Any, values: Collection[Value], constants: Collection[Value], opset: int
              ) -> list[Any]:
    """The results of a node in a model of its own, of the tensors that it reads.

    `constants` are the initializers of the graph. Raises: Reject if a reference refuses;
    BessemerError if the model is refused.
    """
    inputs = [value for value in values if value not in constants]
    infos = [helper.make_tensor_value_info(v.name, onnx_dtype(v.dtype), v.shape) for v in inputs]
    results = [ValueInfoProto(name=name) for name in node.output if name]
    tensors = [numpy_helper.from_array(v.data, v.name) for v in values if v in constants]
    model = model_of(helper.make_graph([node], "one", infos, results, tensors), opset)
    try:
        with np.errstate(all="ignore"):
            return run_graph(import_model(model), [v.data for v in inputs])
    except REFERENCE_ERRORS as error:
        raise Reject from error
