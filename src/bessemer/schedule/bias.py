"""The term that is added to a sum first: the sum may start from it, and no addition is left."""

from collections.abc import Sequence
from dataclasses import dataclass

from bessemer.core.dtypes import f32
from bessemer.te.expr import Binary, Const, Expr, Load, Reduce, Var
from bessemer.te.tensor import Tensor
from bessemer.te.walk import walk


@dataclass(frozen=True)
class Bias:
    """`value`, over the axes of `tensor`, and the expressions sum + value: they are the sum."""

    tensor: Tensor
    value: Expr
    totals: tuple[Expr, ...]


def bias_of(stage: Tensor, outputs: Sequence[Tensor]) -> Bias | None:
    """The bias of an f32 sum whose outputs read it only with that bias added; None without one.

    It varies along one axis at most: such a term is read once for a whole tile.
    """
    body = stage.body
    if not isinstance(body, Reduce) or body.kind != "sum" or body.body.dtype != f32 \
            or body.dtype != f32 or len(outputs) != 1:
        return None
    (tensor,) = outputs
    assert tensor.body is not None
    readers = [node for node in walk(tensor.body) if any(
        isinstance(child, Load) and child.tensor is stage for child in node.children())]
    terms = [_term(node, stage) for node in readers]
    first = terms[0] if terms else None
    if first is None or any(term is None or not _same(term, first) for term in terms):
        return None
    return Bias(tensor, first, tuple(readers))


def known_sums(stage: Tensor, bias: Bias | None, total: Expr) -> dict[int, Expr]:
    """What the stage is, and that with its bias, by identity, once the sum is `total`."""
    return {id(each): total for each in (stage, *(bias.totals if bias is not None else ()))}


def _term(node: Expr, stage: Tensor) -> Load | None:
    """What an addition adds to the stage; None for all other expressions."""
    if not isinstance(node, Binary) or node.op != "+" or node.dtype != f32:
        return None
    for total, term in ((node.a, node.b), (node.b, node.a)):
        if isinstance(total, Load) and total.tensor is stage and isinstance(term, Load) \
                and term.tensor.body is None and term.fill is None \
                and sum(isinstance(index, Var) for index in term.indices) <= 1 \
                and all(isinstance(index, (Var, Const)) for index in term.indices):
            return term
    return None


def _same(a: Load, b: Load) -> bool:
    return a.tensor is b.tensor and len(a.indices) == len(b.indices) and all(
        i is j or (isinstance(i, Const) and isinstance(j, Const) and i.value == j.value)
        for i, j in zip(a.indices, b.indices, strict=True))
