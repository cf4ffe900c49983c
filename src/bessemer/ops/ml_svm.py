"""Support vector machines of ai.onnx.ml: SVMClassifier, SVMRegressor."""

from itertools import combinations
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32, i64, string
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array
from bessemer.ops.ml_expressions import (
    Rows,
    as_f32,
    best_of,
    label_of,
    products,
    shifted_by,
    transformed,
    two_columns,
    weighted,
)
from bessemer.ops.ml_linear import (
    as_rows,
    binary_scores,
    check_transform,
    label_array,
    rows_of,
    transform_scores,
)
from bessemer.te import Expr, Tensor

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


def kernel_values(
    name: str, parameters: tuple[float, ...], rows: Rows, vectors: Array
) -> Tensor:
    """What `kernel` computes, as a tensor expression [n, v]."""
    gamma, shift, degree = parameters or (0.0, 0.0, 0.0)
    dtype, shape = rows.dtype, (rows.count, len(vectors))
    if name == "RBF":
        table, k = te.table(np.asarray(vectors, dtype.numpy), "vectors"), te.reduce_axis(
            rows.features)

        def squared(r: Expr, v: Expr) -> Expr:
            difference = rows.at(r, k) - table[v, k]
            return te.sum_(difference * difference, k)

        distance = te.compute(dtype, shape, squared, "distance")
        return te.compute(dtype, shape, lambda *i: te.exp(distance[i] * -gamma), "kernel")
    inner = products(rows, vectors)
    if name == "LINEAR":
        return inner

    def body(*i: Expr) -> Expr:
        value = inner[i] * gamma + shift
        if name == "SIGMOID":
            return te.tanh(value)
        return te.power(value, te.const(int(degree), dtype))

    return te.compute(dtype, shape, body, "kernel")


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

    fusion = FusionClass.REDUCTION

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

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        rows, weights = Rows(x), np.asarray(self.coefficients).reshape(1, -1)
        bias = np.asarray(self.rho[:1] or 0.0)
        if self.n_supports:
            vectors = np.asarray(self.support_vectors).reshape(self.n_supports, -1)
            values = kernel_values(self.kernel_type, self.kernel_params, rows, vectors)
            total = weighted(values, weights, bias)
        else:
            total = shifted_by(products(rows, weights), bias)
        if self.one_class:
            dtype, sums = total.dtype, total
            total = te.compute(dtype, sums.shape, lambda *i: te.where(
                sums[i] > 0.0, te.const(1.0, dtype), -1.0), "sign")
        return as_f32(transformed(total, self.post_transform))

    samples = (
        sample("i64[5]", coefficients=(0.5, -1.0, 2.0), rho=(0.25,), n_supports=3, low=-3, high=3,
               support_vectors=tuple(k / 10 for k in range(15)), kernel_type="SIGMOID",
               kernel_params=(0.05, 0.1, 0.0)),
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

    fusion = FusionClass.REDUCTION

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
        vectors = sum(self.vectors_per_class) or self._classes()
        if len(self.coefficients) % vectors:
            count, of = len(self.coefficients), "vectors" if self.vectors_per_class else "classes"
            raise ShapeError(f"{count} coefficients for {vectors} {of}")
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

    def lower(self, x: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        if self.classlabels_strings:
            raise Unlowerable("class labels that are strings")
        if self.prob_a:
            raise Unlowerable("probabilities of pairs of classes are found by iteration")
        rows = Rows(x)
        if self.vectors_per_class:
            votes, scores = self._pair_expressions(rows)
        else:
            weights = np.asarray(self.coefficients).reshape(self._classes(), -1)
            votes = scores = shifted_by(products(rows, weights), np.asarray(self.rho[0]))
        labels = self._label_expressions(votes)
        if scores.shape[1] == 1 and self._classes() == 2:
            scores = two_columns(scores, complement=False)
        return labels, as_f32(transformed(scores, self.post_transform))

    def _pair_expressions(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """What `_pairs` computes."""
        count, total = self._classes(), sum(self.vectors_per_class)
        given = np.asarray(self.coefficients).reshape(-1, total)
        ends = np.cumsum((0, *self.vectors_per_class))
        pairs = list(combinations(range(count), 2))
        weights = np.zeros((len(pairs), total))
        # For each outcome of each pair, the class that gets the vote.
        wins = np.zeros((2, len(pairs), count))
        for number, (a, b) in enumerate(pairs):
            weights[number, ends[a] : ends[a + 1]] = given[b - 1, ends[a] : ends[a + 1]]
            weights[number, ends[b] : ends[b + 1]] = given[a, ends[b] : ends[b + 1]]
            wins[1, number, a] = wins[0, number, b] = 1
        vectors = np.asarray(self.support_vectors).reshape(total, -1)
        values = kernel_values(self.kernel_type, self.kernel_params, rows, vectors)
        scores = weighted(values, weights, np.asarray(self.rho[: len(pairs)]))
        table = te.table(wins.astype(rows.dtype.numpy), "wins")
        k = te.reduce_axis(len(pairs))

        def votes(r: Expr, c: Expr) -> Expr:
            return te.sum_(table[te.where(scores[r, k] > 0.0, te.index(1), 0), k, c], k)

        return te.compute(rows.dtype, (rows.count, count), votes, "votes"), scores

    def _label_expressions(self, votes: Tensor) -> Tensor:
        """What `_labels` computes."""
        best, k = best_of(votes), te.reduce_axis(votes.shape[1])
        top = te.compute(votes.dtype, best.shape, lambda r: te.max_(votes[r, k], k), "top")
        half = len(self.rho) == 1 and min(self.coefficients, default=0) >= 0

        def body(r: Expr) -> Expr:
            if self._classes() == 1:
                return te.cast(top[r] > 0.0, i64)
            place = te.where(top[r] >= 0.5, te.index(1), best[r]) if half else best[r]
            return label_of(place, self.classlabels_ints, ())

        return te.compute(i64, best.shape, body, "labels")

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
