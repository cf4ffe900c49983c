"""Signal processing: DFT and STFT."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.extents import is_one
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, wide, widen
from bessemer.ops.checks import check_extents
from bessemer.ops.dims import (
    Array,
    constant_ints,
    extent,
    fresh_dim,
    known_dim,
    normalize_axis,
)
from bessemer.ops.elementwise import known_of
from bessemer.ops.fourier import Element, transform
from bessemer.te import Expr, Tensor


def as_complex(x: Array) -> Array:
    """A tensor [*, 1] or [*, 2] of real and imaginary parts as complex numbers [*]."""
    values = widen(x)
    if x.shape[-1] not in (1, 2):
        raise InputError(f"the last axis has {x.shape[-1]} entries; 1 (real) or 2 expected")
    imaginary = values[..., 1] if x.shape[-1] == 2 else np.zeros_like(values[..., 0])
    return np.asarray(values[..., 0] + 1j * imaginary)


def as_parts(x: Array, dtype: Any) -> Array:
    """Complex numbers [*] as real and imaginary parts [*, 2]."""
    return narrow(np.stack([x.real, x.imag], axis=-1), dtype)


def _signal(x: Tensor, at: int, only_real: bool = False) -> Element:
    """Elements of [*, d, *, 1 or 2] at the other indices and one of axis `at`; 0 outside."""

    def element(*i: Expr) -> tuple[Expr, Expr | None]:
        place = (*i[:at], i[-1], *i[at:-1])
        real = load(x.at(*place, 0, fill=0))
        if only_real or _is_real(x):
            return real, None
        return real, load(x.at(*place, 1, fill=0))

    return element


def _is_real(x: Tensor) -> bool:
    """True for a tensor [*, 1], False for [*, 2]. Raises: Unlowerable where a run decides."""
    real = is_one(x.shape[-1])
    if real is None:
        raise Unlowerable("only a run can tell whether its signal has imaginary parts")
    return real


@operator("DFT")
class DFT(Operator):
    """Discrete Fourier transform along an axis; `onesided` keeps half of a real signal's spectrum.

    Shapes: x [*, d, *, 1 or 2], length [], axis [] -> y [*, k, *, 2] (or [.., 1] for the inverse
    one-sided transform).
    Source: ONNX DFT-20.
    """

    inverse: int = 0
    onesided: int = 0

    fusion = FusionClass.REDUCTION
    form_inputs: ClassVar[tuple[int, ...]] = (1, 2)

    def infer(
        self, x: TensorType, length: TensorType | None = None, axis: TensorType | None = None
    ) -> TensorType:
        if x.shape is None:
            return x.with_shape(None)
        parts = 1 if self.inverse and self.onesided else 2
        place = -2 if axis is None else known_dim(axis)
        if not isinstance(place, int):
            dims = tuple(fresh_dim(self, k) for k in range(x.rank - 1))
            return x.with_shape((*dims, parts))
        at = normalize_axis(place, x.rank)
        if at == x.rank - 1:
            raise ShapeError("the last axis holds real and imaginary parts; take another one")
        count = x.dims[at] if length is None else known_dim(length)
        check_extents("the transform's length", () if count is None else (count,), 1)
        if count is None:
            count = fresh_dim(self)
        elif self.onesided and self.inverse:
            count = 2 * (count - 1) if length is None else count
        elif self.onesided:
            count = count // 2 + 1
        return x.with_shape((*x.dims[:at], count, *x.dims[at + 1 : -1], parts))

    def reference(self, x: Array, length: Array | None = None, axis: Array | None = None) -> Array:
        at = normalize_axis(int(axis.reshape(-1)[0]) if axis is not None else -2, x.ndim)
        count = int(length.reshape(-1)[0]) if length is not None else None
        values = as_complex(x)
        if self.onesided and self.inverse:
            result = np.fft.irfft(values, count, axis=at)
            return narrow(result[..., None], x.dtype)
        if self.inverse:
            return as_parts(np.fft.ifft(values, count, axis=at), x.dtype)
        if self.onesided:
            return as_parts(np.fft.rfft(values.real, count, axis=at), x.dtype)
        return as_parts(np.fft.fft(values, count, axis=at), x.dtype)

    def lower(
        self, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None, *,
        types: Sequence[TensorType] = (), **options: Any,
    ) -> Tensor:
        known = known_of(options, 3)
        place = -2 if axis is None else constant_ints(known, 2, self)[0]
        at = normalize_axis(place, x.rank)
        bins = extent(types[0].dims[at])
        count = extent(x.shape[at]) if length is None else constant_ints(known, 1, self)[0]
        if self.onesided and self.inverse:
            count = bins
        outer = (*x.shape[:at], *x.shape[at + 1 : -1])
        signal = self._half_spectrum(x, at, count) if self.onesided and self.inverse else \
            _signal(x, at, only_real=bool(self.onesided))
        parts = transform(outer, count, signal, wide(x.dtype), inverse=bool(self.inverse),
                          bins=bins)
        scale = 1.0 / count if self.inverse else 1.0

        def body(*i: Expr) -> Expr:
            spot = (*i[:at], *i[at + 1 : -1], i[at])
            value = parts[0][spot]
            if types[0].dims[-1] == 2:
                value = te.where(te.equal(i[-1], 0), value, parts[1][spot])
            return te.cast(value * scale if self.inverse else value, x.dtype)

        return te.compute(x.dtype, types[0].dims, body, "transformed")

    @staticmethod
    def _half_spectrum(x: Tensor, at: int, count: int) -> Element:
        """The spectrum of a real signal, given from frequency 0 to half of `count`."""
        given = _signal(x, at)

        def element(*i: Expr) -> tuple[Expr, Expr | None]:
            mirrored = i[-1] > count // 2
            place = te.where(mirrored, count - i[-1], i[-1])
            real, imaginary = given(*i[:-1], place)
            if imaginary is None:
                return real, None
            # A real signal has no imaginary part at frequency 0 and at the highest one.
            alone = te.equal(place, 0) | te.equal(place * 2, count)
            sign = te.where(alone, te.const(0.0, real.dtype), te.where(
                mirrored, te.const(-1.0, real.dtype), 1.0))
            return real, sign * imaginary

        return element

    samples = (
        sample("f32[2,37,2]", inverse=1), sample("f32[3,64,1]", onesided=1),
        sample("f16[2,12,1]"), sample("f32[2,7,2]", np.array(9), onesided=1, inverse=1),
        sample("f32[2,7,2]", np.array(10), np.array(1), onesided=1, inverse=1),
        sample("f32[2,210,3,1]", None, np.array(-3)),
        sample("f32[2,9,1]"), sample("f32[1,8,3,2]", np.array(6), np.array(1)),
        sample("f32[2,9,1]", onesided=1), sample("f32[2,5,2]", onesided=1, inverse=1),
        sample("f64[2,9,2]", inverse=1), sample("f32[3,4,1]", np.array(5), np.array(0)),
    )


@operator("STFT")
class STFT(Operator):
    """Fourier transforms of overlapping frames of a signal.

    Shapes: x [n, t, 1 or 2], step [], window [w], length [] -> y [n, frames, k, 2].
    Source: ONNX STFT-17.
    """

    onesided: int = 1

    fusion = FusionClass.REDUCTION
    form_inputs: ClassVar[tuple[int, ...]] = (1, 3)

    def infer(
        self, x: TensorType, step: TensorType, window: TensorType | None = None,
        length: TensorType | None = None,
    ) -> TensorType:
        if x.shape is None:
            return TensorType(x.dtype, None)
        if x.rank not in (2, 3):
            raise ShapeError(f"the signal has rank {x.rank}; 3 expected")
        size: Dim | None = x.dims[1]
        if length is not None:
            size = known_dim(length)
        elif window is not None:
            size = window.dims[0] if window.shape is not None else None
        stride = known_dim(step)
        if size is None:
            return TensorType(x.dtype, (x.dims[0], fresh_dim(self), fresh_dim(self, 1), 2))
        check_extents("the frame's length", (size,), 1)
        bins = size // 2 + 1 if self._is_onesided(x.dims) else size
        if self.onesided and x.rank == 3 and not isinstance(x.dims[-1], int):
            bins = fresh_dim(self, 1)
        if not isinstance(stride, int) or stride < 1:
            return TensorType(x.dtype, (x.dims[0], fresh_dim(self), bins, 2))
        frames = (x.dims[1] - size) // stride + 1
        check_extents("frames of a signal that is too short", (frames,), 1)
        return TensorType(x.dtype, (x.dims[0], frames, bins, 2))

    def _is_onesided(self, shape: Sequence[Dim]) -> bool:
        return bool(self.onesided) and (len(shape) == 2 or shape[-1] == 1)

    def reference(
        self, x: Array, step: Array, window: Array | None = None, length: Array | None = None
    ) -> Array:
        values = as_complex(x if x.ndim == 3 else x[..., None])
        size = values.shape[1]
        if length is not None:
            size = int(length.reshape(-1)[0])
        elif window is not None:
            size = window.shape[0]
        frames = np.lib.stride_tricks.sliding_window_view(values, size, axis=1)
        frames = frames[:, :: int(step.reshape(-1)[0])]
        if window is not None:
            frames = frames * widen(window)
        if self._is_onesided(x.shape):
            return as_parts(np.fft.rfft(frames.real, axis=-1), x.dtype)
        return as_parts(np.fft.fft(frames, axis=-1), x.dtype)

    def lower(
        self, x: Tensor, step: Tensor, window: Tensor | None = None,
        length: Tensor | None = None, *, types: Sequence[TensorType] = (), **options: Any,
    ) -> Tensor:
        known = known_of(options, 4)
        stride = constant_ints(known, 1, self)[0]
        if length is not None:
            size = constant_ints(known, 3, self)[0]
        else:
            size = extent(x.shape[1] if window is None else window.shape[0])
        rows, frames, bins, _ = types[0].dims
        dtype = wide(x.dtype)

        def signal(b: Expr, f: Expr, n: Expr) -> tuple[Expr, Expr | None]:
            weight = te.const(1.0, dtype) if window is None else te.cast(window[n], dtype)
            place = (b, f * stride + n)
            real = te.cast(x[place] if x.rank == 2 else x[(*place, 0)], dtype) * weight
            if x.rank == 2 or _is_real(x):
                return real, None
            return real, te.cast(x[(*place, 1)], dtype) * weight

        real, imaginary = transform((rows, frames), size, signal, dtype, bins=extent(bins))

        def body(*i: Expr) -> Expr:
            return te.cast(te.where(te.equal(i[3], 0), real[i[:3]], imaginary[i[:3]]), x.dtype)

        return te.compute(x.dtype, types[0].dims, body, "transformed")

    samples = (
        sample("f32[2,61,1]", np.array(7), "f32[15]"),
        sample("f32[2,20,1]", np.array(4), "f32[8]"),
        sample("f32[1,20,1]", np.array(5), None, np.array(7), onesided=0),
        sample("f32[1,16,2]", np.array(4), "f32[8]"),
    )
