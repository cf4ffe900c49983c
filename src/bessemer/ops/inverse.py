"""Inverse: the inverse of each matrix. It runs on the host."""

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array


@operator("com.microsoft.Inverse")
class Inverse(Operator):
    """The inverse of each matrix; every one must have one.

    Shapes: x [*, m, m] -> y like x.
    Source: ONNX Runtime's com.microsoft Inverse-1.
    """

    def infer(self, x: TensorType) -> TensorType:
        check_floats(x)
        if x.shape is not None:
            if x.rank < 2:
                raise ShapeError(f"Inverse needs square matrices, got {x}")
            same_dim("rows and columns", x.dims[-2], x.dims[-1])
        return x.without_value()

    def reference(self, x: Array) -> Array:
        return narrow(np.linalg.inv(widen(x)), x.dtype)

    samples = (
        sample(np.array([[2, 1], [1, 3]], np.float32)),
        sample(np.array([[[4, 1], [2, 3]], [[1, 0], [5, 2]]], np.float64)),
        sample("f32[0,3,3]"),
    )
