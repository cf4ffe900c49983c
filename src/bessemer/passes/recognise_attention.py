"""Finds scaled dot-product attention spelled out."""

import numpy as np

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.types import TensorType
from bessemer.passes.cancel_transposes import perm_of
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    dims,
    is_op,
    make,
    merge_sources,
    rank,
    scalar,
    sole_producer,
    split_constant,
)

MOST_KEYS = 2048
"""Keys and extent of a head, together, up to which the fused kernel holds all scores of a block."""

LEAST_QUERIES = 8
"""Below, the kernel's vectors, which run along the queries, would be empty for the most part."""


@graph_pass("recognise-attention")
class RecogniseAttention(RewritePass):
    """MatMul(Softmax(MatMul(q, kt) * scale + mask), v) -> PlainAttention(q, k, v, mask).

    A row of scores that are all -inf, which has no softmax, stays NaN.
    Shapes: q [b, h, s, d], kt [b, h, d, t], v [b, h, t, e]; s, t, d, e are known and of a size that
    the fused kernel of attention takes. Transposes around it become part of that kernel, so a mask
    that differs from query to query is transposed once, to be read along the queries. One that is
    known to leave out the keys behind each query becomes the causal bound of the operator: keys
    that no query of a block sees cost nothing, and what is no number there stays there.
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
        if q is None or kt is None or v is None or not (rank(q) == rank(kt) == rank(v) == 4):
            return self.no(node, "its operands do not have rank 4")
        reason = _unsuited(q, kt, v)
        if reason:
            return self.no(node, reason)
        nodes.insert(0, inner)
        sources = merge_sources(*nodes)
        k = self._turned(graph, node, kt, inner.sources)
        causal = mask is not None and _is_causal(mask)
        inputs = [q, k, v]
        if mask is not None and not causal:
            inputs.append(self._mask(graph, node, mask))
        op = make("bessemer.PlainAttention", scale=factor, is_causal=int(causal))
        return self.build(graph, node, op, inputs, sources=sources).output

    def _turned(self, graph: Graph, node: Node, kt: Value, sources: tuple[str, ...]) -> Value:
        """The last two axes swapped, in one Transpose with what made the value."""
        above = sole_producer(graph, kt, "Transpose")
        perm = perm_of(above) if above is not None else None
        if above is None or perm is None:
            above, perm = None, (0, 1, 2, 3)
        both = (*perm[:2], perm[3], perm[2])
        start = above.inputs[0] if above is not None else kt
        assert start is not None
        if both == (0, 1, 2, 3):
            return start
        return self.build(graph, node, make("Transpose", perm=both), [start],
                          sources=sources).output

    def _mask(self, graph: Graph, node: Node, mask: Value) -> Value:
        """The mask read along the queries: transposed once for all that use it, and back here."""
        extents = dims(mask)
        if extents is None or len(extents) < 2 or 1 in extents[-2:]:
            return mask
        last = len(extents) - 1
        perm = (*range(last - 1), last, last - 1)
        turned = next((user.output for user, _ in mask.users
                       if is_op(user, "Transpose") and perm_of(user) == perm), None)
        if turned is None:
            turned = self.build(graph, node, make("Transpose", perm=perm), [mask]).output
        return self.build(graph, node, make("Transpose", perm=perm), [turned]).output

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


def _is_causal(mask: Value) -> bool:
    """True for constants that leave each query the keys up to its own place: 0 there, else -inf.

    The lowest number does as well: with any score it has the exponential 0.
    """
    found = mask.constant
    if found is None or found.dtype != np.float32 or found.ndim < 2 \
            or found.size != found.shape[-1] ** 2 or found.shape[-1] != found.shape[-2]:
        return False
    square = found.reshape(found.shape[-2:])
    kept = np.tril(np.ones_like(square, bool))
    return bool((square[kept] == 0).all() and (square[~kept] <= np.finfo(np.float32).min).all())


def _unsuited(q: Value, kt: Value, v: Value) -> str:
    """Why the fused kernel does not take such queries, keys and values; empty if it does."""
    queries, keys, values = dims(q), dims(kt), dims(v)
    assert queries is not None
    assert keys is not None
    assert values is not None
    sizes = [*queries[2:], *keys[2:], *values[2:]]
    if not all(isinstance(value.type, TensorType) and value.type.dtype == f32
               for value in (q, kt, v)):
        return "its operands are not f32"
    if queries[:2] != keys[:2] or queries[:2] != values[:2]:
        return "its operands have other batches or numbers of heads"
    if not is_static(sizes):
        return "queries, keys or their sizes are symbolic"
    if int(sizes[0]) < LEAST_QUERIES:  # type: ignore[arg-type]
        return "there are few queries"
    if sum(map(int, keys[2:])) > MOST_KEYS:  # type: ignore[arg-type]
        return "there are many keys"
    return ""
