"""Matrix products: a register tile of rows x vectors of columns, weights packed into one stream."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.ir.layout import Layout, Part
from bessemer.lower.kernel import Kernel, product_of_loads
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.convolution import balanced
from bessemer.schedule.rules.reduction import epilogue_reason, reduced_stage
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Load, Reduce
from bessemer.te.tensor import IterVar, Tensor

_MANY_ROWS = 128
"""So many rows pay for reading all weights."""
_LARGE_TILE = 20
"""Multiply-adds of a step that need no more than four steps in a row.

Around smaller ones the loop and its prefetches show. Measured on Granite Rapids with AVX2, tiles of
4x3: eight steps take 0.94 of the time of four; with AVX-512 and tiles of 8x3 0.99.
"""
_PASSING_BYTES = 768 << 10
"""Room in the second cache for what is used once: blocks of weights, results."""


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

    Knobs: `rows` x `vectors` is the register tile, `kblock` steps of the sum per pass (0: all),
    `unroll` steps in a row, `share` what threads divide; `prefetch` bytes ahead of each load of the
    weights, or "stream": each pass asks for the weights of the next one.
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

    def _size(self, kernel: Kernel, target: Target) -> "_Size":
        stage = reduced_stage(kernel)
        body = stage.body
        factors = factors_of(kernel, stage)
        assert isinstance(body, Reduce)
        assert factors is not None
        b = kernel.operand(factors[1].tensor)
        extents = [axis.extent for axis in stage.axes]
        return _Size(
            batch=math.prod(map(kernel.usual, extents[:-2])),
            rows=kernel.usual(extents[-2]) if len(extents) > 1 else 1,
            vectors=-(-kernel.usual(extents[-1]) // target.lanes(f32)),
            depth=kernel.usual(body.axes[0].extent),
            lanes=target.lanes(f32), is_static=is_static([*extents, body.axes[0].extent]),
            is_packed=b is not None and b.constant is not None,
            near_rows=near_rows(kernel.usual(body.axes[0].extent), target), cores=target.cores,
            # Partial results wait where the result will be.
            has_blocks=kernel.outputs[0].dtype == f32 and is_static([body.axes[0].extent]))

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        size = self._size(kernel, target)
        blocks = (0, 64, 96, 128, 256) if size.has_blocks else (0,)
        streams: tuple[int | str, ...] = ("stream",) if size.is_packed and size.has_blocks else ()
        return {"rows": tuple(p for p in (1, 2, 3, 4, 5, 6, 8, 9, 12, 14) if p <= size.rows),
                "vectors": (1, 2, 3, 4, 5) if size.rows > 1 else (1, 2, 4, 8, 16),
                "kblock": tuple(block for block in blocks if block < size.depth),
                "unroll": (1, 4, 8), "share": ("columns", "rows"),
                "prefetch": (0, 1024, 2048, *streams)}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        size = self._size(kernel, target)
        if size.rows == 1:
            skips = _skips(kernel, size)
            vectors = min(target.vector_registers // 2 if skips else 8, size.vectors)
            # Wide tiles look at the zeros once; narrow ones let a thread turn round in its part.
            while vectors > 1 and -(-size.vectors // vectors) < target.cores * (1 if skips else 2):
                vectors //= 2
            if not skips and vectors == 8 and -(-size.vectors // 8) < 4 * target.cores:
                vectors = 4
            return {"rows": 1, "vectors": vectors, "kblock": 0, "unroll": 4, "share": "columns",
                    "prefetch": 0}
        rows, vectors = best_tile(size, target)
        tiles = -(-size.vectors // vectors)
        share = "columns" if size.shares_columns and tiles >= target.cores else "rows"
        far = size.is_packed and size.weight_bytes > target.l2_bytes // 4
        unroll = 4 if rows * vectors >= _LARGE_TILE else 8
        knobs: Knobs = {"rows": rows, "vectors": vectors, "unroll": unroll, "share": share}
        if far and size.has_blocks and size.rows >= 4 * rows:
            kblock = depth_block(size, rows, vectors, _stream_bytes(target)) or size.depth
            return {**knobs, "kblock": kblock, "prefetch": "stream"}
        kblock = depth_block(size, rows, vectors, _near_bytes(target))
        return {**knobs, "kblock": kblock, "prefetch": 2048 if far else 0}

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        factors = factors_of(kernel, stage)
        assert factors is not None
        weights = factors[1].tensor.name
        lanes, size = target.lanes(f32), self._size(kernel, target)
        width = int(knobs["vectors"]) * lanes
        schedule = Schedule.of(stage)
        pack_columns(schedule, kernel, factors[1], stage.axes[-1], width)
        rank = len(stage.axes)
        batch = [f"a{k}" for k in range(rank - 2)]
        n_tile, n_rest = schedule.split(f"a{rank - 1}", width, "mask")
        n_vector, n_lane = schedule.split(n_rest, lanes, "exact")
        blocks, depth = self._depth(schedule, knobs)
        tiles, inner = [n_tile, *blocks], []
        if rank > 1:
            chunk, m_tile, m_row = self._row_loops(
                schedule, f"a{rank - 2}", size.depth, knobs, target)
            tiles = [*chunk, n_tile, *blocks, m_tile]
            if knobs["share"] == "rows" and not chunk:
                tiles = [m_tile, n_tile, *blocks]
            inner = [m_row]
        outer = [*batch, *tiles]
        schedule.reorder(*outer, *depth, *inner, n_vector, n_lane)
        for name in (*depth[1:], *inner, n_vector):
            schedule.unroll(name)
        schedule.vectorize(n_lane)
        if knobs["prefetch"] != "stream":
            schedule.prefetch(weights, int(knobs["prefetch"]))
        elif blocks and schedule.packs:
            turns = [name for name in (outer[-1], depth[0]) if name not in blocks]
            schedule.stream(weights, blocks[0], turns, width * int(knobs["kblock"]))
        # One row's results are few.
        if int(knobs["rows"]) > 1 and depth[:-1]:
            schedule.fetch_results(depth[:-1])
        if _skips(kernel, size):
            schedule.skip(factors[0].tensor.name, depth[-1])
        schedule.accumulate(outer[-1])
        shared = schedule.fuse_all(outer[: len(batch) + 1])
        schedule.parallel(shared)
        if shared == outer[-1] or len(outer) == len(batch) + 1:
            schedule.accumulate_at = shared
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text

    def _depth(self, schedule: Schedule, knobs: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """(loop over blocks of the sum, loops inside, of which the second is unrolled)."""
        blocks, depth = [], "r0"
        if int(knobs["kblock"]):
            block, depth = schedule.split("r0", int(knobs["kblock"]), "shrink")
            blocks = [block]
        if int(knobs["unroll"]) == 1:
            return blocks, [depth]
        return blocks, list(schedule.split(depth, int(knobs["unroll"]), "shrink"))

    def _row_loops(self, schedule: Schedule, m: str, depth: int, knobs: Mapping[str, Any],
                   target: Target) -> tuple[list[str], str, str]:
        """(chunks for the threads if they divide the rows, tiles, rows of a tile).

        The rows of a chunk stay in the second cache while all columns are computed.
        """
        rows, extent = int(knobs["rows"]), schedule.extents[m]
        chunk = []
        if knobs["share"] == "rows" and isinstance(extent, int) and extent > 4 * rows:
            most = max(4 * rows, near_rows(depth, target))
            size = -(-extent // (target.cores * -(-extent // (target.cores * most))))
            outer, m = schedule.split(m, -(-size // rows) * rows, "balance")
            chunk = [outer]
        return chunk, *schedule.split(m, rows, "balance")


@dataclass(frozen=True)
class _Size:
    """Extents of a product, and what is known of its second operand."""

    batch: int
    rows: int
    vectors: int
    depth: int
    lanes: int
    is_static: bool
    is_packed: bool
    near_rows: int
    cores: int
    has_blocks: bool
    """The sum can be cut into blocks."""

    @property
    def shares_columns(self) -> bool:
        """Threads divide what is larger: the other is read by all of them.

        But they divide rows where each gets several chunks of many rows that stay in its cache.
        Measured on Cascade Lake, 1024x768x3072: 0.8 of the time.
        """
        chunks = self.near_rows >= _MANY_ROWS and self.rows >= self.cores * self.near_rows
        return self.batch == 1 and self.vectors * self.lanes > self.rows and not chunks

    @property
    def weight_bytes(self) -> int:
        return self.depth * self.vectors * self.lanes * 4


def near_rows(depth: int, target: Target) -> int:
    """Rows of the first factor that stay in the second cache.

    Weights and results pass through it too, and need no more room in a larger one. Measured with
    2 MiB, 1024x3072x768: chunks of 104 and 128 rows take 0.94 of the time of 80.
    """
    room = max(target.l2_bytes // 2, target.l2_bytes - _PASSING_BYTES)
    return min(512, room // max(1, depth * 4))


def best_tile(size: _Size, target: Target) -> tuple[int, int]:
    """(rows, vectors) of the register tile with the least cost."""
    best = (math.inf, 1, 1)
    # With few registers, multiply-adds take one factor from memory.
    spare = 3 if target.vector_registers >= 32 else 1
    most = size.rows
    if size.batch == 1 and not size.shares_columns:
        most = -(-size.rows // target.cores)
    for vectors in range(1, min(4, size.vectors) + 1):
        tiles = -(-size.vectors // vectors)
        if size.shares_columns:
            tiles = -(-tiles // target.cores) * target.cores
        for rows in range(1, most + 1):
            if rows * vectors + vectors + spare > target.vector_registers:
                break
            block = depth_block(size, rows, vectors, _near_bytes(target))
            cost = tiles * sum(count * step_cost(tile, vectors, block)
                               for tile, count in balanced(size.rows, rows))
            best = min(best, (cost, rows, vectors))
    return best[1], best[2]


def step_cost(rows: int, vectors: int, block: int) -> float:
    """Cycles of one step of a tile.

    A step costs the larger of arithmetic and loads, two a cycle, and at least the latency of a
    multiply-add; loads cost a little on their own. With blocks of the sum the accumulators are
    stored and loaded again after each, while the pipeline runs dry.
    """
    loads = rows + vectors
    reload = (40 + 2.8 * rows * vectors) / block if block else 0.0
    return max(rows * vectors / 2, loads / 2, 4.0) + 0.2 + 0.2 * loads + reload


def depth_block(size: _Size, rows: int, vectors: int, room_bytes: int) -> int:
    """Steps whose weights for one tile take that many bytes; 0: do not cut.

    Measured on Cascade Lake with tiles of 8x3, 197x3072x768: 259 GFLOP/s with blocks of 128, 242
    with tiles of 6x4 and blocks of 96; 128x3072x768: 246 against 233, and 216 without blocks.
    """
    fitting = room_bytes // (vectors * size.lanes * 4)
    if not size.has_blocks or fitting >= size.depth or size.rows < 4 * rows or fitting < 8:
        return 0
    block = -(-size.depth // -(-size.depth // fitting))
    return -(-block // 4) * 4


def _near_bytes(target: Target) -> int:
    """Three quarters of the first cache."""
    return target.l1_bytes * 3 // 4


def _stream_bytes(target: Target) -> int:
    """Room for a block that is asked for while the last one is used.

    It may come from the second cache, because partial results then wait less often. Measured on
    Cascade Lake, blocks of 384 steps (72 KiB) against 128: 128x768x3072 and 197x768x3072 take 0.97
    of the time, 128x3072x768 the same.
    """
    return max(_near_bytes(target), target.l2_bytes * 9 // 128)


def _skips(kernel: Kernel, size: _Size) -> bool:
    """True if a row has many zeros, and zeros times the weights are zeros."""
    factors = factors_of(kernel, reduced_stage(kernel))
    assert factors is not None
    weights = kernel.operand(factors[1].tensor)
    return size.rows == 1 and factors[0].tensor.name in kernel.notes.get("sparse", ()) \
        and weights is not None and weights.constant is not None \
        and bool(np.isfinite(weights.constant).all())


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
