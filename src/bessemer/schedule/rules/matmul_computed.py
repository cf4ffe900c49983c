"""Matrix products whose second factor is computed from constants, such as weights of few bits."""

import math
from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import f32, i64
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.convolution import balanced
from bessemer.schedule.rules.matmul import pack_columns
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Binary, Cast, Expr, Load, Reduce
from bessemer.te.tensor import IterVar, Tensor
from bessemer.te.walk import walk

_MOST_UNROLLED = 8
_MOST_ROWS = 12
"""With more, rows of a depth that is a power of two put each other out of the first cache."""


def _uses(expr: Expr, axes: tuple[IterVar, ...]) -> bool:
    return any(any(node is axis for axis in axes) for node in walk(expr))


def _computed_factor(stage: Tensor) -> Expr | None:
    """The f in a sum of a[..] * f: a does not depend on the last output axis, f on no other."""
    body = stage.body
    if not isinstance(body, Reduce) or body.kind != "sum" or body.dtype != f32 or not stage.axes:
        return None
    product = body.body
    if not isinstance(product, Binary) or product.op != "*":
        return None
    for a, b in ((product.a, product.b), (product.b, product.a)):
        if isinstance(a, Load) and not _uses(a, stage.axes[-1:]) and (
                _uses(b, stage.axes[-1:]) and not _uses(b, stage.axes[:-1])):
            return b
    return None


def _columns(kernel: Kernel, factor: Expr, n: IterVar) -> list[Load] | None:
    """The loads of constants by n, one of each tensor; None if something else is loaded by n."""
    found: dict[int, Load] = {}
    for node in walk(factor):
        if isinstance(node, Load) and _uses(node, (n,)):
            operand = kernel.operand(node.tensor)
            if operand is None or operand.constant is None or not operand.layout.is_plain \
                    or sum(index is n for index in node.indices) != 1 \
                    or any(_uses(index, (n,)) for index in node.indices if index is not n):
                return None
            found[id(node.tensor)] = node
    return list(found.values()) or None


@schedule_rule("computed-matmul", priority=45)
class ComputedMatmul(Rule):
    """f32 product with weights that are computed in registers, once for the rows of a tile.

    Knobs: `rows` x `vectors` is the register tile, `share` what threads divide. The constants that
    the weights are computed from are packed by columns.
    Expected: memory bandwidth for one row, half of the peak for 16 rows and more.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        stage = reduced_stage(kernel)
        factor = _computed_factor(stage)
        if factor is None:
            return "not a sum of a[..] * f with f a function of the sum and the column"
        if _columns(kernel, factor, stage.axes[-1]) is None:
            return "the columns do not come from constants alone"
        if any(not out.layout.is_plain for out in kernel.outputs):
            return "the output has a blocked layout"
        if kernel.usual(stage.axes[-1].extent) < target.lanes(f32):
            return "fewer columns than lanes"
        return ""

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        rows = _rows(kernel)
        return {"rows": tuple(n for n in (1, 2, 3, 4, 5, 6, 8, 10, 12) if n <= rows),
                "vectors": (1, 2, 4), "share": ("columns", "rows")}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        stage = reduced_stage(kernel)
        rows = _rows(kernel)
        tiles = -(-kernel.usual(stage.axes[-1].extent) // target.lanes(f32))
        factor = _computed_factor(stage)
        assert factor is not None
        work = sum(isinstance(node, Binary | Cast) and node.dtype != i64 for node in walk(factor))
        best = (math.inf, 1, 1)
        for vectors in (1, 2, 4):
            # Beside the sums: the weights, and what they are computed from.
            most = min((target.vector_registers - 3 * vectors - 1) // vectors, _MOST_ROWS)
            passes = -(-tiles // (vectors * target.cores)) * target.cores
            for tile in range(1, min(rows, max(most, 1)) + 1):
                cost = passes * sum(count * _step_cost(part, vectors, work)
                                    for part, count in balanced(rows, tile))
                best = min(best, (cost, tile, vectors))
        _, tile, vectors = best
        share = "columns" if tiles // vectors >= target.cores else "rows"
        return {"rows": tile, "vectors": vectors, "share": share}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        factor = _computed_factor(stage)
        assert factor is not None
        schedule, lanes, rank = Schedule.of(stage), target.lanes(f32), len(stage.axes)
        width = int(knobs["vectors"]) * lanes
        for load in _columns(kernel, factor, stage.axes[-1]) or ():
            pack_columns(schedule, kernel, load, stage.axes[-1], width)
        batch = [f"a{k}" for k in range(rank - 2)]
        depth = [name for name in schedule.order if name in schedule.reducing]
        n_tile, n_rest = schedule.split(f"a{rank - 1}", width, "mask")
        n_vector, n_lane = schedule.split(n_rest, lanes, "exact")
        tiles, inner = [n_tile], []
        if rank > 1:
            m_tile, m_row = schedule.split(f"a{rank - 2}", int(knobs["rows"]), "balance")
            tiles = [m_tile, n_tile] if knobs["share"] == "rows" else [n_tile, m_tile]
            inner = [m_row]
        outer = [*batch, *tiles]
        schedule.reorder(*outer, *depth, *inner, n_vector, n_lane)
        last = schedule.extents[depth[-1]]
        if len(depth) > 1 and isinstance(last, int) and last <= _MOST_UNROLLED:
            schedule.unroll(depth[-1])
        for name in (*inner, n_vector):
            schedule.unroll(name)
        schedule.vectorize(n_lane)
        schedule.accumulate(outer[-1])
        shared = schedule.fuse_all(outer[: len(batch) + 1])
        schedule.parallel(shared)
        if shared == outer[-1] or len(outer) == len(batch) + 1:
            schedule.accumulate_at = shared
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text


def _step_cost(rows: int, vectors: int, work: int) -> float:
    """Cycles of one step of a tile, as those of a plain product plus `work` for each weight."""
    loads = rows + vectors
    return max((work + rows) * vectors / 2, loads / 2, 4.0) + 0.2 + 0.2 * loads


def _rows(kernel: Kernel) -> int:
    """How many rows share one weight, batches included."""
    stage = reduced_stage(kernel)
    return kernel.usual(stage.axes[-2].extent) if len(stage.axes) > 1 else 1
