"""Takes out of loops what is the same in each of their iterations.

Before: for i: y[i] = (x[i] - total * 0.01) / sqrt(square * 0.01)
After: a = total * 0.01; b = sqrt(square * 0.01); for i: y[i] = (x[i] - a) / b

Only arithmetic on scratch memory is moved: reading it early is always allowed, and LLVM, which runs
without its pass for this, cannot know that reading other memory is.
"""

from dataclasses import dataclass, field

from bessemer.lower.loops import (
    Alloc,
    Buffer,
    For,
    If,
    LaneReduce,
    Let,
    Stmt,
    Store,
    statements,
    written,
)
from bessemer.te.expr import Expr, Load, Var


def hoist(body: list[Stmt]) -> list[Stmt]:
    """The statements with invariant parts of stored values computed before the loops."""
    return _Hoister().block(body)


@dataclass
class _Loop:
    """A loop from which expressions are taken; `same` is scratch that it reads and never writes."""

    variables: set[str]
    same: set[int]
    before: list[Stmt] = field(default_factory=list)
    made: dict[int, tuple[Expr, Expr]] = field(default_factory=dict)
    known: dict[int, tuple[bool, bool]] = field(default_factory=dict)

    def can_give(self, expr: Expr) -> bool:
        """True for arithmetic on memory that is the same in each turn."""
        is_same, reads = self.judge(expr)
        return is_same and reads and expr.dtype.is_float and not isinstance(expr, Load)

    def judge(self, expr: Expr) -> tuple[bool, bool]:
        """Whether an expression is the same in each turn, and whether it reads memory."""
        found = self.known.get(id(expr))
        if found is None:
            parts = [self.judge(child) for child in expr.children()]
            reads = isinstance(expr, Load)
            found = self.known[id(expr)] = (
                self.allows(expr) and all(same for same, _ in parts),
                reads or any(read for _, read in parts))
        return found

    def allows(self, node: Expr) -> bool:
        """True if one node of an expression, apart from its children, is the same in each turn."""
        if isinstance(node, Var):
            return node.name not in self.variables
        if isinstance(node, Load):
            return id(node.tensor) in self.same
        return not isinstance(node, LaneReduce)


class _Hoister:
    def __init__(self) -> None:
        self.count = 0
        self.stored: set[int] = set()
        """Scratch that was written so far."""

    def block(self, body: list[Stmt]) -> list[Stmt]:
        result: list[Stmt] = []
        for stmt in body:
            result += self.statement(stmt)
        return result

    def statement(self, stmt: Stmt) -> list[Stmt]:
        if isinstance(stmt, If):
            return [If(stmt.condition, self.block(stmt.body), self.block(stmt.otherwise))]
        if isinstance(stmt, Store) and stmt.buffer.scope == "stack":
            self.stored.add(id(stmt.buffer))
        if not isinstance(stmt, For):
            return [stmt]
        before: list[Stmt] = []
        body = stmt.body
        if self.stored and stmt.kind == "serial" and stmt.extent != 1:
            before, body = self.lightened(stmt)
        return [*before, For(stmt.var, stmt.extent, stmt.kind, self.block(body))]

    def lightened(self, stmt: For) -> tuple[list[Stmt], list[Stmt]]:
        """What goes before a loop, and the loop's body without it."""
        inside = list(statements(stmt.body))
        same = self.stored - written(stmt.body)
        if not same:
            return [], stmt.body
        loop = _Loop(
            {stmt.var.name, *(s.var.name for s in inside if isinstance(s, (For, Let)))}, same)
        body = self.lighten(stmt.body, loop)
        return loop.before, body

    def lighten(self, body: list[Stmt], loop: _Loop) -> list[Stmt]:
        """The statements of a loop without what goes before it."""
        result: list[Stmt] = []
        for stmt in body:
            match stmt:
                case Store(buffer=buffer, indices=indices, value=value):
                    stmt = Store(buffer, indices, self.expression(value, loop))
                case For(var=var, extent=extent, kind=kind, body=inner):
                    stmt = For(var, extent, kind, self.lighten(inner, loop))
                case If(condition=condition, body=inner, otherwise=otherwise):
                    stmt = If(condition, self.lighten(inner, loop), self.lighten(otherwise, loop))
            result.append(stmt)
        return result

    def expression(self, expr: Expr, loop: _Loop) -> Expr:
        """The expression with its largest invariant parts read from scratch memory."""
        found = loop.made.get(id(expr))
        if found is not None:
            return found[1]
        if loop.can_give(expr):
            fresh: Expr = self.keep(expr, loop)
        else:
            children = expr.children()
            new = tuple(self.expression(child, loop) for child in children)
            fresh = expr if all(a is b for a, b in zip(children, new, strict=True)) \
                else expr.with_children(new)
        loop.made[id(expr)] = expr, fresh
        return fresh

    def keep(self, expr: Expr, loop: _Loop) -> Expr:
        """Computes the expression before the loop."""
        self.count += 1
        buffer = Buffer.dense(f"once{self.count}", expr.dtype, (), "stack")
        loop.before += [Alloc(buffer), Store(buffer, (), expr)]
        return Load(buffer, (), expr.dtype)

