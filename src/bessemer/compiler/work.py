"""What a kernel has to do at least: operations, instructions of the vector units, bytes."""

import math
from collections.abc import Callable, Iterable

from bessemer.codegen.legalize import expand_math
from bessemer.core.dtypes import i64
from bessemer.lower.kernel import Kernel
from bessemer.te.expr import Binary, Const, Expr, Load, Reduce, Select, Unary
from bessemer.te.tensor import IterVar, Tensor
from bessemer.te.walk import walk

_DIVISION = 3
"""Places of multiply-adds that a division takes.

Source: Fog, "Instruction tables", VDIVPS of 512 bits on Skylake-X.
"""


def kernel_flops(kernel: Kernel) -> int:
    """Arithmetic operations of one run, counted from the expressions (a multiply-add is two)."""
    return sum(_count(kernel, stage, _operations, 2) for stage in kernel.stages)


def kernel_instructions(kernel: Kernel) -> int:
    """Instructions of the vector units in one run, counted by elements of f32.

    Unlike `kernel_flops` this knows what a function costs: it counts the formulas that functions
    are compiled to. A multiply-add is one, so is a choice with its comparison. Adding to a sum
    counts as nothing, because the sum may start from there.
    """
    return sum(
        _count(kernel, stage, lambda expr: _instructions(expand_math(expr)), 1)
        * max(stage.dtype.size_bytes // 4, 1)
        for stage in kernel.stages if stage.dtype.is_float)


def kernel_bytes(kernel: Kernel) -> int:
    """Bytes of all operands: the traffic of one run with perfect caches."""
    return sum(kernel.usual(operand.layout.count(operand.shape)) * operand.dtype.size_bytes
               for operand in (*kernel.inputs, *kernel.outputs))


def _count(kernel: Kernel, stage: Tensor, count: Callable[[Expr], int], multiply_add: int) -> int:
    """What all turns of a stage's loops take.

    A factor of a sum of products is computed once for each of its own indices.
    """
    body, axes = stage.body, stage.axes
    assert body is not None
    if not isinstance(body, Reduce):
        return _turns(kernel, axes) * count(body)
    axes, inner = (*axes, *body.axes), body.body
    if not isinstance(inner, Binary) or inner.op != "*":
        return _turns(kernel, axes) * (count(inner) + 1)
    factors = sum(
        _turns(kernel, [axis for axis in axes if any(node is axis for node in walk(factor))])
        * count(factor) for factor in (inner.a, inner.b))
    return _turns(kernel, axes) * multiply_add + factors


def _turns(kernel: Kernel, axes: Iterable[IterVar]) -> int:
    return math.prod(kernel.usual(axis.extent) for axis in axes)


def _operations(expr: Expr) -> int:
    """Floating-point operations of an expression; index arithmetic is not counted."""
    return sum(isinstance(node, (Binary, Unary)) and node.dtype.is_float for node in walk(expr))


def _instructions(expr: Expr) -> int:
    """Instructions for one element; equal parts of the expression count once."""
    counter = _Counter()
    counter.number(expr)
    return counter.total


class _Counter:
    """Numbers the distinct parts of an expression and adds up what they cost."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._known: dict[int, int] = {}
        self._readers: dict[int, set[int]] = {}
        self._products: dict[int, list[int]] = {}
        self._costs = 0

    @property
    def total(self) -> int:
        """All costs, with products that only one sum reads joined with it, one in each sum."""
        joined = sum(any(self._readers[product] == {total} for product in products)
                     for total, products in self._products.items())
        return self._costs - joined

    def number(self, node: Expr) -> int:
        """The number of a part; equal ones have the same."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._new_number(node)
        return found

    def _new_number(self, node: Expr) -> int:
        children: tuple[int, ...] = ()
        if not isinstance(node, (Load, Const)):
            children = tuple(map(self.number, node.children()))
        if isinstance(node, Binary) and node.op == "*" and (_is_one(node.a) or _is_one(node.b)):
            return children[1] if _is_one(node.a) else children[0]
        name = node.op if isinstance(node, (Binary, Unary)) else "" if children else str(node)
        fresh = len(self._numbers)
        own = self._numbers.setdefault((type(node), name, node.dtype, children), fresh)
        if own == fresh:
            self._costs += _cost(node)
            for child in children:
                self._readers.setdefault(child, set()).add(own)
            if isinstance(node, Binary) and node.op in ("+", "-"):
                self._products[own] = [
                    child for child, part in zip(children, (node.a, node.b), strict=True)
                    if isinstance(part, Binary) and part.op == "*"]
        return own


def _is_one(node: Expr) -> bool:
    return isinstance(node, Const) and node.value == 1


def _cost(node: Expr) -> int:
    """Instructions of one node without its parts."""
    if node.dtype == i64 or not isinstance(node, (Binary, Unary, Select)):
        return 0
    if isinstance(node, Binary):
        if node.op in ("<", "<=", ">", ">=", "==", "!="):
            return 0
        if node.op == "+" and any(isinstance(part, Load) and isinstance(part.tensor.body, Reduce)
                                  for part in (node.a, node.b)):
            return 0
        if node.op == "/":
            return _DIVISION
    if isinstance(node, Unary):
        # Multiply-adds of all signs exist.
        return {"sqrt": _DIVISION, "neg": 0}.get(node.op, 1)
    return 1
