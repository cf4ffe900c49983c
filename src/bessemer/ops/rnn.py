"""Recurrent layers: RNN, GRU, LSTM. They run on the host."""

from typing import Any

import numpy as np

from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, widen
from bessemer.ops.dims import Array
from bessemer.ops.rnn_cells import (
    Activation,
    Step,
    activations,
    directions,
    infer_rnn,
    initial_state,
    pack_results,
    run_direction,
)


def _biases(bias: Array | None, direction: int, size: int, dtype: Any) -> tuple[Array, Array]:
    """Input and recurrence bias of a direction, zeros if there is none."""
    if bias is None:
        return np.zeros(size, dtype), np.zeros(size, dtype)
    row = widen(bias)[direction]
    return row[:size], row[size:]


def _backward(direction: str, number: int) -> bool:
    return direction == "reverse" or number == 1


@operator("RNN")
class RNN(Operator):
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

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, *_: TensorType | None
    ) -> tuple[TensorType, ...]:
        return infer_rnn(self, 1, x, w, r, 1)

    def reference(
        self, x: Array, w: Array, r: Array, bias: Array | None = None,
        lengths: Array | None = None, initial_h: Array | None = None,
    ) -> tuple[Array, ...]:
        values = widen(x.transpose(1, 0, 2) if self.layout else x)
        size, count = r.shape[2], directions(self.direction)
        start = initial_state(initial_h, self.layout, (count, values.shape[1], size), x.dtype)
        every, lasts = [], []
        for d, (f,) in enumerate(activations(self, ("Tanh",))):
            w_bias, r_bias = _biases(bias, d, size, values.dtype)
            gates = values @ widen(w)[d].T + (w_bias + r_bias)
            hidden, last = run_direction(
                gates, (widen(start)[d],), lengths, _backward(self.direction, d),
                _rnn_step(f, widen(r)[d].T),
            )
            every.append(hidden)
            lasts.append(last)
        return tuple(narrow(a, x.dtype) for a in pack_results(self.layout, every, lasts))

    samples = (
        sample("f32[4,2,3]", "f32[1,5,3]", "f32[1,5,5]", "f32[1,10]", outputs=2, hidden_size=5),
        sample(
            "f32[4,2,3]", "f32[2,5,3]", "f32[2,5,5]", None, np.array([2, 4], np.int32),
            "f32[2,2,5]", outputs=2, direction="bidirectional", activations=("Relu", "LeakyRelu"),
            activation_alpha=(0.3,), clip=1.5,
        ),
        sample("f32[2,4,3]", "f32[1,5,3]", "f32[1,5,5]", outputs=2, direction="reverse", layout=1),
    )


def _rnn_step(f: Activation, r: Array) -> Step:
    def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        return (f(x + states[0] @ r),)

    return step


@operator("GRU")
class GRU(Operator):
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

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, *_: TensorType | None
    ) -> tuple[TensorType, ...]:
        return infer_rnn(self, 3, x, w, r, 1)

    def reference(
        self, x: Array, w: Array, r: Array, bias: Array | None = None,
        lengths: Array | None = None, initial_h: Array | None = None,
    ) -> tuple[Array, ...]:
        values = widen(x.transpose(1, 0, 2) if self.layout else x)
        size, count = r.shape[2], directions(self.direction)
        start = initial_state(initial_h, self.layout, (count, values.shape[1], size), x.dtype)
        every, lasts = [], []
        for d, functions in enumerate(activations(self, ("Sigmoid", "Tanh"))):
            w_bias, r_bias = _biases(bias, d, 3 * size, values.dtype)
            gates = values @ widen(w)[d].T + w_bias
            step = self._step(functions, widen(r)[d].T, r_bias)
            hidden, last = run_direction(
                gates, (widen(start)[d],), lengths, _backward(self.direction, d), step
            )
            every.append(hidden)
            lasts.append(last)
        return tuple(narrow(a, x.dtype) for a in pack_results(self.layout, every, lasts))

    def _step(self, functions: list[Activation], r: Array, bias: Array) -> Step:
        f, g = functions
        size = r.shape[0]
        gate, last = slice(0, 2 * size), slice(2 * size, None)

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            (h,) = states
            both = f(x[:, gate] + h @ r[:, gate] + bias[gate])
            update, reset = both[:, :size], both[:, size:]
            if self.linear_before_reset:
                inner = reset * (h @ r[:, last] + bias[last])
            else:
                inner = (reset * h) @ r[:, last] + bias[last]
            fresh = g(x[:, last] + inner)
            return ((1 - update) * fresh + update * h,)

        return step

    samples = (
        sample("f32[4,2,3]", "f32[1,15,3]", "f32[1,15,5]", "f32[1,30]", outputs=2, hidden_size=5),
        sample(
            "f32[4,2,3]", "f32[2,15,3]", "f32[2,15,5]", "f32[2,30]", np.array([3, 1], np.int32),
            "f32[2,2,5]", outputs=2, direction="bidirectional", linear_before_reset=1,
        ),
        sample(
            "f32[2,4,3]", "f32[1,15,3]", "f32[1,15,5]", outputs=2, direction="reverse", layout=1,
            activations=("HardSigmoid", "Softsign"), activation_alpha=(0.3,),
            activation_beta=(0.4,),
        ),
    )


