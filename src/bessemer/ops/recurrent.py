"""Cells of recurrent layers: one time step as an operator of its own, with a tensor expression.

`expand-recurrent` turns LSTM, GRU and RNN into these. x holds what the inputs (and biases) add to
every gate, [.., gates * h]; the recurrent weights are [h, gates, h], so that one unit's gates are
neighbours. At the first step the states may be left out; they are zero. `live` [.., 1] says which
sequences are still running: the others keep their states, and their outputs are zero.
"""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.cell import (
    Gates,
    Row,
    functions_of,
    infer_state,
    kept,
    reading,
    recurrent_product,
    select,
    shown,
)
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor


@operator("bessemer.LSTMCell")
class LSTMCell(Operator):
    """One step of a long short-term memory; gates in the order input, output, forget, cell.

    Shapes: x [.., 4 h], r [h, 4, h], h and c [.., h], peepholes [3 h], live [.., 1] -> h, c and
    output, all [.., h].
    Source: ONNX LSTM-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Sigmoid", "Tanh", "Tanh")
    clip: float = 0.0
    input_forget: int = 0

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, r: TensorType, *rest: TensorType | None
    ) -> tuple[TensorType, ...]:
        check_floats(x, *rest[2:3])
        return (infer_state(x, 4, r, states=rest[:2]),) * 3

    def reference(
        self,
        x: Array,
        r: Array,
        h: Array | None = None,
        c: Array | None = None,
        peepholes: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g, out = (function.array for function in functions_of(self))
        gates = x.reshape(*x.shape[:-1], 4, r.shape[2]) + recurrent_product(h, r)
        cell = np.zeros((), x.dtype) if c is None else c
        ways = None if peepholes is None else np.split(peepholes, 3)

        def gate(index: int, state: Array) -> Array:
            """What enters a gate; without peepholes an infinite state must not meet a zero."""
            entering: Array = gates[..., index, :]
            return entering if ways is None else entering + ways[index] * state

        i = f(gate(0, cell))
        forget = 1 - i if self.input_forget else f(gate(2, cell))
        fresh = forget * cell + i * g(gates[..., 3, :])
        shown = f(gate(1, fresh)) * out(fresh)
        return kept(live, shown, h), kept(live, fresh, c), kept(live, shown, None)

    def lower(
        self,
        x: Tensor,
        r: Tensor,
        h: Tensor | None = None,
        c: Tensor | None = None,
        peepholes: Tensor | None = None,
        live: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        f, g, out = (function.scalar for function in functions_of(self))
        gates = Gates(x, h, r)
        size: Any = r.shape[2]
        shape = (*x.shape[:-1], size)

        def peep(value: Expr, i: Row, gate: int, state: Expr) -> Expr:
            return value if peepholes is None else value + peepholes[i[-1] + gate * size] * state

        def cell(*i: Expr) -> Expr:
            if c is None:
                fresh = f(gates(i, 0)) * g(gates(i, 3))
            else:
                take = f(peep(gates(i, 0), i, 0, c[i]))
                keep = 1.0 - take if self.input_forget else f(peep(gates(i, 2), i, 2, c[i]))
                fresh = keep * c[i] + take * g(gates(i, 3))
            return select(live, i, fresh, c)

        new_c = te.compute(x.dtype, shape, cell, "cell")
        state = reading(new_c, h)
        new_h = te.compute(
            x.dtype,
            shape,
            lambda *i: select(live, i, f(peep(gates(i, 1), i, 1, state(i))) * out(state(i)), h),
            "hidden",
        )
        return new_h, new_c, shown(live, new_h, h)

    samples = (
        sample("f32[1,2,20]", "f32[5,4,5]", "f32[1,2,5]", "f32[1,2,5]", outputs=2),
        sample(
            "f32[1,3,64]",
            "f32[16,4,16]",
            "f32[1,3,16]",
            "f32[1,3,16]",
            "f32[48]",
            np.array([[[True], [False], [True]]]),
            outputs=3,
        ),
        sample(
            "f32[7,160]",
            "f32[40,4,40]",
            "f32[7,40]",
            "f32[7,40]",
            outputs=2,
            input_forget=1,
            clip=0.9,
            activations=("HardSigmoid", "ScaledTanh", "Elu"),
            activation_alpha=(0.3, 1.5, 0.5),
            activation_beta=(0.4, 0.7),
        ),
        sample("f32[2,12]", "f32[3,4,3]", outputs=2),
        sample(
            "f32[128]",
            np.linspace(-1, 1, 32 * 4 * 32, dtype=np.float32).reshape(32, 4, 32),
            "f32[32]",
            "f32[32]",
            outputs=2,
        ),
        sample("f64[2,20]", "f64[5,4,5]", "f64[2,5]", "f64[2,5]", outputs=2),
    )


@operator("bessemer.RNNCell")
class RNNCell(Operator):
    """One step of a simple recurrent layer: f(x + h r).

    Shapes: x [.., h], r [h, 1, h], h [.., h], live [.., 1] -> h, output [.., h].
    Source: ONNX RNN-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Tanh",)
    clip: float = 0.0

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, r: TensorType, *rest: TensorType | None
    ) -> tuple[TensorType, ...]:
        return (infer_state(x, 1, r, states=rest[:1]),) * 2

    def reference(
        self, x: Array, r: Array, h: Array | None = None, live: Array | None = None
    ) -> tuple[Array, ...]:
        given = x.reshape(*x.shape[:-1], 1, r.shape[2])
        fresh = functions_of(self)[0].array(given + recurrent_product(h, r))[..., 0, :]
        return kept(live, fresh, h), kept(live, fresh, None)

    def lower(
        self, x: Tensor, r: Tensor, h: Tensor | None = None, live: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, ...]:
        f, gates = functions_of(self)[0].scalar, Gates(x, h, r)
        new_h = te.compute(
            x.dtype, x.shape, lambda *i: select(live, i, f(gates(i, 0)), h), "hidden"
        )
        return new_h, shown(live, new_h, h)

    samples = (
        sample("f32[1,2,5]", "f32[5,1,5]", "f32[1,2,5]"),
        sample(
            "f32[3,32]", "f32[32,1,32]", "f32[3,32]", np.array([[True], [False], [True]]), outputs=2
        ),
        sample("f32[2,4]", "f32[4,1,4]", activations=("Softplus",)),
    )
