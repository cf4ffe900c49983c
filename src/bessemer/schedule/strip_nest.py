"""The loops of a convolution and the depthwise one behind it, over a strip of rows at a time.

The rows of the middle tensor that a strip needs are computed into scratch memory of the thread, for
a few vectors of channels, and read from there: the tensor itself, the largest of an inverted
residual block, never exists. Rows that two strips need are computed twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.core.dtypes import f32, i64
from bessemer.lower.kernel import is_expensive
from bessemer.lower.loops import Alloc, Buffer, Fma, For, If, Let, Stmt, Store
from bessemer.schedule.bias import Bias, bias_of, known_sums
from bessemer.schedule.memory import Axes, Memory
from bessemer.schedule.rules.convolution import MOST_PLANES, balanced
from bessemer.schedule.strip_parts import StripParts
from bessemer.te.expr import Expr, Reduce, Var, const, extent
from bessemer.te.tensor import Tensor
from bessemer.te.walk import walk

SPREAD = 4
"""Costly formulas that stand in a row as straight-line code."""


@dataclass(frozen=True)
class StripCut:
    """How a pair is cut: strips of `rows` output rows, groups of `vectors` vectors of channels."""

    rows: int
    strips: int
    vectors: int
    groups: int
    inputs: int
    """Rows of the middle tensor in a strip."""
    width: int
    """Columns of the middle tensor with their padding."""

    @staticmethod
    def of(parts: StripParts, rows: int, vectors: int, lanes: int) -> "StripCut":
        """The division by these knobs, lowered to what divides evenly."""
        blocks = -(-parts.channels // lanes)
        vectors = max(n for n in range(1, min(vectors, blocks) + 1) if blocks % n == 0)
        strips = -(-parts.rows.outputs // rows)
        rows = -(-parts.rows.outputs // strips)
        columns = parts.columns
        width = max(columns.span(columns.outputs) + max(-columns.pad, 0),
                    columns.inputs + max(columns.pad, 0))
        return StripCut(rows, strips, vectors, blocks // vectors, parts.rows.span(rows), width)

    def scratch_bytes(self, lanes: int) -> int:
        """Bytes of the rows that a task keeps."""
        return self.vectors * self.inputs * self.width * lanes * f32.size_bytes


class StripNest:
    """Builds the loops."""

    def __init__(self, parts: StripParts, cut: StripCut, knobs: Mapping[str, Any], memory: Memory,
                 lanes: int) -> None:
        self.parts, self.cut, self.memory, self.lanes = parts, cut, memory, lanes
        self.pixels, self.unroll = int(knobs["pixels"]), int(knobs["unroll"])
        self.high, self.wide = int(knobs["high"]), int(knobs["wide"])
        self.first_bias = bias_of(parts.first, [parts.middle])
        self.second_bias = bias_of(parts.second, [parts.result])
        self.scratch = Buffer.dense(
            "strip", f32, (cut.vectors, cut.inputs, cut.width, lanes), "stack")

    def build(self) -> list[Stmt]:
        """One parallel loop over images, strips and groups of channels."""
        cut = self.cut
        task, group, strip, n = (Var(name, i64) for name in ("task", "group", "strip", "n"))
        self.group, self.n = group, n
        self.memory.notes["fences"] = True
        self.top = Var("top", i64)  # the first output row
        return [For(task, self.parts.batch * cut.strips * cut.groups, "parallel", [
            Let(group, task % cut.groups),
            Let(strip, task // cut.groups % cut.strips),
            Let(n, task // (cut.groups * cut.strips)),
            Let(self.top, strip * cut.rows),
            Alloc(self.scratch),
            *self._fill_rows(),
            *self._slide()])]

    # -- the first convolution --------------------------------------------------------------------

    def _fill_rows(self) -> list[Stmt]:
        """The rows of the middle tensor, zeros where it ends."""
        rows = self.parts.rows
        row, y = Var("row", i64), Var("y", i64)
        inside = (y >= const(0, i64)) & (y < extent(rows.inputs))
        work = [*self._fill_row(row, y), *self._zero(row, self._borders())]
        first = self.top * rows.stride - rows.pad
        blank = self._zero(row, [(0, self.cut.width)])
        return [For(row, self.cut.inputs, "serial", [
            Let(y, first + row), If(inside, work, blank)])]

    def _borders(self) -> list[tuple[int, int]]:
        """(start, count) of the columns left and right of the tensor."""
        left = max(self.parts.columns.pad, 0)
        end = left + self.parts.columns.inputs
        return [(0, left), (end, self.cut.width - end)]

    def _zero(self, row: Expr, spans: list[tuple[int, int]]) -> list[Stmt]:
        v, x, lane = Var("v", i64), Var("x", i64), Var("l", i64)
        return [For(v, self.cut.vectors, "serial", [For(x, count, "serial", [
            For(lane, self.lanes, "vector", [
                Store(self.scratch, (v, row, x + start, lane), const(0.0, f32))])])])
            for start, count in spans if count]

    def _channel(self, v: Expr, lane: Expr) -> Expr:
        return (self.group * self.cut.vectors + v) * self.lanes + lane

    def _axes(self, stage: Tensor, values: tuple[Expr, ...], reduced: tuple[Expr, ...] = ()
              ) -> Axes:
        """Index variables of a stage; channels run over the padding of their blocks."""
        names = list(stage.axes)
        if reduced:
            assert isinstance(stage.body, Reduce)
            names += stage.body.axes
        ranges: dict[str, Any] = {axis.name: (0, axis.extent - 1) for axis in names}
        padded = set()
        rounded = [stage.axes[1]]
        if reduced and stage is self.parts.first and self.parts.shape.blocked_input:
            rounded.append(names[4])
        for axis in rounded:
            room = -(-int(axis.extent) // self.lanes) * self.lanes  # type: ignore[arg-type]
            if room != axis.extent:
                padded.add(axis.name)
                ranges[axis.name] = 0, room - 1
        given = {axis.name: value for axis, value in zip(names, (*values, *reduced), strict=True)}
        return Axes(given, ranges, frozenset(padded))

    def _fill_row(self, row: Expr, y: Expr) -> list[Stmt]:
        """One row: register tiles of pixels and vectors of channels."""
        left = max(self.parts.columns.pad, 0)
        costly = self.parts.middle.body is not None and is_expensive(self.parts.middle.body)
        result: list[Stmt] = []
        start = 0
        for number, (size, count) in enumerate(balanced(self.parts.columns.inputs, self.pixels)):
            tile = Var(f"tile{number}", i64)
            result.append(For(tile, count, "serial", self._register_tile(
                number, size, row, y, tile * size + start, not costly)))
            start += size * count
        if costly:
            result += self._finish_row(row, y, left)
        return result

    def _start(self, bias: Bias | None, place: tuple[Expr, ...]) -> Expr:
        """What the sum at that place starts from."""
        if bias is None:
            return const(0.0, f32)
        return self.memory.expression(bias.value, self._axes(bias.tensor, place))

    def _middle(self, value: Expr, y: Expr, x: Expr, v: Expr, lane: Expr) -> Expr:
        """The middle tensor, given the sum."""
        middle, first = self.parts.middle, self.parts.first
        if middle is first:
            return value
        assert middle.body is not None
        axes = self._axes(middle, (self.n, self._channel(v, lane), y, x))
        return self.memory.expression(middle.body, axes, known_sums(first, self.first_bias, value))

    def _finish_row(self, row: Expr, y: Expr, left: int) -> list[Stmt]:
        """What follows the sums of a row, as a loop of its own: long formulas need registers."""
        columns = self.parts.columns.inputs
        v, lane = Var("v", i64), Var("l", i64)
        result: list[Stmt] = []
        start = 0
        for number, (size, count) in enumerate(balanced(columns, SPREAD)):
            outer, inner = Var(f"xo{number}", i64), Var("xi", i64)
            x = outer * size + inner + start
            place = (v, row, x + left, lane)
            value = self._middle(self.scratch.at(*place), y, x, v, lane)
            result.append(For(outer, count, "serial", [For(inner, size, "unroll", [
                For(lane, self.lanes, "vector", [Store(self.scratch, place, value)])])]))
            start += size * count
        return [For(v, self.cut.vectors, "serial", result)]

    def _register_tile(self, number: int, size: int, row: Expr, y: Expr, x: Expr, finish: bool
                       ) -> list[Stmt]:
        """The sums of some pixels of a row."""
        vectors, lanes = self.cut.vectors, self.lanes
        left = max(self.parts.columns.pad, 0)
        i, v, lane = Var("i", i64), Var("v", i64), Var("l", i64)
        acc = Buffer.dense(f"acc{number}", f32, (size, vectors, lanes), "register")

        def spread(stmt: Stmt) -> list[Stmt]:
            return [For(i, size, "unroll", [For(v, vectors, "unroll", [
                For(lane, lanes, "vector", [stmt])])])]

        old = acc.at(i, v, lane)
        value = self._middle(old, y, x + i, v, lane) if finish else old

        def step(reduced: tuple[Expr, ...]) -> list[Stmt]:
            place = (self.n, self._channel(v, lane), y, x + i)
            axes = self._axes(self.parts.first, place, reduced)
            a = self.memory.expression(self.parts.shape.x, axes)
            b = self.memory.expression(self.parts.shape.w, axes)
            return spread(Store(acc, (i, v, lane), Fma(a, b, old, f32)))

        start = self._start(self.first_bias, (self.n, self._channel(v, lane), y, x + i))
        return [Alloc(acc), *spread(Store(acc, (i, v, lane), start)),
                *self._depth(step),
                *spread(Store(self.scratch, (v, row, x + i + left, lane), value))]

    def _depth(self, step: Callable[[tuple[Expr, ...]], list[Stmt]]) -> list[Stmt]:
        """The loops over input channels and taps of the first convolution."""
        shape, lanes, unroll = self.parts.shape, self.lanes, self.unroll
        body = self.parts.first.body
        assert isinstance(body, Reduce)
        taps = tuple(Var(f"tap{k}", i64) for k in range(len(shape.kernel)))

        def over_taps(inner: list[Stmt]) -> list[Stmt]:
            for tap, size in zip(reversed(taps), reversed(shape.kernel), strict=True):
                inner = [For(tap, size, "serial", inner)]
            return inner

        if not shape.channel_axis:
            return over_taps(step(taps))
        block, s, u = Var("block", i64), Var("s", i64), Var("u", i64)

        def channels(first: Expr, count: int) -> list[Stmt]:
            inner = step((first + s * unroll + u, *taps))
            return over_taps([For(s, count // unroll, "serial", [For(u, unroll, "unroll", inner)])])

        if not shape.blocked_input:
            if shape.channels <= MOST_PLANES:
                return over_taps([For(u, shape.channels, "unroll", step((u, *taps)))])
            return over_taps([For(u, shape.channels, "serial", step((u, *taps)))])
        full, rest = divmod(shape.channels, lanes)
        if rest % unroll:
            full, rest = full + 1, 0
        result: list[Stmt] = []
        if full:
            result.append(For(block, full, "serial", channels(block * lanes, lanes)))
        if rest:
            result += channels(const(full * lanes, i64), rest)
        return result

    # -- the depthwise convolution ----------------------------------------------------------------

    def _slide(self) -> list[Stmt]:
        """All outputs of the strip from the rows in scratch memory."""
        cut, rows = self.cut, self.parts.rows
        v = Var("v", i64)
        result: list[Stmt] = []
        start = 0
        for number, (high, count) in enumerate(balanced(cut.rows, self.high)):
            tile = Var(f"high{number}", i64)
            first = tile * high + start
            body = self._row_of_tiles(v, first, high)
            if rows.outputs % cut.rows:
                one = Var("one", i64)
                single: list[Stmt] = [For(one, high, "serial", [If(
                    self.top + first + one < extent(rows.outputs),
                    self._row_of_tiles(v, first + one, 1))])]
                body = [If(self.top + first + (high - 1) < extent(rows.outputs), body, single)]
            result.append(For(tile, count, "serial", body))
            start += high * count
        return [For(v, cut.vectors, "serial", result)]

    def _row_of_tiles(self, v: Expr, first: Expr, high: int) -> list[Stmt]:
        result: list[Stmt] = []
        start = 0
        for number, (wide, count) in enumerate(balanced(self.parts.columns.outputs, self.wide)):
            tile = Var(f"wide{number}", i64)
            result.append(For(tile, count, "serial", self._window_tile(
                v, first, tile * wide + start, high, wide)))
            start += wide * count
        return result

    def _window_tile(self, v: Expr, first: Expr, left: Expr, high: int, wide: int) -> list[Stmt]:
        """A tile of `high` x `wide` outputs of one vector of channels."""
        parts, lanes = self.parts, self.lanes
        i, j, lane, ky, kx = (Var(name, i64) for name in ("i", "j", "l", "ky", "kx"))
        acc = Buffer.dense("sum", f32, (high, wide, lanes), "register")
        old = acc.at(i, j, lane)

        def spread(stmts: list[Stmt]) -> list[Stmt]:
            return [For(i, high, "unroll", [For(j, wide, "unroll", [
                For(lane, lanes, "vector", stmts)])])]

        rows, columns = parts.rows, parts.columns
        # Padding is in the scratch memory, or cut off from it.
        skipped = max(-columns.pad, 0)
        at = (v, (first + i) * rows.stride + ky * rows.dilation,
              (left + j) * columns.stride + kx * columns.dilation + skipped, lane)
        place = (self.n, self._channel(v, lane), self.top + first + i, left + j)
        axes = self._axes(parts.second, place, self._taps(ky, kx))
        weight = self.memory.expression(parts.weights, axes)
        step = Store(acc, (i, j, lane), Fma(self.scratch.at(*at), weight, old, f32))
        # Row by row: LLVM keeps all pixels that several taps read in registers, and few are left.
        taps = [For(ky, rows.taps, "serial", [For(i, high, "unroll", [
            For(kx, columns.taps, "unroll", [For(j, wide, "unroll", [
                For(lane, lanes, "vector", [step])])])])])]
        start = self._start(self.second_bias, place)
        sums = [Alloc(acc), *spread([Store(acc, (i, j, lane), start)]), *taps]
        result = parts.result
        if result is parts.second or result.body is None or not is_expensive(result.body) \
                or high * wide <= SPREAD:
            return [*sums, *spread(self._stores(old, place))]
        copy = Buffer.dense("sums", f32, (high, wide, lanes), "stack")
        stores = self._stores(copy.at(i, j, lane), place)
        inner: list[Stmt] = [For(lane, lanes, "vector", stores)]
        finish = [For(i, high, "serial", [For(j, wide, "unroll", inner)])]
        return [*sums, Alloc(copy), *spread([Store(copy, (i, j, lane), old)]), *finish]

    def _taps(self, ky: Expr, kx: Expr) -> tuple[Expr, ...]:
        """The values of the window's index variables."""
        body, along = self.parts.second.body, self.parts.read.indices[2]
        assert isinstance(body, Reduce)
        return tuple(
            const(0, i64) if axis.extent == 1 else
            ky if any(node is axis for node in walk(along)) else kx for axis in body.axes)

    def _stores(self, value: Expr, place: tuple[Expr, ...]) -> list[Stmt]:
        """The output at one place, given the depthwise sum."""
        result, second = self.parts.result, self.parts.second
        axes = self._axes(result, place)
        if result is not second:
            assert result.body is not None
            value = self.memory.expression(
                result.body, axes, known_sums(second, self.second_bias, value))
        return self.memory.store(self.memory.kernel.outputs[0], axes, place, value)
