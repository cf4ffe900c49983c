"""Result types where an input's rank is unknown: the element type by the schema, and no shape."""

from typing import Any

import onnx

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ShapeError
from bessemer.frontends.onnx.proto import NEWEST_OPSET
from bessemer.frontends.onnx.source import SourceNode
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType


def types_without_inference(node: SourceNode, count: int) -> list[ValueType]:
    """Types of `count` results with unknown shapes.

    Raises: ShapeError if not even the element type follows from the inputs.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, NEWEST_OPSET, node.domain)
    except onnx.defs.SchemaError as error:
        raise ShapeError(f"{node.where}: the rank of an input is unknown, and so is the result; "
                         "fix the shapes with the option 'shapes'") from error
    bound = _bindings(schema, node)
    return [_result(schema, min(i, len(schema.outputs) - 1), bound, node) for i in range(count)]


def _bindings(schema: Any, node: SourceNode) -> dict[str, ValueType]:
    bound: dict[str, ValueType] = {}
    for index, value in enumerate(node.inputs):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if value is not None:
            bound.setdefault(formal.type_str, value.type)
    return bound


def _result(schema: Any, index: int, bound: dict[str, ValueType], node: SourceNode) -> ValueType:
    text = schema.outputs[index].type_str
    known = bound.get(text)
    if isinstance(known, TensorType):
        return known.with_shape(None)
    if isinstance(known, (SequenceType, OptionalType)):
        return known
    # Operators such as SequenceAt give the element of a sequence they take.
    for value in bound.values():
        element = getattr(value, "element", None)
        if isinstance(element, TensorType):
            return element.with_shape(None)
    allowed = [c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == text]
    only = allowed[0] if allowed and len(allowed[0]) == 1 else [text]
    scalar = {"tensor(int64)": "i64", "tensor(bool)": "bool", "tensor(float)": "f32"}.get(only[0])
    if scalar is None:
        raise ShapeError(
            f"{node.where}: the rank of an input is unknown, and the element type of output "
            f"{index} cannot be told; fix the shapes with the option 'shapes'"
        )
    return TensorType(DTYPES[scalar], None)
