"""Literal: a constant that kernels cannot hold, such as strings, as a step of its own."""

from typing import Any

import numpy as np

from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType


@operator("bessemer.Literal")
class Literal(Operator):
    """y = value. The engine puts it in front of host operators that read a string constant."""

    value: np.ndarray[Any, Any] | None = None

    fusion = FusionClass.OPAQUE

    def infer(self) -> TensorType:
        return TensorType.of(self._content())

    def reference(self) -> np.ndarray[Any, Any]:
        return self._content().copy()

    def _content(self) -> np.ndarray[Any, Any]:
        if self.value is None:
            raise ValueError("Literal needs a value")
        return self.value

    samples = (sample(value=np.array(["a", "bc"], object)), sample(value=np.array([1, 2])))
