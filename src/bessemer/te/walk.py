"""Walking expressions: their nodes, their loads, and the same expression with parts replaced."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bessemer.te.expr import Expr, Load


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node of the expression, each once, parents before children."""
    seen: set[int] = set()
    stack = [expr]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        stack.extend(node.children())


def rewrite(expr: Expr, visit: Callable[[Expr], Expr | None], memo: dict[int, Any] | None = None
            ) -> Expr:
    """Rebuilds an expression bottom-up; `visit` (on a rebuilt node) gives a replacement or None.

    Shared subexpressions stay shared.
    """
    memo = {} if memo is None else memo
    found = memo.get(id(expr))
    if found is not None:
        return found[1]  # type: ignore[no-any-return]
    children = expr.children()
    fresh = tuple(rewrite(child, visit, memo) for child in children)
    node = expr if all(a is b for a, b in zip(children, fresh)) else expr.with_children(fresh)
    replaced = visit(node)
    result = node if replaced is None else replaced
    memo[id(expr)] = (expr, result)
    return result


def substitute(expr: Expr, values: Mapping[Expr, Expr]) -> Expr:
    """Replaces variables (by identity)."""
    table = {id(k): v for k, v in values.items()}
    return rewrite(expr, lambda node: table.get(id(node)))


def loads(expr: Expr) -> list[Load]:
    """All loads of an expression."""
    return [node for node in walk(expr) if isinstance(node, Load)]
