"""Finds Mish spelled out."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import is_op, producer, sources_between


@graph_pass("recognise-mish")
class RecogniseMish(RewritePass):
    """x * Tanh(Softplus(x)) -> Mish(x). Source: Misra 2019, equation 1."""

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Mul"):
            return None
        for x, gate in (node.inputs, node.inputs[::-1]):
            tanh = producer(gate, "Tanh")
            softplus = producer(tanh.inputs[0], "Softplus") if tanh is not None else None
            if softplus is not None and x is not None and softplus.inputs[0] is x:
                sources = sources_between(node, x)
                return self.build(graph, node, "Mish", [x], sources=sources).output
        return None
