"""What a pointwise convolution may compute of its input: element-wise operators before it.

The tensor between them is then never stored: each task of the convolution computes the pixels that
it needs, once for all its filters. Normalisation before each convolution of a dense network is of
that kind, and so is the scale of a squeeze-and-excite block.
"""

from collections.abc import Sequence

from bessemer.core.shapes import is_static
from bessemer.ir.graph import Node, Value
from bessemer.lower.kernel import is_expensive, literal_index
from bessemer.ops.conv import Conv, conv_window
from bessemer.ops.expression import NodeExpression
from bessemer.te.tensor import Tensor, stages
from bessemer.te.walk import loads


def is_pointwise(node: Node) -> bool:
    """True for a convolution of one tap and stride 1 on blocks of channels, its weights known."""
    op = node.op
    if not isinstance(op, Conv) or op.group != 1:
        return False
    x, w, y = node.inputs[0], node.inputs[1], node.output
    assert x is not None
    assert w is not None
    if w.constant is None or x.layout is None or y.layout is None:
        return False
    if not is_static(x.tensor.dims) or any(n != 1 for n in w.constant.shape[2:]):
        return False
    block = x.layout.block_of(1)
    return block > 1 and y.layout.block_of(1) == block and w.constant.shape[1] % block == 0 \
        and conv_window(op, x.tensor.dims, w.constant.shape).out == x.tensor.dims[2:]


def prologue_refusal(nodes: Sequence[Node], expressions: Sequence[NodeExpression], value: Value
                     ) -> str:
    """Empty if a pointwise convolution may compute `value`, the result of these nodes, itself."""
    assert value.layout is not None
    outside = [each for node in nodes for each in node.inputs
               if each is not None and all(each is not other.output for other in nodes)]
    whole = [each for each in outside
             if each.constant is None and each.tensor.dims == value.tensor.dims]
    if not whole:
        return "nothing it reads has its shape"
    if any(each.layout is None or each.layout.parts != value.layout.parts for each in whole):
        return "it changes the layout"
    for expression in expressions:
        for stage in stages(expression.outputs):
            assert stage.body is not None
            if is_expensive(stage.body):
                return "its costly elements would be computed by several threads"
            if stage.is_reduction or not _is_elementwise(stage):
                return "it is not computed element by element"
    return ""


def _is_elementwise(stage: Tensor) -> bool:
    """True if each element reads its own place, or the same one along some axes."""
    assert stage.body is not None
    return all(
        load.fill is None and all(
            literal_index(index) is not None or any(index is axis for axis in stage.axes)
            for index in load.indices)
        for load in loads(stage.body))
