"""Winograd convolution: windows of stride 1 as products at interpolation points.

m x m outputs of a 3x3 window cost (m + 2)^2 multiplications instead of 9 m^2, and two transforms;
the weights are transformed when the engine is built, and grow from 9 to (m + 2)^2 numbers. The same
is done for 5x5, 1x3, 7x1 and so on.

Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks".
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.convolution import balanced, tile_cost
from bessemer.schedule.rules.reduction import epilogue_reason
from bessemer.schedule.winograd_division import Division, Window, window_of
from bessemer.schedule.winograd_nest import WinogradNest
from bessemer.schedule.winograd_transform import tile_sizes
from bessemer.targets.target import Target

GAIN = 0.86
"""The rule is advised where it should take less than this part of the direct form's time.

Measured on Cascade Lake with weights from memory: 1x7 160 -> 160 at 17x17, for which the formula
says 0.83, takes 0.82 of the direct form's time; 1x3 384 -> 384 at 8x8 (0.88) takes 1.28, 5x5
32 -> 128 at 7x7 (0.97) 1.03.
"""

FAR_BYTES = 4
"""Bytes of weights that a core gets per cycle from memory."""


@schedule_rule("winograd", priority=65)
class Winograd(Rule):
    """f32 convolution of stride 1 with constant weights, as products of transformed tiles.

    Knobs: `rows` x `columns` outputs per tile (1 to 4), `tiles` per task, `channels` and `filters`
    per pass (0: all), `parts` of the filters in tasks of their own, `pixels` (tiles) x `vectors` of
    the register tile, `unroll` input channels per step, `prefetch` bytes ahead in the weights.
    Expected share of peak on the multiply-adds that are left: 60-85 %.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        lanes = target.lanes(f32)
        if any(out.layout.block_of(1) != lanes for out in kernel.outputs):
            return f"the output is not in blocks of {lanes} channels"
        window = window_of(kernel, lanes)
        return window if isinstance(window, str) else ""

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        window = self._window(kernel, target)
        lanes, most = target.lanes(f32), _most_pixels(target, 1)
        inputs, outputs = -(-window.shape.channels // lanes), -(-window.shape.filters // lanes)
        return {
            "rows": tile_sizes(window.taps[0]),
            "columns": tile_sizes(window.taps[1]),
            "tiles": (7, 13, 14, 16, 25, 28, 49),
            "channels": (0, *(n for n in (2, 4, 8, 16) if n < inputs)),
            "filters": tuple(n for n in (1, 2, 4, 8, 16) if n <= outputs),
            "parts": (1, 2, 4, 8),
            "pixels": tuple(n for n in (4, 6, 7, 8, 13, 14, 16, 25) if n <= most),
            "vectors": (1, 2, 4),
            "unroll": (4, 8),
            "prefetch": (0, 2048, 4096, 8192),
        }

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        return cheapest(self._window(kernel, target), target)[1]

    def seeds(self, kernel: Kernel, target: Target) -> list[Knobs]:
        taps = self._window(kernel, target).taps
        sizes = itertools.product(*map(tile_sizes, taps))
        most = _most_pixels(target, 2)
        tiles: list[Knobs] = [{"rows": rows, "columns": columns} for rows, columns in sizes]
        return [
            *tiles,
            {"tiles": most, "pixels": most, "vectors": 2},
            {"tiles": 2 * most, "pixels": most, "vectors": 2},
            {"parts": 2},
        ]

    def advised(self, kernel: Kernel, target: Target) -> str:
        window = self._window(kernel, target)
        cycles, _ = cheapest(window, target)
        direct = direct_cycles(window, target)
        if cycles > GAIN * direct:
            return f"about {cycles / direct:.2f} of the time of the direct form"
        return ""

    def _window(self, kernel: Kernel, target: Target) -> Window:
        window = window_of(kernel, target.lanes(f32))
        assert isinstance(window, Window), window
        return window

    def build(
        self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
    ) -> tuple[list[Stmt], str]:
        nest = WinogradNest(self._window(kernel, target), knobs, memory, target.lanes(f32))
        return nest.build(), nest.text


def cheapest(window: Window, target: Target) -> tuple[float, Knobs]:
    """The least cycles of one core by formula, and the knobs for them."""
    lanes = target.lanes(f32)
    outputs, inputs = -(-window.shape.filters // lanes), -(-window.shape.channels // lanes)
    vectors = next((count for count in (2, 3, 5) if outputs % count == 0), 1)
    most = _most_pixels(target, vectors)
    best: tuple[float, Knobs] = (math.inf, {})
    for rows, columns, count, channels, filters, parts in itertools.product(
        *(reversed(tile_sizes(taps)) for taps in window.taps),
        (1, 2),
        (0, 8, 4),
        (1, 2, 4, 8, 16),
        (1, 2, 4),
    ):
        if channels >= inputs or filters * vectors > outputs:
            continue
        tiles = -(-window.rows // rows) * -(-window.columns // columns) * window.batch
        # Whole register tiles, nearly equal chunks, and chunks for every core.
        chunks = -(-tiles // (count * most))
        width = -(-tiles // chunks)
        knobs: Knobs = {
            "rows": rows,
            "columns": columns,
            "tiles": width,
            "channels": channels,
            "filters": filters * vectors,
            "parts": parts,
            "pixels": -(-width // count),
            "vectors": vectors,
            "unroll": 4,
            "prefetch": 0,
        }
        cut = Division.of(window, knobs, lanes)
        weights = 4 * cut.points * cut.channels * cut.passes * cut.filters * cut.groups
        knobs["prefetch"] = 4096 if weights > target.l2_bytes else 0
        cost = winograd_cycles(window, cut, target)
        if cost < best[0]:
            best = cost, knobs
    return best


def winograd_cycles(window: Window, cut: Division, target: Target) -> float:
    """Cycles of the busiest core.

    Products cost as in the direct form. A vector that a transform reads or writes costs about three
    cycles (measured on Cascade Lake: 220 for 36 points and 16 channels).
    """
    lanes = target.lanes(f32)
    rounds = -(-cut.parts * cut.chunks // target.cores)
    each = cut.groups // cut.parts
    depth, width = cut.channels * cut.passes, cut.filters * each
    again = each if cut.passes > 1 else 1
    transforms = (
        cut.tiles
        * 3.0
        * (
            2 * cut.points * again * depth / lanes
            + (cut.points + cut.size[0] * cut.size[1]) * width / lanes
        )
    )
    products = 0.0
    for pixels, count in balanced(cut.tiles, cut.pixels):
        loads = pixels + cut.vectors
        step = max(pixels * cut.vectors / 2, loads / 2, 4.0) + 0.2 + 0.1 * loads
        reload = (3.0 if cut.passes > 1 else 1.5) * cut.passes * pixels * cut.vectors
        products += count * (depth * step + reload)
    products *= cut.points * width / (lanes * cut.vectors)
    # Transformed tiles are read from the second cache once for each group of filters.
    products += cut.points * cut.tiles * depth * each * 4 / 32
    compute = rounds * (transforms + products)
    part_bytes = 4 * cut.points * depth * width
    scratch_bytes = 4 * cut.points * cut.tiles * (cut.channels + cut.filters)
    weights = part_bytes * cut.parts / target.cores / FAR_BYTES
    if part_bytes + scratch_bytes > target.l2_bytes * 7 // 8:
        weights += (rounds - 1) * part_bytes / (2 * FAR_BYTES)
    return _together(compute, weights, 0.3)


def direct_cycles(window: Window, target: Target) -> float:
    """Cycles of a core for the direct form."""
    lanes, registers = target.lanes(f32), target.vector_registers
    shape = window.shape
    taps = math.prod(window.taps)
    blocks = -(-shape.filters // lanes)
    costs = [
        tile_cost(shape, blocks, pixels, 1, vectors, 0)
        for vectors in (1, 2, 3, 4)
        if vectors <= blocks
        for pixels in range(1, min(28, shape.columns) + 1)
        if pixels * vectors + vectors < registers
    ]
    compute = min(costs) * window.batch * shape.channels * taps / target.cores
    memory = 4 * taps * shape.channels * shape.filters / target.cores / FAR_BYTES
    return _together(compute, memory, 0.1)  # each block of weights is asked for during the last one


def _together(compute: float, memory: float, apart: float) -> float:
    """Work and the weights' way overlap, but for a part."""
    return max(compute, memory) + apart * min(compute, memory)


def _most_pixels(target: Target, vectors: int) -> int:
    """Tiles of a register tile that fit with so many vectors of filters."""
    return (target.vector_registers - 1 - vectors) // vectors
