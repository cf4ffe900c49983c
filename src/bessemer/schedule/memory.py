"""Turns loads and stores of tensors into loads and stores of buffers, through their layouts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bessemer.core.bounds import at_most, less
from bessemer.core.dtypes import i64
from bessemer.core.errors import LowerError, ScheduleError
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.layout import Layout
from bessemer.lower.affine import Range, linear
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.loops import Buffer, For, Function, If, Stmt, Store, expressions, statements
from bessemer.te.expr import Expr, Load, Select, SymbolVar, Var, const, extent
from bessemer.te.walk import walk


@dataclass(eq=False)
class Axes:
    """The index variables of a compute: their values in loop variables and their ranges."""

    values: Mapping[str, Expr]
    ranges: dict[str, Range]
    padded: frozenset[str] = frozenset()
    """Axes whose range runs beyond their extent, over the padding of blocked layouts."""


@dataclass(eq=False)
class Memory:
    """Where each tensor of a kernel lives while its loops run."""

    kernel: Kernel
    block: int
    buffers: dict[int, Buffer] = field(default_factory=dict)
    local: dict[int, tuple[Buffer, tuple[int, ...]]] = field(default_factory=dict)
    """Tensors kept in a stack buffer: the buffer and the tensor axes it has (others are fixed)."""
    order: list[Operand] = field(default_factory=list)
    staged: dict[int, Callable[[Axes], Expr]] = field(default_factory=dict)
    """Expressions that were computed before: what to read instead, given the index variables."""
    prefetches: dict[str, int] = field(default_factory=dict)
    """Bytes to prefetch ahead of each vector load, by tensor name."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Notes for the function; the emitter knows "fences"."""

    def buffer(self, operand: Operand, writable: bool = False) -> Buffer:
        """The buffer of an operand; it becomes the next kernel argument."""
        key = id(operand.tensor)
        if key not in self.buffers:
            self.buffers[key] = operand.buffer(f"b{len(self.order)}", writable)
            self.order.append(operand)
        return self.buffers[key]

    def function(self, name: str, body: list[Stmt]) -> Function:
        """The kernel function over the buffers that were used so far."""
        ahead = tuple((k, self.prefetches[operand.tensor.name])
                      for k, operand in enumerate(self.order)
                      if operand.tensor.name in self.prefetches)
        params = tuple(self.buffers[id(operand.tensor)] for operand in self.order)
        notes = {**self.notes, "prefetch": ahead} if ahead else dict(self.notes)
        return Function(name, params, body, notes, symbols_of(params, body))

    def pack(self, name: str, layout: Layout) -> None:
        """Stores a constant operand in another layout.

        Raises: ScheduleError if there is no such constant.
        """
        for operand in self.kernel.inputs:
            if operand.tensor.name == name and operand.constant is not None:
                self.kernel.replace_operand(operand, operand.relaid(layout))
                return
        raise ScheduleError(f"kernel {self.kernel.name} has no constant {name!r} to pack")

    def expression(self, expr: Expr, axes: Axes, known: Mapping[int, Expr] | None = None) -> Expr:
        """An expression of tensors and index variables as one of buffers and loop variables.

        `known` gives values of tensors and expressions that are in registers at this point.
        """
        return self._convert(expr, axes, known or {}, {})

    def _convert(self, expr: Expr, axes: Axes, known: Mapping[int, Expr], memo: dict[int, Expr]
                 ) -> Expr:
        found = memo.get(id(expr))
        if found is not None:
            return found
        result: Expr
        if isinstance(expr, Var) and expr.name in axes.values:
            result = axes.values[expr.name]
        elif id(expr) in self.staged:
            result = self.staged[id(expr)](axes)
        elif id(expr) in known:
            result = known[id(expr)]
        elif isinstance(expr, Load) and id(expr.tensor) in known:
            result = known[id(expr.tensor)]
        elif isinstance(expr, Load):
            result = self._load(expr, axes, known, memo)
        else:
            children = expr.children()
            fresh = tuple(self._convert(child, axes, known, memo) for child in children)
            same = all(a is b for a, b in zip(children, fresh))
            result = expr if same else expr.with_children(fresh)
        memo[id(expr)] = result
        return result

    def _load(self, load: Load, axes: Axes, known: Mapping[int, Expr], memo: dict[int, Expr]
              ) -> Expr:
        indices = tuple(self._convert(i, axes, known, memo) for i in load.indices)
        if id(load.tensor) in self.local:
            buffer, kept = self.local[id(load.tensor)]
            own = Load(buffer, tuple(indices[k] for k in kept), load.dtype)
            return own if load.fill is None else self._filled(load, own, axes, indices)
        operand = self.kernel.operand(load.tensor)
        if operand is None:
            raise LowerError(f"kernel {self.kernel.name}: {load.tensor.name} is not in memory")
        operand, condition = self._bounds(load, operand, axes, indices)
        value: Expr = Load(self.buffer(operand), physical(operand.layout, indices), load.dtype)
        if condition is None:
            return value
        other = load.fill if load.fill is not None else const(0, load.dtype)
        return Select(condition, value, other, load.dtype)

    def _filled(self, load: Load, value: Expr, axes: Axes, indices: tuple[Expr, ...]) -> Expr:
        """The value of a load from scratch memory, or its fill outside of the tensor."""
        assert load.fill is not None
        for k, (index, size) in enumerate(zip(load.indices, load.tensor.shape, strict=True)):
            low, high = linear(index, axes.ranges).range(axes.ranges)
            if not at_most(high, size - 1):
                value = Select(indices[k] < extent(size), value, load.fill, load.dtype)
            if not at_most(0, low):
                value = Select(indices[k] >= const(0, i64), value, load.fill, load.dtype)
        return value

    def _bounds(self, load: Load, operand: Operand, axes: Axes, indices: tuple[Expr, ...]
                ) -> tuple[Operand, Expr | None]:
        """The condition under which the load is in bounds, or None if it always is.

        Reads of zero padding may go to the halo and the padded lanes of a layout, which are zero.
        A constant read beyond its extent because the loop is padded gets a padded layout.
        """
        condition: Expr | None = None
        zero_fill = load.fill is not None and load.fill.value == 0
        for k, (index, size) in enumerate(zip(load.indices, operand.shape, strict=True)):
            low, high = linear(index, axes.ranges).range(axes.ranges)
            floor, ceiling = 0, size - 1
            padded = any(v in axes.padded for v in _variables(index))
            if load.fill is None and not padded:
                continue
            if load.fill is None or zero_fill:
                floor, ceiling = capacity(operand.layout, k, size)
            if padded and not at_most(high, ceiling) and operand.constant is not None \
                    and operand.layout.is_plain and load.fill is None:
                operand = self._padded_constant(operand, k)
                floor, ceiling = capacity(operand.layout, k, size)
            if not at_most(floor, low):
                test = indices[k] >= const(0, i64)
                condition = test if condition is None else condition & test
            if not at_most(high, ceiling):
                test = indices[k] < extent(size)
                condition = test if condition is None else condition & test
        return operand, condition

    def _padded_constant(self, operand: Operand, axis: int) -> Operand:
        fresh = operand.relaid(Layout.blocked(operand.layout.rank, axis, self.block))
        self.kernel.replace_operand(operand, fresh)
        return fresh

    def store(self, operand: Operand, axes: Axes, indices: tuple[Expr, ...], value: Expr
              ) -> list[Stmt]:
        """Stores to an output; lanes beyond the extent are zeroed, or skipped in a plain layout."""
        buffer = self.buffer(operand, writable=True)
        tests: list[Expr] = []
        skipped: list[Expr] = []
        for k, (axis, size) in enumerate(zip(operand.tensor.axes, operand.shape, strict=True)):
            _, high = axes.ranges[axis.name]
            if axis.name in axes.padded and not less(high, size):
                _, ceiling = capacity(operand.layout, k, size)
                fits = at_most(high, ceiling)
                (tests if fits else skipped).append(indices[k] < extent(size))
        for test in tests:
            value = Select(test, value, const(0, value.dtype), value.dtype)
        result: list[Stmt] = [Store(buffer, physical(operand.layout, indices), value)]
        for test in skipped:
            result = [If(test, result)]
        return result


