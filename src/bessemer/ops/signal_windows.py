"""Windows and filter banks of signal processing: HannWindow ..., MelWeightMatrix."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, DType, f32, f64
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow
from bessemer.ops.checks import check_extents
from bessemer.ops.dims import Array, fresh_dim, known_dim
from bessemer.te import Expr, Tensor


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
        count = known_dim(size)
        check_extents("the window's size", () if count is None else (count,))
        return TensorType(self._dtype(), (fresh_dim(self) if count is None else count,))

    def reference(self, size: Array) -> Array:
        count = int(size.reshape(-1)[0])
        angles = np.arange(count) * self._turn(count)
        total = sum(c * np.cos(k * angles) for k, c in enumerate(self.coefficients))
        return narrow(total, self._dtype().numpy)

    def lower(self, size: Tensor, *, types: Sequence[TensorType] = (), **_: Any) -> Tensor:
        (count,) = types[0].static_shape
        dtype = self._dtype()
        stage = f64 if dtype == f64 else f32

        def body(i: Expr) -> Expr:
            angle = te.cast(i, stage) * self._turn(count)
            total: Expr = te.const(self.coefficients[0], stage)
            for k, coefficient in enumerate(self.coefficients[1:], 1):
                total = total + coefficient * te.cos(float(k) * angle)
            return te.cast(total, dtype)

        return te.compute(dtype, (count,), body, "window")

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
        size, count = known_dim(length), known_dim(bands)
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
