"""Finds Softmax spelled out in small operators."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    ints,
    is_op,
    make,
    merge_sources,
    producer,
    rank,
    used_once,
)


@graph_pass("recognise-softmax")
class RecogniseSoftmax(RewritePass):
    """exp(x - max(x)) / sum(exp(x - max(x))) and exp(x) / sum(exp(x)) -> Softmax(x)."""

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Div"):
            return None
        top, total = producer(node.inputs[0], "Exp"), producer(node.inputs[1], "ReduceSum")
        if top is None or total is None or total.inputs[0] is not node.inputs[0]:
            return None
        axis = _axis_of(total)
        if axis is None:
            return self.no(node, "the sum is not over one kept axis")
        if graph.is_output(top.output) or not used_once(graph, total.output):
            return self.no(node, "the exponentials or their sum are used elsewhere")
        x, nodes = top.inputs[0], [top, total, node]
        shifted = producer(x, "Sub")
        peak = producer(shifted.inputs[1], "ReduceMax") if shifted is not None else None
        if shifted is not None and peak is not None and peak.inputs[0] is shifted.inputs[0]:
            if _axis_of(peak) != axis:
                return self.no(node, "the maximum is over another axis than the sum")
            x, nodes = shifted.inputs[0], [peak, shifted, *nodes]
        op = make("Softmax", axis=axis)
        return self.build(graph, node, op, [x], sources=merge_sources(*nodes)).output


def _axis_of(node: Node) -> int | None:
    """The one axis that a reduction runs over and keeps, else None."""
    dims = rank(node.inputs[0])
    axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if dims is None or axes is None or len(axes) != 1 or not attribute(node, "keepdims"):
        return None
    return axes[0] % dims
