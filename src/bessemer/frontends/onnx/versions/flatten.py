"""Before opset 13 Softmax and its kin worked on the input flattened to two dimensions."""

import numpy as np

from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.table import until
from bessemer.ir.types import TensorType


@until(12, "Softmax", "LogSoftmax", "Hardmax")
def flattened(node: SourceNode, writer: Writer) -> SourceNode | None:
    """Softmax(x[2,3,4], axis=1) -> Reshape(Softmax(Flatten(x, 1), axis=-1), [2,3,4])."""
    axis = node.pop("axis", 1)
    x = node.needed(0)
    rank = node.tensor(0).rank
    axis = axis + rank if axis < 0 else axis
    if axis == rank - 1:
        node.attributes["axis"] = -1
        return node
    known = x.type
    if isinstance(known, TensorType) and known.is_static:
        shape = writer.constant(node, "shape", np.array(known.static_shape, np.int64))
    else:
        shape = writer.add(node, "Shape", [x])
    flat = writer.add(node, "Flatten", [x], axis=axis)
    made = writer.add(node, node.op_type, [flat], axis=-1)
    writer.add(node, "Reshape", [made, shape], node.outputs, allowzero=1)
    return None
