"""Finds scaled dot-product attention spelled out."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    is_op,
    make,
    merge_sources,
    rank,
    scalar,
    sole_producer,
    split_constant,
)


@graph_pass("recognise-attention", default_on=False)
class RecogniseAttention(RewritePass):
    """MatMul(Softmax(MatMul(q, kt) * scale + mask), v) -> Attention(q, k, v, mask).

    Shapes: q [b, h, s, d], kt [b, h, d, t], v [b, h, t, e].
    Off by default: only worth its while where Attention has a fused kernel.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "MatMul") or rank(node.output) != 4:
            return None
        softmax = sole_producer(graph, node.inputs[0], "Softmax")
        if softmax is None:
            return None
        if int(attribute(softmax, "axis")) not in (-1, 3):
            return self.no(node, "its softmax is not over the last axis")
        nodes = [softmax, node]
        inner = sole_producer(graph, softmax.inputs[0], "Add", "Mul", "Div", "MatMul")
        mask: Value | None = None
        if inner is not None and is_op(inner, "Add"):
            nodes.insert(0, inner)
            inner, mask = self._unmask(graph, inner)
        factor = 1.0
        if inner is not None and is_op(inner, "Mul", "Div"):
            nodes.insert(0, inner)
            inner, factor = _unscale(graph, inner)
        if inner is None or not is_op(inner, "MatMul"):
            return self.no(node, "no product of queries and keys before its softmax")
        q, kt, v = inner.inputs[0], inner.inputs[1], node.inputs[1]
        if not (rank(q) == rank(kt) == rank(v) == 4):
            return self.no(node, "its operands do not have rank 4")
        nodes.insert(0, inner)
        sources = merge_sources(*nodes)
        swap = make("Transpose", perm=(0, 1, 3, 2))
        k = self.build(graph, node, swap, [kt], sources=inner.sources).output
        inputs = [q, k, v] if mask is None else [q, k, v, mask]
        made = self.build(graph, node, make("Attention", scale=factor), inputs, sources=sources)
        return made.output

    def _unmask(self, graph: Graph, add: Node) -> tuple[Node | None, Value | None]:
        for scores, mask in (add.inputs, add.inputs[::-1]):
            inner = sole_producer(graph, scores, "Mul", "Div", "MatMul")
            if inner is not None:
                return inner, mask
        return None, None


def _unscale(graph: Graph, node: Node) -> tuple[Node | None, float]:
    operands = split_constant(node)
    number = scalar(operands[1]) if operands is not None else None
    if operands is None or not number or operands[0] is not node.inputs[0]:
        return None, 1.0
    inner = sole_producer(graph, operands[0], "MatMul")
    return inner, number if is_op(node, "Mul") else 1.0 / number
