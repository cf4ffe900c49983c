"""Signal processing: DFT, STFT, window functions, MelWeightMatrix."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, DType, f32, f64
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, widen
from bessemer.ops.checks import check_extents
from bessemer.ops.dims import Array, fresh_dim, known_dims, normalize_axis
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


def _one(type: TensorType | None) -> Dim | None:
    """The only element of a tensor if it is known."""
    known = known_dims(type)
    return known[0] if known else None


@operator("DFT")
class DFT(Operator):
    """Discrete Fourier transform along an axis; `onesided` keeps half of a real signal's spectrum.

    Shapes: x [*, d, *, 1 or 2], length [], axis [] -> y [*, k, *, 2] (or [.., 1] for the inverse
    one-sided transform).
    Source: ONNX DFT-20.
    """

    inverse: int = 0
    onesided: int = 0

    form_inputs: ClassVar[tuple[int, ...]] = (1, 2)

    def infer(
        self, x: TensorType, length: TensorType | None = None, axis: TensorType | None = None
    ) -> TensorType:
        if x.shape is None:
            return x.with_shape(None)
        parts = 1 if self.inverse and self.onesided else 2
        place = -2 if axis is None else _one(axis)
        if not isinstance(place, int):
            dims = tuple(fresh_dim(self, k) for k in range(x.rank - 1))
            return x.with_shape((*dims, parts))
        at = normalize_axis(place, x.rank)
        if at == x.rank - 1:
            raise ShapeError("the last axis holds real and imaginary parts; take another one")
        count = x.dims[at] if length is None else _one(length)
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

    samples = (
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
            size = _one(length)
        elif window is not None:
            size = window.dims[0] if window.shape is not None else None
        stride = _one(step)
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

    samples = (
        sample("f32[2,20,1]", np.array(4), "f32[8]"),
        sample("f32[1,20,1]", np.array(5), None, np.array(7), onesided=0),
        sample("f32[1,16,2]", np.array(4), "f32[8]"),
    )


class WindowFunction(Operator):
    """Base of the window functions: a sum of cosines; periodic or symmetric.

    Shapes: size [] -> window [size] of `output_datatype`.
    """

    output_datatype: str = "f32"
    periodic: int = 1

    coefficients: ClassVar[tuple[float, ...]] = ()
    dtype_attributes: ClassVar[tuple[str, ...]] = ("output_datatype",)
    form_inputs: ClassVar[tuple[int, ...]] = (0,)
    fusion = FusionClass.INJECTIVE

    def _dtype(self) -> DType:
        return DTYPES[self.output_datatype or "f32"]

    def _turn(self, size: int) -> float:
        """Angle between neighbouring elements."""
        return 2 * np.pi / max(size if self.periodic else size - 1, 1)

    def infer(self, size: TensorType) -> TensorType:
        extent = _one(size)
        check_extents("the window's size", () if extent is None else (extent,))
        return TensorType(self._dtype(), (fresh_dim(self) if extent is None else extent,))

    def reference(self, size: Array) -> Array:
        extent = int(size.reshape(-1)[0])
        angles = np.arange(extent) * self._turn(extent)
        total = sum(c * np.cos(k * angles) for k, c in enumerate(self.coefficients))
        return narrow(total, self._dtype().numpy)

    def lower(self, size: Tensor, *, types: Sequence[TensorType] = (), **_: Any) -> Tensor:
        (extent,) = types[0].static_shape
        dtype = self._dtype()
        stage = f64 if dtype == f64 else f32

        def body(i: Expr) -> Expr:
            angle = te.cast(i, stage) * self._turn(extent)
            total: Expr = te.const(self.coefficients[0], stage)
            for k, coefficient in enumerate(self.coefficients[1:], 1):
                total = total + coefficient * te.cos(float(k) * angle)
            return te.cast(total, dtype)

        return te.compute(dtype, (extent,), body, "window")

    samples = (
        sample(np.array(10)), sample(np.array(9), periodic=0),
        sample(np.array(5), output_datatype="f64"), sample(np.array(1), periodic=0),
    )


@operator("HannWindow")
class HannWindow(WindowFunction):
    """The Hann window. Source: ONNX HannWindow-17."""

    output_datatype: str = "f32"
    periodic: int = 1

    coefficients = (0.5, -0.5)


@operator("HammingWindow")
class HammingWindow(WindowFunction):
    """The Hamming window. Source: ONNX HammingWindow-17."""

    output_datatype: str = "f32"
    periodic: int = 1

    coefficients = (25 / 46, -21 / 46)


@operator("BlackmanWindow")
class BlackmanWindow(WindowFunction):
    """The Blackman window. Source: ONNX BlackmanWindow-17."""

    output_datatype: str = "f32"
    periodic: int = 1

    coefficients = (0.42, -0.5, 0.08)


@operator("MelWeightMatrix")
class MelWeightMatrix(Operator):
    """The matrix that turns a spectrum into mel-scaled bands.

    Shapes: five scalars (bands, dft length, sample rate, lower and upper edge) -> [bins, bands].
    Source: ONNX MelWeightMatrix-17.
    """

    output_datatype: str = "f32"

    dtype_attributes: ClassVar[tuple[str, ...]] = ("output_datatype",)

    form_inputs: ClassVar[tuple[int, ...]] = (0, 1, 2, 3, 4)

    def infer(
        self, bands: TensorType, length: TensorType, rate: TensorType, low: TensorType,
        high: TensorType,
    ) -> TensorType:
        size, count = _one(length), _one(bands)
        bins = fresh_dim(self) if size is None else size // 2 + 1
        columns = fresh_dim(self, 1) if count is None else count
        check_extents("bins and bands", (bins, columns), 1)
        return TensorType(DTYPES[self.output_datatype or "f32"], (bins, columns))

    def reference(
        self, bands: Array, length: Array, rate: Array, low: Array, high: Array
    ) -> Array:
        count, size, sampling = (int(v.reshape(-1)[0]) for v in (bands, length, rate))
        ends = [2595 * np.log10(1 + float(v.reshape(-1)[0]) / 700) for v in (low, high)]
        mels = ends[0] + np.arange(count + 2) * ((ends[1] - ends[0]) / (count + 2))
        edges = 700 * (10 ** (mels / 2595) - 1)
        centres = np.floor((size + 1) * edges / sampling).astype(np.int64)
        result = np.zeros((size // 2 + 1, count))
        for band in range(count):
            first, middle, last = centres[band : band + 3]
            if middle == first:
                result[middle, band] = 1
            else:
                rise = np.arange(first, middle + 1)
                result[rise, band] = (rise - first) / (middle - first)
            if last > middle:
                fall = np.arange(middle, last)
                result[fall, band] = (last - fall) / (last - middle)
        return narrow(result, DTYPES[self.output_datatype or "f32"].numpy)

    samples = (
        sample(np.array(8), np.array(16), np.array(8192), np.array(0.0, np.float32),
               np.array(4096.0, np.float32)),
    )
