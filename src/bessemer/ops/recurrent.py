"""Cells of recurrent layers: one time step as an operator of its own, with a tensor expression.

`expand-recurrent` turns LSTM, GRU and RNN into these. x holds what the inputs (and biases) add to
every gate, [.., gates * h]; the recurrent weights are [h, gates, h], so that one unit's gates are
neighbours. At the first step the states may be left out; they are zero. `live` [.., 1] says which
sequences are still running: the others keep their states, and their outputs are zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.rnn_functions import Activation, resolve
from bessemer.te import Expr, Tensor
from bessemer.te.expr import substitute

Row = tuple[Expr, ...]


def _functions(op: Any) -> tuple[Activation, ...]:
    """The activation functions of a cell."""
    return resolve(op.activations, op.activation_alpha, op.activation_beta, op.clip)


def _infer(
    x: TensorType,
    gates: int,
    r: TensorType,
    used: int | None = None,
    states: Sequence[TensorType | None] = (),
) -> TensorType:
    """The type of a new state. Raises: ShapeError if x, r or a state given does not fit."""
    check_floats(x, r, *states)
    if x.shape is None or r.shape is None:
        return x.with_shape(None)
    if r.rank != 3 or x.rank < 1:
        raise ShapeError(f"x {x} and r {r}: r must have rank 3")
    size = r.dims[2]
    same_dim("gates of r", r.dims[1], gates if used is None else used)
    same_dim("gates of x", x.dims[-1], gates * size)
    same_dim("hidden size of r", r.dims[0], size)
    made = x.with_shape((*x.dims[:-1], size))
    for state in states:
        if state is not None and state.shape is not None:
            if state.rank != made.rank:
                raise ShapeError(f"a state {state} for the new state {made}")
            for a, b in zip(state.dims, made.dims):
                same_dim("extents of a state", a, b)
    return made


def _recurrent(h: Array | None, r: Array) -> Array:
    """The product h r as [.., gates, h]; 0 without h."""
    if h is None:
        return np.zeros((), r.dtype)
    return (h @ r.reshape(r.shape[0], -1)).reshape(*h.shape[:-1], *r.shape[1:])


def _kept(live: Array | None, fresh: Array, old: Array | None) -> Array:
    """The new state: `fresh` where the sequence runs, `old` (or zero) elsewhere."""
    if live is None:
        return fresh
    return np.where(live, fresh, np.zeros((), fresh.dtype) if old is None else old)


def _product(h: Tensor, r: Tensor) -> Tensor:
    """The sums over k of h[.., k] * r[k, gate, unit], as [.., gates, units]."""
    k = te.reduce_axis(r.shape[0])
    return te.compute(
        h.dtype,
        (*h.shape[:-1], *r.shape[1:]),
        lambda *i: te.sum_(h[(*i[:-2], k)] * r[k, i[-2], i[-1]], k),
        "product",
    )


class _Gates:
    """Pre-activations of gates: x (from gate `first` on) plus the recurrent product."""

    def __init__(self, x: Tensor, h: Tensor | None, r: Tensor, first: int = 0) -> None:
        self.x, self.size, self.first = x, r.shape[2], first
        self.product = None if h is None else _product(h, r)

    def input(self, i: Row, gate: int) -> Expr:
        """What the input adds to a gate of element i."""
        size: Any = self.size
        return self.x[(*i[:-1], i[-1] + (self.first + gate) * size)]

    def state(self, i: Row, gate: int) -> Expr | None:
        """What the state adds, or None if it is zero."""
        return None if self.product is None else self.product[(*i[:-1], gate, i[-1])]

    def __call__(self, i: Row, gate: int) -> Expr:
        state = self.state(i, gate)
        return self.input(i, gate) if state is None else self.input(i, gate) + state


def _select(live: Tensor | None, i: Row, fresh: Expr, old: Tensor | None) -> Expr:
    """The new state of an element, as `_kept` says."""
    if live is None:
        return fresh
    running = live[(*i[:-1], 0)]
    return te.where(running, fresh, te.const(0, fresh.dtype) if old is None else old[i])


def _reading(tensor: Tensor, h: Tensor | None) -> Callable[[Row], Expr]:
    """How one output of a cell reads another: where it lies, or computed anew at the first step.

    There the outputs have loops of their own, in which nothing of the others is known.
    """

    def spelled_out(i: Row) -> Expr:
        assert tensor.body is not None
        return substitute(tensor.body, dict(zip(tensor.axes, i)))

    return spelled_out if h is None else lambda i: tensor[i]


def _shown(live: Tensor | None, new: Tensor, h: Tensor | None) -> Tensor:
    """The output: the new state where the sequence runs, zero elsewhere."""
    state = _reading(new, h)
    return te.compute(new.dtype, new.shape, lambda *i: _select(live, i, state(i), None), "shown")


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
        return (_infer(x, 4, r, states=rest[:2]),) * 3

    def reference(
        self,
        x: Array,
        r: Array,
        h: Array | None = None,
        c: Array | None = None,
        peepholes: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g, out = (function.array for function in _functions(self))
        gates = x.reshape(*x.shape[:-1], 4, r.shape[2]) + _recurrent(h, r)
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
        return _kept(live, shown, h), _kept(live, fresh, c), _kept(live, shown, None)

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
        f, g, out = (function.scalar for function in _functions(self))
        gates = _Gates(x, h, r)
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
            return _select(live, i, fresh, c)

        new_c = te.compute(x.dtype, shape, cell, "cell")
        state = _reading(new_c, h)
        new_h = te.compute(
            x.dtype,
            shape,
            lambda *i: _select(live, i, f(peep(gates(i, 1), i, 1, state(i))) * out(state(i)), h),
            "hidden",
        )
        return new_h, new_c, _shown(live, new_h, h)

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


@operator("bessemer.GRUCell")
class GRUCell(Operator):
    """One step of a gated recurrent unit whose reset gate comes after the linear form.

    Gates in the order update, reset, hidden; `bias` is what the state adds to the hidden gate.
    Shapes: x [.., 3 h], r [h, 3, h], h [.., h], bias [h], live [.., 1] -> h, output [.., h].
    Source: ONNX GRU-22 with linear_before_reset.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Sigmoid", "Tanh")
    clip: float = 0.0

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, r: TensorType, *rest: TensorType | None
    ) -> tuple[TensorType, ...]:
        check_floats(x, *rest[1:2])
        return (_infer(x, 3, r, states=rest[:1]),) * 2

    def reference(
        self,
        x: Array,
        r: Array,
        h: Array | None = None,
        bias: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g = (function.array for function in _functions(self))
        size = r.shape[2]
        product = np.broadcast_to(_recurrent(h, r), (*x.shape[:-1], 3, size))
        given = x.reshape(*x.shape[:-1], 3, size)
        update = f(given[..., 0, :] + product[..., 0, :])
        reset = f(given[..., 1, :] + product[..., 1, :])
        inner = product[..., 2, :] if bias is None else product[..., 2, :] + bias
        fresh = (1 - update) * g(given[..., 2, :] + reset * inner)
        fresh = fresh if h is None else fresh + update * h
        return _kept(live, fresh, h), _kept(live, fresh, None)

    def lower(
        self,
        x: Tensor,
        r: Tensor,
        h: Tensor | None = None,
        bias: Tensor | None = None,
        live: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        f, g = (function.scalar for function in _functions(self))
        gates = _Gates(x, h, r)

        def hidden(*i: Expr) -> Expr:
            update, inner = f(gates(i, 0)), gates.state(i, 2)
            if bias is not None:
                inner = bias[i[-1]] if inner is None else inner + bias[i[-1]]
            given = gates.input(i, 2)
            fresh = (1.0 - update) * g(given if inner is None else given + f(gates(i, 1)) * inner)
            return _select(live, i, fresh if h is None else fresh + update * h[i], h)

        new_h = te.compute(x.dtype, (*x.shape[:-1], r.shape[2]), hidden, "hidden")
        return new_h, _shown(live, new_h, h)

    samples = (
        sample("f32[1,2,15]", "f32[5,3,5]", "f32[1,2,5]", "f32[5]"),
        sample(
            "f32[3,96]",
            "f32[32,3,32]",
            "f32[3,32]",
            None,
            np.array([[True], [False], [True]]),
            outputs=2,
        ),
        sample(
            "f32[2,9]",
            "f32[3,3,3]",
            None,
            "f32[3]",
            clip=0.5,
            activations=("Affine", "Softsign"),
            activation_alpha=(0.3,),
        ),
    )


@operator("bessemer.GRUGates")
class GRUGates(Operator):
    """The first half of a step of a gated recurrent unit that resets before the linear form.

    Shapes: x [.., 3 h], r [h, 2, h] (update, reset), h [.., h] -> update and reset * h [.., h].
    Source: ONNX GRU-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Sigmoid",)
    clip: float = 0.0

    fusion = FusionClass.COMPLEX_OUT

    def infer(self, x: TensorType, r: TensorType, h: TensorType) -> tuple[TensorType, ...]:
        return (_infer(x, 3, r, 2, (h,)),) * 2

    def reference(self, x: Array, r: Array, h: Array) -> tuple[Array, ...]:
        given = x.reshape(*x.shape[:-1], 3, r.shape[2])[..., :2, :]
        both = _functions(self)[0].array(given + _recurrent(h, r))
        return both[..., 0, :], both[..., 1, :] * h

    def lower(self, x: Tensor, r: Tensor, h: Tensor, **_: Any) -> tuple[Tensor, ...]:
        f, gates = _functions(self)[0].scalar, _Gates(x, h, r)
        shape = (*x.shape[:-1], r.shape[2])
        update = te.compute(x.dtype, shape, lambda *i: f(gates(i, 0)), "update")
        reset = te.compute(x.dtype, shape, lambda *i: f(gates(i, 1)) * h[i], "reset")
        return update, reset

    samples = (
        sample("f32[1,2,15]", "f32[5,2,5]", "f32[1,2,5]", outputs=2),
        sample("f32[9,96]", "f32[32,2,32]", "f32[9,32]", outputs=2),
    )


@operator("bessemer.GRUState")
class GRUState(Operator):
    """The second half of a step of a gated recurrent unit that resets before the linear form.

    Without `update`, `reset` (reset * h) and h it is the whole first step, from a zero state.
    Shapes: x [.., 3 h], r [h, 1, h], update, reset and h [.., h], live [.., 1] -> h, output
    [.., h].
    Source: ONNX GRU-22.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Sigmoid", "Tanh")
    clip: float = 0.0

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, r: TensorType, *states: TensorType | None
    ) -> tuple[TensorType, ...]:
        return (_infer(x, 3, r, 1, states[:3]),) * 2

    def reference(
        self,
        x: Array,
        r: Array,
        update: Array | None = None,
        reset: Array | None = None,
        h: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g = (function.array for function in _functions(self))
        given = x.reshape(*x.shape[:-1], 3, r.shape[2])
        if h is None or update is None or reset is None:
            fresh = (1 - f(given[..., 0, :])) * g(given[..., 2, :])
        else:
            inner = g(given[..., 2, :] + _recurrent(reset, r)[..., 0, :])
            fresh = (1 - update) * inner + update * h
        return _kept(live, fresh, h), _kept(live, fresh, None)

    def lower(
        self,
        x: Tensor,
        r: Tensor,
        update: Tensor | None = None,
        reset: Tensor | None = None,
        h: Tensor | None = None,
        live: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        f, g = (function.scalar for function in _functions(self))
        gates = _Gates(x, reset, r, 2)

        def hidden(*i: Expr) -> Expr:
            if h is None or update is None:
                fresh = (1.0 - f(gates.input(i, -2))) * g(gates(i, 0))
            else:
                fresh = (1.0 - update[i]) * g(gates(i, 0)) + update[i] * h[i]
            return _select(live, i, fresh, h)

        new_h = te.compute(x.dtype, (*x.shape[:-1], r.shape[2]), hidden, "hidden")
        return new_h, _shown(live, new_h, h)

    samples = (
        sample("f32[1,2,15]", "f32[5,1,5]", "f32[1,2,5]", "f32[1,2,5]", "f32[1,2,5]"),
        sample(
            "f32[3,96]",
            "f32[32,1,32]",
            "f32[3,32]",
            "f32[3,32]",
            "f32[3,32]",
            np.array([[True], [False], [True]]),
            outputs=2,
        ),
        sample("f32[3,12]", "f32[4,1,4]"),
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
        return (_infer(x, 1, r, states=rest[:1]),) * 2

    def reference(
        self, x: Array, r: Array, h: Array | None = None, live: Array | None = None
    ) -> tuple[Array, ...]:
        given = x.reshape(*x.shape[:-1], 1, r.shape[2])
        fresh = _functions(self)[0].array(given + _recurrent(h, r))[..., 0, :]
        return _kept(live, fresh, h), _kept(live, fresh, None)

    def lower(
        self, x: Tensor, r: Tensor, h: Tensor | None = None, live: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, ...]:
        f, gates = _functions(self)[0].scalar, _Gates(x, h, r)
        new_h = te.compute(
            x.dtype, x.shape, lambda *i: _select(live, i, f(gates(i, 0)), h), "hidden"
        )
        return new_h, _shown(live, new_h, h)

    samples = (
        sample("f32[1,2,5]", "f32[5,1,5]", "f32[1,2,5]"),
        sample(
            "f32[3,32]", "f32[32,1,32]", "f32[3,32]", np.array([[True], [False], [True]]), outputs=2
        ),
        sample("f32[2,4]", "f32[4,1,4]", activations=("Softplus",)),
    )
