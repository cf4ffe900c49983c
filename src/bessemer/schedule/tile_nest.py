"""The loops of a matrix product on the processor's matrix unit, whose factors are bf16.

A float32 has 24 bits of fraction, a bf16 has 8: the sum of three is exactly the float. Of the nine
products of the parts six are taken; what is left out is less than 2^-21 of a product, and about
2^-24 on average, as much as rounding in float32 loses.

Source: Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For
Higher-Precision Computations".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bessemer.core.dtypes import bf16, f32, i64, u16, u32
from bessemer.lower.kernel import Operand
from bessemer.lower.loops import (
    TILE_DEPTH,
    TILE_SIDE,
    Alloc,
    Buffer,
    For,
    If,
    Let,
    Stmt,
    Store,
    TileProduct,
)
from bessemer.schedule.memory import Axes, Memory
from bessemer.te.expr import (
    Bitcast,
    Expr,
    Load,
    Reduce,
    Var,
    binary,
    cast,
    const,
    extent,
)
from bessemer.te.functions import equal
from bessemer.te.tensor import Tensor, placeholder

PARTS = 3
_UPPER_HALF = 0xFFFF0000
"""The bits of a float that a bf16 has."""
_TILE_BYTES = 1024


def pack_pairs(weights: np.ndarray, pairs: int, steps: int) -> np.ndarray:
    """Weights [k, n] as [pairs of tiles, k, 32 columns], with zeros behind the last of each."""
    depth, columns = weights.shape
    padded = np.zeros((steps * TILE_DEPTH, pairs * 2 * TILE_SIDE), np.float32)
    padded[:depth, :columns] = weights
    return np.ascontiguousarray(
        padded.reshape(steps * TILE_DEPTH, pairs, 2 * TILE_SIDE).transpose(1, 0, 2))


@dataclass(frozen=True)
class Cut:
    """How a product is divided: `chunk` rows a task, `groups` of columns, `block` steps a pass."""

    batch: int
    rows: int
    columns: int
    depth: int
    chunk: int
    groups: int
    block: int

    @property
    def chunks(self) -> int:
        """Chunks of rows."""
        return -(-self.rows // self.chunk)

    @property
    def row_tiles(self) -> int:
        """Tiles of rows in a chunk."""
        return -(-self.chunk // TILE_SIDE)

    @property
    def has_rows_beyond(self) -> bool:
        """Tiles of some chunk reach behind the last row."""
        return self.chunks * self.row_tiles * TILE_SIDE != self.rows

    @property
    def column_tiles(self) -> int:
        """Tiles of columns in a group, an even number."""
        return -(-self.columns // (2 * TILE_SIDE * self.groups)) * 2

    @property
    def blocks(self) -> int:
        """Passes over the sum."""
        return -(-self.depth // (TILE_DEPTH * self.block))

    @property
    def tasks(self) -> int:
        """What threads share."""
        return self.batch * self.chunks * self.groups

    @property
    def scratch_bytes(self) -> int:
        """Scratch of a task: parts of its rows and of two tiles of columns, sums between passes."""
        tiles = (self.row_tiles + 2) * self.block * PARTS
        sums = self.row_tiles * self.column_tiles if self.blocks > 1 else 8
        return (tiles + sums) * _TILE_BYTES


def _cut_off(value: Expr) -> tuple[Expr, Expr, Expr]:
    """The upper half of a float's bits as the lower and the upper half of u32, and the rest."""
    bits = Bitcast(value, u32)
    upper = binary("&", bits, const(_UPPER_HALF, u32))
    return binary(">>", bits, const(16, u32)), upper, value - Bitcast(upper, f32)


