"""Recurrent layers as their time steps: one product with all inputs, then a cell for each step.

The steps are made by applying operators, so the same lines are the numpy reference (`on_arrays`)
and the rewriting of a graph (the pass `expand-recurrent`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bessemer.core.dtypes import DType
from bessemer.core.shapes import Dim
from bessemer.ir.operator import Operator, operator_class, outputs_of
from bessemer.ops.accumulate import wide

Apply = Callable[[Operator, Sequence[Any], int], tuple[Any, ...]]
"""Applies an operator to operands (numpy arrays among them are constants): so many results."""


class Cell(Protocol):
    """What a recurrent operator says of itself; `direction` counts from 0."""

    def is_backward(self, direction: int) -> bool:
        """True if that direction starts at the end."""

    def weights(
        self, unroll: "Unroll", direction: int, r: Any, bias: Any, extra: Sequence[Any]
    ) -> tuple[Any, Any]:
        """The bias that the inputs get, and what `step` needs besides."""

    def step(
        self,
        unroll: "Unroll",
        direction: int,
        weights: Any,
        x: Any,
        states: tuple[Any, ...],
        live: Any,
    ) -> tuple[tuple[Any, ...], Any]:
        """The new states (the hidden one first) and the output of one step."""


@dataclass(frozen=True)
class Extents:
    """Extents of a layer, and its element type; the number of steps may be symbolic."""

    length: Dim
    directions: int
    hidden: int
    dtype: DType


@dataclass(frozen=True)
class Unroll:
    """One layer to be unrolled. `layout` 1 puts the batch before the time."""

    apply: Apply
    extents: Extents
    layout: int

    # -- small operators --------------------------------------------------------------------------

    def op(self, name: str, *operands: Any, **attributes: Any) -> Any:
        """The only result of an operator."""
        return self.apply(operator_class(name)(**attributes), operands, 1)[0]

    def slice(self, x: Any, axis: int, start: int, end: int) -> Any:
        """Elements start .. end - 1 along an axis."""
        return self.op("Slice", x, _ints(start), _ints(end), _ints(axis))

    def pieces(self, x: Any, axis: int, count: int) -> tuple[Any, ...]:
        """The `count` elements along an axis, one by one."""
        if count == 1:
            return (x,)
        attributes: dict[str, Any] = {"axis": axis, "num_outputs": count}
        return self.apply(operator_class("Split")(**attributes), (x,), count)

    def joined(self, xs: Sequence[Any], axis: int) -> Any:
        """The tensors one behind the other."""
        return xs[0] if len(xs) == 1 else self.op("Concat", *xs, axis=axis)

    def row(self, x: Any, direction: int) -> Any:
        """Element `direction` of the first axis."""
        return self.op("Squeeze", self.slice(x, 0, direction, direction + 1), _ints(0))

    def widened(self, x: Any) -> Any:
        """The tensor in the type in which sums are formed."""
        dtype = wide(self.extents.dtype)
        if x is None or dtype == self.extents.dtype:
            return x
        return self.op("Cast", x, to=dtype.name)

    def matrices(self, r: Any, gates: int) -> Any:
        """Recurrent weights [gates h, h] as cells take them: [h, gates, h]."""
        size = self.extents.hidden
        cut = self.op("Reshape", r, _ints(gates, size, size))
        return self.op("Transpose", cut, perm=(2, 0, 1))

    # -- the layer --------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """The number of steps, which must be known."""
        assert isinstance(self.extents.length, int), self.extents
        return self.extents.length

    @property
    def time(self) -> int:
        """The axis of time; with one of directions, gates are [t, 1, b, g] or [b, t, 1, g]."""
        return 1 if self.layout else 0

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
        """All outputs of the layer: y and the last states.

        `initial` has one value (or None) for each state, `extra` what else `weights` needs.
        """
        count, length = self.extents.directions, self.length
        x, w, r, bias = (self.widened(operand) for operand in (x, w, r, bias))
        starts = [self._directions(self.widened(state)) for state in initial]
        live = (None,) * length if lengths is None else self._live(lengths)
        outputs: list[Any] = [None] * (count * length)
        lasts = []
        for d in range(count):
            own = None if bias is None else self.row(bias, d)
            added, weights = cell.weights(self, d, self.row(r, d), own, extra)
            gates = self.op("MatMul", x, self.op("Transpose", self.row(w, d), perm=(1, 0)))
            if added is not None:
                gates = self.op("Add", gates, added)
            gates = self.op("Unsqueeze", gates, _ints(self.time + 1))
            steps = self.pieces(gates, self.time, length)
            states = tuple(start[d] for start in starts)
            for t in reversed(range(length)) if cell.is_backward(d) else range(length):
                states, shown = cell.step(self, d, weights, steps[t], states, live[t])
                outputs[t * count + d] = shown
            lasts.append(states)
        return (self._every(outputs), *(self._last(column) for column in zip(*lasts)))

    def _directions(self, state: Any) -> tuple[Any, ...]:
        """The initial state of each direction, with an axis of time put in; None where zero."""
        count = self.extents.directions
        if state is None:
            return (None,) * count
        return self.pieces(self.op("Unsqueeze", state, _ints(self.time)), self.time + 1, count)

    def _live(self, lengths: Any) -> tuple[Any, ...]:
        """For each step, which sequences are still running: [1, 1, b, 1] or [b, 1, 1, 1]."""
        shape = [1, 1, 1, 1]
        shape[self.time] = -1
        steps = np.arange(self.length, dtype=np.int32).reshape(shape)
        others = (1, 2, 3) if self.layout else (0, 1, 3)
        short = self.op("Less", steps, self.op("Unsqueeze", lengths, _ints(*others)))
        return self.pieces(short, self.time, self.length)

    def _every(self, outputs: Sequence[Any]) -> Any:
        """The outputs of all steps and directions, as [t, d, b, h] or [b, t, d, h]."""
        extents = self.extents
        y = self.joined(outputs, self.time)
        if extents.directions > 1:
            pair = (self.length, extents.directions)
            shape = (0, *pair, extents.hidden) if self.layout else (*pair, 0, extents.hidden)
            y = self.op("Reshape", y, _ints(*shape))
        return self._narrowed(y)

    def _last(self, states: Sequence[Any]) -> Any:
        """The last state of all directions, as [d, b, h] or [b, d, h]."""
        both = self.joined(states, self.time + 1)
        return self._narrowed(self.op("Squeeze", both, _ints(self.time)))

    def _narrowed(self, x: Any) -> Any:
        dtype = self.extents.dtype
        return x if wide(dtype) == dtype else self.op("Cast", x, to=dtype.name)


def on_arrays(op: Operator, operands: Sequence[Any], count: int) -> tuple[Any, ...]:
    """Applies an operator to numpy arrays, by its reference."""
    with np.errstate(all="ignore"):
        return outputs_of(op.reference(*operands))[:count]


def _ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)
