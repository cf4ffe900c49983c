"""Computes LSTM, GRU and RNN of any length as a Scan over a compiled cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bessemer.core.shapes import Dim
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.control import Scan
from bessemer.ops.rnn import Recurrent
from bessemer.ops.rnn_unroll import Cell, Unroll
from bessemer.passes.graph_pass import Replacement, graph_pass
from bessemer.passes.recurrent import RecurrentPass


@graph_pass("scan-recurrent")
class ScanRecurrent(RecurrentPass):
    """LSTM(x, w, r, ..) -> Scan(states, MatMul(x, w') + b) over a cell, for each direction.

    For layers whose number of steps is not known, or too large to be unrolled. It runs when layouts
    are chosen, so that an engine for one shape made from the stored graph still meets the layer.
    """

    def rewrite(self, node: Node, graph: Graph) -> Replacement:
        op = node.op
        if not isinstance(op, Recurrent):
            return None
        extents = self.extents(node, op)
        if extents is None:
            return None
        rolled = Rolled(self.applying(graph, node), extents, op.layout, node)
        return op.unrolled(rolled, *node.inputs)[: len(node.outputs)]


@dataclass(eq=False)
class Body:
    """The graph of one step; values of the graph outside become constants or captured inputs."""

    graph: Graph
    layer: Node
    captured: list[Value] = field(default_factory=list)
    _inside: dict[int, Value] = field(default_factory=dict)

    def input(self, name: str, type: TensorType) -> Value:
        """A new input: a state or a slice."""
        return self._known(self.graph.add_input(name, type))

    def apply(self, op: Operator, operands: Sequence[Any], count: int) -> tuple[Value, ...]:
        """Applies an operator inside."""
        node = self.graph.add_node(
            op,
            [self._operand(item) for item in operands],
            name=self.layer.name,
            sources=self.layer.sources,
            outputs=[f"v{len(self._inside)}.{k}" for k in range(count)],
        )
        return tuple(self._known(value) for value in node.outputs)

    def _known(self, value: Value) -> Value:
        self._inside[id(value)] = value
        return value

    def _operand(self, item: Any) -> Value | None:
        if item is None:
            return None
        if isinstance(item, np.ndarray):
            return self.graph.add_constant("constant", item)
        assert isinstance(item, Value)
        if id(item) not in self._inside:
            if item.constant is not None:
                self._inside[id(item)] = self.graph.add_constant("weight", item.constant)
            else:
                self.captured.append(item)
                self._inside[id(item)] = self.graph.add_input(item.name, item.tensor)
        return self._inside[id(item)]


@dataclass(frozen=True)
class Rolled(Unroll):
    """One layer as a loop over its steps, however many."""

    node: Node

    @property
    def batch(self) -> int:
        """The axis of sequences in x."""
        return 1 - self.time

    def run(
        self,
        cell: Cell,
        x: Any,
        w: Any,
        r: Any,
        bias: Any,
        lengths: Any,
        initial: Sequence[Any],
        extra: Sequence[Any] = (),
    ) -> tuple[Any, ...]:
        x, w, r, bias = (self.widened(operand) for operand in (x, w, r, bias))
        states = [self.widened(state) for state in initial]
        live = None if lengths is None else self._running(x, lengths)
        outputs, lasts = [], []
        for d in range(self.extents.directions):
            own = None if bias is None else self.row(bias, d)
            added, weights = cell.weights(self, d, self.row(r, d), own, extra)
            gates = self.op("MatMul", x, self.op("Transpose", self.row(w, d), perm=(1, 0)))
            if added is not None:
                gates = self.op("Add", gates, added)
            starts = [self._start(state, d, x, gates) for state in states]
            *last, every = self._scan(cell, d, weights, starts, gates, live)
            outputs.append(self.op("Unsqueeze", every, _axes(self.time + 1)))
            lasts.append([self.op("Unsqueeze", state, _axes(self.layout)) for state in last])
        y = self._narrowed(self.joined(outputs, self.time + 1))
        return y, *(self._narrowed(self.joined(column, self.layout)) for column in zip(*lasts))

    def _scan(
        self,
        cell: Cell,
        direction: int,
        weights: Any,
        starts: Sequence[Any],
        gates: Any,
        live: Any,
    ) -> tuple[Any, ...]:
        """The last states [b, h] and all outputs, [t, b, h] or [b, t, h], of one direction."""
        body = Body(Graph(f"{self.node.name}.step"), self.node)
        inner = replace(self, apply=body.apply)
        states = tuple(body.input(f"state{k}", start.tensor) for k, start in enumerate(starts))
        scanned = [gates] if live is None else [gates, live]
        slices = [body.input(f"slice{k}", self._slice(value)) for k, value in enumerate(scanned)]
        fresh, shown = cell.step(
            inner, direction, weights, slices[0], states, slices[1] if live is not None else None
        )
        body.graph.outputs = [*fresh, shown]
        turned = int(cell.is_backward(direction))
        count = len(scanned)
        scan = Scan(
            body=body.graph,
            captured=len(body.captured),
            num_scan_inputs=count,
            scan_input_axes=(self.time,) * count,
            scan_input_directions=(turned,) * count,
            scan_output_axes=(self.time,),
            scan_output_directions=(turned,),
        )
        return self.apply(scan, [*starts, *scanned, *body.captured], len(starts) + 1)

    def _slice(self, value: Value) -> TensorType:
        """The type of one step of a tensor."""
        dims = value.tensor.dims
        return value.tensor.with_shape((*dims[: self.time], *dims[self.time + 1 :]))

    def _extent(self, x: Any, axis: int) -> Any:
        """An extent of x as a vector of one integer."""
        return self.slice(self.op("Shape", x), 0, axis, axis + 1)

    def _start(self, state: Any, direction: int, x: Any, gates: Value) -> Any:
        """The initial state [b, h] of a direction; zeros if it is not given."""
        if state is not None:
            one = self.slice(state, self.layout, direction, direction + 1)
            return self.op("Squeeze", one, _axes(self.layout))
        dtype = gates.tensor.dtype.numpy
        batch: Dim = gates.tensor.dims[self.batch]
        size = np.array([self.extents.hidden], np.int64)
        shape = (
            np.array([batch, *size], np.int64)
            if isinstance(batch, int)
            else self.op("Concat", self._extent(x, self.batch), size, axis=0)
        )
        return self.op("ConstantOfShape", shape, value=np.zeros(1, dtype))

    def _running(self, x: Any, lengths: Any) -> Any:
        """Which sequences still run at each step: [t, b, 1] or [b, t, 1]."""
        length = self.extents.length
        if isinstance(length, int):
            steps: Any = np.arange(length, dtype=np.int64)
        else:
            limit = self.op("Squeeze", self._extent(x, self.time), _axes(0))
            steps = self.op("Range", np.array(0), limit, np.array(1))
        short = self.op("Cast", lengths, to="i64")
        return self.op(
            "Less",
            self.op("Unsqueeze", steps, _axes(self.batch, 2)),
            self.op("Unsqueeze", short, _axes(self.time, 2)),
        )


def _axes(*axes: int) -> np.ndarray[Any, Any]:
    return np.array(axes, np.int64)
