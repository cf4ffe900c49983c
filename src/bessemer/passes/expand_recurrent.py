"""Computes LSTM, GRU and RNN as one product with all inputs and a compiled cell for each step."""

from typing import Any

from bessemer.ir.graph import Graph, Node, Value
from bessemer.ops.rnn import Recurrent
from bessemer.ops.rnn_unroll import Unroll
from bessemer.passes.graph_pass import Replacement, graph_pass
from bessemer.passes.match import constant
from bessemer.passes.recurrent import RecurrentPass


@graph_pass("expand-recurrent")
class ExpandRecurrent(RecurrentPass):
    """LSTM(x, w, r, ..) -> Split(MatMul(x, w') + b), a cell for each step, Concat of their outputs.

    The number of time steps must be known; the weights may be computed. The pieces of Split and
    Concat lie in place.
    """

    most_steps: int = 1024
    """Layers of more steps (times directions) stay as they are: every step is a node."""

    def rewrite(self, node: Node, graph: Graph) -> Replacement:
        op = node.op
        if not isinstance(op, Recurrent):
            return None
        extents = self.extents(node, op)
        if extents is None:
            return None
        length = extents.length
        if not isinstance(length, int):
            return self.no(node, f"its number of steps, {length}, is not known")
        if length * extents.directions > self.most_steps:
            return self.no(node, f"its {length} steps would be too many nodes")
        inputs: list[Any] = list(node.inputs)
        if len(inputs) > 4 and _all_full(inputs[4], length):
            inputs[4] = None
        unroll = Unroll(self.applying(graph, node), extents, op.layout)
        return op.unrolled(unroll, *inputs)[: len(node.outputs)]


def _all_full(lengths: Value | None, length: int) -> bool:
    """True if every sequence is known to have all steps."""
    known = constant(lengths)
    return known is not None and bool((known >= length).all())
