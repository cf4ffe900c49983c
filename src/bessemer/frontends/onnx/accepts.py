"""Which element types an operator takes, by its newest schema in ONNX."""

from functools import cache

import onnx

from bessemer.core.errors import ShapeError
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


@cache
def _allowed(domain: str, op_type: str) -> tuple[frozenset[str], ...]:
    """The type texts of each input of the newest schema; empty if there is none."""
    try:
        schema = onnx.defs.get_schema(op_type, NEWEST_OPSET, domain)
    except onnx.defs.SchemaError:
        return ()
    return tuple(frozenset(formal.types) for formal in schema.inputs)
