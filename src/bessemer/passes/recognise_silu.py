"""Finds the sigmoid linear unit spelled out."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import is_op, make, producer, sources_between
from bessemer.passes.products import factors


@graph_pass("recognise-silu")
class RecogniseSilu(RewritePass):
    """x * Sigmoid(alpha * x) -> Swish(x, alpha).

    Source: Ramachandran et al. 2017, section 3.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Mul"):
            return None
        for x, gate in (node.inputs, node.inputs[::-1]):
            sigmoid = producer(gate, "Sigmoid")
            if sigmoid is None or x is None or sigmoid.inputs[0] is None:
                continue
            alpha, values = factors(sigmoid.inputs[0], x)
            if len(values) == 1 and values[0] is x:
                op, sources = make("Swish", alpha=alpha), sources_between(node, x)
                return self.build(graph, node, op, [x], sources=sources).output
        return None
