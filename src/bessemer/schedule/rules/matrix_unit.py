"""Matrix products on the processor's matrix unit: f32 as three bf16, summed in f32."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32
from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import is_static
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import TILE_DEPTH, TILE_SIDE, Stmt, static
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.matmul import factors_of
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.tile_nest import PARTS, Cut, TileNest
from bessemer.targets.target import Target
from bessemer.te.expr import Reduce

_LEAST_ROWS = 48
"""With fewer rows the weights' way is what counts, and three bf16 are longer than a float."""
_LEAST_SIZE = 64
"""Columns, and steps of the sum."""
_MOST_SCRATCH_BYTES = 768 << 10
"""Scratch of one thread, on its stack of at least a megabyte."""
_PRODUCT_CYCLES = 19
"""Of a product of tiles, with its share of the loads; 26 where only two sums take turns.

Measured on Granite Rapids: 20 of a possible 16 with tiles in the first cache.
"""
_PASS_CYCLES = 200
"""Of a tile of sums for each pass: it is loaded and stored, and the unit runs dry.

Measured on Granite Rapids, 1024x768x768: three passes with half of the weights' way take 1.1 of
the time of one.
"""
_FAR_BYTES = 9
"""Bytes of weights that a core gets per cycle from beyond its second cache, all cores at it.

Measured on Granite Rapids inside of BERT-base, 128x3072x768 on two cores: 0.87 of the time where
each reads half of the weights for all rows, instead of all weights for half of the rows.
"""


@schedule_rule("matrix_unit", priority=55)
class MatrixUnit(Rule):
    """f32 matrix product with constant weights and an element-wise epilogue, by tiles of bf16.

    Knobs: `chunk` rows per task, `groups` of columns in tasks of their own, `block` steps of 32 of
    the sum per pass. Every number is the sum of three bf16; errors are as those of f32, except that
    an infinite input gives NaN.
    Expected: 200-240 % of the peak of f32 vectors.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        if not target.has_matrix_unit:
            return "the target has no matrix unit"
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        stage = reduced_stage(kernel)
        factors = factors_of(kernel, stage)
        if factors is None or len(stage.axes) < 2:
            return "not a sum over k of a[.., m, k] * b[.., k, n]"
        b = kernel.operand(factors[1].tensor)
        if b is None or b.constant is None or b.constant.ndim != 2:
            return "b is no constant matrix"
        if not np.isfinite(b.constant).all():
            return "b is not finite"
        if any(not out.layout.is_plain for out in kernel.outputs):
            return "the output has a blocked layout"
        assert isinstance(stage.body, Reduce)
        if not is_static((*stage.shape, stage.body.axes[0].extent)):
            return "its extents are known at run time only"
        cut = self._cut(kernel, {"chunk": TILE_SIDE, "groups": 1, "block": 1})
        if cut.rows < _LEAST_ROWS or min(cut.columns, cut.depth) < _LEAST_SIZE:
            return f"{cut.rows}x{cut.depth}x{cut.columns} is too small"
        return ""

    def _cut(self, kernel: Kernel, knobs: Mapping[str, Any]) -> Cut:
        stage = reduced_stage(kernel)
        assert isinstance(stage.body, Reduce)
        *batch, rows, columns, depth = static(
            [axis.extent for axis in (*stage.axes, *stage.body.axes)])
        return Cut(math.prod(batch), rows, columns, depth,
                   int(knobs["chunk"]), int(knobs["groups"]), int(knobs["block"]))

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        cut = self._cut(kernel, {"chunk": TILE_SIDE, "groups": 1, "block": 1})
        steps = -(-cut.depth // TILE_DEPTH)
        chunks = [n for n in (16, 32, 48, 64, 96, 112, 128, 160, 192, 208, 256)
                  if n < cut.rows + TILE_SIDE]
        return {"chunk": tuple(chunks), "groups": tuple(n for n in (1, 2, 4, 8)
                                                        if n * TILE_SIDE <= cut.columns),
                "block": tuple(n for n in (4, 8, 12, 16, 24, 32, 48, steps) if n <= steps)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        best: tuple[float, Knobs] = (math.inf, {})
        base = self._cut(kernel, {"chunk": TILE_SIDE, "groups": 1, "block": 1})
        steps = -(-base.depth // TILE_DEPTH)
        for chunk in range(TILE_SIDE, min(base.rows + TILE_SIDE, 17 * TILE_SIDE), TILE_SIDE):
            for groups in (1, *(target.cores * n for n in (1, 2) if target.cores * n > 1)):
                for passes in range(1, steps + 1):
                    knobs: Knobs = {"chunk": chunk, "groups": groups, "block": -(-steps // passes)}
                    cut = self._cut(kernel, knobs)
                    if cut.scratch_bytes <= _MOST_SCRATCH_BYTES:
                        break
                else:
                    continue
                cost = cycles(cut, target)
                if cost < best[0]:
                    best = cost, knobs
        return best[1]

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        factors = factors_of(kernel, stage)
        assert factors is not None
        cut = self._cut(kernel, knobs)
        if cut.scratch_bytes > _MOST_SCRATCH_BYTES:
            raise ScheduleError(f"{cut.scratch_bytes} bytes of scratch for each task")
        nest = TileNest(stage, *factors, cut, memory, target.lanes(f32))
        text = (f"tiles of {PARTS} x bf16: {cut.chunks} x {cut.chunk} rows, {cut.groups} groups of "
                f"columns, {cut.blocks} x {cut.block * TILE_DEPTH} steps")
        return nest.build(), text


def cycles(cut: Cut, target: Target) -> float:
    """Cycles of the busiest core, by formula."""
    rounds = -(-cut.tasks // target.cores)
    pairs, single = divmod(cut.row_tiles, 2)
    steps = cut.blocks * cut.block * (PARTS * (PARTS + 1) // 2)
    products = steps * cut.column_tiles * (pairs * 2 * _PRODUCT_CYCLES + single * 26)
    weights = steps * cut.column_tiles * TILE_SIDE * TILE_DEPTH / _FAR_BYTES
    split = 0.6 * cut.row_tiles * TILE_SIDE * cut.blocks * cut.block * TILE_DEPTH
    kept = cut.row_tiles * cut.column_tiles * (_PASS_CYCLES * cut.blocks + 100.0)
    return rounds * (max(products, weights) + 0.5 * min(products, weights) + split + kept)
