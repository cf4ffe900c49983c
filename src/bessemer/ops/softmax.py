"""Softmax, LogSoftmax, Hardmax: along one axis."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import i64
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, widen
from bessemer.ops.dims import Array, normalize_axis
from bessemer.te import Expr, Tensor


def _infer(x: TensorType, axis: int) -> TensorType:
    if x.shape is not None and (x.rank or axis not in (0, -1)):
        normalize_axis(axis, x.rank)
    return x.without_value()


def shifted(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Maximum along the axis and, as one compute each, exp(x - max) in the wide type."""
    k = te.reduce_axis(x.shape[axis])
    reduced = (*x.shape[:axis], *x.shape[axis + 1 :])
    dtype = load(x.at(*(0,) * x.rank)).dtype

    def top_body(*i: Expr) -> Expr:
        return te.max_(load(x[(*i[:axis], k, *i[axis:])]), k)

    top = te.compute(dtype, reduced, top_body, "rowmax")

    def exp_body(*i: Expr) -> Expr:
        return te.exp(load(x[i]) - top[(*i[:axis], *i[axis + 1 :])])

    return top, te.compute(dtype, x.shape, exp_body, "exps")


def sum_along(x: Tensor, axis: int, name: str = "rowsum") -> Tensor:
    """The sum along one axis, which disappears."""
    k = te.reduce_axis(x.shape[axis])
    reduced = (*x.shape[:axis], *x.shape[axis + 1 :])
    return te.compute(
        x.dtype, reduced, lambda *i: te.sum_(x[(*i[:axis], k, *i[axis:])], k), name
    )


def softmax_array(x: Array, axis: int) -> Array:
    """Softmax along an axis in the array's own type."""
    exps = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(exps / exps.sum(axis=axis, keepdims=True))


@operator("Softmax")
class Softmax(Operator):
    """exp(x) / sum(exp(x)) along one axis.

    Shapes: x [*] -> y [*].
    Source: ONNX Softmax-13.
    """

    axis: int = -1

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        return _infer(x, self.axis)

    def reference(self, x: Array) -> Array:
        if x.ndim == 0:
            return np.ones_like(x)
        return softmax_array(widen(x), normalize_axis(self.axis, x.ndim)).astype(x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        if x.rank == 0:
            return te.compute(x.dtype, (), lambda: te.const(1, x.dtype))
        axis = normalize_axis(self.axis, x.rank)
        exps = shifted(x, axis)[1]
        total = sum_along(exps, axis)

        def body(*i: Expr) -> Expr:
            return te.cast(exps[i] / total[(*i[:axis], *i[axis + 1 :])], x.dtype)

        return te.compute(x.dtype, x.shape, body, "softmax")

    samples = (
        sample("f32[2,7]"), sample("f32[2,3,5]", axis=1), sample("f32[4,3]", axis=0),
        sample("f32[2,3,4,5]", axis=-2), sample("f32[9]", low=-200, high=200),
        sample("f16[2,5]"), sample("f64[2,5]"), sample("f32[0,5]"), sample("f32[]"),
    )


@operator("LogSoftmax")
class LogSoftmax(Operator):
    """x - log(sum(exp(x))) along one axis.

    Shapes: x [*] -> y [*].
    Source: ONNX LogSoftmax-13.
    """

    axis: int = -1

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        return _infer(x, self.axis)

    def reference(self, x: Array) -> Array:
        if x.ndim == 0:
            return np.zeros_like(x)
        axis = normalize_axis(self.axis, x.ndim)
        centred = widen(x) - widen(x).max(axis=axis, keepdims=True, initial=-np.inf)
        total = np.exp(centred).sum(axis=axis, keepdims=True)
        return narrow(centred - np.log(total), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        if x.rank == 0:
            return te.compute(x.dtype, (), lambda: te.const(0, x.dtype))
        axis = normalize_axis(self.axis, x.rank)
        top, exps = shifted(x, axis)
        total = sum_along(exps, axis)

        def body(*i: Expr) -> Expr:
            rest = (*i[:axis], *i[axis + 1 :])
            return te.cast(load(x[i]) - top[rest] - te.log(total[rest]), x.dtype)

        return te.compute(x.dtype, x.shape, body, "logsoftmax")

    samples = (
        sample("f32[2,7]"), sample("f32[2,3,5]", axis=1), sample("f32[9]", low=-200, high=200),
        sample("f16[2,5]"), sample("f64[2,5]"), sample("f32[]"),
    )


@operator("Hardmax")
class Hardmax(Operator):
    """1 at the first maximum along the axis, 0 elsewhere.

    Shapes: x [*] -> y [*].
    Source: ONNX Hardmax-13.
    """

    axis: int = -1

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        return _infer(x, self.axis)

    def reference(self, x: Array) -> Array:
        if x.ndim == 0:
            return np.ones_like(x)
        result = np.zeros_like(x)
        if x.size:
            first = np.expand_dims(x.argmax(axis=self.axis), self.axis)
            np.put_along_axis(result, first, x.dtype.type(1), axis=self.axis)
        return result

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        if x.rank == 0:
            return te.compute(x.dtype, (), lambda: te.const(1, x.dtype))
        axis = normalize_axis(self.axis, x.rank)
        k = te.reduce_axis(x.shape[axis])
        reduced = (*x.shape[:axis], *x.shape[axis + 1 :])
        first = te.compute(
            i64, reduced, lambda *i: te.argmax(x[(*i[:axis], k, *i[axis:])], k), "first"
        )

        def body(*i: Expr) -> Expr:
            hit = te.equal(first[(*i[:axis], *i[axis + 1 :])], i[axis])
            return te.where(hit, te.const(1, x.dtype), te.const(0, x.dtype))

        return te.compute(x.dtype, x.shape, body, "hardmax")

    samples = (
        sample("f32[2,7]"), sample("f32[2,3,5]", axis=1), sample("f32[3,4]", axis=0),
        sample(np.array([[1, 3, 3, 2]], np.float32)), sample("f32[]"), sample("f32[0,3]"),
    )
