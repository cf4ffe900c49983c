"""Corner cases of box selection."""

import numpy as np
import pytest
from running import Array

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.detection import NonMaxSuppression

BOXES = np.array([[[0, 0, 1, 1], [0, 0.5, 1, 1.5], [0, 2, 1, 3]]], np.float32)
SCORES = np.array([[[0.5, 0.9, 0.7]]], np.float32)


def select(op: NonMaxSuppression, boxes: Array, most: int, overlap: float) -> list[int]:
    limit, threshold = np.array([most]), np.array([overlap], np.float32)
    return op.reference(boxes, SCORES, limit, threshold)[:, 2].tolist()


def test_the_threshold_itself_is_kept() -> None:
    # The first two boxes share a third of their union.
    assert select(NonMaxSuppression(), BOXES, 9, 0.5 / 1.5) == [1, 2, 0]
    assert select(NonMaxSuppression(), BOXES, 9, 0.33) == [1, 2]


def test_corners_may_come_in_any_order() -> None:
    assert select(NonMaxSuppression(), BOXES[..., [2, 3, 0, 1]], 9, 0.3) == [1, 2]
    assert select(NonMaxSuppression(), BOXES[..., [2, 1, 0, 3]], 9, 0.3) == [1, 2]


def test_centre_and_size() -> None:
    centres = np.concatenate(
        [(BOXES[..., :2] + BOXES[..., 2:]) / 2, BOXES[..., 2:] - BOXES[..., :2]], axis=2
    )
    assert select(NonMaxSuppression(center_point_box=1), centres, 9, 0.3) == [1, 2]


def test_limits() -> None:
    assert select(NonMaxSuppression(), BOXES, 1, 0.3) == [1]
    assert NonMaxSuppression().reference(BOXES, SCORES).shape == (0, 3)
    found = NonMaxSuppression().reference(
        BOXES, SCORES, np.array(9), None, np.array(0.7, np.float32)
    )
    assert found.tolist() == [[0, 0, 1]]


def test_boxes_without_area_do_not_hide_each_other() -> None:
    assert select(NonMaxSuppression(), np.zeros((1, 3, 4), np.float32), 9, 0.0) == [1, 2, 0]


def test_misfits_are_explained() -> None:
    with pytest.raises(ShapeError, match="boxes and scores: 3 and 4"):
        NonMaxSuppression().infer(TensorType(f32, (1, 3, 4)), TensorType(f32, (1, 2, 4)))
