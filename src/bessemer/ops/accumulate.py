"""In which type sums are formed: float16 and bfloat16 accumulate in float32 and round once."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32
from bessemer.te import Expr, Tensor

Array = np.ndarray[Any, Any]


def wide(dtype: DType) -> DType:
    """The type in which sums of that type are formed."""
    return f32 if dtype.is_float and dtype.bits < 32 else dtype


def widen(array: Array) -> Array:
    """The array in the type in which its sums are formed."""
    small = array.dtype.itemsize < 4 and (array.dtype.kind in "fV" or array.dtype.name == "bfloat16")
    return array.astype(np.float32) if small else array


def load(expr: Expr) -> Expr:
    """The loaded value in the type in which sums are formed."""
    return te.cast(expr, wide(expr.dtype))


def rounded(tensor: Tensor, dtype: DType) -> Tensor:
    """The tensor in that dtype: itself, or one more compute that rounds."""
    if tensor.dtype == dtype:
        return tensor
    return te.compute(dtype, tensor.shape, lambda *i: te.cast(tensor[i], dtype), "rounded")
