"""Reorder: the same tensor in another memory layout."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType


@operator("bessemer.Reorder")
class Reorder(Operator):
    """y = x; the layouts of the two values differ.

    Shapes: x [*] -> y [*].
    """

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        return x.without_value()

    def reference(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        return te.compute(x.dtype, x.shape, lambda *i: x[i], "reordered")

    samples = (sample("f32[2,3]"), sample("f32[]"), sample("f32[0,3]"), sample("i64[2,5,3,3]"))
