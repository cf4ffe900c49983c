"""Support vector machines of ai.onnx.ml: SVMClassifier, SVMRegressor."""

from itertools import combinations
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32, i64, string
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array
from bessemer.ops.ml_linear import (
    as_rows,
    binary_scores,
    check_transform,
    label_array,
    rows_of,
    transform_scores,
)

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def kernel(name: str, parameters: tuple[float, ...], x: Array, vectors: Array) -> Array:
    """Kernel values of rows x [n, f] against vectors [v, f] -> [n, v]."""
    gamma, shift, degree = parameters or (0.0, 0.0, 0.0)
    if name == "RBF":
        distance = ((x[:, None] - vectors[None]) ** 2).sum(axis=2)
        return np.asarray(np.exp(-gamma * distance))
    product = x @ vectors.T
    if name == "POLY":
        return np.asarray((product * gamma + shift) ** int(degree))
    if name == "SIGMOID":
        return np.asarray(np.tanh(product * gamma + shift))
    return np.asarray(product)


def _check(op: Any) -> None:
    check_transform(op.post_transform)
    if op.kernel_type not in _KERNELS:
        raise ShapeError(f"kernel_type {op.kernel_type!r} is not one of {', '.join(_KERNELS)}")


@operator("ai.onnx.ml.SVMRegressor")
class SVMRegressor(Operator):
    """Weighted kernel values plus a constant; with `one_class` the sign of it.

    Shapes: x [n, f] -> y f32 [n, 1].
    Source: ai.onnx.ml SVMRegressor-1.
    """

    coefficients: tuple[float, ...] = ()
    kernel_params: tuple[float, ...] = ()
    kernel_type: str = "LINEAR"
    n_supports: int = 0
    one_class: int = 0
    post_transform: str = "NONE"
    rho: tuple[float, ...] = ()
    support_vectors: tuple[float, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        _check(self)
        return TensorType(f32, None if x.shape is None else (rows_of(x), 1))

    def reference(self, x: Array) -> Array:
        rows = as_rows(x)
        weights = np.asarray(self.coefficients, rows.dtype)
        if self.n_supports:
            vectors = np.asarray(self.support_vectors, rows.dtype).reshape(self.n_supports, -1)
            total = kernel(self.kernel_type, self.kernel_params, rows, vectors) @ weights
        else:
            total = rows @ weights
        total = total + (self.rho[0] if self.rho else 0.0)
        if self.one_class:
            total = np.where(total > 0, 1.0, -1.0)
        return transform_scores(total[:, None], self.post_transform).astype(np.float32)

    samples = (
        sample("f32[3,2]", coefficients=(0.5, -1.0), rho=(0.25,)),
        sample("f32[3,2]", coefficients=(0.5, -1.0), rho=(0.25,), n_supports=2,
               support_vectors=(1.0, 0.5, -1.0, 2.0), kernel_type="RBF",
               kernel_params=(0.5, 0.0, 0.0)),
        sample("f64[3,2]", coefficients=(0.5, -1.0), rho=(0.25,), n_supports=2, one_class=1,
               support_vectors=(1.0, 0.5, -1.0, 2.0), kernel_type="POLY",
               kernel_params=(0.5, 1.0, 3.0)),
    )


@operator("ai.onnx.ml.SVMClassifier")
class SVMClassifier(Operator):
    """One-against-one votes of support vectors (or linear scores), optionally probabilities.

    Shapes: x [n, f] -> labels [n], scores f32 [n, e].
    Source: ai.onnx.ml SVMClassifier-1.
    """

    classlabels_ints: tuple[int, ...] = ()
    classlabels_strings: tuple[str, ...] = ()
    coefficients: tuple[float, ...] = ()
    kernel_params: tuple[float, ...] = ()
    kernel_type: str = "LINEAR"
    post_transform: str = "NONE"
    prob_a: tuple[float, ...] = ()
    prob_b: tuple[float, ...] = ()
    rho: tuple[float, ...] = ()
    support_vectors: tuple[float, ...] = ()
    vectors_per_class: tuple[int, ...] = ()

    def _classes(self) -> int:
        return max(len(self.classlabels_ints), len(self.classlabels_strings), 1)

    def _columns(self) -> int:
        """Number of scores before the transform."""
        count = self._classes()
        return count if self.prob_a or not self.vectors_per_class else count * (count - 1) // 2

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        _check(self)
        labels = string if self.classlabels_strings else i64
        if x.shape is None:
            return TensorType(labels, None), TensorType(f32, None)
        columns = self._columns()
        if columns == 1 and self._classes() == 2:
            columns = 2
        return TensorType(labels, (rows_of(x),)), TensorType(f32, (rows_of(x), columns))

    def reference(self, x: Array) -> tuple[Array, Array]:
        rows = as_rows(x)
        if self.vectors_per_class:
            votes, scores = self._pairs(rows)
            if self.prob_a:
                scores = np.stack([self._probabilities(row) for row in scores])
        else:
            weights = np.asarray(self.coefficients, rows.dtype).reshape(self._classes(), -1)
            scores = rows @ weights.T + self.rho[0]
            votes = scores
        labels = self._labels(votes)
        if scores.shape[1] == 1 and self._classes() == 2:
            scores = binary_scores(scores[:, 0], self.post_transform, False)
        else:
            scores = transform_scores(scores, self.post_transform)
        return labels, scores.astype(np.float32)

    def _labels(self, votes: Array) -> Array:
        best = votes.argmax(axis=1)
        if self._classes() > 1:
            if len(self.rho) == 1 and not self.prob_a and min(self.coefficients, default=0) >= 0:
                # With weights that are all positive, half a vote already decides for the second.
                best = np.where(votes.max(axis=1) >= 0.5, 1, best)
            return label_array(best, self.classlabels_ints, self.classlabels_strings)
        return np.asarray(votes.max(axis=1) > 0, np.int64)

    def _pairs(self, x: Array) -> tuple[Array, Array]:
        """Votes [n, classes] and the score of every pair of classes [n, pairs]."""
        count, total = self._classes(), sum(self.vectors_per_class)
        vectors = np.asarray(self.support_vectors, x.dtype).reshape(total, -1)
        weights = np.asarray(self.coefficients, x.dtype).reshape(-1, total)
        values = kernel(self.kernel_type, self.kernel_params, x, vectors)
        ends = np.cumsum((0, *self.vectors_per_class))
        votes = np.zeros((len(x), count), x.dtype)
        scores = []
        for number, (a, b) in enumerate(combinations(range(count), 2)):
            of_a, of_b = slice(ends[a], ends[a + 1]), slice(ends[b], ends[b + 1])
            score = values[:, of_a] @ weights[b - 1, of_a] + values[:, of_b] @ weights[a, of_b]
            score = score + self.rho[number]
            votes[:, a] += score > 0
            votes[:, b] += score <= 0
            scores.append(score)
        return votes, np.stack(scores, axis=1)

    def _probabilities(self, scores: Array) -> Array:
        """Class probabilities from the scores of all pairs (Wu, Lin and Weng, as in libsvm)."""
        count = self._classes()
        pairs = np.zeros((count, count))
        for number, (a, b) in enumerate(combinations(range(count), 2)):
            turn = float(scores[number]) * self.prob_a[number] + self.prob_b[number]
            value = float(np.clip(1 - 1 / (1 + np.exp(-turn)), 1e-7, 1 - 1e-7))
            pairs[a, b], pairs[b, a] = value, 1 - value
        matrix = -pairs.T * pairs
        np.fill_diagonal(matrix, (pairs**2).sum(axis=0))
        p = np.full(count, 1.0 / count)
        for _ in range(max(100, count)):
            q = matrix @ p
            whole = float(p @ q)
            if np.abs(q - whole).max() < 0.005 / count:
                break
            for k in range(count):
                step = (whole - q[k]) / matrix[k, k]
                p[k] += step
                whole = (whole + step * (step * matrix[k, k] + 2 * q[k])) / (1 + step) ** 2
                q = (q + step * matrix[k]) / (1 + step)
                p = p / (1 + step)
        return p

    samples = (
        sample("f32[4,2]", classlabels_ints=(0, 1, 2), vectors_per_class=(1, 2, 1), outputs=2,
               support_vectors=(1.0, 0.5, -1.0, 2.0, 0.3, 0.2, 1.5, -0.5), kernel_type="RBF",
               coefficients=(1.0, -0.5, -0.5, 0.7, 0.8, 0.3, -0.4, -1.0),
               kernel_params=(0.5, 0.0, 0.0), rho=(0.1, -0.2, 0.3)),
        sample("f32[4,2]", classlabels_ints=(0, 1), vectors_per_class=(1, 1), outputs=2,
               support_vectors=(1.0, 0.5, -1.0, 2.0), coefficients=(1.0, -1.0), rho=(0.1,)),
        sample("f32[4,2]", classlabels_strings=("a", "b"), vectors_per_class=(1, 1), outputs=2,
               support_vectors=(1.0, 0.5, -1.0, 2.0), coefficients=(1.0, -1.0), rho=(0.1,),
               prob_a=(-1.5,), prob_b=(0.1,)),
        sample("f32[4,2]", classlabels_ints=(3, 4, 5), rho=(0.5,), outputs=2,
               coefficients=(1.0, -0.5, 0.5, 0.7, -0.8, 0.3), post_transform="SOFTMAX"),
    )
