"""Loops that the interpreter of loop IR may run at once."""

import math

from bessemer.lower.loops import For, Function, If, Stmt, Store, dense_strides, expressions, static
from bessemer.te.expr import Load, text
from bessemer.te.walk import walk

MAX_GRID = 1 << 16
"""Elements that joined loops may compute at once."""


def grid_loops(loop: For, function: Function) -> list[For]:
    """Nested loops around one store whose iterations write distinct elements and only read their
    own; they may run at once. Empty if there are none.
    """
    loops, body = [loop], loop.body
    while len(body) == 1 and isinstance(body[0], For):
        loops.append(body[0])
        body = body[0].body
    leaf: Stmt | None = body[0] if len(body) == 1 else None
    if isinstance(leaf, If) and not leaf.otherwise and len(leaf.body) == 1:
        leaf = leaf.body[0]
    if not isinstance(leaf, Store) or any(each.kind == "parallel" for each in loops):
        return []
    buffer, where = leaf.buffer, [text(index) for index in leaf.indices]
    if buffer.strides != dense_strides(buffer.shape) or function.notes.get("aliased"):
        return []
    if not all(each.var.name in where for each in loops):
        return []
    for expr in expressions(body):
        for node in walk(expr):
            if isinstance(node, Load) and node.tensor is buffer \
                    and [text(index) for index in node.indices] != where:
                return []
    return loops if math.prod(static([each.extent for each in loops])) <= MAX_GRID else []
