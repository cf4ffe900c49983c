"""Dropout: the identity at inference, random zeros in training mode."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import boolean
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_kind
from bessemer.ops.elementwise import known_of, widened


@operator("Dropout")
class Dropout(Operator):
    """The data itself and a mask of True; in training mode random zeros and the rest scaled up.

    Shapes: data [*], ratio [], training_mode [] -> output [*], mask [*].
    Source: ONNX Dropout-22.
    """

    seed: int | None = None

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3]", outputs=2),
        sample("f16[4]", np.array(0.3, np.float32)),
        sample("f32[]", None, np.array(False), outputs=2),
        sample("f32[0,2]"),
        sample("f32[5]", np.array(0.0, np.float32), np.array(True), outputs=2),
        sample("f64[9]", np.array(0.5), np.array(True), outputs=2, seed=3),
    )

    def infer(
        self, data: TensorType, ratio: TensorType | None = None, training: TensorType | None = None
    ) -> tuple[TensorType, TensorType]:
        check_kind(self, data, "float")
        return TensorType(data.dtype, data.shape), TensorType(boolean, data.shape)

    def reference(
        self, data: Array, ratio: Array | None = None, training: Array | None = None
    ) -> tuple[Array, Array]:
        share = 0.5 if ratio is None else float(ratio.reshape(()))
        if training is None or not training.reshape(()) or share == 0:
            return data.copy(), np.ones(data.shape, bool)
        # The Mersenne twister, as ONNX's own tests draw with the same seed.
        drawn = np.random.RandomState(self.seed).uniform(size=data.shape)
        kept: Array = np.asarray(drawn) >= share
        scaled = widened(data) * np.float32(1 / (1 - share))
        return np.where(kept, scaled, 0).astype(data.dtype), kept

    def lower(
        self,
        data: te.Tensor,
        ratio: te.Tensor | None = None,
        training: te.Tensor | None = None,
        **options: Any,
    ) -> tuple[te.Tensor, te.Tensor]:
        constant = (*known_of(options, 3), None, None)[2]
        if training is not None and (constant is None or constant.any()):
            raise Unlowerable("Dropout in training mode is random")
        mask = te.compute(boolean, data.shape, lambda *i: te.const(True, boolean))
        return te.compute(data.dtype, data.shape, data.at), mask
