"""What the tensor expressions of ai.onnx.ml share: rows, scores, transforms, labels."""

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32, f64, i64
from bessemer.core.shapes import Dim
from bessemer.ir.operator import Unlowerable
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor


class Rows:
    """x [n, f] or [f] as rows of f32 (f64 if it is f64)."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.dtype: DType = f64 if x.dtype == f64 else f32
        self.count: Dim = x.shape[0] if x.rank > 1 else 1
        self.features: Dim = x.shape[-1]

    def at(self, row: Expr, column: Expr) -> Expr:
        """One feature of one row."""
        return te.cast(self.x[row, column] if self.x.rank > 1 else self.x[column], self.dtype)


def products(rows: Rows, weights: Array) -> Tensor:
    """Each row times each row of the weights [e, f] -> [n, e]."""
    table = te.table(np.asarray(weights, rows.dtype.numpy), "weights")
    k = te.reduce_axis(rows.features)
    return te.compute(rows.dtype, (rows.count, len(weights)),
                      lambda r, e: te.sum_(rows.at(r, k) * table[e, k], k), "products")


def weighted(values: Tensor, weights: Array, bias: Array) -> Tensor:
    """Values [n, v] times weights [e, v], plus a bias [e] or [1] -> [n, e]."""
    table = te.table(np.asarray(weights, values.dtype.numpy), "weights")
    k = te.reduce_axis(values.shape[1])
    sums = te.compute(values.dtype, (values.shape[0], len(weights)),
                      lambda r, e: te.sum_(values[r, k] * table[e, k], k), "sums")
    return shifted_by(sums, bias)


def shifted_by(scores: Tensor, bias: Array) -> Tensor:
    """Scores [n, e] plus a bias [e], [1] or []."""
    if not np.any(bias):
        return scores
    numbers = np.broadcast_to(np.asarray(bias, scores.dtype.numpy).reshape(-1),
                              (int(scores.shape[1]),))  # type: ignore[arg-type]
    table = te.table(np.ascontiguousarray(numbers), "bias")
    return te.compute(scores.dtype, scores.shape, lambda r, e: scores[r, e] + table[e], "scores")


def transformed(scores: Tensor, name: str) -> Tensor:
    """Scores [n, e] after a post transform. Raises: Unlowerable for PROBIT."""
    if name == "LOGISTIC":
        return te.compute(scores.dtype, scores.shape,
                          lambda *i: te.sigmoid(scores[i]), "logistic")
    if name == "SOFTMAX":
        return _softmax(scores, zeros_stay=False)
    if name == "SOFTMAX_ZERO":
        return _softmax(scores, zeros_stay=True)
    if name != "NONE":
        raise Unlowerable(f"the post transform {name} runs on the host")
    return scores


def _softmax(scores: Tensor, zeros_stay: bool) -> Tensor:
    """Softmax of each row; with `zeros_stay` scores of zero stay zero, relative to the others."""
    shape, dtype = scores.shape, scores.dtype
    k, j = te.reduce_axis(shape[1]), te.reduce_axis(shape[1])
    top = te.compute(dtype, shape[:1], lambda r: te.max_(scores[r, k], k), "top")

    def power(r: Expr, e: Expr) -> Expr:
        value = te.exp(scores[r, e] - top[r])
        if not zeros_stay:
            return value
        return te.where(te.abs_(scores[r, e]) > 1e-7, value, scores[r, e] * te.exp(-top[r]))

    powers = te.compute(dtype, shape, power, "powers")
    total = te.compute(dtype, shape[:1], lambda r: te.sum_(powers[r, j], j), "total")

    def body(r: Expr, e: Expr) -> Expr:
        if not zeros_stay:
            return powers[r, e] / total[r]
        none = te.equal(total[r], 0.0)
        return te.where(none, 0.5, powers[r, e] / te.where(none, 1.0, total[r]))

    return te.compute(dtype, shape, body, "softmax")


def best_of(scores: Tensor) -> Tensor:
    """The column of the largest score of each row [n], i64."""
    k = te.reduce_axis(scores.shape[1])
    return te.compute(i64, scores.shape[:1], lambda r: te.argmax(scores[r, k], k), "best")


def label_of(place: Expr, integers: tuple[int, ...], texts: tuple[str, ...]) -> Expr:
    """A class number as the class label of the model. Raises: Unlowerable for texts."""
    if texts:
        raise Unlowerable("class labels that are strings")
    return te.table(np.asarray(integers, np.int64), "labels")[place] if integers else place


def two_columns(score: Tensor, complement: bool) -> Tensor:
    """-s and s, or 1 - s and s, of one score [n, 1] -> [n, 2]."""

    def body(r: Expr, e: Expr) -> Expr:
        value = score[r, 0]
        return te.where(te.equal(e, 0), 1.0 - value if complement else -value, value)

    return te.compute(score.dtype, (score.shape[0], 2), body, "both")


def as_f32(x: Tensor) -> Tensor:
    """The tensor as f32."""
    return te.compute(f32, x.shape, lambda *i: te.cast(x[i], f32), "result")
