"""Chains of reductions over another axis than the last: vectors run along the last axis.

Softmax over channels, or a normalisation over them, of planar images: neighbours in memory belong
to neighbouring rows. The loops are those of a row, with a lane for each of so many rows.
"""

from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import i64
from bessemer.core.shapes import Dim, Sym, product, usual
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Alloc, Buffer, For, If, Let, Stmt, Store
from bessemer.schedule.accumulators import MAX_STACK_BYTES
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, schedule_rule
from bessemer.schedule.rules.rowwise import (
    Rows,
    Rowwise,
    row_body,
    row_bytes,
    rows_of,
    shared_rows,
)
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Expr, Load, Var, extent
from bessemer.te.walk import rewrite


@schedule_rule("columnwise", priority=42)
class Columnwise(Rowwise):
    """Several stages over common rows that lie side by side; memory bound.

    Knobs: `vectors` of rows in a tile; each vector of one element of them is a cache line.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = super().matches(kernel, target)
        if reason:
            return reason
        rows, lanes = rows_of(kernel), _lanes(kernel, target)
        last = kernel.stages[-1].rank - 1
        if last not in rows.axes[id(kernel.stages[-1])]:
            return "the last axis is no axis of rows"
        if usual(rows.extents[-1]) < lanes:
            return "few rows lie side by side"
        scratch = _scratch(kernel, rows, lanes)
        if scratch > MAX_STACK_BYTES:
            return f"{lanes} rows need {scratch} bytes of scratch"
        return ""

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        rows, lanes = rows_of(kernel), _lanes(kernel, target)
        return {"vectors": tuple(
            n for n in (1, 2, 4) if _scratch(kernel, rows, n * lanes) <= MAX_STACK_BYTES)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        rows, lanes = rows_of(kernel), _lanes(kernel, target)
        count = usual(product(rows.extents))
        fitting = [n for n in (1, 2, 4) if n * lanes * 4 * target.cores <= count
                   and _scratch(kernel, rows, n * lanes) <= target.l1_bytes]
        return {"vectors": max(fitting, default=1)}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        rows, lanes = rows_of(kernel), _lanes(kernel, target)
        vectors = int(knobs["vectors"])
        tile, vector, lane = Var("column", i64), Var("vector", i64), Var("lane", i64)
        variables: list[Expr] = [Var(f"row{k}", i64) for k in range(len(rows.extents) - 1)]
        width = vectors * lanes
        column = tile * width + vector * lanes + lane
        body, text = row_body(kernel, rows, [*variables, column], memory, Schedule.of)
        count = rows.extents[-1]
        whole = _Widened((vector, lane), (vectors, lanes), None).block(body)
        if isinstance(count, Sym) or count % width:
            last = _Widened((vector, lane), (vectors, lanes), column < extent(count)).block(body)
            whole = [If(tile < extent(count // width), whole, last)]
        tiles: Dim = -(-count // width)
        return shared_rows(whole, [*variables, tile], (*rows.extents[:-1], tiles)), text


def _lanes(kernel: Kernel, target: Target) -> int:
    """Lanes of the widest element type."""
    return min(target.lanes(stage.dtype) for stage in kernel.stages)


def _scratch(kernel: Kernel, rows: Rows, width: int) -> int:
    """Bytes for so many rows."""
    return width * sum(usual(row_bytes(stage, rows)) for stage in kernel.stages)


class _Widened:
    """Loops of one row turned into loops of a tile: scratch memory gets a lane for each row.

    `place` and `extents` are the vector in the tile and the lane in the vector.
    """

    def __init__(self, place: tuple[Var, Var], extents: tuple[int, int], mask: Expr | None
                 ) -> None:
        self.place, self.extents, self.mask = place, extents, mask
        self.buffers: dict[int, Buffer] = {}

    def block(self, body: list[Stmt]) -> list[Stmt]:
        """The statements, with vector loops around each run of stores."""
        result: list[Stmt] = []
        stores: list[Stmt] = []
        for stmt in [*body, None]:
            if isinstance(stmt, Store):
                stores.append(self.store(stmt))
                continue
            if stores:
                inside: list[Stmt] = stores if self.mask is None else [If(self.mask, stores)]
                (vector, lane), (vectors, lanes) = self.place, self.extents
                lanes_loop = For(lane, lanes, "vector", inside)
                result.append(For(vector, vectors, "unroll", [lanes_loop]))
                stores = []
            if isinstance(stmt, For):
                result.append(For(stmt.var, stmt.extent, stmt.kind, self.block(stmt.body)))
            elif isinstance(stmt, If):
                result.append(If(stmt.condition, self.block(stmt.body),
                                 self.block(stmt.otherwise)))
            elif isinstance(stmt, Alloc):
                result.append(Alloc(self.buffer(stmt.buffer)))
            elif isinstance(stmt, Let):
                result.append(stmt)
        return result

    def store(self, stmt: Store) -> Store:
        """A store of one lane."""
        indices = tuple(map(self.expr, stmt.indices))
        if stmt.buffer.scope != "global":
            indices = (*indices, *self.place)
        return Store(self.buffer(stmt.buffer), indices, self.expr(stmt.value))

    def expr(self, value: Expr) -> Expr:
        """The value of one lane."""

        def visit(node: Expr) -> Expr | None:
            if not isinstance(node, Load) or not isinstance(node.tensor, Buffer) \
                    or node.tensor.scope == "global":
                return None
            return Load(self.buffer(node.tensor), (*map(self.expr, node.indices), *self.place),
                        node.dtype)

        return rewrite(value, visit)

    def buffer(self, buffer: Buffer) -> Buffer:
        """Scratch memory of all lanes; memory of the kernel's operands stays as it is."""
        if buffer.scope == "global":
            return buffer
        if id(buffer) not in self.buffers:
            shape = (*buffer.shape, *self.extents)
            self.buffers[id(buffer)] = Buffer.dense(buffer.name, buffer.dtype, shape, buffer.scope)
        return self.buffers[id(buffer)]
