"""Linear models and score transforms of ai.onnx.ml: LinearClassifier, LinearRegressor."""

from statistics import NormalDist
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32, i64, string
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, extent
from bessemer.ops.ml_expressions import (
    Rows,
    as_f32,
    best_of,
    label_of,
    products,
    shifted_by,
    transformed,
    two_columns,
)
from bessemer.ops.softmax import softmax_array
from bessemer.te import Tensor

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def check_transform(name: str) -> None:
    """Raises ShapeError if there is no such transform."""
    if name not in TRANSFORMS:
        raise ShapeError(f"post_transform {name!r} is not one of {', '.join(TRANSFORMS)}")


def _probit(value: float) -> float:
    if 0 < value < 1:
        return NormalDist().inv_cdf(value)
    return -np.inf if value <= 0 else np.inf


def transform_scores(scores: Array, name: str) -> Array:
    """Scores [n, e] after a post transform."""
    if name == "LOGISTIC":
        return np.asarray(1 / (1 + np.exp(-scores)))
    if name == "SOFTMAX":
        return softmax_array(scores, 1)
    if name == "SOFTMAX_ZERO":
        # Scores of zero stay zero, relative to the others.
        top = scores.max(axis=1, keepdims=True)
        values = np.where(np.abs(scores) > 1e-7, np.exp(scores - top), scores * np.exp(-top))
        total = values.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total == 0, 0.5, values / np.where(total == 0, 1, total)))
    if name == "PROBIT":
        return np.asarray(np.vectorize(_probit, otypes=[scores.dtype])(scores))
    return scores


def rows_of(x: TensorType) -> Dim:
    """Number of rows of x [n, f] or [f]. Raises ShapeError on another rank."""
    if x.rank not in (1, 2):
        raise ShapeError(f"x has rank {x.rank}; 1 or 2 expected")
    return x.dims[0] if x.rank > 1 else 1


def as_rows(x: Array) -> Array:
    """X [n, f] or [f] as floating-point rows."""
    rows = x if x.ndim > 1 else x.reshape(1, -1)
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)


def label_array(labels: Array, integers: tuple[int, ...], texts: tuple[str, ...]) -> Array:
    """Class numbers as the class labels of the model."""
    if texts:
        return np.asarray(texts, object)[labels]
    if integers:
        return np.asarray(integers, np.int64)[labels]
    return labels.astype(np.int64)


@operator("ai.onnx.ml.LinearRegressor")
class LinearRegressor(Operator):
    """x @ coefficients' + intercepts.

    Shapes: x [n, f] -> y f32 [n, targets].
    Source: ai.onnx.ml LinearRegressor-1.
    """

    coefficients: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    post_transform: str = "NONE"
    targets: int = 1

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_transform(self.post_transform)
        if len(self.coefficients) % max(self.targets, 1):
            raise ShapeError(f"{len(self.coefficients)} coefficients for {self.targets} targets")
        return TensorType(f32, None if x.shape is None else (rows_of(x), self.targets))

    def reference(self, x: Array) -> Array:
        rows = as_rows(x)
        weights = np.asarray(self.coefficients, rows.dtype).reshape(self.targets, -1)
        scores = rows @ weights.T
        if self.intercepts:
            scores = scores + np.asarray(self.intercepts, rows.dtype)
        return transform_scores(scores, self.post_transform).astype(np.float32)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        weights = np.asarray(self.coefficients).reshape(self.targets, -1)
        scores = shifted_by(products(Rows(x), weights), np.asarray(self.intercepts or 0.0))
        return as_f32(transformed(scores, self.post_transform))

    samples = (
        sample("f64[17]", coefficients=tuple(k / 8 for k in range(51)), targets=3,
               intercepts=(1.0, 0.0, -1.0), post_transform="SOFTMAX"),
        sample("f32[3,2]", coefficients=(0.5, -1.0), intercepts=(0.25,)),
        sample("f32[3,2]", coefficients=(0.5, -1.0, 2.0, 1.0), targets=2, post_transform="SOFTMAX"),
        sample("i64[2,2]", coefficients=(0.5, -1.0)),
    )


