"""Attributes and sizes that make no sense are refused when shapes are inferred."""

from typing import Any

import numpy as np
import pytest

from bessemer.core.dtypes import f32, i64
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.conv_transpose import ConvTranspose
from bessemer.ops.grid_sample import AffineGrid, GridSample
from bessemer.ops.loss import SoftmaxCrossEntropyLoss
from bessemer.ops.normalize import LpNormalization
from bessemer.ops.normalize_channels import LRN
from bessemer.ops.pool import AveragePool
from bessemer.ops.resize import Resize
from bessemer.ops.roi import MaxRoiPool, MaxUnpool, RoiAlign
from bessemer.ops.signal import DFT, STFT
from bessemer.ops.signal_windows import HannWindow


def of(*shape: int) -> TensorType:
    return TensorType(f32, shape)


def holding(*values: Any) -> TensorType:
    return TensorType.of(np.array(values if len(values) != 1 else values[0]))


IMAGE = of(1, 4, 6, 6)


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        (ConvTranspose(strides=(0, 1)), (IMAGE, of(4, 2, 3, 3)), "must be >= 1"),
        (ConvTranspose(group=3), (IMAGE, of(4, 2, 3, 3)), "3 groups"),
        (ConvTranspose(pads=(9, 9, 9, 9)), (IMAGE, of(4, 2, 3, 3)), "not positive"),
        (AveragePool(kernel_shape=(0, 1)), (IMAGE,), "must be >= 1"),
        (AveragePool(kernel_shape=(2, 2), pads=(-1, 0, 0, 0)), (IMAGE,), "negative"),
        (RoiAlign(output_height=-1), (IMAGE, of(2, 4), TensorType(i64, (2,))), "pooled extents"),
        (RoiAlign(sampling_ratio=-1), (IMAGE, of(2, 4), TensorType(i64, (2,))), "sampling_ratio"),
        (RoiAlign(), (IMAGE, of(2, 5), TensorType(i64, (2,))), "columns of rois"),
        (MaxRoiPool(pooled_shape=(0, 2)), (IMAGE, of(2, 5)), "pooled_shape"),
        (MaxUnpool(kernel_shape=(1, 1), pads=(9, 9, 9, 9)), (IMAGE, IMAGE), "unpooled shape"),
        (MaxUnpool(kernel_shape=(2, 2)), (IMAGE, IMAGE, holding(1, 4, 9)), "3 entries; 4"),
        (GridSample(mode="area"), (IMAGE, of(1, 2, 2, 2)), "mode is 'area'"),
        (GridSample(), (IMAGE, of(1, 2, 2, 3)), "coordinates of the grid"),
        (AffineGrid(), (of(1, 2, 3), holding(1, 1, 0, 4)), "size"),
        (Resize(), (IMAGE, None, holding(1.0, 1.0, 0.0, 2.0)), "must be above 0"),
        (Resize(), (IMAGE, None, None, holding(1, 4, -6, 6)), "sizes"),
        (Resize(axes=(0, 0)), (IMAGE, None, None, holding(6, 6)), "twice"),
        (LRN(size=0), (IMAGE,), "size is 0"),
        (LpNormalization(p=3), (IMAGE,), "p is 3"),
        (SoftmaxCrossEntropyLoss(), (of(2, 3), TensorType(i64, (3,))), "scores and targets"),
        (DFT(), (of(2, 8, 1), holding(0)), "transform's length"),
        (STFT(), (of(1, 8, 1), holding(2), of(9)), "too short"),
        (HannWindow(), (holding(-3),), "window's size"),
    ],
)
def test_refused(op: Operator, inputs: tuple[TensorType | None, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        op.infer(*inputs)
