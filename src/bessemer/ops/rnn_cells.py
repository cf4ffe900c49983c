"""What the recurrent operators share: activations, directions, layouts, sequence lengths."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.types import TensorType
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array

Activation = Callable[[Array], Array]
Step = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]
"""One time step: input [batch, gates] and states -> new states, the hidden one first."""

# Name -> (function of x, alpha, beta; default alpha; default beta).
_ACTIVATIONS: dict[str, tuple[Callable[[Array, float, float], Array], float, float]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), 0.0, 0.0),
    "tanh": (lambda x, a, b: np.tanh(x), 0.0, 0.0),
    "sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), 0.0, 0.0),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0, 0.0),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0.0, 0.0),
    "softplus": (lambda x, a, b: np.logaddexp(x, 0), 0.0, 0.0),
}


def directions(direction: str) -> int:
    """1 or 2. Raises ShapeError for an unknown direction."""
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ShapeError(f"direction is {direction!r}; forward, reverse or bidirectional expected")
    return 2 if direction == "bidirectional" else 1


def activations(op: Any, defaults: Sequence[str]) -> list[list[Activation]]:
    """The activation functions of each direction, with their parameters and the clip bound.

    Raises: ShapeError if there are too few or one is unknown.
    """
    count = directions(op.direction)
    names = op.activations or tuple(defaults) * count
    if len(names) < count * len(defaults):
        raise ShapeError(f"{len(names)} activations; {count * len(defaults)} expected")
    alphas, betas = list(op.activation_alpha), list(op.activation_beta)
    made: list[Activation] = []
    for name in names[: count * len(defaults)]:
        found = _ACTIVATIONS.get(name.lower())
        if found is None:
            raise ShapeError(f"activation {name!r} is not one of {', '.join(_ACTIVATIONS)}")
        function, alpha, beta = found
        # Parameters are consumed in order by the functions that have any.
        if alpha and alphas:
            alpha = alphas.pop(0)
        if name.lower() in ("affine", "scaledtanh", "hardsigmoid") and betas:
            beta = betas.pop(0)
        made.append(_bind(function, alpha, beta, op.clip))
    size = len(defaults)
    return [made[k * size : (k + 1) * size] for k in range(count)]


def _bind(
    function: Callable[[Array, float, float], Array], alpha: float, beta: float, clip: float
) -> Activation:
    def apply(x: Array) -> Array:
        bounded = np.clip(x, -clip, clip) if clip > 0 else x
        with np.errstate(over="ignore"):
            return np.asarray(function(bounded, alpha, beta), x.dtype)

    return apply


def infer_rnn(
    op: Any, gates: int, x: TensorType, w: TensorType, r: TensorType, states: int
) -> tuple[TensorType, ...]:
    """Types of all hidden states and of the last ones (`states` of them).

    Raises: ShapeError if ranks or extents do not fit.
    """
    if x.shape is None or r.shape is None:
        return (x.with_shape(None),) * (1 + states)
    if x.rank != 3 or r.rank != 3:
        raise ShapeError(f"x and r have ranks {x.rank} and {r.rank}; 3 expected")
    hidden: Dim = op.hidden_size or r.dims[2]
    count = directions(op.direction)
    same_dim("directions of r", r.dims[0], count)
    same_dim("gates of r", r.dims[1], gates * hidden)
    same_dim("hidden size of r", r.dims[2], hidden)
    if w.shape is not None:
        same_dim("input sizes of x and w", x.dims[2], w.dims[2])
        same_dim("gates of w", w.dims[1], gates * hidden)
    if op.layout:
        batch, length = x.dims[:2]
        every = x.with_shape((batch, length, count, hidden))
        return (every, *(x.with_shape((batch, count, hidden)),) * states)
    length, batch = x.dims[:2]
    every = x.with_shape((length, count, batch, hidden))
    return (every, *(x.with_shape((count, batch, hidden)),) * states)


def run_direction(
    x: Array, initial: tuple[Array, ...], lengths: Array | None, backward: bool, step: Step
) -> tuple[Array, tuple[Array, ...]]:
    """Runs x [length, batch, gates] through `step`; outputs beyond a sequence's end are zero.

    Results: hidden states [length, batch, hidden] and the last states.
    """
    length, batch = x.shape[:2]
    ends = lengths if lengths is not None else np.full(batch, length)
    every = np.zeros((length, batch, initial[0].shape[-1]), initial[0].dtype)
    states = initial
    for t in reversed(range(length)) if backward else range(length):
        fresh = step(x[t], states)
        live = (t < ends)[:, None]
        states = tuple(np.where(live, n, o) for n, o in zip(fresh, states, strict=True))
        every[t] = np.where(live, fresh[0], 0)
    return every, states


def initial_state(state: Array | None, layout: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """The initial state as [directions, batch, hidden]; zeros if it is not given."""
    if state is None:
        return np.zeros(shape, dtype)
    return state.transpose(1, 0, 2) if layout else state


def pack_results(
    layout: int, every: list[Array], lasts: list[tuple[Array, ...]]
) -> tuple[Array, ...]:
    """Joins the directions and puts the axes into the asked order."""
    y = np.stack(every, axis=1)
    states = [np.stack(column) for column in zip(*lasts, strict=True)]
    if not layout:
        return (y, *states)
    return (y.transpose(2, 0, 1, 3), *(state.transpose(1, 0, 2) for state in states))