@operator("LSTM")
class LSTM(Operator):
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

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, *_: TensorType | None
    ) -> tuple[TensorType, ...]:
        return infer_rnn(self, 4, x, w, r, 2)

    def reference(
        self, x: Array, w: Array, r: Array, bias: Array | None = None,
        lengths: Array | None = None, initial_h: Array | None = None,
        initial_c: Array | None = None, peepholes: Array | None = None,
    ) -> tuple[Array, ...]:
        values = widen(x.transpose(1, 0, 2) if self.layout else x)
        size, count = r.shape[2], directions(self.direction)
        shape = (count, values.shape[1], size)
        start_h, start_c = (
            widen(initial_state(s, self.layout, shape, x.dtype)) for s in (initial_h, initial_c)
        )
        every, lasts = [], []
        for d, functions in enumerate(activations(self, ("Sigmoid", "Tanh", "Tanh"))):
            w_bias, r_bias = _biases(bias, d, 4 * size, values.dtype)
            gates = values @ widen(w)[d].T + (w_bias + r_bias)
            peep = widen(peepholes)[d] if peepholes is not None else np.zeros(3 * size, x.dtype)
            step = self._step(functions, widen(r)[d].T, widen(peep))
            hidden, last = run_direction(
                gates, (start_h[d], start_c[d]), lengths, _backward(self.direction, d), step
            )
            every.append(hidden)
            lasts.append(last)
        return tuple(narrow(a, x.dtype) for a in pack_results(self.layout, every, lasts))

    def _step(self, functions: list[Activation], r: Array, peep: Array) -> Step:
        f, g, h = functions
        size = r.shape[0]
        peep_i, peep_o, peep_f = peep[:size], peep[size : 2 * size], peep[2 * size :]

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            hidden, cell = states
            i, o, forget, c = np.split(x + hidden @ r, 4, axis=1)
            i = f(i + peep_i * cell)
            forget = 1 - i if self.input_forget else f(forget + peep_f * cell)
            fresh = forget * cell + i * g(c)
            return f(o + peep_o * fresh) * h(fresh), fresh

        return step

    samples = (
        sample("f32[4,2,3]", "f32[1,20,3]", "f32[1,20,5]", "f32[1,40]", outputs=3, hidden_size=5),
        sample(
            "f32[4,2,3]", "f32[2,20,3]", "f32[2,20,5]", "f32[2,40]", np.array([3, 1], np.int32),
            "f32[2,2,5]", "f32[2,2,5]", "f32[2,15]", outputs=3, direction="bidirectional",
        ),
        sample(
            "f32[2,4,3]", "f32[1,20,3]", "f32[1,20,5]", outputs=3, direction="reverse", layout=1,
            input_forget=1, clip=0.8,
        ),
        sample("f16[3,1,2]", "f16[1,12,2]", "f16[1,12,3]", outputs=3),
    )
