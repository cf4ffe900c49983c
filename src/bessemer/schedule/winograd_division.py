"""How a Winograd convolution is cut into tasks, passes and register tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.lower.affine import linear
from bessemer.lower.kernel import Kernel, axis_ranges
from bessemer.schedule.convolution_shape import ConvolutionShape, convolution_of
from bessemer.schedule.memory import capacity
from bessemer.schedule.rules.reduction import reduced_stage
from bessemer.schedule.winograd_transform import tile_sizes
from bessemer.te.expr import Reduce

MAX_SCRATCH_BYTES = 640 * 1024
"""Scratch of one thread, on its stack of at least a megabyte."""


ERRORS = {4: "2e-6", 6: "1e-5", 8: "2e-5"}
"""Bounds of the error relative to the largest output, by the most points along an axis."""


@dataclass(frozen=True)
class Window:
    """A convolution of stride 1 that the rule can compute; `taps` is the extent of its window."""

    shape: ConvolutionShape
    batch: int
    rows: int
    columns: int
    taps: tuple[int, int]
    pads: tuple[int, int]


def window_of(kernel: Kernel, lanes: int) -> Window | str:
    """The convolution, or why the rule cannot compute it."""
    shape = convolution_of(kernel)
    if isinstance(shape, str):
        return shape
    if shape.is_computed:
        return "the input is computed"
    stage = reduced_stage(kernel)
    body = stage.body
    assert isinstance(body, Reduce)
    if stage.rank != 4 or not shape.channel_axis:
        return "not a window over rows and columns of several channels"
    if not is_static(stage.shape):
        return "symbolic extents"
    if shape.x.indices[0] is not stage.axes[0] or shape.x.indices[1] is not body.axes[0]:
        return "channels in groups"
    operand = kernel.operand(shape.x.tensor)
    assert operand is not None
    if operand.layout.block_of(1) != lanes:
        return f"the input is not in blocks of {lanes} channels"
    batch, _, rows, columns = (int(n) for n in stage.shape)  # type: ignore[arg-type]
    found = [_taps(kernel, shape, k) for k in (2, 3)]
    if None in found:
        return "a stride or a dilation, or an extent of 1"
    (high, top), (wide, left) = (each for each in found if each is not None)
    if high == wide == 1 or not (tile_sizes(high) and tile_sizes(wide)):
        return f"no minimal filtering for windows of {high}x{wide}"
    for k, size, taps, pad in ((2, rows, high, top), (3, columns, wide, left)):
        first, last = capacity(operand.layout, k, operand.shape[k])
        if -pad < first or size + taps - 2 - pad > int(last):  # type: ignore[arg-type]
            return "the input has no halo of zeros"
    return Window(shape, batch, rows, columns, (high, wide), (top, left))


def _taps(kernel: Kernel, shape: ConvolutionShape, axis: int) -> tuple[int, int] | None:
    """Taps and padding along an axis, if the input is read at `output + tap - padding` there."""
    stage = reduced_stage(kernel)
    body = stage.body
    assert isinstance(body, Reduce)
    form = linear(shape.x.indices[axis], axis_ranges((*stage.axes, *body.axes)))
    taps = {name.name: int(name.extent) for name in body.axes[1:]}  # type: ignore[arg-type]
    names = [key for key, _, coefficient in form.terms if coefficient == 1]
    windows = [name for name in names if name in taps]
    if len(names) != len(form.terms) or len(windows) > 1:
        return None
    if sorted(names) != sorted([stage.axes[axis].name, *windows]):
        return None
    return taps[windows[0]] if windows else 1, -form.constant


@dataclass(frozen=True)
class Division:
    """How knobs cut a convolution.

    Tiles of `size` outputs read `span` inputs. `chunks` of `tiles`, `passes` of `channels`,
    `groups` of `filters`, which `parts` tasks share; in the register tile `vectors` of filters.

    Channels and filters are rounded up to whole vectors. Knobs that do not divide what they cut
    are lowered until they do, and so are tiles and channels whose scratch would be too large.
    """

    size: tuple[int, int]
    span: tuple[int, int]
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
        size = (
            _nearest(tile_sizes(window.taps[0]), int(knobs["rows"])),
            _nearest(tile_sizes(window.taps[1]), int(knobs["columns"])),
        )
        span = size[0] + window.taps[0] - 1, size[1] + window.taps[1] - 1
        points = span[0] * span[1]
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
            span,
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
        return self.span[0] * self.span[1]

    @property
    def error(self) -> str:
        """The bound of the error relative to the largest output."""
        return ERRORS[max(self.span)]


def divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`; `count` itself if that is 0."""
    if not most:
        return count
    return max(n for n in range(1, min(most, count) + 1) if count % n == 0)


def _nearest(sizes: tuple[int, ...], wished: int) -> int:
    """The size of tiles that comes nearest."""
    return min(sizes, key=lambda size: abs(size - wished))
