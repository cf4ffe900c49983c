"""Loss functions: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Shape
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import elements, load, narrow, one_over, wide, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.softmax import shifted, sum_along
from bessemer.te import Expr, Tensor

_LABELS = np.array([[0, 2, 1], [1, 1, 0]])


def loss_type(op: Any, x: TensorType, target: TensorType, weight: TensorType | None) -> TensorType:
    """The loss: like the target, or a scalar. Raises ShapeError if the shapes do not fit."""
    if op.reduction not in ("none", "sum", "mean"):
        raise ShapeError(f"reduction is {op.reduction!r}; none, sum or mean expected")
    if x.shape is not None and target.shape is not None:
        if x.rank != target.rank + 1:
            raise ShapeError(f"ranks {x.rank} and {target.rank}; the target has one axis less")
        for a, b in zip((x.dims[0], *x.dims[2:]), target.dims, strict=True):
            same_dim("scores and targets", a, b)
    if weight is not None and weight.shape is not None and x.shape is not None:
        same_dim("classes and weights", x.dims[1], weight.dims[0])
    return x.with_shape(target.shape if op.reduction == "none" else ())


def log_likelihood_loss(op: Any, x: Array, target: Array, weight: Array | None) -> Array:
    """The loss for log-probabilities x [n, c, *] in x's type."""
    classes = np.clip(target, 0, x.shape[1] - 1).astype(np.int64)
    picked = np.take_along_axis(x, classes[:, None], axis=1)[:, 0]
    factor = np.ones(target.shape, x.dtype) if weight is None else widen(weight)[classes]
    if op.ignore_index is not None:
        factor = np.where(target == op.ignore_index, 0, factor)
    losses = -picked * factor
    if op.reduction == "none":
        return np.asarray(losses)
    total = losses.sum()
    if op.reduction == "sum":
        return np.asarray(total)
    whole = factor.sum() if weight is not None or op.ignore_index is not None else losses.size
    with np.errstate(all="ignore"):
        return np.asarray(total / whole)


def lower_loss(
    op: Any, x: Tensor, target: Tensor, weight: Tensor | None, dtype: DType
) -> Tensor:
    """The loss of log-probabilities x, which already are of the wide type."""
    classes = x.shape[1]

    def factor(*i: Expr) -> Expr:
        label = te.cast(target[i], i64)
        value: Expr = te.const(1, x.dtype)
        if weight is not None:
            value = load(weight[te.minimum(te.maximum(label, 0), classes - 1)])
        if op.ignore_index is None:
            return value
        return te.where(te.equal(label, op.ignore_index), te.const(0, x.dtype), value)

    def loss(*i: Expr) -> Expr:
        label = te.minimum(te.maximum(te.cast(target[i], i64), 0), classes - 1)
        return -x[(i[0], label, *i[1:])] * factor(*i)

    shape: Shape = target.shape
    losses = te.compute(x.dtype, shape, loss, "losses")
    if op.reduction == "none":
        return te.compute(dtype, shape, lambda *i: te.cast(losses[i], dtype), "loss")
    axes = tuple(te.reduce_axis(extent) for extent in shape)
    total = te.compute(x.dtype, (), lambda: te.sum_(losses[axes], *axes), "total")
    if op.reduction == "sum":
        return te.compute(dtype, (), lambda: te.cast(total[()], dtype), "loss")
    if weight is None and op.ignore_index is None:
        scale = one_over(elements(shape), x.dtype)
        return te.compute(dtype, (), lambda: te.cast(total[()] * scale, dtype), "loss")
    more = tuple(te.reduce_axis(extent) for extent in shape)
    factors = te.compute(x.dtype, shape, factor, "factors")
    whole = te.compute(x.dtype, (), lambda: te.sum_(factors[more], *more), "whole")
    return te.compute(dtype, (), lambda: te.cast(total[()] / whole[()], dtype), "loss")


@operator("NegativeLogLikelihoodLoss")
class NegativeLogLikelihoodLoss(Operator):
    """Minus the log-probability of the target class, weighted and reduced.

    Shapes: x [n, c, *], target [n, *], weight [c] -> loss [] or [n, *].
    Source: ONNX NegativeLogLikelihoodLoss-22.
    """

    ignore_index: int | None = None
    reduction: str = "mean"

    fusion = FusionClass.REDUCTION

    def infer(
        self, x: TensorType, target: TensorType, weight: TensorType | None = None
    ) -> TensorType:
        check_floats(x, weight)
        return loss_type(self, x, target, weight)

    def reference(self, x: Array, target: Array, weight: Array | None = None) -> Array:
        return narrow(log_likelihood_loss(self, widen(x), target, weight), x.dtype)

    def lower(
        self, x: Tensor, target: Tensor, weight: Tensor | None = None, **_: Any
    ) -> Tensor:
        values = x
        if wide(x.dtype) != x.dtype:
            values = te.compute(wide(x.dtype), x.shape, lambda *i: load(x[i]), "wide")
        return lower_loss(self, values, target, weight, x.dtype)

    samples = (
        sample("f32[2,4]", np.array([1, 3])), sample("f32[2,3,3]", _LABELS, "f32[3]", low=0.1),
        sample("f32[2,3,3]", _LABELS, "f32[3]", ignore_index=1, low=0.1),
        sample("f32[2,3,3]", _LABELS.astype(np.int32), reduction="none", ignore_index=-5),
        sample("f32[2,3,3]", _LABELS, reduction="sum"), sample("f16[2,4]", np.array([1, 3])),
    )


@operator("SoftmaxCrossEntropyLoss")
class SoftmaxCrossEntropyLoss(Operator):
    """The negative log-likelihood loss of softmax(x); also the log-probabilities.

    Shapes: x [n, c, *], target [n, *], weight [c] -> loss [] or [n, *], log-probabilities like x.
    Source: ONNX SoftmaxCrossEntropyLoss-13.
    """

    ignore_index: int | None = None
    reduction: str = "mean"

    fusion = FusionClass.REDUCTION

    def infer(
        self, x: TensorType, target: TensorType, weight: TensorType | None = None
    ) -> tuple[TensorType, TensorType]:
        check_floats(x, weight)
        return loss_type(self, x, target, weight), x.without_value()

    def reference(
        self, x: Array, target: Array, weight: Array | None = None
    ) -> tuple[Array, Array]:
        values = widen(x)
        centred = values - values.max(axis=1, keepdims=True)
        logs = centred - np.log(np.exp(centred).sum(axis=1, keepdims=True))
        loss = log_likelihood_loss(self, logs, target, weight)
        return narrow(loss, x.dtype), narrow(logs, x.dtype)

    def lower(
        self, x: Tensor, target: Tensor, weight: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        top, exps = shifted(x, 1)
        total = sum_along(exps, 1)

        def body(*i: Expr) -> Expr:
            rest = (i[0], *i[2:])
            return load(x[i]) - top[rest] - te.log(total[rest])

        logs = te.compute(exps.dtype, x.shape, body, "logsoftmax")
        loss = lower_loss(self, logs, target, weight, x.dtype)
        return loss, te.compute(x.dtype, x.shape, lambda *i: te.cast(logs[i], x.dtype), "logs")

    samples = (
        sample("f32[2,4]", np.array([1, 3]), outputs=2),
        sample("f32[2,3,3]", _LABELS, "f32[3]", ignore_index=1, low=0.1, outputs=2),
        sample("f32[2,3,3]", _LABELS, reduction="none"),
        sample("f32[2,3,3]", _LABELS, "f32[3]", reduction="sum"),
        sample("f16[2,4]", np.array([1, 3])),
    )
