"""Computes LSTM, GRU and RNN as one product with all inputs and a compiled cell for each step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.core.dtypes import bf16, f16, f32, f64
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.rnn import Recurrent
from bessemer.ops.rnn_unroll import Extents, Unroll
from bessemer.passes.graph_pass import Replacement, RewritePass, graph_pass
from bessemer.passes.match import constant


@graph_pass("expand-recurrent")
class ExpandRecurrent(RewritePass):
    """LSTM(x, w, r, ..) -> Split(MatMul(x, w') + b), a cell for each step, Concat of their outputs.

    The number of time steps must be known; the weights may be computed. Weights are prepared by
    nodes that fold-constants computes; the pieces of Split and Concat lie in place.
    """

    most_steps: int = 1024
    """Layers of more steps (times directions) stay as they are: every step is a node."""

    def rewrite(self, node: Node, graph: Graph) -> Replacement:
        op = node.op
        if not isinstance(op, Recurrent):
            return None
        extents = self._extents(node, op)
        if extents is None:
            return None
        inputs: list[Any] = list(node.inputs)
        if len(inputs) > 4 and _all_full(inputs[4], extents.length):
            inputs[4] = None

        def apply(made: Operator, operands: Sequence[Any], count: int) -> tuple[Value, ...]:
            values = [
                graph.add_constant(graph.unique_name(f"{node.name}.constant"), operand)
                if isinstance(operand, np.ndarray)
                else operand
                for operand in operands
            ]
            return tuple(self.build(graph, node, made, values, outputs=count).outputs)

        return op.unrolled(Unroll(apply, extents, op.layout), *inputs)[: len(node.outputs)]

    def _extents(self, node: Node, op: Recurrent) -> Extents | None:
        """The extents of the layer, or None (with the reason recorded) if it stays as it is."""
        x, w, r = (value.type if value is not None else None for value in node.inputs[:3])
        for type in (x, w, r):
            if not isinstance(type, TensorType) or type.shape is None:
                self.no(node, "the rank of an operand is not known")
                return None
        assert isinstance(x, TensorType)
        assert isinstance(r, TensorType)
        length, hidden, count = x.dims[1 if op.layout else 0], r.dims[2], op.directions
        if not isinstance(length, int) or not isinstance(hidden, int):
            self.no(node, f"it has {length} steps of {hidden} units, which are not known")
            return None
        if x.dtype not in (f32, f64, f16, bf16):
            self.no(node, f"kernels do not compute with {x.dtype}")
            return None
        if not length or not hidden or 0 in x.dims or length * count > self.most_steps:
            self.no(node, f"it has {length} steps; 1 to {self.most_steps // count} are unrolled")
            return None
        return Extents(length, count, hidden, x.dtype)


def _all_full(lengths: Value | None, length: int) -> bool:
    """True if every sequence is known to have all steps."""
    known = constant(lengths)
    return known is not None and bool((known >= length).all())
