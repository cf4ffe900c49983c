"""Which element types and kinds of attributes an operator takes, by its newest schema in ONNX."""

from functools import cache

import numpy as np
import onnx

from bessemer.core.errors import ModelFormatError, ShapeError
from bessemer.frontends.onnx.proto import NEWEST_OPSET
from bessemer.frontends.onnx.source import SourceNode
from bessemer.frontends.onnx.types import TEXT_BY_DTYPE
from bessemer.ir.types import TensorType


def check_input_types(node: SourceNode) -> None:
    """Raises ShapeError if an input of a newest-opset node has an element type it does not take."""
    allowed = _allowed(node.domain, node.op_type)
    if not allowed:
        return
    for index, value in enumerate(node.inputs):
        if value is None or not isinstance(value.type, TensorType):
            continue
        texts = allowed[min(index, len(allowed) - 1)]
        if TEXT_BY_DTYPE[value.type.dtype.name] not in texts:
            takes = sorted(name for name, text in TEXT_BY_DTYPE.items() if text in texts)
            raise ShapeError(f"{node.where}: input {index} ({value.name!r}) is {value.type}, but "
                             f"{node.op_type} takes {', '.join(takes) or 'no tensor'} there")


def check_attribute_kinds(node: SourceNode) -> None:
    """Raises ModelFormatError if an attribute of a newest-opset node is of the wrong kind.

    The attributes of a node in a function may be given by the call, so looking at the node in the
    file is not enough.
    """
    kinds = _attribute_kinds(node.domain, node.op_type)
    for name, value in node.attributes.items():
        kind = kinds.get(name)
        if kind is None:
            continue
        items = value if isinstance(value, tuple) else (value,)
        wanted = _PYTHON.get(kind.removesuffix("S"), (object,))
        if kind.endswith("S") != isinstance(value, tuple) or not all(
            isinstance(item, wanted) for item in items
        ):
            found = type(items[0]).__name__ if items else "an empty list"
            raise ModelFormatError(f"{node.where}: attribute {name!r} must be {kind}, not {found}")


_PYTHON: dict[str, tuple[type, ...]] = {
    "INT": (int,), "FLOAT": (float, int), "STRING": (str,), "TENSOR": (np.ndarray,),
    "GRAPH": (onnx.GraphProto,), "SPARSE_TENSOR": (np.ndarray,),
}


@cache
def _attribute_kinds(domain: str, op_type: str) -> dict[str, str]:
    """The kind of each attribute by the newest schema, as FLOAT or INTS."""
    try:
        schema = onnx.defs.get_schema(op_type, NEWEST_OPSET, domain)
    except onnx.defs.SchemaError:
        return {}
    return {name: attribute.type.name for name, attribute in schema.attributes.items()}


@cache
def _allowed(domain: str, op_type: str) -> tuple[frozenset[str], ...]:
    """The type texts of each input of the newest schema; empty if there is none."""
    try:
        schema = onnx.defs.get_schema(op_type, NEWEST_OPSET, domain)
    except onnx.defs.SchemaError:
        return ()
    return tuple(frozenset(formal.types) for formal in schema.inputs)
