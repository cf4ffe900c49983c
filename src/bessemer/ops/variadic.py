"""Operators of any number of inputs, Sum, Mean, Max, Min; and Clip."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_kind, check_same_dtype
from bessemer.ops.elementwise import NUMERIC, Variadic, known_of, scalar_operand


@operator("Sum")
class Sum(Variadic):
    """The sum of all inputs. Source: ONNX Sum-13."""

    widen = True

    def array(self, a: Array, b: Array) -> Any:
        return a + b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a + b


@operator("Mean")
class Mean(Variadic):
    """The mean of all inputs. Source: ONNX Mean-13."""

    widen = True

    def array(self, a: Array, b: Array) -> Any:
        return a + b

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return a + b

    def finish_array(self, x: Array, count: int) -> Any:
        return x / np.asarray(count, x.dtype)

    def finish_scalar(self, x: te.Expr, count: int) -> te.Expr:
        return x / te.const(count, x.dtype)


_INTEGERS = (sample("i32[3]", "i32[2,3]"), sample("u8[4]", "u8[]", low=0, high=9))


@operator("Max")
class Max(Variadic):
    """The largest of all inputs; NaN if one is. Source: ONNX Max-13."""

    samples = (*Variadic.samples, *_INTEGERS)

    def array(self, a: Array, b: Array) -> Any:
        return np.maximum(a, b)

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return te.maximum(a, b)


@operator("Min")
class Min(Variadic):
    """The smallest of all inputs; NaN if one is. Source: ONNX Min-13."""

    samples = (*Variadic.samples, *_INTEGERS)

    def array(self, a: Array, b: Array) -> Any:
        return np.minimum(a, b)

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        return te.minimum(a, b)


@operator("Clip")
class Clip(Operator):
    """x limited to [min, max]; max wins where they cross. Source: ONNX Clip-13.

    Shapes: x [*], min [], max [] -> y [*].
    """

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", np.array(-1, np.float32), np.array(1, np.float32)),
        sample("f32[5]", "f32[]", "f32[]"),
        sample("f32[5]", None, np.array(0.5, np.float32)),
        sample("f16[5]", np.array(0, np.float16)),
        sample("i32[7]", "i32[]", None),
        sample("f32[]"),
        sample("f32[0,2]", np.array(0, np.float32)),
        sample("f32[4]", np.array(2, np.float32), np.array(-1, np.float32)),
        sample("u8[5]", np.array(1, np.uint8), np.array(3, np.uint8), low=0, high=9),
    )

    def infer(
        self, x: TensorType, low: TensorType | None = None, high: TensorType | None = None
    ) -> TensorType:
        check_kind(self, x, *NUMERIC)
        check_same_dtype(self, x, low, high)
        for bound in (low, high):
            if bound is not None and bound.is_static and bound.count != 1:
                raise ShapeError(f"Clip needs scalar bounds, got {bound}")
        return TensorType(x.dtype, x.shape)

    def reference(self, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
        y = x if low is None else np.maximum(x, low.reshape(()))
        y = y if high is None else np.minimum(y, high.reshape(()))
        return np.array(y, x.dtype)

    def lower(
        self,
        x: te.Tensor,
        low: te.Tensor | None = None,
        high: te.Tensor | None = None,
        **options: Any,
    ) -> te.Tensor:
        known = (*known_of(options, 3), None, None)

        def element(*i: te.Expr) -> te.Expr:
            y = x.at(*i)
            if low is not None:
                y = te.maximum(y, scalar_operand(low, known[1]))
            return y if high is None else te.minimum(y, scalar_operand(high, known[2]))

        return te.compute(x.dtype, x.shape, element)
