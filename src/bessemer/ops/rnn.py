"""Recurrent layers: RNN, GRU, LSTM.

Where the number of time steps is known, the pass `expand-recurrent` makes compiled cells of them;
otherwise they run on the host.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.gru import GRUCell, GRUGates, GRUState
from bessemer.ops.recurrent import LSTMCell, RNNCell
from bessemer.ops.rnn_functions import Activation, attributes_of, resolve
from bessemer.ops.rnn_unroll import Extents, Unroll, on_arrays


class Recurrent(Operator):
    """What RNN, GRU and LSTM share. Inputs: x, w, r, bias, lengths, initial states, others."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ()
    """Names of the activations of one direction."""

    # Declared by the subclasses, which are dataclasses.
    activation_alpha: tuple[float, ...]
    activation_beta: tuple[float, ...]
    activations: tuple[str, ...]
    clip: float
    direction: str
    hidden_size: int
    layout: int

    @property
    def directions(self) -> int:
        """1 or 2. Raises: ShapeError for an unknown direction."""
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise ShapeError(
                f"direction is {self.direction!r}; forward, reverse or bidirectional expected"
            )
        return 2 if self.direction == "bidirectional" else 1

    def is_backward(self, direction: int) -> bool:
        """True if that direction starts at the end."""
        return self.direction == "reverse" or direction == 1

    def functions(self, direction: int) -> tuple[Activation, ...]:
        """The activations of one direction.

        Raises: ShapeError if there are too few or one is unknown.
        """
        size, count = len(self.defaults), self.directions
        names = self.activations or self.defaults * count
        if len(names) < count * size:
            raise ShapeError(f"{len(names)} activations; {count * size} expected")
        found = resolve(
            names[: count * size], self.activation_alpha, self.activation_beta, self.clip
        )
        return found[direction * size : (direction + 1) * size]

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, *rest: TensorType | None
    ) -> tuple[TensorType, ...]:
        check_floats(x, w, r, *rest[:1], *rest[2:])
        if x.shape is None or r.shape is None:
            return (x.with_shape(None),) * (1 + self.states)
        if x.rank != 3 or r.rank != 3:
            raise ShapeError(f"x and r have ranks {x.rank} and {r.rank}; 3 expected")
        hidden: Dim = self.hidden_size or r.dims[2]
        count = self.directions
        same_dim("directions of r", r.dims[0], count)
        same_dim("gates of r", r.dims[1], self.gates * hidden)
        same_dim("hidden size of r", r.dims[2], hidden)
        if w.shape is not None:
            same_dim("input sizes of x and w", x.dims[2], w.dims[2])
            same_dim("gates of w", w.dims[1], self.gates * hidden)
        if self.layout:
            batch, length = x.dims[:2]
            every = x.with_shape((batch, length, count, hidden))
            return (every, *(x.with_shape((batch, count, hidden)),) * self.states)
        length, batch = x.dims[:2]
        every = x.with_shape((length, count, batch, hidden))
        return (every, *(x.with_shape((count, batch, hidden)),) * self.states)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, _, r, *_ = inputs
        assert x is not None
        assert r is not None
        length, batch = x.shape[:2][:: -1 if self.layout else 1]
        size, count = r.shape[2], self.directions
        if not length:
            return self._empty(batch, size, inputs[5:], x.dtype)
        unroll = Unroll(
            on_arrays, Extents(length, count, size, dtype_from_numpy(x.dtype)), self.layout
        )
        return self.unrolled(unroll, *inputs)

    def _empty(
        self, batch: int, size: int, initial: Sequence[Array | None], dtype: Any
    ) -> tuple[Array, ...]:
        """The outputs for sequences without steps: nothing, and the initial states."""
        count = self.directions
        every = (batch, 0, count, size) if self.layout else (0, count, batch, size)
        last = (batch, count, size) if self.layout else (count, batch, size)
        given = [*initial, *(None,) * self.states][: self.states]
        states = [np.zeros(last, dtype) if state is None else state for state in given]
        return (np.zeros(every, dtype), *states)

    def unrolled(self, unroll: Unroll, *inputs: Any) -> tuple[Any, ...]:
        """All outputs, by one cell for each time step."""
        operands: list[Any] = [*inputs, *[None] * (5 + self.states - len(inputs))]
        x, w, r, bias, lengths, *rest = operands
        return unroll.run(self, x, w, r, bias, lengths, rest[: self.states], rest[self.states :])

    def weights(
        self, unroll: Unroll, direction: int, r: Any, bias: Any, extra: Sequence[Any]
    ) -> tuple[Any, Any]:
        """The bias [gates h] that the inputs get, and what `step` needs besides."""
        return self.summed(unroll, bias), unroll.matrices(r, self.gates)

    def summed(self, unroll: Unroll, bias: Any) -> Any:
        """Input and recurrent bias of all gates, added."""
        if bias is None:
            return None
        width = self.gates * unroll.extents.hidden
        return unroll.op(
            "Add", unroll.slice(bias, 0, 0, width), unroll.slice(bias, 0, width, 2 * width)
        )

    def step(
        self,
        unroll: Unroll,
        direction: int,
        weights: Any,
        x: Any,
        states: tuple[Any, ...],
        live: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        """The new states (the hidden one first) and the output of one step."""
        raise NotImplementedError

    def shown(
        self, unroll: Unroll, cell: Operator, operands: Sequence[Any], live: Any
    ) -> tuple[tuple[Any, ...], Any]:
        """The new states and the output that a cell gives."""
        if live is None:
            states = unroll.apply(cell, operands, self.states)
            return states, states[0]
        *last, output = unroll.apply(cell, (*operands, live), self.states + 1)
        return tuple(last), output


@operator("RNN")
class RNN(Recurrent):
    """Simple recurrent layer: h = f(x w' + h r' + b).

    Shapes: x [t, b, i], w [d, h, i], r [d, h, h], bias [d, 2 h], lengths [b], initial h [d, b, h]
    -> y [t, d, b, h], last h [d, b, h]; with layout 1 the batch comes first.
    Source: ONNX RNN-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float = 0.0
    direction: str = "forward"
    hidden_size: int = 0
    layout: int = 0

    gates = 1
    defaults = ("Tanh",)

    def step(
        self,
        unroll: Unroll,
        direction: int,
        weights: Any,
        x: Any,
        states: tuple[Any, ...],
        live: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        cell = RNNCell(**attributes_of(self.functions(direction)))
        return self.shown(unroll, cell, (x, weights, *states), live)

    samples = (
        sample("f32[4,2,3]", "f32[1,5,3]", "f32[1,5,5]", "f32[1,10]", outputs=2, hidden_size=5),
        sample(
            "f32[4,2,3]",
            "f32[2,5,3]",
            "f32[2,5,5]",
            None,
            np.array([2, 4], np.int32),
            "f32[2,2,5]",
            outputs=2,
            direction="bidirectional",
            activations=("Relu", "LeakyRelu"),
            activation_alpha=(0.3,),
            clip=1.5,
        ),
        sample("f32[2,4,3]", "f32[1,5,3]", "f32[1,5,5]", outputs=2, direction="reverse", layout=1),
    )


@operator("GRU")
class GRU(Recurrent):
    """Gated recurrent unit, gates in the order update, reset, hidden.

    Shapes: x [t, b, i], w [d, 3 h, i], r [d, 3 h, h], bias [d, 6 h], lengths [b],
    initial h [d, b, h] -> y [t, d, b, h], last h [d, b, h]; with layout 1 the batch comes first.
    Source: ONNX GRU-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float = 0.0
    direction: str = "forward"
    hidden_size: int = 0
    layout: int = 0
    linear_before_reset: int = 0

    gates = 3
    defaults = ("Sigmoid", "Tanh")

    def weights(
        self, unroll: Unroll, direction: int, r: Any, bias: Any, extra: Sequence[Any]
    ) -> tuple[Any, Any]:
        size = unroll.extents.hidden
        if not self.linear_before_reset:
            first = unroll.matrices(unroll.slice(r, 0, 0, 2 * size), 2)
            second = unroll.matrices(unroll.slice(r, 0, 2 * size, 3 * size), 1)
            return self.summed(unroll, bias), (first, second)
        matrices = unroll.matrices(r, 3)
        if bias is None:
            return None, (matrices, None)
        # The recurrent bias of the hidden gate stands inside the reset.
        inner = unroll.slice(bias, 0, 5 * size, 6 * size)
        both = unroll.op(
            "Add", unroll.slice(bias, 0, 0, 2 * size), unroll.slice(bias, 0, 3 * size, 5 * size)
        )
        return unroll.joined((both, unroll.slice(bias, 0, 2 * size, 3 * size)), 0), (
            matrices,
            inner,
        )

    def step(
        self,
        unroll: Unroll,
        direction: int,
        weights: Any,
        x: Any,
        states: tuple[Any, ...],
        live: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        functions, (first, second), (h,) = self.functions(direction), weights, states
        attributes = attributes_of(functions)
        if self.linear_before_reset:
            return self.shown(unroll, GRUCell(**attributes), (x, first, h, second), live)
        update = reset = None
        if h is not None:
            gates = GRUGates(**attributes_of(functions[:1]))
            update, reset = unroll.apply(gates, (x, first, h), 2)
        return self.shown(unroll, GRUState(**attributes), (x, second, update, reset, h), live)

    samples = (
        sample("f32[4,2,3]", "f32[1,15,3]", "f32[1,15,5]", "f32[1,30]", outputs=2, hidden_size=5),
        sample(
            "f32[4,2,3]",
            "f32[2,15,3]",
            "f32[2,15,5]",
            "f32[2,30]",
            np.array([3, 1], np.int32),
            "f32[2,2,5]",
            outputs=2,
            direction="bidirectional",
            linear_before_reset=1,
        ),
        sample(
            "f32[2,4,3]",
            "f32[1,15,3]",
            "f32[1,15,5]",
            outputs=2,
            direction="reverse",
            layout=1,
            activations=("HardSigmoid", "Softsign"),
            activation_alpha=(0.3,),
            activation_beta=(0.4,),
        ),
    )


@operator("LSTM")
class LSTM(Recurrent):
    """Long short-term memory, gates in the order input, output, forget, cell.

    Shapes: x [t, b, i], w [d, 4 h, i], r [d, 4 h, h], bias [d, 8 h], lengths [b], initial h and c
    [d, b, h], peepholes [d, 3 h] -> y [t, d, b, h], last h and c [d, b, h]; with layout 1 the
    batch comes first.
    Source: ONNX LSTM-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float = 0.0
    direction: str = "forward"
    hidden_size: int = 0
    input_forget: int = 0
    layout: int = 0

    gates = 4
    states = 2
    defaults = ("Sigmoid", "Tanh", "Tanh")

    def weights(
        self, unroll: Unroll, direction: int, r: Any, bias: Any, extra: Sequence[Any]
    ) -> tuple[Any, Any]:
        peepholes = None
        if extra and extra[0] is not None:
            peepholes = unroll.row(unroll.widened(extra[0]), direction)
        return self.summed(unroll, bias), (unroll.matrices(r, 4), peepholes)

    def step(
        self,
        unroll: Unroll,
        direction: int,
        weights: Any,
        x: Any,
        states: tuple[Any, ...],
        live: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        matrices, peepholes = weights
        attributes = attributes_of(self.functions(direction))
        cell = LSTMCell(input_forget=self.input_forget, **attributes)
        return self.shown(unroll, cell, (x, matrices, *states, peepholes), live)

    samples = (
        sample("f32[4,2,3]", "f32[1,20,3]", "f32[1,20,5]", "f32[1,40]", outputs=3, hidden_size=5),
        sample(
            "f32[4,2,3]",
            "f32[2,20,3]",
            "f32[2,20,5]",
            "f32[2,40]",
            np.array([3, 1], np.int32),
            "f32[2,2,5]",
            "f32[2,2,5]",
            "f32[2,15]",
            outputs=3,
            direction="bidirectional",
        ),
        sample(
            "f32[2,4,3]",
            "f32[1,20,3]",
            "f32[1,20,5]",
            outputs=3,
            direction="reverse",
            layout=1,
            input_forget=1,
            clip=0.8,
        ),
        sample("f16[3,1,2]", "f16[1,12,2]", "f16[1,12,3]", outputs=3),
    )
