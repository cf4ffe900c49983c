"""A convolution and the depthwise one behind it, strip by strip: what lies between stays in cache.

Measured on Cascade Lake: in MobileNet V2 1x1 24 -> 144 and depthwise 3x3 at 56x56 take 0.23 ms
instead of 0.30, all such pairs together 17 % of the network's time less.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.ir.layout import Layout
from bessemer.lower.kernel import Kernel, is_expensive
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.convolution import fits_registers, tile_cost, weight_layout
from bessemer.schedule.rules.window import MAX_UNROLLED, cheapest_tile
from bessemer.schedule.strip_nest import StripCut, StripNest
from bessemer.schedule.strip_parts import StripParts, parts_of
from bessemer.schedule.winograd_division import MAX_SCRATCH_BYTES
from bessemer.targets.target import Target
from bessemer.te.tensor import Tensor

TASK_CYCLES = 200
"""What a task costs besides its rows."""


@schedule_rule("strips", priority=70)
class Strips(Rule):
    """f32 convolution with constant weights, then a depthwise one, each with what follows it.

    Knobs: `rows` of output per strip, `vectors` of channels per task, `pixels` in the register tile
    of the first convolution, `unroll` of its input channels, `high` x `wide` outputs in the
    register tile of the depthwise one. Expected share of peak: 60-80 %.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        parts = parts_of(kernel)
        if isinstance(parts, str):
            return parts
        lanes = target.lanes(f32)
        if kernel.outputs[0].layout.block_of(1) != lanes:
            return f"the output is not in blocks of {lanes} channels"
        x = kernel.operand(parts.shape.x.tensor)
        assert x is not None
        if x.layout.block_of(1) not in (1, lanes):
            return f"the input is in blocks of {x.layout.block_of(1)} channels"
        if parts.rows.taps * parts.columns.taps > 64:
            return "the window is too large to unroll"
        if StripCut.of(parts, 1, 1, lanes).scratch_bytes(lanes) > MAX_SCRATCH_BYTES:
            return "the rows of one output row do not fit into scratch memory"
        return ""

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        parts = _parts(kernel)
        rows, columns = parts.rows, parts.columns
        taps = rows.taps * columns.taps
        return {
            "rows": tuple(n for n in (1, 2, 4, 7, 8, 14, 28) if n <= rows.outputs),
            "vectors": tuple(n for n in (1, 2, 3, 4)
                             if -(-parts.channels // target.lanes(f32)) % n == 0),
            "pixels": tuple(n for n in (1, 4, 6, 7, 8, 13, 14, 27) if n <= columns.inputs),
            "high": tuple(n for n in (1, 2, 3, 4) if n * taps <= MAX_UNROLLED),
            "wide": tuple(n for n in (1, 3, 4, 5, 7)
                          if n <= columns.outputs and 4 * n * taps <= MAX_UNROLLED) or (1,),
            "unroll": (4, 8)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        return cheapest(_parts(kernel), target)[1]

    def advised(self, kernel: Kernel, target: Target) -> str:
        parts = _parts(kernel)
        if parts.shape.blocked_input and math.prod(parts.shape.kernel) > 1:
            return "the first convolution has a window, which it may slide over in fewer steps"
        together, apart = cheapest(parts, target)[0], separate_cycles(parts, target)
        if together > apart:
            return f"about {together / apart:.2f} of the time of two kernels"
        return ""

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        parts, lanes = _parts(kernel), target.lanes(f32)
        rows, vectors = int(knobs["rows"]), int(knobs["vectors"])
        cut = StripCut.of(parts, rows, vectors, lanes)
        while cut.scratch_bytes(lanes) > MAX_SCRATCH_BYTES:
            rows, vectors = (rows - 1, vectors) if rows > 1 else (1, vectors - 1)
            cut = StripCut.of(parts, rows, vectors, lanes)
        memory.pack(parts.shape.w.tensor.name, weight_layout(parts.shape, lanes, cut.vectors))
        weights = parts.weights.tensor
        memory.pack(weights.name, Layout.blocked(weights.rank, 0, lanes))
        nest = StripNest(parts, cut, knobs, memory, lanes)
        return nest.build(), (
            f"{cut.strips} strips of {cut.rows} rows, {cut.groups} groups of {cut.vectors} vectors "
            f"of channels, {cut.scratch_bytes(lanes) // 1024} KiB of scratch")


def _parts(kernel: Kernel) -> StripParts:
    parts = parts_of(kernel)
    assert isinstance(parts, StripParts), parts
    return parts


def cheapest(parts: StripParts, target: Target) -> tuple[float, Knobs]:
    """The least cycles of the busiest core by formula, and the knobs for them."""
    lanes = target.lanes(f32)
    room = min(MAX_SCRATCH_BYTES, target.l2_bytes // 2)
    blocks = -(-parts.channels // lanes)
    best: tuple[float, Knobs] = (math.inf, {})
    for vectors in (n for n in (1, 2, 3, 4) if blocks % n == 0):
        row, pixels = _cheapest_row(parts, vectors, target)
        for strips in range(1, parts.rows.outputs + 1):
            cut = StripCut.of(parts, -(-parts.rows.outputs // strips), vectors, lanes)
            if cut.scratch_bytes(lanes) > room and cut.rows > 1:
                continue
            slide, high, wide = _slide(parts, cut.rows, target)
            task = min(cut.inputs, parts.rows.inputs) * row + vectors * slide + TASK_CYCLES
            total = -(-parts.batch * cut.strips * cut.groups // target.cores) * task
            if total < best[0]:
                best = total, {"rows": cut.rows, "vectors": vectors, "pixels": pixels,
                               "unroll": 4, "high": high, "wide": wide}
    return best


def separate_cycles(parts: StripParts, target: Target) -> float:
    """Cycles of a core for two kernels, with the tensor between them written and read."""
    lanes, far, near = target.lanes(f32), 8, 20  # bytes a cycle from the third cache, the second
    blocks = -(-parts.channels // lanes)
    row = min(_cheapest_row(parts, vectors, target)[0] / vectors
              for vectors in range(1, min(4, blocks) + 1))
    work = parts.rows.inputs * row + _slide(parts, parts.rows.outputs, target)[0]
    moved = 2 * parts.rows.inputs * parts.columns.inputs * lanes * f32.size_bytes
    total = parts.batch * blocks / target.cores
    return total * (work + moved / (near if total * moved < target.l2_bytes else far))


def _cheapest_row(parts: StripParts, vectors: int, target: Target) -> tuple[float, int]:
    """Cycles of the first convolution for one row of some vectors, and its tile's pixels."""
    shape, lanes = parts.shape, target.lanes(f32)
    steps = shape.channels * math.prod(shape.kernel)
    fits = vectors * lanes * steps * f32.size_bytes <= target.l1_bytes * 3 // 4
    stream = 0.0 if fits else vectors * lanes * f32.size_bytes / 20
    row = replace(shape, rows=1, columns=parts.columns.inputs)
    cycles, pixels = min(
        (tile_cost(row, vectors, pixels, 1, vectors, 0, stream) * steps, pixels)
        for pixels in range(1, min(28, row.columns) + 1)
        if pixels == 1 or fits_registers(pixels, vectors, target.vector_registers))
    return cycles + row.columns * vectors * _formula_cycles(parts.middle), pixels


def _slide(parts: StripParts, rows: int, target: Target) -> tuple[float, int, int]:
    """Cycles of the depthwise convolution for some rows of a vector, and its register tile."""
    columns = parts.columns
    cycles, high, wide = cheapest_tile(
        rows, columns.outputs, parts.rows.taps * columns.taps, 4, target)
    return cycles + rows * columns.outputs * _formula_cycles(parts.result), high, wide


def _formula_cycles(tensor: Tensor) -> float:
    """Cycles per vector of what follows a sum: a Swish takes about 15."""
    assert tensor.body is not None
    return 15.0 if is_expensive(tensor.body) else 0.0
