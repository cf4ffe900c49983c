"""Arrays as the installed onnx makes them, where it shows an element type in another way than we.

Before release 1.19 onnx had no numpy types for bfloat16, float8 and int4: it gave the bits under a
field name, small integers in i8 and u8, or (1.14) the values in f32.
"""

from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from bessemer.core.dtypes import DType
from bessemer.frontends.onnx.types import number_of
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType


@cache
def shown_as(dtype: DType) -> np.dtype[Any]:
    """The numpy type in which the installed onnx gives tensors of that element type."""
    if dtype.numpy.isbuiltin == 1:
        return dtype.numpy
    tensor = TensorProto(data_type=number_of(dtype), dims=[1], raw_data=bytes(dtype.size_bytes))
    shown: np.dtype[Any] = numpy_helper.to_array(tensor).dtype
    return shown


# Tensors, lists of them (sequences), None (an empty optional), and whatever the engine will refuse.
def from_onnx(data: Any, known: ValueType | None) -> Any:
    """Data for a value of that type, in our numpy types where it is in those of the old onnx."""
    if isinstance(data, (list, tuple)) and isinstance(known, SequenceType):
        return [from_onnx(item, known.element) for item in data]
    if isinstance(known, OptionalType):
        return from_onnx(data, known.element)
    if not isinstance(data, np.ndarray) or not isinstance(known, TensorType):
        return data
    ours, shown = known.dtype.numpy, shown_as(known.dtype)
    if data.dtype == ours or data.dtype != shown:
        return data
    return data.view(ours) if _holds_bits(known.dtype) else data.astype(ours)


def to_onnx(data: Any, known: ValueType | None) -> Any:
    """The opposite of `from_onnx`."""
    if isinstance(data, list) and isinstance(known, SequenceType):
        return [to_onnx(item, known.element) for item in data]
    if isinstance(known, OptionalType):
        return to_onnx(data, known.element)
    if not isinstance(data, np.ndarray) or not isinstance(known, TensorType):
        return data
    shown = shown_as(known.dtype)
    if data.dtype == shown:
        return data
    if not _holds_bits(known.dtype):
        return data.astype(shown)
    if known.dtype.name == "f8e5m2":
        # Of the three NaNs the old onnx writes, and compares with, the one with all bits set.
        data = np.where(np.isnan(data), np.uint8(0x7F).view(data.dtype), data)
    return data.view(shown)


def _holds_bits(dtype: DType) -> bool:
    """True where onnx shows the bits of an element as an integer."""
    return dtype.is_float and shown_as(dtype).kind in "ui"
