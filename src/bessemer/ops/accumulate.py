"""In which type sums are formed: float16 and bfloat16 accumulate in float32 and round once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, DType, dtype_from_numpy, f32
from bessemer.core.shapes import Dim, Sym, product
from bessemer.te import Expr, Tensor

Array = np.ndarray[Any, Any]


def wide(dtype: DType) -> DType:
    """The type in which sums of that type are formed."""
    return f32 if dtype.is_float and dtype.bits < 32 else dtype


def widen(array: Array) -> Array:
    """The array in the type in which its sums are formed."""
    known = dtype_from_numpy(array.dtype)
    return array.astype(wide(known).numpy, copy=False)


def narrow(values: Any, dtype: Any) -> Array:
    """The values rounded to that numpy dtype, as an array."""
    return np.asarray(values).astype(dtype, copy=False)


def elements(extents: Sequence[Dim]) -> Dim:
    """How many elements the extents have."""
    return product(extents)


def one_over(count: Dim, dtype: DType) -> Expr:
    """The factor that turns a sum of so many elements into their mean."""
    if isinstance(count, Sym):
        return 1 / te.cast(te.index(count), dtype)
    return te.const(1.0 / max(count, 1), dtype)


def load(expr: Expr) -> Expr:
    """The loaded value in the type in which sums are formed."""
    return te.cast(expr, wide(expr.dtype))


def rounded(tensor: Tensor, dtype: DType) -> Tensor:
    """The tensor in that dtype: itself, or one more compute that rounds."""
    if tensor.dtype == dtype:
        return tensor
    return te.compute(dtype, tensor.shape, lambda *i: te.cast(tensor[i], dtype), "rounded")


def scalar(value: float, dtype: str) -> Array:
    """A constant of rank 0, for samples."""
    return np.asarray(value, DTYPES[dtype].numpy)
