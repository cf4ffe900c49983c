"""DynamicQuantizeLSTM: an LSTM whose products are of quantised matrices. It runs on the host."""

from dataclasses import replace
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32, i8, u8
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array
from bessemer.ops.quantize import DynamicQuantizeLinear
from bessemer.ops.rnn_functions import Activation, resolve


def quantized_product(a: Array, b: Array, scale: Array, zero: Array) -> Array:
    """A [m, k], quantised by its own range, times (b - zero) * scale [k, n]; f32 [m, n]."""
    steps, own_scale, own_zero = DynamicQuantizeLinear().reference(a)
    left = steps.astype(np.float64) - float(own_zero)
    total = left @ (b.astype(np.float64) - zero.astype(np.float64))
    return np.asarray(total.astype(np.float32) * (own_scale * scale), np.float32)


@operator("com.microsoft.DynamicQuantizeLSTM")
class DynamicQuantizeLSTM(Operator):
    """LSTM with weights of 8 bits; inputs and states are quantised by their own range.

    Shapes: x [t, b, i], w [d, i, 4 h], r [d, h, 4 h], bias [d, 8 h], lengths [b], initial h and c
    [d, b, h], peepholes [d, 3 h], scales and zero points of w and r [d] or [d, 4 h]
    -> y [t, d, b, h], last h and c [d, b, h]. Gates in the order input, output, forget, cell.
    Source: ONNX Runtime's com.microsoft DynamicQuantizeLSTM-1.
    """

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float = 0.0
    direction: str = "forward"
    hidden_size: int = 0
    input_forget: int = 0

    def _directions(self) -> int:
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise ShapeError(
                f"direction is {self.direction!r}; forward, reverse or bidirectional expected"
            )
        return 2 if self.direction == "bidirectional" else 1

    def _functions(self, direction: int) -> tuple[Activation, ...]:
        names = self.activations or ("Sigmoid", "Tanh", "Tanh") * self._directions()
        if len(names) != 3 * self._directions():
            raise ShapeError(f"{len(names)} activations; {3 * self._directions()} expected")
        found = resolve(names, self.activation_alpha, self.activation_beta, self.clip)
        return found[3 * direction : 3 * direction + 3]

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, *others: TensorType | None
    ) -> tuple[TensorType, TensorType, TensorType]:
        if len(others) != 9 or None in others[5:]:
            raise ShapeError("scales and zero points of w and r are required (inputs 8 to 11)")
        for real in (x, others[0], *others[2:6], others[7]):
            if real is not None and real.dtype != f32:
                raise ShapeError(f"DynamicQuantizeLSTM takes f32, not {real}")
        for quantised in (w, r, others[6], others[8]):
            if quantised is not None and quantised.dtype not in (i8, u8):
                raise ShapeError(f"DynamicQuantizeLSTM takes weights i8 or u8, not {quantised}")
        self._functions(0)
        count = self._directions()
        if x.shape is None or r.shape is None:
            unknown = x.with_shape(None)
            return unknown, unknown, unknown
        if x.rank != 3 or r.rank != 3:
            raise ShapeError(f"x and r have ranks {x.rank} and {r.rank}; 3 expected")
        length, batch, _size = x.dims
        hidden = r.dims[1]
        same_dim("directions of r", r.dims[0], count)
        same_dim("gates of r", r.dims[2], 4 * hidden)
        if w.shape is not None:
            same_dim("input sizes of x and w", x.dims[2], w.dims[1])
        last = x.with_shape((count, batch, hidden))
        return x.with_shape((length, count, batch, hidden)), last, last

    def reference(
        self, x: Array, w: Array, r: Array, bias: Array | None, lengths: Array | None,
        first_h: Array | None, first_c: Array | None, peepholes: Array | None, w_scale: Array,
        w_zero: Array, r_scale: Array, r_zero: Array,
    ) -> tuple[Array, Array, Array]:
        (length, batch, _), hidden, count = x.shape, r.shape[1], self._directions()
        y = np.zeros((length, count, batch, hidden), np.float32)
        states = [
            np.zeros((count, batch, hidden), np.float32) if state is None else state.copy()
            for state in (first_h, first_c)
        ]
        ends = np.full(batch, length) if lengths is None else lengths
        longest = int(ends.max(initial=0))
        rows = x[:longest].reshape(longest * batch, -1)  # what lies behind all ends has no say
        for d in range(count):
            own = quantized_product(rows, w[d], w_scale[d], w_zero[d])
            if bias is not None:
                own = own + bias[d, : 4 * hidden] + bias[d, 4 * hidden :]
            own = own.reshape(longest, batch, 4 * hidden)
            weights = (r[d], r_scale[d], r_zero[d], None if peepholes is None else peepholes[d])
            h, c = states[0][d], states[1][d]
            backward = self.direction == "reverse" or d == 1
            for step in range(longest):
                live = (step < ends)[:, None]
                places = np.where(step < ends, ends - 1 - step if backward else step, 0)
                given = own[places, np.arange(batch)]
                # In the range of the states a sequence counts for one step after its end.
                now = np.where((step <= ends)[:, None], h, np.float32(0))
                new_h, new_c = self._cell(d, given, now, c, weights)
                h, c = np.where(live, new_h, h), np.where(live, new_c, c)
                which = live[:, 0]
                y[places[which], d, np.flatnonzero(which)] = h[which]
            states[0][d], states[1][d] = h, c
        return y, states[0], states[1]

    # The weights are r, its scale and zero point, and the peepholes.
    def _cell(
        self, direction: int, own: Array, h: Array, c: Array, weights: tuple[Any, ...]
    ) -> tuple[Array, Array]:
        """The new states of one step; `own` is what x gives to the gates, [b, 4 h]."""
        r, scale, zero, peepholes = weights
        size = h.shape[1]
        f, g, k = self._functions(direction)
        gates = own + quantized_product(h, r, scale, zero)
        i, o, forget, cell = (gates[:, n * size : (n + 1) * size] for n in range(4))
        p = np.zeros((3, size), np.float32) if peepholes is None else peepholes.reshape(3, size)
        start = f.array(i + p[0] * c)
        keep = 1 - start if self.input_forget else f.array(forget + p[2] * c)
        new_c = keep * c + start * g.array(cell)
        out = f.array(o + p[1] * new_c)
        # The cell state itself is not clipped there.
        return out * replace(k, clip=0.0).array(new_c), new_c

    samples = (
        sample(
            "f32[4,2,3]", "u8[1,3,20]", "u8[1,5,20]", "f32[1,40]", None, None, None, None,
            "f32[1]", "u8[1]", "f32[1]", "u8[1]", low=0, high=9, outputs=3,
        ),
        sample(
            "f32[4,2,3]", "i8[2,3,20]", "i8[2,5,20]", None, np.array([3, 1], np.int32),
            "f32[2,2,5]", "f32[2,2,5]", "f32[2,15]", "f32[2,20]", "i8[2,20]", "f32[2,20]",
            "i8[2,20]", direction="bidirectional", outputs=3,
        ),
    )
