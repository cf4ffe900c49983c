"""Object detection: NonMaxSuppression."""

import numpy as np

from bessemer.core.dtypes import i64
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array, fresh_dim


@operator("NonMaxSuppression")
class NonMaxSuppression(Operator):
    """Per image and class, the best boxes that do not overlap a better one too much.

    Shapes: boxes [n, b, 4], scores [n, c, b], limits [] each -> selected i64 [found, 3]
    (image, class, box).
    Source: ONNX NonMaxSuppression-11.
    """

    center_point_box: int = 0

    def infer(
        self, boxes: TensorType, scores: TensorType, *_: TensorType | None
    ) -> TensorType:
        if boxes.shape is not None and scores.shape is not None:
            if boxes.rank != 3 or scores.rank != 3:
                raise ShapeError(f"ranks {boxes.rank} and {scores.rank}; 3 and 3 expected")
            same_dim("boxes and scores", boxes.dims[1], scores.dims[2])
            same_dim("coordinates of a box", boxes.dims[2], 4)
        return TensorType(i64, (fresh_dim(self), 3))

    def reference(
        self, boxes: Array, scores: Array, most: Array | None = None, overlap: Array | None = None,
        least: Array | None = None,
    ) -> Array:
        limit = int(most.reshape(-1)[0]) if most is not None else 0
        threshold = float(overlap.reshape(-1)[0]) if overlap is not None else 0.0
        found: list[tuple[int, int, int]] = []
        for n, c in np.ndindex(*scores.shape[:2]):
            corners = self._corners(boxes[n])
            order = np.argsort(-scores[n, c], kind="stable")
            if least is not None:
                order = order[scores[n, c][order] > least.reshape(-1)[0]]
            found += [(n, c, box) for box in _select(corners, order, limit, threshold)]
        return np.asarray(found, np.int64).reshape(-1, 3)

    def _corners(self, boxes: Array) -> Array:
        """Boxes as low and high corners [b, 4]."""
        if self.center_point_box:
            centre, half = boxes[:, :2], boxes[:, 2:] / 2
            return np.concatenate([centre - half, centre + half], axis=1)
        first, second = boxes[:, :2], boxes[:, 2:]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)

    samples = (
        sample(
            np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [1, 1, 0, 0]]], np.float32),
            np.array([[[0.9, 0.75, 0.6, 0.95], [0.1, 0.8, 0.7, 0.3]]], np.float32),
            np.array(3), np.array(0.5, np.float32), np.array(0.2, np.float32),
        ),
        sample("f32[2,6,4]", "f32[2,3,6]", np.array(2), center_point_box=1, low=0.1),
        sample("f32[1,6,4]", "f32[1,3,6]"),
    )


def _select(boxes: Array, order: Array, limit: int, threshold: float) -> list[int]:
    """Greedy selection from boxes [b, 4] in the order of their scores."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    chosen: list[int] = []
    rest = order
    while len(rest) and len(chosen) < limit:
        best, rest = int(rest[0]), rest[1:]
        chosen.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[rest] - shared
        # Boxes without an area overlap nothing.
        rest = rest[(union <= 0) | (shared <= threshold * union)]
    return chosen
