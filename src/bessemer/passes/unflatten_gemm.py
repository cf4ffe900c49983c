"""Takes away the Reshapes around a Gemm over flattened rows."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    constant,
    is_op,
    merge_sources,
    producer,
    rank,
    shape,
    sole_producer,
)


@graph_pass("unflatten-gemm")
class UnflattenGemm(RewritePass):
    """Reshape(Gemm(Reshape(x, [m, k]), w, b), [..., n]) -> MatMul(x, w) + b.

    Shapes: x [..., k], w constant [k, n] or [n, k], b [n]; m is the product of the leading
    extents of the result. Where x has other extents, one Reshape of it stays. Reshapes copy
    nothing, but they keep neighbours from being fused.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        gemm = sole_producer(graph, node.inputs[0], "Gemm") if is_op(node, "Reshape") else None
        inner = producer(gemm.inputs[0], "Reshape") if gemm is not None else None
        if gemm is None or inner is None:
            return None
        x, weights = inner.inputs[0], constant(gemm.inputs[1])
        if x is None or weights is None:
            return self.no(node, "the weights of its Gemm are computed")
        if attribute(gemm, "transA") or attribute(gemm, "alpha") != 1.0:
            return self.no(node, "its Gemm transposes or scales its input")
        matrix = weights.T if attribute(gemm, "transB") else weights
        depth, columns = matrix.shape
        result = shape(node.output)
        if not _keeps_rows(x, node.output, depth, columns) and (
            result is None or not result or result[-1] != columns
        ):
            return self.no(node, "it does not keep the columns of its Gemm")
        bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
        if bias is not None and (rank(bias) != 1 or attribute(gemm, "beta") != 1.0):
            return self.no(node, "the bias of its Gemm is not a plain vector")
        stem = gemm.inputs[1].name if gemm.inputs[1] is not None else gemm.name
        given = graph.add_constant(stem, np.ascontiguousarray(matrix))
        sources = merge_sources(inner, gemm, node)
        if not _keeps_rows(x, node.output, depth, columns):
            assert result is not None
            extents = np.array((*result[:-1], depth), np.int64)
            rows = graph.add_constant(f"{node.name}.rows", extents)
            x = self.build(graph, node, "Reshape", [x, rows], sources=inner.sources).output
        made = self.build(graph, node, "MatMul", [x, given], sources=sources)
        if bias is None:
            return made.output
        return self.build(graph, node, "Add", [made.output, bias], sources=gemm.sources).output


def _keeps_rows(x: Value, result: Value, depth: int, columns: int) -> bool:
    """True if x is [..., depth] and the result [..., columns]."""
    if not rank(x) or not rank(result):
        return False
    dims, target = x.tensor.dims, result.tensor.dims
    return dims[-1] == depth and target == (*dims[:-1], columns)
