"""Folds batch normalisation into the weights of what computes its input."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import Array, attribute, constant, is_op, rank, sole_producer
from bessemer.passes.scale_weights import scale_producer


@graph_pass("fold-batch-norm")
class FoldBatchNorm(RewritePass):
    """BatchNormalization(Conv|ConvTranspose|Gemm(x, w, b)) -> Conv(x, w', b'); else Mul and Add.

    Before: y = (conv(x, w) + b - mean) * s + beta, s = gamma / sqrt(var + epsilon) per channel.
    After: w' = w * s, b' = (b - mean) * s + beta.
    Source: Ioffe and Szegedy 2015, section 3.1 (inference).
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "BatchNormalization"):
            return None
        affine = _affine_of(node)
        if affine is None:
            return self.no(node, "training mode, or its statistics are computed at run time")
        scale, shift = affine
        x = node.inputs[0]
        assert x is not None
        before = sole_producer(graph, x, "Conv", "ConvTranspose", "Gemm")
        if before is not None:
            made = scale_producer(graph, before, node, scale, shift)
            if made is not None:
                self._made.append(made)
                return made.output
            self.no(node, f"the weights of {before.op} {before.name} are not constant")
        return self._spell_out(graph, node, x, scale, shift)

    def _spell_out(
        self, graph: Graph, node: Node, x: Value, scale: Array, shift: Array
    ) -> Value | None:
        dims = rank(x)
        if dims is None or dims < 2:
            return self.no(node, "the rank of its input is unknown")
        extents = (-1, *(1,) * (dims - 2))
        dtype = x.tensor.dtype.numpy
        factors = graph.add_constant(f"{node.name}.scale", scale.reshape(extents).astype(dtype))
        offsets = graph.add_constant(f"{node.name}.shift", shift.reshape(extents).astype(dtype))
        product = self.build(graph, node, "Mul", [x, factors])
        return self.build(graph, node, "Add", [product.output, offsets]).output


def _affine_of(node: Node) -> tuple[Array, Array] | None:
    """Scale and shift per channel [c] in f64, or None if they are not known."""
    if attribute(node, "training_mode") or len(node.outputs) != 1:
        return None
    gamma, beta, mean, variance = (constant(value) for value in node.inputs[1:5])
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    wide = [item.astype(np.float64) for item in (gamma, beta, mean, variance)]
    scale = wide[0] / np.sqrt(wide[3] + attribute(node, "epsilon"))
    return scale, wide[1] - wide[2] * scale
