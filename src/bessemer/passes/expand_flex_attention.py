"""Spells out attention whose scores or probabilities are changed by graphs."""

import math
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, DType, f64
from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ops.accumulate import wide
from bessemer.ops.linear_attention import FlexAttention
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.inlining import copy_body
from bessemer.passes.match import make


@graph_pass("expand-flex-attention")
class ExpandFlexAttention(RewritePass):
    """FlexAttention(q, k, v) -> MatMul(prob_mod(Softmax(score_mod(MatMul(q, k') * scale))), v).

    Query heads that share a key head become rows of one product. Sums are formed in f32 at least,
    scores and probabilities rounded to the precision of the softmax, as the operator defines it.
    Shapes: q [b, hq, s, d], k [b, hkv, t, d], v [b, hkv, t, e] -> y [b, hq, s, e].
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        op = node.op
        if not isinstance(op, FlexAttention):
            return None
        q, k, v, *captured = node.inputs
        assert q is not None
        assert k is not None
        assert v is not None
        if not all(value.tensor.is_static for value in (q, k, v)):
            return self.no(node, "its extents are not known")
        batch, heads, rows, size = q.tensor.static_shape
        shared, length = k.tensor.static_shape[1:3]
        width = v.tensor.static_shape[3]
        dtype = wide(q.tensor.dtype)
        stage = DTYPES[op.softmax_precision or ("f64" if dtype == f64 else "f32")]
        joined = (batch, shared, heads // shared * rows)

        def shaped(value: Value, *dims: int) -> Value:
            target = self._constant(graph, node, np.array(dims, np.int64))
            return self.build(graph, node, "Reshape", [value, target]).output

        keys = self.build(graph, node, make("Transpose", perm=(0, 1, 3, 2)),
                          [self._cast(graph, node, k, dtype)]).output
        queries = shaped(self._cast(graph, node, q, dtype), *joined, size)
        scale = op.scale if op.scale is not None else 1.0 / math.sqrt(size)
        product = self.build(graph, node, "MatMul", [queries, keys]).output
        factor = self._constant(graph, node, np.array(scale, dtype.numpy))
        scores = self.build(graph, node, "Mul", [product, factor]).output
        scores = self._cast(graph, node, shaped(scores, batch, heads, rows, length), stage)
        scores_ = self._modified(graph, node, op.score_mod, [scores, *captured])
        if scores_ is None:
            return None
        weights = self.build(graph, node, "Softmax", [
            self._cast(graph, node, scores_, wide(scores_.tensor.dtype))]).output
        weights = self._cast(graph, node, weights, stage)
        weights_ = self._modified(graph, node, op.prob_mod, [weights, *captured])
        if weights_ is None:
            return None
        joint = shaped(self._cast(graph, node, weights_, dtype), *joined, length)
        y = self.build(graph, node, "MatMul", [joint, self._cast(graph, node, v, dtype)]).output
        return self._cast(graph, node, shaped(y, batch, heads, rows, width), q.tensor.dtype)

    def _modified(
        self, graph: Graph, node: Node, body: Graph | None, actuals: list[Value | None]
    ) -> Value | None:
        """What a body makes of the scores or probabilities; None if it does not fit."""
        if body is None:
            return actuals[0]
        try:
            (result,) = copy_body(graph, node, body, actuals)
        except ShapeError as error:
            return self.no(node, f"a graph in it does not fit what it is given: {error}")
        return result

    def _cast(self, graph: Graph, node: Node, value: Value, dtype: DType) -> Value:
        if value.tensor.dtype == dtype:
            return value
        return self.build(graph, node, make("Cast", to=dtype.name), [value]).output

    @staticmethod
    def _constant(graph: Graph, node: Node, data: np.ndarray[Any, Any]) -> Value:
        return graph.add_constant(graph.unique_name(f"{node.name}.constant"), data)
