"""Cells of gated recurrent units; `recurrent` says how cells take their inputs."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.cell import (
    Gates,
    functions_of,
    infer_state,
    kept,
    recurrent_product,
    select,
    shown,
)
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor


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
        return (infer_state(x, 3, r, states=rest[:1]),) * 2

    def reference(
        self,
        x: Array,
        r: Array,
        h: Array | None = None,
        bias: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g = (function.array for function in functions_of(self))
        size = r.shape[2]
        product = np.broadcast_to(recurrent_product(h, r), (*x.shape[:-1], 3, size))
        given = x.reshape(*x.shape[:-1], 3, size)
        update = f(given[..., 0, :] + product[..., 0, :])
        reset = f(given[..., 1, :] + product[..., 1, :])
        inner = product[..., 2, :] if bias is None else product[..., 2, :] + bias
        fresh = (1 - update) * g(given[..., 2, :] + reset * inner)
        fresh = fresh if h is None else fresh + update * h
        return kept(live, fresh, h), kept(live, fresh, None)

    def lower(
        self,
        x: Tensor,
        r: Tensor,
        h: Tensor | None = None,
        bias: Tensor | None = None,
        live: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        f, g = (function.scalar for function in functions_of(self))
        gates = Gates(x, h, r)

        def hidden(*i: Expr) -> Expr:
            update, inner = f(gates(i, 0)), gates.state(i, 2)
            if bias is not None:
                inner = bias[i[-1]] if inner is None else inner + bias[i[-1]]
            given = gates.input(i, 2)
            fresh = (1.0 - update) * g(given if inner is None else given + f(gates(i, 1)) * inner)
            return select(live, i, fresh if h is None else fresh + update * h[i], h)

        new_h = te.compute(x.dtype, (*x.shape[:-1], r.shape[2]), hidden, "hidden")
        return new_h, shown(live, new_h, h)

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
        return (infer_state(x, 3, r, 2, (h,)),) * 2

    def reference(self, x: Array, r: Array, h: Array) -> tuple[Array, ...]:
        given = x.reshape(*x.shape[:-1], 3, r.shape[2])[..., :2, :]
        both = functions_of(self)[0].array(given + recurrent_product(h, r))
        return both[..., 0, :], both[..., 1, :] * h

    def lower(self, x: Tensor, r: Tensor, h: Tensor, **_: Any) -> tuple[Tensor, ...]:
        f, gates = functions_of(self)[0].scalar, Gates(x, h, r)
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
        return (infer_state(x, 3, r, 1, states[:3]),) * 2

    def reference(
        self,
        x: Array,
        r: Array,
        update: Array | None = None,
        reset: Array | None = None,
        h: Array | None = None,
        live: Array | None = None,
    ) -> tuple[Array, ...]:
        f, g = (function.array for function in functions_of(self))
        given = x.reshape(*x.shape[:-1], 3, r.shape[2])
        if h is None or update is None or reset is None:
            fresh = (1 - f(given[..., 0, :])) * g(given[..., 2, :])
        else:
            inner = g(given[..., 2, :] + recurrent_product(reset, r)[..., 0, :])
            fresh = (1 - update) * inner + update * h
        return kept(live, fresh, h), kept(live, fresh, None)

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
        f, g = (function.scalar for function in functions_of(self))
        gates = Gates(x, reset, r, 2)

        def hidden(*i: Expr) -> Expr:
            if h is None or update is None:
                fresh = (1.0 - f(gates.input(i, -2))) * g(gates(i, 0))
            else:
                fresh = (1.0 - update[i]) * g(gates(i, 0)) + update[i] * h[i]
            return select(live, i, fresh, h)

        new_h = te.compute(x.dtype, (*x.shape[:-1], r.shape[2]), hidden, "hidden")
        return new_h, shown(live, new_h, h)

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
