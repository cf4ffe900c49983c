"""Loop IR with its symbols replaced by numbers: what a symbolic kernel does for one shape."""

from collections.abc import Mapping
from dataclasses import replace

from bessemer.core.formula import parse_dim
from bessemer.core.shapes import Dim, Shape, substitute
from bessemer.lower.loops import (
    Alloc,
    Buffer,
    For,
    Function,
    If,
    LaneReduce,
    Let,
    Prefetch,
    Stmt,
    Store,
    TileProduct,
)
from bessemer.te.expr import Expr, Load, SymbolVar, const
from bessemer.te.walk import rewrite


def bind_function(function: Function, values: Mapping[str, int]) -> Function:
    """The static kernel that a symbolic one is for these extents.

    Raises: AssertionError if a symbol has no value.
    """
    binder = _Binder(values)
    params = tuple(binder.buffer(buffer) for buffer in function.params)
    return Function(function.name, params, binder.block(function.body), dict(function.notes))


class _Binder:
    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)
        self.buffers: dict[int, Buffer] = {}

    def dim(self, dim: Dim) -> int:
        """The value of a dimension."""
        value = substitute(dim, self.values)
        assert isinstance(value, int), f"{dim} has no value for {self.values}"
        return value

    def dims(self, dims: Shape) -> tuple[int, ...]:
        """The values of a shape."""
        return tuple(map(self.dim, dims))

    def buffer(self, buffer: Buffer) -> Buffer:
        """The static buffer; the same one for the same buffer."""
        if id(buffer) not in self.buffers:
            self.buffers[id(buffer)] = replace(
                buffer, shape=self.dims(buffer.shape), strides=self.dims(buffer.strides),
                offset=self.dim(buffer.offset))
        return self.buffers[id(buffer)]

    def expr(self, expr: Expr) -> Expr:
        """The expression over static buffers."""
        return rewrite(expr, self.visit)

    def visit(self, node: Expr) -> Expr | None:
        """A replacement for one node."""
        if isinstance(node, SymbolVar):
            return const(self.dim(parse_dim(node.name)), node.dtype)
        if isinstance(node, Load):
            return Load(self.buffer(node.tensor), node.indices, node.dtype, node.fill)
        if isinstance(node, LaneReduce):
            return LaneReduce(node.kind, self.buffer(node.buffer), node.indices, node.dtype)
        return None

    def block(self, body: list[Stmt]) -> list[Stmt]:
        """The statements."""
        return [self.statement(stmt) for stmt in body]

    def statement(self, stmt: Stmt) -> Stmt:
        """One statement."""
        match stmt:
            case For(var=var, extent=extent, kind=kind, body=inner):
                return For(var, self.dim(extent), kind, self.block(inner))
            case Let(var=var, value=value):
                return Let(var, self.expr(value))
            case Store(buffer=buffer, indices=indices, value=value):
                return Store(self.buffer(buffer), tuple(map(self.expr, indices)), self.expr(value))
            case If(condition=condition, body=inner, otherwise=otherwise):
                return If(self.expr(condition), self.block(inner), self.block(otherwise))
            case Alloc(buffer=buffer):
                return Alloc(self.buffer(buffer))
            case Prefetch(buffer=buffer, indices=indices):
                return Prefetch(self.buffer(buffer), tuple(map(self.expr, indices)))
            case TileProduct(sums=sums, a=a, b=b):
                return replace(
                    stmt, sums=self.buffer(sums), sums_at=self.pair(stmt.sums_at),
                    a=self.buffer(a), a_at=self.pair(stmt.a_at),
                    b=self.buffer(b), b_at=self.pair(stmt.b_at))

    def pair(self, at: tuple[Expr, Expr]) -> tuple[Expr, Expr]:
        """The place of a tile."""
        return self.expr(at[0]), self.expr(at[1])