def symbols_of(params: tuple[Buffer, ...], body: list[Stmt]) -> tuple[str, ...]:
    """The symbols that a kernel needs the values of, sorted."""
    dims: list[Dim] = [dim for b in params for dim in (*b.shape, *b.strides, b.offset)]
    dims += [stmt.extent for stmt in statements(body) if isinstance(stmt, For)]
    names = {name for dim in dims if isinstance(dim, Sym) for name in dim.scalars()}
    names |= {node.name for expr in expressions(body) for node in walk(expr)
              if isinstance(node, SymbolVar)}
    return tuple(sorted(names))


def _variables(expr: Expr) -> set[str]:
    names: set[str] = set()

    def visit(node: Expr) -> None:
        if isinstance(node, Var):
            names.add(node.name)
        for child in node.children():
            visit(child)

    visit(expr)
    return names


def capacity(layout: Layout, axis: int, size: Dim) -> tuple[int, Dim]:
    """First and last index of an axis that the layout has memory for."""
    low, high = layout.halo[axis]
    block = layout.block_of(axis)
    return -low, -(-(size + low + high) // block) * block - low - 1


def physical(layout: Layout, indices: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Physical indices of a logical element."""
    result = []
    for part in layout.parts:
        piece = indices[part.axis] + layout.halo[part.axis][0]
        if part.div > 1:
            piece = piece // part.div
        if part.mod:
            piece = piece % part.mod
        result.append(piece)
    return tuple(result)


def border(buffer: Buffer, layout: Layout, shape: Shape, lanes: int) -> list[Stmt]:
    """Loops that write zeros to the halo of an output."""
    extents = layout.physical_shape(shape)
    dims = [k for k, part in enumerate(layout.parts) if layout.halo[part.axis] != (0, 0)]
    result: list[Stmt] = []
    for position, dim in enumerate(dims):
        low, high = layout.halo[layout.parts[dim].axis]
        for start, count in ((0, low), (extents[dim] - high, high)):
            if not count:
                continue
            spans: list[tuple[Dim, Dim]] = [(0, n) for n in extents]
            for earlier in dims[:position]:
                a, b = layout.halo[layout.parts[earlier].axis]
                spans[earlier] = (a, extents[earlier] - a - b)
            spans[dim] = (start, count)
            result += _zero_box(buffer, spans, lanes)
    return result


def _zero_box(buffer: Buffer, spans: list[tuple[Dim, Dim]], lanes: int) -> list[Stmt]:
    variables = [Var(f"z{k}", i64) for k in range(len(spans))]
    indices = tuple(var + extent(start) for var, (start, _) in zip(variables, spans, strict=True))
    body: list[Stmt] = [Store(buffer, indices, const(0, buffer.dtype))]
    outer = next((k for k, (_, n) in enumerate(spans) if isinstance(n, Sym) or n > 1), 0)
    for k in reversed(range(len(spans))):
        count = spans[k][1]
        vector = k == len(spans) - 1 and buffer.strides[k] == 1 \
            and isinstance(count, int) and 1 < count <= lanes
        kind = "vector" if vector else "parallel" if k == outer else "serial"
        body = [For(variables[k], count, kind, body)]
    return body
