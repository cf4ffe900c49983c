"""Pooling with sliding windows: MaxPool, AveragePool, LpPool."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import elements, load, narrow, rounded, widen
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array
from bessemer.ops.window import Window, resolve_window
from bessemer.te import Expr, Tensor
from bessemer.te.interpreter import extreme


def pool_window(op: Any, shape: tuple[Dim, ...]) -> Window:
    """The window of a pooling operator on x of that shape. Raises ShapeError on misfit."""
    if len(shape) < 3:
        raise ShapeError(f"x has rank {len(shape)}; 3 or more expected: [n, c, *spatial]")
    if not op.kernel_shape:
        raise ShapeError("kernel_shape is missing")
    return resolve_window(
        shape[2:], op.kernel_shape, op.strides, op.dilations, op.pads, op.auto_pad, op.ceil_mode
    )


def window_reduce(
    x: Tensor, window: Window, kind: Callable[..., Expr], fill: float | int,
    element: Callable[[Expr], Expr], name: str, nearest: bool = False,
) -> Tensor:
    """One compute that reduces `element(x)` over the window, `fill` outside the input.

    With `nearest` the element of the input next to a place outside stands for it.
    """
    axes = [te.reduce_axis(k) for k in window.kernel]
    outside = window.reaches_outside(x.shape[2:])
    filler = fill if outside and not nearest else None

    def body(n: Expr, c: Expr, *outer: Expr) -> Expr:
        places = window.positions(outer, axes)
        if outside and nearest:
            places = [te.maximum(te.minimum(place, te.index(extent) - 1), 0)
                      for place, extent in zip(places, x.shape[2:], strict=True)]
        return kind(element(x.at(n, c, *places, fill=filler)), *axes)

    dtype = kind(element(x.at(*(0,) * x.rank)), *axes).dtype
    return te.compute(dtype, (x.shape[0], x.shape[1], *window.out), body, name)


def lowest(dtype: DType) -> float | int:
    """The neutral element of max: minus infinity or the smallest integer."""
    value = extreme(dtype, "max")
    return float(value) if dtype.is_float else int(value)


@operator("MaxPool")
class MaxPool(Operator):
    """Maximum over a sliding window; padding never wins.

    The second result is the position of each maximum in the flattened x (row-major, or with
    `storage_order` 1 with the spatial axes in column-major order).
    Shapes: x [n, c, *spatial] -> y [n, c, *out], indices [n, c, *out] i64.
    Source: ONNX MaxPool-22.
    """

    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    storage_order: int = 0
    strides: tuple[int, ...] = ()

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        if x.shape is None:
            return x.with_shape(None), TensorType(i64, None)
        shape = (x.dims[0], x.dims[1], *pool_window(self, x.dims).out)
        return x.with_shape(shape), TensorType(i64, shape)

    def reference(self, x: Array) -> tuple[Array, Array]:
        window = pool_window(self, x.shape)
        views = window.view(x, lowest(TensorType.of(x, False).dtype))
        flat = views.reshape(*views.shape[: 2 + window.rank], math.prod(window.kernel))
        if flat.size == 0:
            return np.zeros(flat.shape[:-1], x.dtype), np.zeros(flat.shape[:-1], np.int64)
        return flat.max(axis=-1), self._positions(x, flat, window)

    def _positions(self, x: Array, flat: Array, window: Window) -> Array:
        """Linear positions of the maxima; positions in the padding cannot win."""
        rank = window.rank
        inside = np.ones(flat.shape[2:], bool)
        places = []
        grid = np.unravel_index(np.arange(flat.shape[-1]), window.kernel)
        for axis in range(rank):
            view = [1] * rank
            view[axis] = -1
            outer = np.arange(int(window.out[axis])).reshape(*view, 1) * window.strides[axis]  # type: ignore[arg-type]
            place = outer + grid[axis] * window.dilations[axis] - window.pad_lows[axis]
            inside = inside & (place >= 0) & (place < x.shape[2 + axis])
            places.append(np.broadcast_to(place, flat.shape[2:]))
        best = flat.max(axis=-1, keepdims=True)
        hit = ((flat == best) | (flat != flat)) & inside
        pick = hit.argmax(axis=-1)[..., None]
        order = range(rank) if self.storage_order == 0 else range(rank - 1, -1, -1)
        linear: Array = np.zeros(flat.shape[:-1], np.int64)
        for axis in order:
            spot = np.broadcast_to(places[axis], flat.shape)
            linear = linear * x.shape[2 + axis] + np.take_along_axis(spot, pick, -1)[..., 0]
        image = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * rank)
        return np.asarray(linear + image * elements(x.shape[2:]))

    def lower(self, x: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        window = pool_window(self, x.shape)
        fill = lowest(x.dtype)
        # The neighbour of the padding is in the window too: to look at it again changes nothing.
        y = window_reduce(
            x, window, te.max_, fill, lambda v: v, "maxpool", window.meets_input(x.shape[2:]))
        pick = window_reduce(x, window, te.argmax, fill, lambda v: v, "argmaxpool")
        return y, te.compute(i64, y.shape, lambda *i: self._position(x, window, pick, i), "indices")

    def _position(self, x: Tensor, window: Window, pick: Tensor, i: tuple[Expr, ...]) -> Expr:
        inner: list[Expr] = []
        rest = pick[i]
        for extent in reversed(window.kernel):
            inner.insert(0, rest % extent)
            rest = rest // extent
        if window.reaches_outside(x.shape[2:]):
            inner = self._inside(window, i[2:], inner)
        places = window.positions(i[2:], inner)
        order = range(window.rank) if self.storage_order == 0 else range(window.rank - 1, -1, -1)
        linear = te.index(0)
        for axis in order:
            linear = linear * te.index(x.shape[2 + axis]) + places[axis]
        image = i[0] * te.index(x.shape[1]) + i[1]
        return image * elements(x.shape[2:]) + linear

    def _inside(
        self, window: Window, outer: tuple[Expr, ...], inner: list[Expr]
    ) -> list[Expr]:
        """Window indices moved from the padding to the first element inside.

        The padding is picked only where no element of the window is larger than it, and then the
        first element is picked: the rest of the padding, behind the input, need not be considered.
        """
        moved = []
        for axis, k in enumerate(inner):
            outside = te.maximum(window.lows[axis] - outer[axis] * window.strides[axis], 0)
            step = window.dilations[axis]
            moved.append(te.maximum(k, (outside + (step - 1)) // step))
        return moved

    samples = (
        sample("f32[1,2,7,9]", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        sample("f32[2,3,6,6]", kernel_shape=(2, 2), strides=(2, 2), outputs=2),
        sample("f32[1,2,7,8]", kernel_shape=(3, 2), strides=(2, 3), ceil_mode=1),
        sample("f32[1,2,9,9]", kernel_shape=(2, 3), dilations=(3, 2), pads=(1, 2, 0, 1)),
        sample("f32[1,2,9,7]", kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER"),
        sample("f32[1,2,9,8]", kernel_shape=(3, 2), strides=(1, 2), auto_pad="SAME_LOWER"),
        sample("f32[2,3,11]", kernel_shape=(4,), strides=(3,), outputs=2),
        sample("f32[1,2,4,5,6]", kernel_shape=(2, 2, 3), outputs=2, storage_order=1),
        sample("i8[1,1,5,5]", kernel_shape=(3, 3), pads=(1, 1, 1, 1), low=-100, high=-50),
        sample("u8[1,1,5,5]", kernel_shape=(2, 2), low=0, high=200),
        sample("f16[1,2,5,5]", kernel_shape=(3, 3), auto_pad="VALID"),
        sample("f32[1,2,6,7]", kernel_shape=(3, 2), pads=(2, 1, 1, 1), dilations=(2, 1), outputs=2),
        sample(np.full((1, 1, 3, 4), -np.inf, np.float32), kernel_shape=(3, 3), strides=(2, 1),
               pads=(2, 1, 1, 1), outputs=2),
        sample(np.full((1, 1, 7, 4), -128, np.int8), kernel_shape=(3, 3), dilations=(2, 1),
               pads=(3, 1, 3, 1), outputs=2),
    )


def counts_varying(op: Any, window: Window, shape: tuple[Dim, ...]) -> bool:
    """True if the number of elements averaged differs between windows."""
    if not op.count_include_pad:
        return window.reaches_outside(shape[2:])
    reach = [
        (out - 1) * stride + span - low - high - extent
        for out, stride, span, low, high, extent in zip(
            window.out, window.strides, window.spans, window.lows, window.highs, shape[2:],
            strict=True,
        )
    ]
    return any(not isinstance(r, int) or r > 0 for r in reach)


@operator("AveragePool")
class AveragePool(Operator):
    """Mean over a sliding window; padding counts only with `count_include_pad`.

    With `ceil_mode`, elements beyond the explicit padding are never counted.
    Shapes: x [n, c, *spatial] -> y [n, c, *out].
    Source: ONNX AveragePool-22.
    """

    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    count_include_pad: int = 0
    dilations: tuple[int, ...] = ()
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if x.shape is None:
            return x.with_shape(None)
        return x.with_shape((x.dims[0], x.dims[1], *pool_window(self, x.dims).out))

    def _limits(self, window: Window, axis: int, extent: Dim) -> tuple[Dim, Dim]:
        """First and last+1 input position that counts on an axis."""
        if self.count_include_pad:
            return -window.lows[axis], extent + window.highs[axis]
        return 0, extent

    def reference(self, x: Array) -> Array:
        window = pool_window(self, x.shape)
        kernel = tuple(range(2 + window.rank, 2 + 2 * window.rank))
        total = window.view(widen(x), 0).sum(axis=kernel)
        count = np.ones((), np.int64)
        for axis in range(window.rank):
            outer = np.arange(int(window.out[axis]))[:, None] * window.strides[axis]  # type: ignore[arg-type]
            inner = np.arange(window.kernel[axis]) * window.dilations[axis]
            place = outer + inner - window.pad_lows[axis]
            low, high = (int(n) for n in self._limits(window, axis, x.shape[2 + axis]))  # type: ignore[arg-type]
            count = count[..., None] * ((place >= low) & (place < high)).sum(axis=1)
        with np.errstate(all="ignore"):
            return narrow(total / count.astype(total.dtype), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        window = pool_window(self, x.shape)
        total = window_reduce(x, window, te.sum_, 0, load, "poolsum")
        if not counts_varying(self, window, x.shape):
            scale = te.const(1.0 / float(np.prod(window.kernel)), total.dtype)
            return te.compute(
                x.dtype, total.shape, lambda *i: te.cast(total[i] * scale, x.dtype), "average"
            )

        def body(n: Expr, c: Expr, *outer: Expr) -> Expr:
            count = te.index(1)
            for axis, o in enumerate(outer):
                count = count * self._count(window, axis, x.shape[2 + axis], o)
            return te.cast(total[(n, c, *outer)] / te.cast(count, total.dtype), x.dtype)

        return te.compute(x.dtype, total.shape, body, "average")

    def _count(self, window: Window, axis: int, extent: Dim, o: Expr) -> Expr:
        """How many window positions on this axis count, from the output index."""
        low, high = self._limits(window, axis, extent)
        step = window.dilations[axis]
        start = o * window.strides[axis] - window.lows[axis]
        # Window index k counts if low <= start + k * step < high.
        first = te.maximum((low - start + (step - 1)) // step, 0)
        last = te.minimum((high - start + (step - 1)) // step, window.kernel[axis])
        return te.maximum(last - first, 0)

    samples = (
        sample("f32[1,2,7,9]", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        sample("f32[1,2,7,9]", kernel_shape=(3, 3), pads=(1, 0, 1, 2), count_include_pad=1),
        sample("f32[2,3,6,6]", kernel_shape=(2, 2), strides=(2, 2)),
        sample("f32[1,2,7,8]", kernel_shape=(3, 2), strides=(2, 3), ceil_mode=1),
        sample(
            "f32[1,2,7,8]", kernel_shape=(3, 3), strides=(3, 2), ceil_mode=1, pads=(1, 1, 1, 1),
            count_include_pad=1,
        ),
        sample("f32[1,2,9,9]", kernel_shape=(2, 3), dilations=(3, 2), pads=(1, 2, 0, 1)),
        sample("f32[1,2,9,7]", kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER"),
        sample(
            "f32[1,2,9,8]", kernel_shape=(3, 2), strides=(1, 2), auto_pad="SAME_LOWER",
            count_include_pad=1,
        ),
        sample("f32[2,3,11]", kernel_shape=(4,), strides=(3,)),
        sample("f32[1,2,4,5,6]", kernel_shape=(2, 2, 3), pads=(1, 0, 1, 0, 1, 1)),
        sample("f16[1,2,5,5]", kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
    )


@operator("LpPool")
class LpPool(Operator):
    """The p-norm over a sliding window.

    Shapes: x [n, c, *spatial] -> y [n, c, *out].
    Source: ONNX LpPool-22.
    """

    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    kernel_shape: tuple[int, ...] = ()
    p: int = 2
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if x.shape is None:
            return x.with_shape(None)
        return x.with_shape((x.dims[0], x.dims[1], *pool_window(self, x.dims).out))

    def reference(self, x: Array) -> Array:
        window = pool_window(self, x.shape)
        kernel = tuple(range(2 + window.rank, 2 + 2 * window.rank))
        powers = np.abs(window.view(widen(x), 0)) ** self.p
        return narrow(powers.sum(axis=kernel) ** (1.0 / self.p), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        window = pool_window(self, x.shape)
        total = window_reduce(x, window, te.sum_, 0, lambda v: norm_power(v, self.p), "lpsum")
        return rounded(norm_root(total, self.p), x.dtype)

    samples = (
        sample("f32[1,2,7,9]", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        sample("f32[1,2,7,9]", kernel_shape=(3, 2), p=3, ceil_mode=1, strides=(2, 2)),
        sample("f32[1,2,9,9]", kernel_shape=(2, 3), p=1, dilations=(3, 2), auto_pad="SAME_LOWER"),
        sample("f32[2,3,11]", kernel_shape=(4,), strides=(3,)),
        sample("f16[1,2,5,5]", kernel_shape=(2, 2)),
    )


def norm_power(value: Expr, p: int) -> Expr:
    """|value| ** p, widened for summing."""
    wide = te.abs_(load(value))
    if p == 1:
        return wide
    return wide * wide if p == 2 else te.power(wide, float(p))


def norm_root(total: Tensor, p: int) -> Tensor:
    """The p-th root of a sum of powers as one compute."""
    if p == 1:
        return total

    def body(*i: Expr) -> Expr:
        return te.sqrt(total[i]) if p == 2 else te.power(total[i], 1.0 / p)

    return te.compute(total.dtype, total.shape, body, "root")
