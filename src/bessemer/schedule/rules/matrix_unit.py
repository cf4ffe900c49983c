"""Matrix products on the processor's matrix unit: f32 as three bf16, summed in f32."""

import math
from collections.abc import Mapping
from dataclasses import replace
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

_SMALLEST: Knobs = {"chunk": TILE_SIDE, "groups": 1, "block": 1}
_LEAST_ROWS = 80
"""With fewer rows the weights' way and their parts cost more than the unit saves.

Measured on Granite Rapids beside the rule for vectors, 768 -> 3072 -> 768 with weights from memory:
48 rows take 1.18 of the time, 64 rows 1.02, 96 rows 0.90.
"""
_MOST_ROWS = 272
"""Rows of a chunk."""
_LEAST_SIZE = 64
"""Columns, and steps of the sum."""
_MOST_SCRATCH_BYTES = 768 << 10
"""Scratch of one thread, on its stack of at least a megabyte."""
_PRODUCT_CYCLES = 19
"""Of a product of tiles, with its share of the loads; 26 where only two sums take turns.

The unit takes 16. Measured on Granite Rapids: with tiles in the second cache a core reaches 80 % of
what the unit does on zeros, mostly because the clock falls.
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
    Expected: 110-140 % of the peak of f32 vectors.
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
        cut = self._cut(kernel, _SMALLEST)
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
        cut = self._cut(kernel, _SMALLEST)
        steps = -(-cut.depth // TILE_DEPTH)
        chunks = [n for n in (16, 32, 48, 64, 96, 112, 128, 160, 192, 208, 256)
                  if n < cut.rows + TILE_SIDE]
        return {"chunk": tuple(chunks), "groups": tuple(n for n in (1, 2, 4, 8)
                                                        if n * TILE_SIDE <= cut.columns),
                "block": tuple(n for n in (4, 8, 12, 16, 24, 32, 48, steps) if n <= steps)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        cut = cheapest(self._cut(kernel, _SMALLEST), target)
        return {"chunk": cut.chunk, "groups": cut.groups, "block": cut.block}

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


def cheapest(whole: Cut, target: Target) -> Cut:
    """The division of a product with the least cycles by formula."""
    groups = {n << k for n in (1, target.cores) for k in range(16)}
    cuts = (with_fewest_passes(replace(whole, chunk=chunk, groups=group))
            for chunk in range(TILE_SIDE, min(whole.rows + TILE_SIDE, _MOST_ROWS + 1), TILE_SIDE)
            for group in sorted(groups) if group == 1 or 2 * TILE_SIDE * group <= whole.columns)
    return min((cut for cut in cuts if cut is not None), key=lambda cut: cycles(cut, target))


def with_fewest_passes(cut: Cut) -> Cut | None:
    """The same rows and columns with as few passes as scratch memory allows; None if with none."""
    steps = -(-cut.depth // TILE_DEPTH)
    whole = replace(cut, block=steps)
    if whole.scratch_bytes <= _MOST_SCRATCH_BYTES:
        return whole
    one, two = (replace(cut, block=count).scratch_bytes for count in (1, 2))
    fitting = (_MOST_SCRATCH_BYTES - one) // (two - one) + 1
    return replace(cut, block=-(-steps // -(-steps // fitting))) if fitting > 0 else None


def cycles(cut: Cut, target: Target) -> float:
    """Cycles of the busiest core, by formula."""
    rounds = -(-cut.tasks // target.cores)
    pairs, single = divmod(cut.row_tiles, 2)
    steps = cut.blocks * cut.block * (PARTS * (PARTS + 1) // 2)
    products = steps * cut.column_tiles * (pairs * 2 * _PRODUCT_CYCLES + single * 26)
    depth = cut.blocks * cut.block * TILE_DEPTH
    weights = 4 * cut.column_tiles * TILE_SIDE * depth / _FAR_BYTES
    split = (0.6 * cut.row_tiles + 0.25 * cut.column_tiles) * TILE_SIDE * depth
    kept = cut.row_tiles * cut.column_tiles * (_PASS_CYCLES * cut.blocks + 100.0)
    return rounds * (max(products, weights) + 0.5 * min(products, weights) + split + kept)
