"""Depthwise convolution and pooling on blocked layouts: a tile of pixels per vector of channels."""

import math
from collections.abc import Mapping
from typing import Any

from bessemer.core.shapes import is_static
from bessemer.ir.layout import Layout
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.convolution import balanced
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Load, Reduce
from bessemer.te.walk import walk

MAX_UNROLLED = 320
"""Steps of straight-line code per tile; more does not fit the instruction cache well."""


@schedule_rule("window", priority=55)
class WindowReduction(Rule):
    """A reduction over a window only: each channel on its own, channels in blocks of one vector."""

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        stage = reduced_stage(kernel)
        body = stage.body
        assert isinstance(body, Reduce)
        if body.kind not in ("sum", "max", "min") or len(stage.axes) < 3:
            return "not a sum or extreme over [n, c, spatial]"
        lanes = target.lanes(body.body.dtype)
        if any(out.layout.block_of(1) != lanes for out in kernel.outputs):
            return f"the output is not in blocks of {lanes} channels"
        for node in walk(body.body):
            if not isinstance(node, Load):
                continue
            operand = kernel.operand(node.tensor)
            if operand is not None and operand.constant is None and (
                    operand.layout.block_of(1) != lanes or node.indices[1] is not stage.axes[1]):
                return "an input does not have the output's channels"
        if not is_static([axis.extent for axis in (stage.axes[1], *body.axes)]):
            return "channels or the window have a symbolic extent"
        if _window_size(body) > 64:
            return "the window is too large to unroll"
        return ""

    def _extents(self, kernel: Kernel) -> tuple[int, int, int]:
        stage = reduced_stage(kernel)
        body = stage.body
        assert isinstance(body, Reduce)
        window = _window_size(body)
        rows = kernel.usual(stage.axes[-2].extent) if len(stage.axes) > 3 else 1
        return rows, kernel.usual(stage.axes[-1].extent), window

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        rows, columns, _ = self._extents(kernel)
        return {"rows": tuple(r for r in (1, 2, 3, 4) if r <= rows),
                "pixels": tuple(p for p in (1, 2, 3, 4, 5, 6, 7, 14) if p <= columns)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        tallest = 4 if is_static(reduced_stage(kernel).shape) else 1
        _, height, width = cheapest_tile(*self._extents(kernel), tallest, target)
        return {"rows": height, "pixels": width}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        body = stage.body
        assert isinstance(body, Reduce)
        lanes = target.lanes(body.body.dtype)
        schedule = Schedule.of(stage)
        _pack_constants(schedule, kernel, lanes)
        rank = len(stage.axes)
        block, lane = schedule.split("a1", lanes, "pad")
        pixel_outer, pixel = schedule.split(f"a{rank - 1}", int(knobs["pixels"]), "balance")
        rows = [f"a{k}" for k in range(2, rank - 1)]
        inner = [pixel]
        if rows and int(knobs["rows"]) > 1:
            rows[-1], row = schedule.split(rows[-1], int(knobs["rows"]), "balance")
            inner = [row, pixel]
        window = [f"r{k}" for k in range(len(body.axes))]
        outer = ["a0", block, *rows, pixel_outer]
        # Row by row: LLVM keeps all pixels that several taps read in registers, and few are left.
        # Measured on Cascade Lake: MobileNet V2, none of it fused, takes 0.97 of the time so.
        schedule.reorder(*outer, *window[:-1], *inner[:-1], window[-1], pixel, lane)
        for name in (*inner[:-1], window[-1], pixel):
            schedule.unroll(name)
        schedule.vectorize(lane)
        schedule.accumulate(pixel_outer)
        schedule.parallel(schedule.fuse_all(outer[:-1]))
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text


def cheapest_tile(rows: int, columns: int, window: int, tallest: int, target: Target
                  ) -> tuple[float, int, int]:
    """Cycles of one vector of channels, and the height and width of the register tile for them."""
    best = (math.inf, 1, 1)
    for height in range(1, min(tallest, rows) + 1):
        for width in range(1, min(14, columns) + 1):
            tile = height * width
            if tile + min(window, 9) + 3 > target.vector_registers \
                    or tile * window > MAX_UNROLLED:
                break
            cost = sum(
                many * count * (max(h * w * window / 2, 4) + 0.5 * (h + 2) * (w + 2))
                for h, many in balanced(rows, height) for w, count in balanced(columns, width))
            best = min(best, (cost, height, width))
    return best


def _window_size(body: Reduce) -> int:
    extents: list[int] = [int(axis.extent) for axis in body.axes]  # type: ignore[arg-type]
    return math.prod(extents)


def _pack_constants(schedule: Schedule, kernel: Kernel, lanes: int) -> None:
    """Depthwise weights [c, 1, kernel] in blocks of channels."""
    stage = reduced_stage(kernel)
    body = stage.body
    assert isinstance(body, Reduce)
    for node in walk(body.body):
        if not isinstance(node, Load):
            continue
        operand = kernel.operand(node.tensor)
        if operand is not None and operand.constant is not None and node.indices \
                and node.indices[0] is stage.axes[1] and operand.layout.is_plain:
            schedule.pack(node.tensor.name, Layout.blocked(operand.layout.rank, 0, lanes))
