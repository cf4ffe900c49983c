"""How a Winograd convolution is cut into tasks, passes and register tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.lower.affine import linear
from bessemer.lower.kernel import Kernel, axis_ranges
from bessemer.schedule.memory import capacity
from bessemer.schedule.rules.convolution import ConvolutionShape, convolution_of
from bessemer.schedule.rules.reduction import reduced_stage
from bessemer.schedule.winograd_transform import TAPS, points_of
from bessemer.te.expr import Reduce

MAX_SCRATCH_BYTES = 640 * 1024
"""Scratch of one thread, on its stack of at least a megabyte."""


ERRORS = {2: "2e-6", 4: "1e-5"}
"""Bounds of the error relative to the largest output by the size of tiles; tests hold them."""


@dataclass(frozen=True)
class Window:
    """A 3x3 convolution of stride 1 that the rule can compute."""

    shape: ConvolutionShape
    batch: int
    rows: int
    columns: int
    pads: tuple[int, int]


def window_of(kernel: Kernel, lanes: int) -> Window | str:
    """The convolution, or why the rule cannot compute it."""
    shape = convolution_of(kernel)
    if isinstance(shape, str):
        return shape
    stage = reduced_stage(kernel)
    body = stage.body
    assert isinstance(body, Reduce)
    if stage.rank != 4 or shape.kernel != (TAPS, TAPS) or not shape.channel_axis:
        return "not a window of 3x3"
    if not is_static(stage.shape):
        return "symbolic extents"
    if shape.x.indices[0] is not stage.axes[0] or shape.x.indices[1] is not body.axes[0]:
        return "channels in groups"
    operand = kernel.operand(shape.x.tensor)
    assert operand is not None
    if operand.layout.block_of(1) != lanes:
        return f"the input is not in blocks of {lanes} channels"
    batch, _, rows, columns = (int(n) for n in stage.shape)  # type: ignore[arg-type]
    ranges = axis_ranges((*stage.axes, *body.axes))
    pads = []
    for k, extent_ in ((2, rows), (3, columns)):
        form = linear(shape.x.indices[k], ranges)
        names = {stage.axes[k].name, body.axes[k - 1].name}
        if {key for key, _, _ in form.terms} != names or {c for _, _, c in form.terms} != {1}:
            return "a stride or a dilation, or an extent of 1"
        low, high = capacity(operand.layout, k, operand.shape[k])
        if form.constant < low or extent_ + TAPS - 2 + form.constant > int(high):  # type: ignore[arg-type]
            return "the input has no halo of zeros"
        pads.append(-form.constant)
    return Window(shape, batch, rows, columns, (pads[0], pads[1]))


@dataclass(frozen=True)
class Division:
    """How knobs cut a convolution: `chunks` of `tiles`, `passes` of `channels`, `groups` of
    `filters`, which `parts` tasks share; in the register tile `vectors` of filters.

    Channels and filters are rounded up to whole vectors. Knobs that do not divide what they cut
    are lowered until they do, and so are tiles and channels whose scratch would be too large.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    total: int
    tiles: int
    chunks: int
    channels: int
    passes: int
    filters: int
    groups: int
    parts: int
    vectors: int
    pixels: int
    unroll: int

    @staticmethod
    def of(window: Window, knobs: Mapping[str, Any], lanes: int) -> "Division":
        """The division by these knobs."""
        size = int(knobs["rows"]), int(knobs["columns"])
        points = points_of(size[0]) * points_of(size[1])
        grid = -(-window.rows // size[0]), -(-window.columns // size[1])
        total = window.batch * grid[0] * grid[1]
        outputs = -(-window.shape.filters // lanes)
        group = divisor(outputs, int(knobs["filters"]))
        channels = -(-window.shape.channels // lanes)
        inner = divisor(channels, int(knobs["channels"]))
        tiles = min(int(knobs["tiles"]), total)
        room = MAX_SCRATCH_BYTES // (points * lanes * f32.size_bytes)
        while (tiles | 1) * (inner + group) > room and tiles > 1:
            tiles -= 1
        while inner + group > room and inner > 1:
            inner = divisor(channels, inner - 1)
        chunks = -(-total // tiles)
        parts = divisor(outputs // group, int(knobs["parts"]))
        return Division(
            size,
            grid,
            total,
            -(-total // chunks),
            chunks,
            inner * lanes,
            channels // inner,
            group * lanes,
            outputs // group,
            parts,
            divisor(group, int(knobs["vectors"])),
            int(knobs["pixels"]),
            divisor(lanes, int(knobs["unroll"])),
        )

    @property
    def points(self) -> int:
        """Products per tile, channel and filter."""
        return points_of(self.size[0]) * points_of(self.size[1])


def divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`; `count` itself if that is 0."""
    if not most:
        return count
    return max(n for n in range(1, min(most, count) + 1) if count % n == 0)
