"""Convolution on blocked layouts: a register tile of pixels x vectors of output channels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bessemer.core.dtypes import f32
from bessemer.core.shapes import Sym, usual
from bessemer.ir.layout import Layout, Part
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.ahead import LINE_BYTES
from bessemer.schedule.convolution_shape import ConvolutionShape, convolution_of
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.schedule import Schedule
from bessemer.schedule.stash import MAX_STASH_BYTES
from bessemer.targets.target import Target

MOST_PLANES = 4
"""Channels of a planar input that are unrolled."""


@schedule_rule("convolution", priority=60)
class Convolution(Rule):
    """f32 convolution with constant weights, output channels in blocks of one vector.

    Knobs: `pixels` x `vectors` is the register tile, `rows` of pixels in it, `kblock` input blocks
    per pass (0: all), `share` what threads divide, `unroll` input channels per step; `prefetch`
    bytes ahead of each load of the weights, or "stream": each pass asks for the weights of the
    next one. Measured on Cascade Lake with weights from memory, against 2 KiB ahead: 1x1
    512 -> 2048 and back at 7x7 take 0.82 of the time, 1x1 1024 -> 256 at 14x14 0.94, 3x3 512 -> 512
    at 7x7 0.91.
    Expected share of peak: 80-95 %.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        reason = epilogue_reason(kernel)
        if reason:
            return reason
        shape = convolution_of(kernel)
        if isinstance(shape, str):
            return shape
        lanes = target.lanes(f32)
        if any(out.layout.block_of(1) != lanes for out in kernel.outputs):
            return f"the output is not in blocks of {lanes} channels"
        x = kernel.operand(shape.x.tensor)
        assert x is not None
        if x.layout.block_of(1) not in (1, lanes):
            return f"the input is in blocks of {x.layout.block_of(1)} channels"
        return ""

    def _shape(self, kernel: Kernel) -> ConvolutionShape:
        shape = convolution_of(kernel)
        assert isinstance(shape, ConvolutionShape)
        return shape

    def _max_vectors(self, kernel: Kernel, shape: ConvolutionShape, lanes: int) -> int:
        """Vectors per tile must not cross a group of filters."""
        group = kernel.notes.get("filters_per_group", shape.filters)
        blocks = -(-shape.filters // lanes)
        if group != shape.filters:
            blocks = max(1, group // lanes)
        return blocks

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        shape = self._shape(kernel)
        lanes = target.lanes(f32)
        limit = self._max_vectors(kernel, shape, lanes)
        blocks = -(-shape.channels // lanes)
        return {
            "pixels": tuple(p for p in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14, 28)
                            if p <= shape.columns),
            "rows": tuple(r for r in (1, 2, 3) if r <= shape.rows),
            "vectors": tuple(v for v in (1, 2, 3, 4) if v <= limit),
            "kblock": (0, *(k for k in (1, 4, 8, 16) if k < blocks)),
            "share": ("filters", "pixels"), "unroll": (1, 4, 8, 16),
            "prefetch": (0, 1024, 2048, 4096, "stream")}

    def seeds(self, kernel: Kernel, target: Target) -> list[Knobs]:
        shape, registers = self._shape(kernel), target.vector_registers
        limit = self._max_vectors(kernel, shape, target.lanes(f32))
        tiles = ((1, 6, 4), (1, 14, 2), (1, 10, 2), (1, 12, 2), (2, 7, 2), (2, 6, 2), (1, 6, 2),
                 (1, 4, 3))
        return [{"rows": rows, "pixels": pixels, "vectors": vectors} for rows, pixels, vectors
                in tiles if rows <= shape.rows and pixels <= shape.columns and vectors <= limit
                and rows * pixels * vectors + vectors + 1 <= registers]

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        shape = self._shape(kernel)
        lanes, registers = target.lanes(f32), target.vector_registers
        limit = self._max_vectors(kernel, shape, lanes)
        best: tuple[float, int, int, int, int] = (math.inf, 1, 1, 1, 0)
        for vectors in range(1, min(4, limit) + 1):
            if kernel.notes.get("filters_per_group") and limit % vectors:
                continue
            kblock = blocks_in_cache(shape, vectors, lanes, target)
            # Each symbolic extent that is tiled doubles the code: whole tiles and single ones.
            for rows in (1,) if shape.is_symbolic else (1, 2, 3):
                for pixels in range(1, min(28, shape.columns) + 1):
                    if not fits_registers(pixels * rows, vectors, registers):
                        break
                    cost = tile_cost(shape, limit, pixels, rows, vectors, kblock * lanes,
                                     self._stream_cost(shape, vectors, kblock, target))
                    cost += self._uneven_cost(shape, -(-limit // vectors), target)
                    best = min(best, (cost, vectors, rows, pixels, kblock))
        _, vectors, rows, pixels, kblock = best
        share = self._default_share(shape, -(-limit // vectors), target)
        if shape.is_computed and (limit % vectors or _input_bytes(shape) > _stash_bytes(target)):
            share = "pixels"
        return {"pixels": pixels, "rows": rows, "vectors": vectors, "kblock": kblock,
                "share": share, "unroll": 4,
                "prefetch": "stream" if kblock else 0}

    def _stream_cost(self, shape: ConvolutionShape, vectors: int, kblock: int, target: Target
                     ) -> float:
        """Cycles per step to read the weights of a tile, if they do not stay in the first cache."""
        lanes = target.lanes(f32)
        channels = (kblock or -(-shape.channels // lanes)) * lanes
        if not shape.blocked_input:
            channels = shape.channels
        size_bytes = vectors * lanes * channels * 4 * math.prod(shape.kernel)
        fits = size_bytes <= target.l1_bytes * 3 // 4
        return 0.0 if fits else vectors * lanes * 4 / 20  # about 20 bytes a cycle from L2

    def _uneven_cost(self, shape: ConvolutionShape, tiles: int, target: Target) -> float:
        """Cycles per step if all threads read all weights only because the tiles do not divide.

        Measured on Cascade Lake: 1x1 960 -> 320 at 7x7 takes 0.21 ms in 5 tiles of filters.
        """
        steps = shape.channels * math.prod(shape.kernel)
        if shape.filters * steps <= shape.rows * shape.columns * shape.channels \
                or self._default_share(shape, tiles, target) == "filters":
            return 0.0
        near = shape.filters * steps * 4 < target.l2_bytes // 2
        return shape.filters * 4 * (target.cores - 1) / (20 if near else 8)

    def _default_share(self, shape: ConvolutionShape, tiles: int, target: Target) -> str:
        """Threads divide what is larger, weights or pixels: the other is read by all of them."""
        even = tiles % target.cores == 0 or tiles >= 4 * target.cores
        weights = shape.filters * shape.channels * math.prod(shape.kernel)
        pixels = shape.rows * shape.columns * shape.channels
        return "filters" if even and weights > pixels else "pixels"

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        shape = self._shape(kernel)
        lanes = target.lanes(f32)
        vectors = int(knobs["vectors"])
        stage = reduced_stage(kernel)
        schedule = Schedule.of(stage)
        schedule.pack(shape.w.tensor.name, weight_layout(shape, lanes, vectors))
        if knobs["prefetch"] != "stream":
            schedule.prefetch(shape.w.tensor.name, int(knobs["prefetch"]))
        rank = len(stage.axes)
        blocks, lane = schedule.split("a1", lanes, "pad")
        tile, vector = schedule.split(blocks, vectors, "shrink")
        spatial = [f"a{k}" for k in range(2, rank)]
        chunk = self._chunk(schedule, spatial, shape, knobs, target) \
            if knobs["share"] == "pixels" else []
        if shape.is_computed and not chunk:
            # Each thread computes the input once for all its filters.
            tiles = usual(schedule.extents[tile])
            part, tile = schedule.split(tile, -(-tiles // target.cores), "balance")
            chunk = [part]
        pixel_outer, pixel = schedule.split(spatial[-1], int(knobs["pixels"]), "balance")
        rows, inner = spatial[:-1], [pixel]
        if rows and int(knobs["rows"]) > 1:
            rows[-1], row = schedule.split(rows[-1], int(knobs["rows"]), "balance")
            inner = [row, pixel]
        depth_outer, depth, unrolled = self._depth(schedule, shape, knobs, lanes)
        outer = ["a0", *chunk, tile, *depth_outer, *rows, pixel_outer]
        schedule.reorder(*outer, *depth, *unrolled, *inner, vector, lane)
        for name in (*unrolled, *inner, vector):
            schedule.unroll(name)
        schedule.vectorize(lane)
        if knobs["prefetch"] == "stream" and depth_outer:
            self._stream(schedule, shape, int(knobs["kblock"]) * lanes * vectors * lanes,
                         depth_outer[0], [*rows, pixel_outer, *depth])
        schedule.accumulate(pixel_outer)
        # The loops inside a chunk may differ in length from chunk to chunk.
        if shape.is_computed:
            schedule.stash(tile)
            shared = schedule.fuse_all(["a0", *chunk])
        else:
            shared = self._shared(schedule, ["a0", *chunk, tile] if chunk else outer)
        schedule.parallel(shared)
        if pixel_outer not in schedule.order:
            schedule.accumulate_at = shared
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text

    def _stream(self, schedule: Schedule, shape: ConvolutionShape, weights: int, block: str,
                loops: Sequence[str]) -> None:
        """Asks for so many weights per tap of the next block, a few lines in each iteration."""
        count, turns = weights * math.prod(shape.kernel), 1
        for depth, name in enumerate(loops, 1):
            turns *= usual(schedule.extents[name])
            if 2 * turns * LINE_BYTES >= count * f32.size_bytes or depth == len(loops):
                schedule.stream(shape.w.tensor.name, block, loops[:depth], count)
                return

    def _chunk(self, schedule: Schedule, spatial: list[str], shape: ConvolutionShape,
               knobs: Mapping[str, Any], target: Target) -> list[str]:
        """Cuts the first loop over pixels into chunks for the threads; all filters run per chunk.

        The name of the loop inside a chunk takes the place of the axis in `spatial`.
        """
        where = next((k for k, name in enumerate(spatial) if schedule.extents[name] != 1), 0)
        if isinstance(schedule.extents[spatial[where]], Sym):
            return []
        extent = usual(schedule.extents[spatial[where]])
        count = chunk_count(shape, extent, where == len(spatial) - 1, int(knobs["pixels"]),
                            int(knobs["rows"]), int(knobs["vectors"]), target)
        chunk, spatial[where] = schedule.split(spatial[where], -(-extent // count), "balance")
        return [chunk]

    def _shared(self, schedule: Schedule, outer: list[str]) -> str:
        """Fuses leading loops until there is enough to share; stops before a reduction loop."""
        names, total = [outer[0]], usual(schedule.extents[outer[0]])
        for name in outer[1:]:
            if total >= 16 or name in schedule.reducing:
                break
            names.append(name)
            total *= usual(schedule.extents[name])
        return schedule.fuse_all(names)

    def _depth(self, schedule: Schedule, shape: ConvolutionShape, knobs: Mapping[str, Any],
               lanes: int) -> tuple[list[str], list[str], list[str]]:
        """(loops outside the accumulators, loops inside, unrolled ones) of the reduction."""
        first = 1 if shape.channel_axis else 0
        window = [f"r{k + first}" for k in range(len(shape.kernel))]
        if not shape.channel_axis:
            return [], window[:-1], window[-1:]
        if not shape.blocked_input:
            if not shape.kernel:
                return [], ["r0"], []
            # Unrolled taps would read the same pixels: LLVM keeps those in registers and spills.
            # Measured on Cascade Lake: 7x7 stride 2, 3 -> 64 at 224x224 takes 1.06 ms against 1.44.
            if shape.channels <= MOST_PLANES:
                return [], window, ["r0"]
            planes, plane = schedule.split("r0", MOST_PLANES, "shrink")
            return [], [*window, planes], [plane]
        unroll = min(int(knobs["unroll"]), lanes)
        # Zeros in the last block are skipped where its channels are whole steps. Measured on
        # Cascade Lake: 1x1 24 -> 144 at 56x56 twice in MobileNet V2 makes the whole 1.2 % faster.
        skips = not int(knobs["kblock"]) and shape.channels % lanes % unroll == 0
        blocks, within = schedule.split("r0", lanes, "shrink" if skips else "pad")
        outer: list[str] = []
        depth = [blocks]
        if int(knobs["kblock"]):
            outer_blocks, inner_blocks = schedule.split(blocks, int(knobs["kblock"]), "shrink")
            outer, depth = [outer_blocks], [inner_blocks]
        if unroll == lanes:
            return outer, [*depth, *window], [within]
        steps, step = schedule.split(within, unroll, "exact")
        return outer, [*depth, *window, steps], [step]


def fits_registers(pixels: int, vectors: int, registers: int) -> bool:
    """True if a register tile stays in registers.

    LLVM reads the operands of the next step early and spills when too few registers are left.
    Measured on Cascade Lake: 3x3 64 -> 64 at 56x56 takes 1.35 ms with 13 x 2, 1.69 with 14 x 2.
    """
    tile = pixels * vectors
    return tile + vectors < registers and tile <= registers * 27 // 32


def blocks_in_cache(shape: ConvolutionShape, vectors: int, lanes: int, target: Target) -> int:
    """Input blocks whose weights for one tile fill half of the first cache; 0 if all of them fit.

    Measured on Cascade Lake: 1x1 1024 -> 256 at 14x14 takes 0.78 ms with blocks of 4 (16 KiB),
    1.05 ms with all 64 at once.
    """
    if not shape.blocked_input:
        return 0
    blocks = -(-shape.channels // lanes)
    slice_bytes = vectors * lanes * lanes * 4 * math.prod(shape.kernel)
    fitting = max(1, target.l1_bytes // 2 // slice_bytes)
    if fitting >= blocks:
        return 0
    return -(-blocks // -(-blocks // fitting))


def tile_cost(shape: ConvolutionShape, blocks: int, pixels: int, rows: int, vectors: int,
              depth: int, stream: float = 0.0) -> float:
    """Cycles of all tiles for one input channel.

    A step costs the larger of arithmetic and loads, two a cycle, and at least the latency of a
    multiply-add; loads cost a little on their own. `depth` is the number of channels per pass (0:
    all): after each pass the accumulators are stored and loaded again. `stream` is what reading the
    weights of a step costs.
    """
    reload = 1.4 / (depth * math.prod(shape.kernel)) if depth else 0.0
    total = 0.0
    for height, many in balanced(shape.rows, rows):
        for width, count in balanced(shape.columns, pixels):
            tile = height * width
            loads = tile + vectors
            step = max(tile * vectors / 2, loads / 2, stream, 4.0) + 0.2 + 0.1 * loads
            total += many * count * (step + reload * tile * vectors)
    return total * -(-blocks // vectors)


def chunk_count(shape: ConvolutionShape, extent: int, in_row: bool, pixels: int, rows: int,
                vectors: int, target: Target) -> int:
    """Into how many chunks the threads cut `extent` rows, or the pixels of one row.

    Few chunks leave threads without work; many cut the register tiles smaller and read the weights
    anew for each chunk. A chunk of pixels is read for each tile of filters, from the second cache
    if half of that holds it. Measured on Cascade Lake: 1x1 960 -> 320 at 7x7 takes 0.21 ms in 7
    chunks.
    """
    lanes, threads = target.lanes(f32), target.cores
    near, far = 20, 8  # bytes a cycle from the second cache and from the third
    steps = shape.channels * math.prod(shape.kernel)
    tiles = -(-shape.filters // (lanes * vectors))
    weights = shape.filters * steps * 4
    best = (math.inf, 1)
    # All filters of a chunk are one task where the chunk's input is computed.
    least, together = 1, 1
    if shape.is_computed:
        least, together = min(extent, -(-_input_bytes(shape) // _stash_bytes(target))), tiles
    for count in range(least, min(max(24, 4 * least), extent) + 1):
        size = -(-extent // count)
        part = replace(shape, rows=1, columns=size) if in_row else \
            replace(shape, rows=size * shape.rows // extent)
        work = tile_cost(part, tiles * vectors, pixels, rows, vectors, 0) * steps / tiles
        chunk_bytes = part.rows * part.columns * shape.channels * 4
        read = weights / (near if weights < target.l2_bytes // 2 else far)
        if chunk_bytes > target.l2_bytes // 2:
            read += tiles * chunk_bytes / far
        each = -(-count // threads)
        rounds = -(-count * tiles // (together * threads)) * together
        best = min(best, (rounds * work + each * read, count))
    return best[1]


def _stash_bytes(target: Target) -> int:
    """The most computed input that a task keeps.

    Measured on Cascade Lake: 1x1 1024 -> 128 at 14x14 with a normalisation before it takes 0.86 of
    the time with a quarter of the second cache that it takes with half.
    """
    return min(MAX_STASH_BYTES, target.l2_bytes // 4)


def _input_bytes(shape: ConvolutionShape) -> int:
    return shape.rows * shape.columns * shape.channels * f32.size_bytes


def balanced(extent: int, factor: int) -> list[tuple[int, int]]:
    """(size, count) of the nearly equal tiles of an extent."""
    count = -(-extent // factor)
    big = -(-extent // count)
    bigs = extent - count * (big - 1)
    return [(big, bigs), (big - 1, count - bigs)] if bigs < count else [(big, count)]


def weight_layout(shape: ConvolutionShape, lanes: int, vectors: int) -> Layout:
    """Weights as one stream: [oc tile][ic block][kernel][ic in block][oc in tile].

    For a planar input [oc tile][kernel][ic][oc in tile].
    """
    rank = len(shape.w.indices)
    spatial = tuple(Part(axis) for axis in range(2, rank))
    width = vectors * lanes
    if shape.blocked_input:
        parts = (Part(0, width), Part(1, lanes), *spatial, Part(1, 1, lanes), Part(0, 1, width))
    else:
        parts = (Part(0, width), *spatial, Part(1), Part(0, 1, width))
    return Layout(parts, ((0, 0),) * rank)