@operator("ai.onnx.ml.LinearClassifier")
class LinearClassifier(Operator):
    """The class with the best linear score, and the scores.

    Shapes: x [n, f] -> labels [n], scores f32 [n, e].
    Source: ai.onnx.ml LinearClassifier-1.
    """

    classlabels_ints: tuple[int, ...] = ()
    classlabels_strings: tuple[str, ...] = ()
    coefficients: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    multi_class: int = 0
    post_transform: str = "NONE"

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        check_transform(self.post_transform)
        labels = string if self.classlabels_strings else i64
        if x.shape is None:
            return TensorType(labels, None), TensorType(f32, None)
        classes = max(len(self.classlabels_ints), len(self.classlabels_strings))
        features = x.dims[-1]
        columns: Dim = classes
        if isinstance(features, int) and features:
            if len(self.coefficients) % features:
                count = len(self.coefficients)
                raise ShapeError(f"{count} coefficients for rows of {features} features")
            columns = len(self.coefficients) // features
            columns = 2 if columns == 1 and classes == 2 else columns
        return TensorType(labels, (rows_of(x),)), TensorType(f32, (rows_of(x), columns))

    def reference(self, x: Array) -> tuple[Array, Array]:
        rows = as_rows(x)
        weights = np.asarray(self.coefficients, rows.dtype).reshape(-1, rows.shape[1])
        scores = rows @ weights.T
        if self.intercepts:
            scores = scores + np.asarray(self.intercepts, rows.dtype)
        classes = max(len(self.classlabels_ints), len(self.classlabels_strings))
        if scores.shape[1] == 1 and classes == 2:
            scores = np.concatenate([-scores, scores], axis=1)
        # Before the transform, which may round different scores to the same number.
        best = scores.argmax(axis=1)
        scores = transform_scores(scores, self.post_transform)
        if scores.shape[1] > 1:
            labels = label_array(best, self.classlabels_ints, self.classlabels_strings)
        else:
            labels = self._single(scores[:, 0])
        return labels, scores.astype(np.float32)

    def _single(self, scores: Array) -> Array:
        """Labels where there is one score only: the label or nothing."""
        hit = scores >= (0 if self.post_transform == "NONE" else 0.5)
        if self.classlabels_strings:
            return np.where(hit, self.classlabels_strings[0], "").astype(object)
        return np.where(hit, (self.classlabels_ints or (1,))[0], 0).astype(np.int64)

    def lower(self, x: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        if self.classlabels_strings:
            raise Unlowerable("class labels that are strings")
        rows = Rows(x)
        weights = np.asarray(self.coefficients).reshape(-1, extent(rows.features))
        scores = shifted_by(products(rows, weights), np.asarray(self.intercepts or 0.0))
        if scores.shape[1] == 1 and len(self.classlabels_ints) == 2:
            scores = two_columns(scores, complement=False)
        untransformed = scores
        scores = transformed(scores, self.post_transform)
        if scores.shape[1] == 1:
            limit = 0.0 if self.post_transform == "NONE" else 0.5
            label = te.const((self.classlabels_ints or (1,))[0], i64)
            labels = te.compute(i64, scores.shape[:1],
                                lambda r: te.where(scores[r, 0] >= limit, label, 0), "labels")
        else:
            best = best_of(untransformed)
            labels = te.compute(i64, best.shape,
                                lambda r: label_of(best[r], self.classlabels_ints, ()), "labels")
        return labels, as_f32(scores)

    samples = (
        sample("f32[9,5]", coefficients=tuple((k * 7 % 11 - 5) / 4 for k in range(20)), outputs=2,
               classlabels_ints=(2, 4, 6, 8), intercepts=(0.1, 0.0, -0.2, 0.3),
               post_transform="LOGISTIC"),
        sample("f32[3,2]", coefficients=(0.5, -1.0, 1.0, 1.0, 0.2, 0.3), intercepts=(0.1, 0.2, 0.0),
               classlabels_ints=(3, 5, 7), outputs=2),
        sample("f32[3,2]", coefficients=(0.5, -1.0), classlabels_strings=("no", "yes"),
               intercepts=(0.25,), post_transform="LOGISTIC", outputs=2),
        sample("i64[3,2]", coefficients=(0.5, -1.0), classlabels_ints=(1,), outputs=2),
        sample("f64[3,1]", coefficients=(0.5, -1.0), classlabels_ints=(1, 2), outputs=2,
               post_transform="SOFTMAX_ZERO"),
    )


def binary_scores(scores: Array, transform: str, complement: bool) -> Array:
    """Two columns from one score [n]: 1 - s and s, or -s and s, then the transform."""
    first: Any = 1 - scores if complement else -scores
    return transform_scores(np.stack([first, scores], axis=1), transform)
