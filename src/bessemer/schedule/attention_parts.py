"""What parts a kernel of attention has, and which keys its queries never look at."""

import math
from dataclasses import dataclass

from bessemer.core.dtypes import f32
from bessemer.core.shapes import Dim
from bessemer.lower.affine import linear
from bessemer.lower.kernel import Kernel, product_of_loads
from bessemer.te.expr import Binary, Const, Expr, Load, Reduce, Select, Unary, text
from bessemer.te.tensor import IterVar, Tensor
from bessemer.te.walk import loads, substitute, walk


@dataclass(frozen=True)
class Parts:
    """The computes of an attention kernel and the operands of its products.

    scores [.., s, t] = sum over d of q * k; top [.., s] and total [.., s] of the exponentials;
    weighted [.., s, e] = sum over t of exps * v; result = weighted and total, element by element.
    """

    scores: Tensor
    q: Load
    k: Load
    top: Tensor
    exps: Tensor
    total: Tensor
    weighted: Tensor
    v: Load
    result: Tensor

    @property
    def depth(self) -> Dim:
        """The extent of the sum in a score."""
        return reduction(self.scores).axes[0].extent


def reduction(stage: Tensor) -> Reduce:
    """The reduction that a stage is."""
    assert isinstance(stage.body, Reduce)
    return stage.body


def parts_of(kernel: Kernel) -> Parts | str:
    """The parts of an attention kernel, or why it is none."""
    stages = kernel.stages
    if len(kernel.outputs) != 1 or len(stages) != 6 or len(kernel.reductions) != 4:
        return "not scores, maximum, exponentials, sum, weighted sum and result"
    if any(stage.dtype != f32 for stage in stages):
        return "not all in f32"
    if any(len(reduction(stage).axes) != 1 for stage in kernel.reductions):
        return "a sum over several axes"
    result = kernel.outputs[0].tensor
    exps = next((stage for stage in stages if not stage.is_reduction and stage is not result), None)
    top = _only(kernel, "max")
    sums = [stage for stage in kernel.reductions if reduction(stage).kind == "sum"]
    if exps is None or top is None or len(sums) != 3:
        return "not one maximum and three sums"
    total = next((s for s in sums if isinstance(reduction(s).body, Load)), None)
    pairs = [(s, found) for s in sums
             if (found := product_of_loads(reduction(s).body)) is not None]
    scores = next(((s, p) for s, p in pairs if all(x.tensor is not exps for x in p)), None)
    weighted = next(((s, p) for s, p in pairs if any(x.tensor is exps for x in p)), None)
    if total is None or scores is None or weighted is None:
        return "not a sum of exponentials and two products"
    operands = _operands(*scores)
    v = next((x for x in weighted[1] if x.tensor is not exps), None)
    if operands is None or v is None or any(x.tensor.body is not None for x in (*operands, v)):
        return "its products are not of queries, keys and values in memory"
    parts = Parts(scores[0], *operands, top, exps, total, weighted[0], v, result)
    return _refusal(parts) or parts


def _only(kernel: Kernel, kind: str) -> Tensor | None:
    found = [stage for stage in kernel.reductions if reduction(stage).kind == kind]
    return found[0] if len(found) == 1 else None


def _operands(scores: Tensor, pair: tuple[Load, Load]) -> tuple[Load, Load] | None:
    """(queries, keys) of the product."""
    if scores.rank < 2:
        return None
    s, t = scores.axes[-2:]
    for q, k in (pair, pair[::-1]):
        if _reads(q, s) and not _reads(q, t) and _reads(k, t) and not _reads(k, s) \
                and q.fill is None and k.fill is None:
            return q, k
    return None


def _reads(load: Load, axis: IterVar) -> bool:
    return any(node is axis for index in load.indices for node in walk(index))


