"""A kernel: the tensor expressions of one fusion group, and how its tensors lie in memory."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bessemer.core.bounds import at_most, less
from bessemer.core.dtypes import DType, i64
from bessemer.core.shapes import Dim, Shape, usual
from bessemer.ir.layout import Layout
from bessemer.lower.affine import Range, linear
from bessemer.lower.loops import Buffer, dense_strides
from bessemer.te.expr import Binary, Const, Expr, Load, Select, Var, const, extent
from bessemer.te.tensor import IterVar, Tensor, stages
from bessemer.te.walk import loads, rewrite, substitute, walk

EXPENSIVE = ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "tan", "sqrt", "rsqrt", "expm1",
             "log1p", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh")

_MOST_INLINED = 2000
"""A compute whose expression has more nodes is kept."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor of a kernel in memory.

    `strides` (elements) belong to the layout's physical dimensions; they are larger than dense
    where the tensor lives inside another one. `offset` counts elements from the buffer's start.
    `constant` is the logical content of a weight, whose layout a schedule may choose.
    """

    tensor: Tensor
    layout: Layout
    strides: Shape
    offset: Dim = 0
    constant: np.ndarray[Any, Any] | None = None
    key: object = None
    """What the operand stands for (a graph value); kept when the operand is rewritten."""

    @staticmethod
    def dense(tensor: Tensor, layout: Layout | None = None,
              constant: np.ndarray[Any, Any] | None = None, key: object = None) -> "Operand":
        """An operand with memory of its own."""
        layout = layout or Layout.plain(tensor.rank)
        return Operand(tensor, layout, dense_strides(layout.physical_shape(tensor.shape)), 0,
                       constant, key)

    def relaid(self, layout: Layout) -> "Operand":
        """A constant operand in another layout."""
        assert self.constant is not None
        return replace(self, layout=layout,
                       strides=dense_strides(layout.physical_shape(self.tensor.shape)))

    @property
    def shape(self) -> Shape:
        """Logical shape."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.tensor.dtype

    def buffer(self, name: str, writable: bool) -> Buffer:
        """The loop IR buffer of this operand."""
        return Buffer(name, self.dtype, self.layout.physical_shape(self.shape), self.strides,
                      "global", self.offset, writable)

@dataclass(eq=False)
class Kernel:
    """Stages (computes, producers first), input operands and output operands of one group."""

    name: str
    inputs: list[Operand]
    outputs: list[Operand]
    sources: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> list[Tensor]:
        """All computes, producers first."""
        return stages(tuple(operand.tensor for operand in self.outputs))

    @property
    def reductions(self) -> list[Tensor]:
        """The computes that reduce."""
        return [stage for stage in self.stages if stage.is_reduction]

    def usual(self, dim: Dim) -> int:
        """The extent that schedules are chosen for: by the hints for symbols, else a guess."""
        return usual(dim, self.notes.get("usual", {}))

    def operand(self, tensor: Tensor) -> Operand | None:
        """The operand of a tensor, if it lies in memory."""
        for operand in (*self.inputs, *self.outputs):
            if operand.tensor is tensor:
                return operand
        return None

    def replace_operand(self, old: Operand, new: Operand) -> None:
        """Uses another operand for the same tensor."""
        self.inputs = [new if operand is old else operand for operand in self.inputs]


def axis_ranges(axes: tuple[IterVar, ...]) -> dict[str, Range]:
    """Ranges of index variables."""
    return {axis.name: (0, axis.extent - 1) for axis in axes}


def with_body(tensor: Tensor, body: Expr) -> Tensor:
    """The same tensor computed by another expression."""
    return Tensor(tensor.name, tensor.dtype, tensor.shape, tensor.axes, body)


def inline(tensor: Tensor, inlinable: "set[int]", rebuilt: dict[int, Tensor]) -> Tensor:
    """Rebuilds a compute; loads of inlinable injective computes are replaced by their bodies."""
    if tensor.body is None:
        return tensor
    if id(tensor) in rebuilt:
        return rebuilt[id(tensor)]

    def visit(node: Expr) -> Expr | None:
        if not isinstance(node, Load) or node.tensor.body is None:
            return None
        producer = inline(node.tensor, inlinable, rebuilt)
        if id(node.tensor) not in inlinable:
            return Load(producer, node.indices, node.dtype, node.fill)
        assert producer.body is not None
        value = substitute(producer.body, dict(zip(producer.axes, node.indices)))
        return guard(value, node) if node.fill is not None else value

    result = with_body(tensor, rewrite(tensor.body, visit))
    rebuilt[id(tensor)] = result
    return result


