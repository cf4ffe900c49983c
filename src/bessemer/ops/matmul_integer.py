"""Integer matrix products: MatMulInteger and QLinearMatMul."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import dtype_from_numpy, f32, i32
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, scalar
from bessemer.ops.dims import Array
from bessemer.ops.elementwise import own_index
from bessemer.ops.matmul import batch_indices, matmul_shape
from bessemer.ops.quantize import require_compiled, saturate_array, saturate_expr
from bessemer.te import Expr, Tensor


def _row(parameter: Array) -> Array:
    """A per-row parameter [m] as a column; scalars and full-rank ones stay."""
    return parameter[:, None] if parameter.ndim == 1 and parameter.size > 1 else parameter


def integer_product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """(a - a zero) @ (b - b zero) as i32; exact in float64 before it wraps."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    if a_zero is not None:
        left = left - _row(a_zero).astype(np.float64)
    if b_zero is not None:
        right = right - b_zero.astype(np.float64)
    return narrow(np.matmul(left, right).astype(np.int64), np.int32)


def _parameter_index(
    shape: Sequence[Dim], batch: tuple[Expr, ...], place: Expr | None, is_row: bool
) -> tuple[Expr | int, ...]:
    """Index of a per-row or per-column parameter for one output element."""
    if not shape:
        return ()
    if len(shape) == 1:
        return (0,) if place is None else (own_index(place, shape[0]),)
    last: tuple[Expr | int, ...] = (place if place is not None else 0, 0)
    own = batch_indices(batch, tuple(shape[:-2]))
    return (*own, *(last if is_row else reversed(last)))


def _split(i: tuple[Expr, ...], a_rank: int, b_rank: int) -> tuple[Any, Expr | None, Expr | None]:
    """Output index as batch indices, row and column (None for 1-D operands)."""
    rest = list(i)
    column = rest.pop() if b_rank > 1 else None
    row = rest.pop() if a_rank > 1 else None
    return tuple(rest), row, column


def integer_sum(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """(a - a zero) @ (b - b zero) as one i32 sum."""
    k = te.reduce_axis(a.shape[-1])

    def body(*i: Expr) -> Expr:
        batch, row, column = _split(i, a.rank, b.rank)
        rows = () if row is None else (row,)
        columns = () if column is None else (column,)
        left = te.cast(a[(*batch_indices(batch, a.shape[:-2]), *rows, k)], i32)
        right = te.cast(b[(*batch_indices(batch, b.shape[:-2]), k, *columns)], i32)
        if a_zero is not None:
            left = left - te.cast(a_zero[_parameter_index(a_zero.shape, batch, row, True)], i32)
        if b_zero is not None:
            place = _parameter_index(b_zero.shape, batch, column, False)
            right = right - te.cast(b_zero[place], i32)
        return te.sum_(left * right, k)

    return te.compute(i32, matmul_shape(a.shape, b.shape), body, "matmul")


@operator("MatMulInteger")
class MatMulInteger(Operator):
    """(a - a zero point) @ (b - b zero point) in i32.

    Shapes: a [*, m, k], b [*, k, n], zero points [], per row [m] or per column [n] -> y [*, m, n].
    Source: ONNX MatMulInteger-10.
    """

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, a: TensorType, b: TensorType, a_zero: TensorType | None = None,
        b_zero: TensorType | None = None,
    ) -> TensorType:
        if a.shape is None or b.shape is None:
            return TensorType(i32, None)
        return TensorType(i32, matmul_shape(a.shape, b.shape))

    def reference(
        self, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
    ) -> Array:
        return integer_product(a, b, a_zero, b_zero)

    def lower(
        self, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        return integer_sum(a, b, a_zero, b_zero)

    samples = (
        sample("u8[3,4]", "i8[4,5]", low=-99, high=99),
        sample("u8[3,4]", "u8[4,5]", scalar(7, "u8"), scalar(3, "u8"), low=0, high=255),
        sample("i8[2,3,4]", "i8[4,5]", np.array([1, -2, 3], np.int8), "i8[5]", low=-9, high=9),
        sample("u8[4]", "u8[4,2]", low=0, high=9),
    )


@operator("QLinearMatMul")
class QLinearMatMul(Operator):
    """The product of two quantised matrices, quantised again.

    Shapes: a [*, m, k], b [*, k, n]; scales and zero points [], per row or per column
    -> y [*, m, n].
    Source: ONNX QLinearMatMul-21.
    """

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, a: TensorType, a_scale: TensorType, a_zero: TensorType, b: TensorType,
        b_scale: TensorType, b_zero: TensorType, y_scale: TensorType, y_zero: TensorType,
    ) -> TensorType:
        if a.shape is None or b.shape is None:
            return TensorType(y_zero.dtype, None)
        return TensorType(y_zero.dtype, matmul_shape(a.shape, b.shape))

    def reference(
        self, a: Array, a_scale: Array, a_zero: Array, b: Array, b_scale: Array, b_zero: Array,
        y_scale: Array, y_zero: Array,
    ) -> Array:
        total = integer_product(a, b, a_zero, b_zero).astype(np.float32)
        factor = _row(a_scale).astype(np.float32) * b_scale.astype(np.float32)
        values = np.rint(total * (factor / _row(y_scale).astype(np.float32)))
        return saturate_array(
            values + _row(y_zero).astype(np.float32), dtype_from_numpy(y_zero.dtype)
        )

    def lower(
        self, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
        b_zero: Tensor, y_scale: Tensor, y_zero: Tensor, **_: Any,
    ) -> Tensor:
        require_compiled(self, a.dtype, b.dtype, y_zero.dtype)
        total = integer_sum(a, b, a_zero, b_zero)

        def body(*i: Expr) -> Expr:
            batch, row, column = _split(i, a.rank, b.rank)

            def parameter(tensor: Tensor, place: Expr | None, is_row: bool) -> Expr:
                return te.cast(tensor[_parameter_index(tensor.shape, batch, place, is_row)], f32)

            factor = parameter(a_scale, row, True) * parameter(b_scale, column, False)
            factor = factor / parameter(y_scale, row, True)
            value = te.round_(te.cast(total[i], f32) * factor) + parameter(y_zero, row, True)
            return saturate_expr(value, y_zero.dtype)

        return te.compute(y_zero.dtype, total.shape, body, "requantized")

    samples = (
        sample(
            "u8[3,4]", scalar(0.02, "f32"), scalar(113, "u8"), "u8[4,5]", scalar(0.03, "f32"),
            scalar(9, "u8"),
            scalar(0.1, "f32"), scalar(118, "u8"), low=0, high=255,
        ),
        sample(
            "i8[2,3,4]", scalar(0.02, "f32"), scalar(1, "i8"), "i8[4,5]", "f32[5]",
            np.zeros(5, np.int8),
            scalar(0.25, "f32"), scalar(-3, "i8"), low=1, high=50,
        ),
    )