def _refusal(parts: Parts) -> str:
    """Empty if the stages read each other as attention does."""
    rows = parts.scores.axes[:-1]
    shape = parts.scores.shape
    if parts.exps.shape != shape or parts.top.shape != shape[:-1] \
            or parts.total.shape != shape[:-1] or parts.weighted.shape[:-1] != shape[:-1]:
        return "the stages have other shapes than attention"
    own: dict[int, tuple[IterVar, ...]] = {
        id(parts.top): (*parts.top.axes, reduction(parts.top).axes[0]),
        id(parts.exps): parts.exps.axes,
        id(parts.total): (*parts.total.axes, reduction(parts.total).axes[0]),
        id(parts.weighted): (*parts.weighted.axes[:-1], reduction(parts.weighted).axes[0])}
    for stage in (parts.top, parts.exps, parts.total, parts.weighted):
        names = own[id(stage)]
        assert stage.body is not None
        for load in loads(stage.body):
            if load.tensor.body is not None and not all(
                    a is b for a, b in zip(load.indices, names)):
                return f"{stage.name} does not read {load.tensor.name} element by element"
    if not _is_softmax(parts, own) or parts.v.fill is not None:
        return "the exponentials are not of scores less their maximum"
    if output_axes(parts) is None:
        return "the result is not the weighted sum element by element"
    return "" if len(rows) >= 1 else "no rows"


def _is_softmax(parts: Parts, own: dict[int, tuple[IterVar, ...]]) -> bool:
    """True if exps = exp(x - f(top)) with top = max of the same x."""
    body = parts.exps.body
    if not isinstance(body, Unary) or body.op != "exp" or not isinstance(body.a, Binary) \
            or body.a.op != "-":
        return False
    names = dict(zip(own[id(parts.top)], parts.exps.axes, strict=True))
    reduced = substitute(reduction(parts.top).body, names)  # type: ignore[arg-type]
    return text(reduced) == text(body.a.a) and {
        id(load.tensor) for load in loads(body.a.b)} == {id(parts.top)}


def output_axes(parts: Parts) -> tuple[int, ...] | None:
    """For each axis of the result the axis of the weighted sum that it runs over."""
    result = parts.result
    assert result.body is not None
    place = {id(axis): k for k, axis in enumerate(result.axes)}
    order: list[int] = []
    for load in loads(result.body):
        if load.tensor.body is None:
            continue
        if load.tensor is not parts.weighted and load.tensor is not parts.total:
            return None
        found = [place.get(id(index), -1) for index in load.indices]
        if load.tensor is parts.weighted:
            order = found
        elif order and found != order[:-1]:
            return None
    sums = [load for load in loads(result.body) if load.tensor is parts.total]
    if sorted(order) != list(range(result.rank)) or any(
            [place.get(id(i), -1) for i in load.indices] != order[:-1] for load in sums):
        return None
    return tuple(order.index(k) for k in range(result.rank))


def furthest_key(top: Tensor) -> int | None:
    """How far keys may lie behind a query to be seen by it: c >= 0 for keys up to s + c.

    The scores of later keys are -inf whatever the data.
    `top` [.., s] is the maximum of the scores over the keys. None if no such bound is known.
    """
    assert isinstance(top.body, Reduce)
    query, key = top.axes[-1], top.body.axes[0]
    found: int | None = None
    body = top.body.body
    while isinstance(body, Select) and isinstance(body.b, Const) and body.b.value == -math.inf:
        bound = _bound(body.condition, query, key)
        if bound is not None:
            found = bound if found is None else min(found, bound)
        body = body.a
    return found if found is not None and found >= 0 else None


def _bound(condition: Expr, query: IterVar, key: IterVar) -> int | None:
    """The number c of a condition key <= query + c; None for others."""
    if not isinstance(condition, Binary) or condition.op not in ("<=", "<", ">=", ">"):
        return None
    low, high = condition.a, condition.b
    if condition.op in (">=", ">"):
        low, high = high, low
    form = linear(high - low, {})
    coefficients = {name: coefficient for name, _, coefficient in form.terms}
    if coefficients != {query.name: 1, key.name: -1} or not isinstance(form.constant, int):
        return None
    return form.constant - (condition.op in ("<", ">"))