def guard(value: Expr, load: Load) -> Expr:
    """`value` where the load's indices are inside its tensor, its fill elsewhere."""
    assert load.fill is not None
    condition = inside(load, {})
    return value if condition is None else Select(condition, value, load.fill, value.dtype)


def inside(load: Load, ranges: dict[str, Range]) -> Expr | None:
    """The condition that all indices are inside the tensor; None if the ranges prove it."""
    condition: Expr | None = None
    for index, size in zip(load.indices, load.tensor.shape, strict=True):
        low, high = linear(index, ranges).range(ranges)
        tests: list[Expr] = []
        if not at_most(0, low):
            tests.append(index >= const(0, i64))
        if not less(high, size):
            tests.append(index < extent(size))
        for test in tests:
            condition = test if condition is None else condition & test
    return condition


def is_expensive(body: Expr) -> bool:
    """True if the expression holds a costly function."""
    return any(getattr(node, "op", "") in EXPENSIVE for node in walk(body))


def reading_counts(kernel_stages: list[Tensor]) -> dict[int, int]:
    """How many stages read each compute."""
    counts: dict[int, int] = {}
    for stage in kernel_stages:
        assert stage.body is not None
        seen = {id(n.tensor) for n in walk(stage.body) if isinstance(n, Load)}
        for key in seen:
            counts[key] = counts.get(key, 0) + 1
    return counts


def inline_stages(kernel: Kernel) -> Kernel:
    """Inlines injective computes into their readers.

    Costly ones that a reduction rereads stay apart, and chains in which each compute reads the one
    before several times, whose expressions would double with each link. So do computes over a
    reduction whose neighbours another reduction reads: each element would be computed many times.
    """
    all_stages = kernel.stages
    outputs = {id(operand.tensor) for operand in kernel.outputs}
    counts = reading_counts(all_stages)
    has_reduction = any(stage.is_reduction for stage in all_stages)
    inlinable: set[int] = set()
    weights: dict[int, int] = {}
    windowed = _windowed(all_stages)
    for stage in all_stages:
        assert stage.body is not None
        weight = weights[id(stage)] = _weight(stage.body, inlinable, weights)
        if stage.is_reduction or id(stage) in outputs or weight > _MOST_INLINED:
            continue
        if has_reduction and counts.get(id(stage), 0) > 1 and _reads_deeply(stage):
            continue
        if id(stage) in windowed:
            continue
        inlinable.add(id(stage))
    rebuilt: dict[int, Tensor] = {}
    fresh = [replace(operand, tensor=inline(operand.tensor, inlinable, rebuilt))
             for operand in kernel.outputs]
    return Kernel(kernel.name, kernel.inputs, fresh, kernel.sources, kernel.notes)


def _windowed(all_stages: list[Tensor]) -> set[int]:
    """The computes over reductions that a later reduction reads through a window."""
    found: set[int] = set()
    over: set[int] = set()
    for stage in all_stages:
        assert stage.body is not None
        for load in loads(stage.body):
            if load.tensor.is_reduction or id(load.tensor) in over:
                over.add(id(stage))
            if stage.is_reduction and id(load.tensor) in over and not all(
                    isinstance(index, (Var, Const)) for index in load.indices):
                found.add(id(load.tensor))
    return found


def _weight(body: Expr, inlinable: set[int], weights: dict[int, int]) -> int:
    """Nodes of an expression written out as a tree, with those of the computes put into it."""
    known: dict[int, int] = {}

    def visit(node: Expr) -> int:
        if id(node) not in known:
            total = 1 + sum(visit(child) for child in node.children())
            if isinstance(node, Load) and id(node.tensor) in inlinable:
                total += weights[id(node.tensor)]
            known[id(node)] = total
        return known[id(node)]

    return visit(body)


def _reads_deeply(stage: Tensor) -> bool:
    assert stage.body is not None
    return is_expensive(stage.body)


def is_identity_load(load: Load, axes: tuple[IterVar, ...]) -> bool:
    """True if the load's indices are exactly those index variables, in order."""
    return len(load.indices) == len(axes) and all(
        a is b for a, b in zip(load.indices, axes, strict=True))


def literal_index(expr: Expr) -> int | None:
    """The value of a literal index."""
    return int(expr.value) if isinstance(expr, Const) else None


def product_of_loads(body: Expr) -> tuple[Load, Load] | None:
    """(a, b) if the expression is a product of two loads."""
    if isinstance(body, Binary) and body.op == "*" and isinstance(body.a, Load) \
            and isinstance(body.b, Load):
        return body.a, body.b
    return None
