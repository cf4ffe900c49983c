"""Takes out of loops what is the same in each of their iterations.

Before: for i: y[i] = (x[i] - total * 0.01) / sqrt(square * 0.01)
After: a = total * 0.01; b = sqrt(square * 0.01); for i: y[i] = (x[i] - a) / b

Only arithmetic on scratch memory is moved: reading it early is always allowed, and LLVM, which runs
without its pass for this, cannot know that reading other memory is.
"""

from dataclasses import dataclass, field

from bessemer.lower.loops import Alloc, Buffer, For, If, LaneReduce, Let, Stmt, Store, statements
from bessemer.te.expr import Expr, Load, Var
from bessemer.te.walk import walk


def hoist(body: list[Stmt]) -> list[Stmt]:
    """The statements with invariant parts of stored values computed before the loops."""
    return _Hoister().block(body)


@dataclass
class _Loop:
    """A loop from which expressions are taken."""

    variables: set[str]
    written: set[int]
    before: list[Stmt] = field(default_factory=list)
    made: dict[int, tuple[Expr, Expr]] = field(default_factory=dict)

    def allows(self, node: Expr) -> bool:
        """True if one node of an expression, apart from its children, is the same in each turn."""
        if isinstance(node, Var):
            return node.name not in self.variables
        if isinstance(node, (Load, LaneReduce)):
            buffer = node.tensor if isinstance(node, Load) else node.buffer
            return isinstance(buffer, Buffer) and buffer.scope != "global" \
                and id(buffer) not in self.written
        return True


class _Hoister:
    def __init__(self) -> None:
        self.count = 0

    def block(self, body: list[Stmt]) -> list[Stmt]:
        result: list[Stmt] = []
        for stmt in body:
            result += self.statement(stmt)
        return result

    def statement(self, stmt: Stmt) -> list[Stmt]:
        if isinstance(stmt, If):
            return [If(stmt.condition, self.block(stmt.body), self.block(stmt.otherwise))]
        if not isinstance(stmt, For):
            return [stmt]
        if stmt.kind != "serial" or stmt.extent == 1:
            return [For(stmt.var, stmt.extent, stmt.kind, self.block(stmt.body))]
        inside = list(statements(stmt.body))
        loop = _Loop(
            {stmt.var.name, *(s.var.name for s in inside if isinstance(s, (For, Let)))},
            {id(s.buffer) for s in inside if isinstance(s, Store)})
        body = self.lighten(stmt.body, loop)
        return [*loop.before, For(stmt.var, stmt.extent, stmt.kind, self.block(body))]

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
        if _is_arithmetic(expr) and all(map(loop.allows, walk(expr))):
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


def _is_arithmetic(expr: Expr) -> bool:
    """True for arithmetic on numbers that are read."""
    return expr.dtype.is_float and not isinstance(expr, Load) and any(
        isinstance(node, (Load, LaneReduce)) for node in walk(expr))
