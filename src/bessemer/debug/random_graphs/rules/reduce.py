"""Reductions, running sums, selections and softmax along axes."""

import numpy as np

from bessemer.debug.random_graphs.maker import FLOATS, INTEGERS, NUMBERS, Maker, rule
from bessemer.debug.random_graphs.rules.elementwise import into_range
from bessemer.debug.random_graphs.values import Reject, Value

_KINDS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")


@rule("Reduce", weight=9)
def reduction(maker: Maker) -> None:
    """Every reduction over any axes, in both forms."""
    op = "Reduce" + maker.random.choice(_KINDS)
    x = maker.pick((*FLOATS, "i32", "i64", "u8", "i8"))
    if op == "ReduceLogSum":
        x = into_range(maker, maker.pick(FLOATS), 0.1, 50.0)
    if op in ("ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp") and x.dtype in INTEGERS:
        raise Reject
    axes = None if maker.chance(0.2) else maker.ints(maker.axes(x.rank))
    if axes is not None and not axes.data.size and maker.opset < 18 and op != "ReduceSum":
        raise Reject
    attributes = {"keepdims": maker.integer(0, 1)} if maker.chance(0.8) else {}
    if maker.chance(0.15):
        attributes["noop_with_empty_axes"] = 1
    maker.emit(op, [x, axes], **attributes)


@rule("ArgMax", "ArgMin", weight=0.8)
def arg_reduction(maker: Maker) -> None:
    """Positions of extremes; the first or the last of equal ones."""
    x = maker.pick(NUMBERS, (1, 5), reshape=True)
    axis = maker.axis(x.rank)
    if not x.shape[axis]:
        raise Reject
    maker.emit(maker.choose("ArgMax", "ArgMin"), [x], axis=axis, keepdims=maker.integer(0, 1),
               select_last_index=maker.integer(0, 1))


@rule("CumSum", "CumProd", weight=0.8)
def running(maker: Maker) -> None:
    """Running sums and products."""
    x = maker.pick((*FLOATS, "i32", "i64"), (1, 5))
    axis = maker.given(np.asarray(maker.axis(x.rank), maker.choose(np.int32, np.int64)), True)
    maker.emit(maker.choose("CumSum", "CumSum", "CumProd"), [x, axis],
               exclusive=maker.integer(0, 1), reverse=maker.integer(0, 1))


@rule("TopK", weight=1.5)
def top_k(maker: Maker) -> None:
    """The largest or smallest k, with their places."""
    x = maker.pick(NUMBERS, (1, 5))
    axis = maker.axis(x.rank)
    k = maker.integer(0 if maker.chance(0.05) else min(1, x.shape[axis]), x.shape[axis])
    maker.emit("TopK", [x, maker.ints([k])], outputs=2, axis=axis, largest=maker.integer(0, 1),
               sorted=1)


@rule("Softmax", "LogSoftmax", "Hardmax", weight=1.2)
def softmax(maker: Maker) -> None:
    """Probabilities along an axis."""
    x = maker.pick(FLOATS, (1, 5))
    axis = maker.axis(x.rank)
    maker.emit(maker.choose("Softmax", "Softmax", "LogSoftmax", "Hardmax"), [x],
               **({} if maker.chance(0.2) else {"axis": axis}))


@rule("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", weight=0.4)
def loss(maker: Maker) -> None:
    """Losses with class indices, weights and an ignored class."""
    x = maker.pick(("f32", "f64", "f16"), (2, 4))
    classes = x.shape[1]
    if not classes or not x.data.size:
        raise Reject
    op = maker.choose("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    kind = maker.choose("i32", "i64")
    target: Value = maker.fresh(kind, [x.shape[0], *x.shape[2:]], low=0, high=classes - 1)
    weights = maker.fresh(x.dtype, [classes], low=0.1, high=2.0) if maker.chance(0.5) else None
    attributes = {"reduction": maker.choose("none", "sum", "mean")}
    if maker.chance(0.3):
        attributes["ignore_index"] = maker.integer(0, classes - 1)
    outputs = maker.integer(1, 2) if op.startswith("Soft") else 1
    maker.emit(op, [x, target, weights], outputs=outputs, **attributes)
