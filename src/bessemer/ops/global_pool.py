"""Pooling over all spatial axes: GlobalAveragePool, GlobalMaxPool, GlobalLpPool."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import elements, load, narrow, one_over, rounded, widen
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array
from bessemer.ops.pool import norm_power, norm_root
from bessemer.te import Expr, Tensor


def _infer(x: TensorType) -> TensorType:
    if x.shape is None:
        return x.with_shape(None)
    if x.rank < 2:
        raise ShapeError(f"x has rank {x.rank}; 2 or more expected: [n, c, *spatial]")
    return x.with_shape((*x.dims[:2], *(1,) * (x.rank - 2)))


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _reduce(x: Tensor, kind: Any, element: Any, name: str) -> Tensor:
    axes = [te.reduce_axis(extent) for extent in x.shape[2:]]

    def body(n: Expr, c: Expr, *_: Expr) -> Expr:
        value = element(x[(n, c, *axes)])
        reduced: Expr = kind(value, *axes) if axes else value
        return reduced

    dtype = element(x.at(*(0,) * x.rank)).dtype
    return te.compute(dtype, (*x.shape[:2], *(1,) * len(axes)), body, name)


@operator("GlobalAveragePool")
class GlobalAveragePool(Operator):
    """Mean over all spatial axes.

    Shapes: x [n, c, *spatial] -> y [n, c, 1 ...].
    Source: ONNX GlobalAveragePool-22.
    """

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        return _infer(x)

    def reference(self, x: Array) -> Array:
        return narrow(widen(x).mean(axis=_spatial(x), keepdims=True), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        total = _reduce(x, te.sum_, load, "total")
        scale = one_over(elements(x.shape[2:]), total.dtype)
        return te.compute(
            x.dtype, total.shape, lambda *i: te.cast(total[i] * scale, x.dtype), "average"
        )

    samples = (
        sample("f32[2,3,5,7]"), sample("f32[1,4,9]"), sample("f32[1,2,3,4,5]"),
        sample("f16[1,3,4,4]"), sample("f64[1,3,4,4]"),
    )


@operator("GlobalMaxPool")
class GlobalMaxPool(Operator):
    """Maximum over all spatial axes.

    Shapes: x [n, c, *spatial] -> y [n, c, 1 ...].
    Source: ONNX GlobalMaxPool-22.
    """

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        return _infer(x)

    def reference(self, x: Array) -> Array:
        return np.asarray(x.max(axis=_spatial(x), keepdims=True))

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        return _reduce(x, te.max_, lambda value: value, "globalmax")

    samples = (sample("f32[2,3,5,7]"), sample("f32[1,4,9]"), sample("f16[1,3,4,4]"))


@operator("GlobalLpPool")
class GlobalLpPool(Operator):
    """The p-norm over all spatial axes.

    Shapes: x [n, c, *spatial] -> y [n, c, 1 ...].
    Source: ONNX GlobalLpPool-22.
    """

    p: int = 2

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        return _infer(x)

    def reference(self, x: Array) -> Array:
        total = (np.abs(widen(x)) ** self.p).sum(axis=_spatial(x), keepdims=True)
        return narrow(total ** (1.0 / self.p), x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        total = _reduce(x, te.sum_, lambda value: norm_power(value, self.p), "lpsum")
        return rounded(norm_root(total, self.p), x.dtype)

    samples = (sample("f32[2,3,5,7]"), sample("f32[1,4,9]", p=1), sample("f16[1,3,4,4]", p=3))