@dataclass(eq=False)
class TileNest:
    """Builds the loops of `stage`, the sum over k of a[.., m, k] * b[.., k, n] with constant b."""

    stage: Tensor
    a: Load
    b: Load
    cut: Cut
    memory: Memory
    lanes: int

    def build(self) -> list[Stmt]:
        """One parallel loop over heads of the batch, chunks of rows and groups of columns."""
        cut = self.cut
        weights = self._weights()
        task, chunk, group = (Var(name, i64) for name in ("task", "chunk", "group"))
        body: list[Stmt] = [Let(group, task % cut.groups), Let(chunk, task // cut.groups)]
        index: Expr = chunk
        if cut.batch > 1:
            number = Var("rows", i64)
            body.append(Let(number, chunk % cut.chunks))
            chunk, index = number, chunk // cut.chunks
        self.values: dict[str, Expr] = {}
        for axis in reversed(self.stage.axes[:-2]):
            size = extent(axis.extent)
            self.values[axis.name] = index % size
            index = index // size
        self.first_row, self.group = chunk * cut.chunk, group
        self.parts = Buffer.dense(
            "parts", bf16, (cut.row_tiles, cut.block, PARTS, TILE_SIDE, TILE_DEPTH), "stack")
        self.columns = Buffer.dense(
            "columns", u32, (2, cut.block, PARTS, TILE_SIDE, TILE_SIDE), "stack")
        kept = (cut.row_tiles, cut.column_tiles) if cut.blocks > 1 else (4, 2)
        self.sums = Buffer.dense("sums", f32, (*kept, TILE_SIDE, TILE_SIDE), "stack")
        block = Var("pass", i64)
        inner = [*self._split_rows(block), *self._products(block, self.memory.buffer(weights))]
        scratch = map(Alloc, (self.parts, self.columns, self.sums))
        return [For(task, cut.tasks, "parallel", [
            *body, *scratch, For(block, cut.blocks, "serial", inner)])]

    def _weights(self) -> Operand:
        """The weights in the order in which they are used."""
        cut = self.cut
        old = self.memory.kernel.operand(self.b.tensor)
        assert old is not None
        assert old.constant is not None
        assert isinstance(self.stage.body, Reduce)
        k = self.stage.body.axes[0]
        position = next(p for p, i in enumerate(self.b.indices) if i is k)
        matrix = old.constant if position == 0 else old.constant.T
        content = pack_pairs(matrix, cut.groups * cut.column_tiles // 2, cut.blocks * cut.block)
        tensor = placeholder(f32, content.shape, f"{old.tensor.name}.pairs")
        fresh = Operand.dense(tensor, None, content, old.key)
        self.memory.kernel.replace_operand(old, fresh)
        return fresh

    # -- parts of the factors ---------------------------------------------------------------------

    def _split_rows(self, block: Expr) -> list[Stmt]:
        """The parts of this pass's columns of a, for the rows of the chunk."""
        cut = self.cut
        tile, row, step, half, lane = (
            Var(f"a.{name}", i64) for name in ("tile", "row", "step", "half", "lane"))
        place = half * self.lanes + lane
        first = (block * cut.block + step) * TILE_DEPTH
        whole = cut.depth == cut.blocks * cut.block * TILE_DEPTH
        m = self.first_row + tile * TILE_SIDE + row
        if cut.has_rows_beyond:
            m = binary("min", m, const(cut.rows - 1, i64))

        def stores(k: Expr) -> list[Stmt]:
            rest = self.memory.expression(self.a, self._axes({
                self._row.name: m, self._depth.name: k}))
            made: list[Stmt] = []
            for part in range(PARTS):
                lower, _, rest = _cut_off(rest)
                made.append(Store(self.parts, (tile, step, const(part, i64), row, place),
                                  Bitcast(cast(lower, u16), bf16)))
            return [For(half, TILE_DEPTH // self.lanes, "unroll", [
                For(lane, self.lanes, "vector", made)])]

        body = stores(first + place)
        if not whole:
            # What lies behind the last column is multiplied with zeros.
            last = const(cut.depth - 1, i64)
            body = [If(first + (TILE_DEPTH - 1) < extent(cut.depth), body,
                       stores(binary("min", first + place, last)))]
        return [For(tile, cut.row_tiles, "serial", [
            For(step, cut.block, "serial", [For(row, TILE_SIDE, "serial", body)])])]

    def _split_weights(self, block: Expr, pair: Expr, weights: Buffer) -> list[Stmt]:
        """The parts of this pass's steps of two tiles of columns."""
        cut = self.cut
        step, two, tile, lane = (Var(f"b.{name}", i64) for name in ("step", "two", "tile", "lane"))
        k = (block * cut.block + step) * TILE_DEPTH + two * 2
        n = tile * TILE_SIDE + lane
        source = self.group * (cut.column_tiles // 2) + pair
        first, second = (weights.at(source, row, n) for row in (k, k + 1))
        stores: list[Stmt] = []
        rests: tuple[Expr, Expr] = (first, second)
        for part in range(PARTS):
            lower, _, left = _cut_off(rests[0])
            _, upper, right = _cut_off(rests[1])
            stores.append(Store(self.columns, (tile, step, const(part, i64), two, lane),
                                binary("|", lower, upper)))
            rests = left, right
        return [For(step, cut.block, "serial", [For(two, TILE_SIDE, "serial", [
            For(tile, 2, "unroll", [For(lane, TILE_SIDE, "vector", stores)])])])]

    @property
    def _row(self) -> Var:
        return self.stage.axes[-2]

    @property
    def _depth(self) -> Var:
        assert isinstance(self.stage.body, Reduce)
        return self.stage.body.axes[0]

    def _axes(self, values: Mapping[str, Expr]) -> Axes:
        assert isinstance(self.stage.body, Reduce)
        axes = (*self.stage.axes, *self.stage.body.axes)
        return Axes({**self.values, **values}, {axis.name: (0, axis.extent - 1) for axis in axes})

    # -- products ---------------------------------------------------------------------------------

    def _products(self, block: Expr, weights: Buffer) -> list[Stmt]:
        """All sums of the task by pairs of tiles; the parts of two tiles of columns come first.

        The results of a pair are computed after the products of the next one, so that vectors and
        the matrix unit work side by side and no sum is read before it is in the cache.
        """
        cut = self.cut
        pair, turn = Var("n.tile", i64), Var("m.tile", i64)
        turns, column = cut.row_tiles // 2, pair * 2
        inner = self._split_weights(block, pair, weights)
        if turns:
            inner.append(For(turn, turns, "serial", [
                *self._multiply(block, turn * 2, column, 2),
                If(const(0, i64) < turn, self._results(block, (turn - 1) * 2, column, 2))]))
        single = const(turns * 2, i64)
        if cut.row_tiles % 2:
            inner += self._multiply(block, single, column, 1)
        if turns:
            inner += self._results(block, const(turns * 2 - 2, i64), column, 2)
        if cut.row_tiles % 2:
            inner += self._results(block, single, column, 1)
        return [For(pair, cut.column_tiles // 2, "serial", inner)]

    def _place(self, row: Expr, column: Expr) -> tuple[Expr, Expr]:
        """Where the sums of some tiles are: places of their own, or two that take turns."""
        return (row, column) if self.cut.blocks > 1 else (row % 4, const(0, i64))

    def _multiply(self, block: Expr, row: Expr, column: Expr, tall: int) -> list[Stmt]:
        """One pass over the sums of some tiles."""
        cut, zero = self.cut, const(0, i64)

        def product(is_first: bool) -> list[Stmt]:
            return [TileProduct(self.sums, self._place(row, column), self.parts, (row, zero),
                                self.columns, (zero, zero), tall, 2, cut.block, is_first)]

        if cut.blocks == 1:
            return product(True)
        return [If(equal(block, zero), product(True), product(False))]

    def _results(self, block: Expr, row: Expr, column: Expr, tall: int) -> list[Stmt]:
        """The results of some tiles from their sums, after the last pass."""
        cut = self.cut
        tile, line, vector, lane = (
            Var(f"c.{name}", i64) for name in ("tile", "row", "vector", "lane"))
        corner = self._place(row, column)
        total = self.sums.at(corner[0] + tile, corner[1] + vector, line, lane)
        m = self.first_row + (row + tile) * TILE_SIDE + line
        n = (self.group * cut.column_tiles + column + vector) * TILE_SIDE + lane
        body = self._stores(m, n, total)
        if cut.groups * cut.column_tiles * TILE_SIDE != cut.columns:
            body = [If(n < extent(cut.columns), body)]
        body = [For(vector, 2, "unroll", [For(lane, TILE_SIDE, "vector", body)])]
        if cut.has_rows_beyond:
            body = [If(m < extent(cut.rows), body)]
        body = [For(tile, tall, "serial", [For(line, TILE_SIDE, "serial", body)])]
        return body if cut.blocks == 1 else [
            If(equal(block, const(cut.blocks - 1, i64)), body)]

    def _stores(self, m: Expr, n: Expr, total: Expr) -> list[Stmt]:
        """The results at one place from its sum."""
        stores: list[Stmt] = []
        place = (*(self.values[axis.name] for axis in self.stage.axes[:-2]), m, n)
        for operand in self.memory.kernel.outputs:
            tensor = operand.tensor
            names = {axis.name: value for axis, value in zip(tensor.axes, place, strict=True)}
            axes = Axes(names, {axis.name: (0, axis.extent - 1) for axis in tensor.axes})
            assert tensor.body is not None
            value = total if tensor is self.stage else self.memory.expression(
                tensor.body, axes, {id(self.stage): total})
            stores += self.memory.store(operand, axes, place, value)
        return stores
