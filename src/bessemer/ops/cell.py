"""What the cells of recurrent layers share: their types, the recurrent product, gates, lengths."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.rnn_functions import Activation, resolve
from bessemer.te import Expr, Tensor
from bessemer.te.walk import substitute

Row = tuple[Expr, ...]


def functions_of(op: Any) -> tuple[Activation, ...]:
    """The activation functions of a cell."""
    return resolve(op.activations, op.activation_alpha, op.activation_beta, op.clip)


def infer_state(
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


def recurrent_product(h: Array | None, r: Array) -> Array:
    """The product h r as [.., gates, h]; 0 without h."""
    if h is None:
        return np.zeros((), r.dtype)
    return (h @ r.reshape(r.shape[0], -1)).reshape(*h.shape[:-1], *r.shape[1:])


def kept(live: Array | None, fresh: Array, old: Array | None) -> Array:
    """The new state: `fresh` where the sequence runs, `old` (or zero) elsewhere."""
    if live is None:
        return fresh
    return np.where(live, fresh, np.zeros((), fresh.dtype) if old is None else old)


def product_over(h: Tensor, r: Tensor) -> Tensor:
    """The sums over k of h[.., k] * r[k, gate, unit], as [.., gates, units]."""
    k = te.reduce_axis(r.shape[0])
    return te.compute(
        h.dtype,
        (*h.shape[:-1], *r.shape[1:]),
        lambda *i: te.sum_(h[(*i[:-2], k)] * r[k, i[-2], i[-1]], k),
        "product",
    )


class Gates:
    """Pre-activations of gates: x (from gate `first` on) plus the recurrent product."""

    def __init__(self, x: Tensor, h: Tensor | None, r: Tensor, first: int = 0) -> None:
        self.x, self.size, self.first = x, r.shape[2], first
        self.product = None if h is None else product_over(h, r)

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


def select(live: Tensor | None, i: Row, fresh: Expr, old: Tensor | None) -> Expr:
    """The new state of an element, as `kept` says."""
    if live is None:
        return fresh
    running = live[(*i[:-1], 0)]
    return te.where(running, fresh, te.const(0, fresh.dtype) if old is None else old[i])


def reading(tensor: Tensor, h: Tensor | None) -> Callable[[Row], Expr]:
    """How one output of a cell reads another: where it lies, or computed anew at the first step.

    There the outputs have loops of their own, in which nothing of the others is known.
    """

    def spelled_out(i: Row) -> Expr:
        assert tensor.body is not None
        return substitute(tensor.body, dict(zip(tensor.axes, i)))

    return spelled_out if h is None else lambda i: tensor[i]


def shown(live: Tensor | None, new: Tensor, h: Tensor | None) -> Tensor:
    """The output: the new state where the sequence runs, zero elsewhere."""
    state = reading(new, h)
    return te.compute(new.dtype, new.shape, lambda *i: select(live, i, state(i), None), "shown")
