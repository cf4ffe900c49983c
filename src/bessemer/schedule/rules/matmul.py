"""Matrix products: a register tile of rows x vectors of columns, weights packed into one stream."""

from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.ir.layout import Layout, Part
from bessemer.lower.kernel import Kernel, product_of_loads
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Load, Reduce
from bessemer.te.tensor import IterVar, Tensor


def factors_of(kernel: Kernel, stage: Tensor) -> tuple[Load, Load] | None:
    """(a, b) of a sum over k of a[.., m, k] * b[.., k, n], with n the last output axis.

    A constant b may have its axes in any order, because it is packed anyway.
    """
    body = stage.body
    if not isinstance(body, Reduce) or body.kind != "sum" or len(body.axes) != 1 \
            or len(stage.axes) < 1 or body.dtype != f32:
        return None
    loads = product_of_loads(body.body)
    if loads is None:
        return None
    k, n = body.axes[0], stage.axes[-1]
    for a, b in (loads, loads[::-1]):
        if a.fill is not None or b.fill is not None or not a.indices or a.indices[-1] is not k \
                or any(i is n for i in a.indices):
            continue
        operand = kernel.operand(b.tensor)
        if b.indices[-2:] == (k, n) or (
                operand is not None and operand.constant is not None
                and sum(i is k for i in b.indices) == sum(i is n for i in b.indices) == 1):
            return a, b
    return None


@schedule_rule("matmul", priority=50)
class Matmul(Rule):
    """f32 matrix product with an element-wise epilogue, row-major in and out.

    Expected share of peak: 80-90 % for 128 rows and more, memory bandwidth for one row.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        stage = reduced_stage(kernel)
        factors = factors_of(kernel, stage)
        if factors is None:
            return "not a sum over k of a[.., k] * b[.., k, n]"
        b = kernel.operand(factors[1].tensor)
        if b is None or not b.layout.is_plain:
            return "b has a blocked layout"
        if any(not out.layout.is_plain for out in kernel.outputs):
            return "the output has a blocked layout"
        if stage.axes[-1].extent == 1:
            return "one column"
        return ""

    def _rows(self, kernel: Kernel) -> int:
        stage = reduced_stage(kernel)
        return kernel.usual(stage.axes[-2].extent) if len(stage.axes) > 1 else 1

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        rows = self._rows(kernel)
        vectors = (1, 2, 3, 4) if rows > 1 else (1, 2, 4, 8)
        return {"rows": tuple(p for p in (1, 2, 3, 4, 5, 6, 8, 12, 14) if p <= max(rows, 1)),
                "vectors": vectors, "unroll": (1, 4, 8), "share": ("columns", "rows"),
                "prefetch": (0, 1024, 2048)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        stage = reduced_stage(kernel)
        rows = self._rows(kernel)
        columns = kernel.usual(stage.axes[-1].extent)
        body = stage.body
        assert isinstance(body, Reduce)
        depth = kernel.usual(body.axes[0].extent)
        lanes = target.lanes(f32)
        registers = target.vector_registers
        wide = -(-columns // lanes)
        if rows == 1:
            vectors = min(8, wide)
            while vectors > 1 and -(-wide // vectors) < 2 * target.cores:
                vectors //= 2
            return {"rows": 1, "vectors": vectors, "unroll": 4, "share": "columns",
                    "prefetch": 0}
        tall = (6, 4) if registers >= 32 else (4, 3)
        row_tile, vectors = (tall[0], min(tall[1], wide))
        if vectors < tall[1]:
            row_tile = max(1, (registers - 1 - vectors) // vectors - (1 if vectors > 1 else 0))
            row_tile = min(row_tile, 14)
        row_tile = min(row_tile, rows)
        a_bytes, b_bytes = rows * depth * 4, depth * columns * 4
        batch = 1
        for axis in stage.axes[:-2]:
            batch *= kernel.usual(axis.extent)
        share = "columns" if b_bytes >= a_bytes * batch and batch == 1 else "rows"
        if share == "columns" and -(-wide // vectors) < target.cores:
            share = "rows"
        return {"rows": row_tile, "vectors": vectors, "unroll": 4, "share": share,
                "prefetch": 2048 if b_bytes > target.l2_bytes // 4 else 0}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        factors = factors_of(kernel, stage)
        assert factors is not None
        lanes = target.lanes(f32)
        width = int(knobs["vectors"]) * lanes
        schedule = Schedule.of(stage)
        schedule.prefetch(factors[1].tensor.name, int(knobs["prefetch"]))
        pack_columns(schedule, kernel, factors[1], stage.axes[-1], width)
        rank = len(stage.axes)
        n, m = f"a{rank - 1}", f"a{rank - 2}" if rank > 1 else ""
        batch = [f"a{k}" for k in range(rank - 2)]
        n_tile, n_rest = schedule.split(n, width, "mask")
        n_vector, n_lane = schedule.split(n_rest, lanes, "exact")
        tiles, inner = [n_tile], []
        if m:
            m_tile, m_row = schedule.split(m, int(knobs["rows"]), "balance")
            tiles = [n_tile, m_tile] if knobs["share"] == "columns" else [m_tile, n_tile]
            inner = [m_row]
            schedule.unroll(m_row)
        depth = ["r0"]
        if int(knobs["unroll"]) > 1:
            k_outer, k_inner = schedule.split("r0", int(knobs["unroll"]), "shrink")
            depth = [k_outer, k_inner]
            schedule.unroll(k_inner)
        outer = [*batch, *tiles]
        schedule.reorder(*outer, *depth, *inner, n_vector, n_lane)
        schedule.unroll(n_vector)
        schedule.vectorize(n_lane)
        schedule.accumulate(outer[-1])
        shared = schedule.fuse_all(outer[: len(batch) + 1])
        schedule.parallel(shared)
        if shared == outer[-1] or len(outer) == len(batch) + 1:
            schedule.accumulate_at = shared
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text


def pack_columns(schedule: Schedule, kernel: Kernel, load: Load, n: IterVar, width: int) -> None:
    """Lays a constant b out as [n / width][other axes][width]; a computed one stays as it is."""
    operand = kernel.operand(load.tensor)
    if operand is None or operand.constant is None:
        return
    rank = operand.layout.rank
    column = next(axis for axis, index in enumerate(load.indices) if index is n)
    parts = (Part(column, width), *(Part(axis) for axis in range(rank) if axis != column),
             Part(column, 1, width))
    schedule.pack(load.tensor.name, Layout(parts, ((0, 0),) * rank))
