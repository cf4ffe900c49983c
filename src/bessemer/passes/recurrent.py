"""What the passes over LSTM, GRU and RNN share: their extents, and operators applied in a graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.core.dtypes import bf16, f16, f32, f64
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.rnn import Recurrent
from bessemer.ops.rnn_unroll import Apply, Extents, on_arrays
from bessemer.passes.graph_pass import RewritePass


class RecurrentPass(RewritePass):
    """Base of passes that spell recurrent layers out."""

    def extents(self, node: Node, op: Recurrent) -> Extents | None:
        """The extents of a layer, or None (with the reason recorded) if it stays as it is."""
        x, w, r = (value.type if value is not None else None for value in node.inputs[:3])
        for type in (x, w, r):
            if not isinstance(type, TensorType) or type.shape is None:
                self.no(node, "the rank of an operand is not known")
                return None
        assert isinstance(x, TensorType)
        assert isinstance(r, TensorType)
        length, hidden = x.dims[1 if op.layout else 0], r.dims[2]
        if not isinstance(hidden, int):
            self.no(node, f"it has {hidden} units, which are not known")
            return None
        if x.dtype not in (f32, f64, f16, bf16):
            self.no(node, f"kernels do not compute with {x.dtype}")
            return None
        if 0 in x.dims or not hidden:
            self.no(node, f"its input {x} is empty")
            return None
        return Extents(length, op.directions, hidden, x.dtype)

    def applying(self, graph: Graph, node: Node) -> Apply:
        """Applies operators as nodes in the node's place; to constants at once."""

        def apply(op: Operator, operands: Sequence[Any], count: int) -> tuple[Any, ...]:
            data = [
                operand.constant if isinstance(operand, Value) else operand for operand in operands
            ]
            if all(item is not None for item in data):
                return tuple(
                    graph.add_constant(f"{node.name}.weight", np.ascontiguousarray(array))
                    for array in on_arrays(op, data, count)
                )
            values = [
                graph.add_constant(f"{node.name}.constant", operand)
                if isinstance(operand, np.ndarray)
                else operand
                for operand in operands
            ]
            return tuple(self.build(graph, node, op, values, outputs=count).outputs)

        return apply
