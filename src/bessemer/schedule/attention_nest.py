"""The loops of attention: the nest over a block of queries."""

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.dtypes import f32, i64
from bessemer.core.shapes import product
from bessemer.lower.loops import Alloc, Buffer, Fma, For, If, Let, Prefetch, Stmt, Store
from bessemer.schedule.ahead import LINE_BYTES
from bessemer.schedule.attention_parts import Parts, furthest_key, output_axes, reduction
from bessemer.schedule.memory import Axes, Memory
from bessemer.schedule.rules.convolution import balanced
from bessemer.targets.target import Target
from bessemer.te.expr import Binary, Expr, Load, Reduce, Unary, Var, binary, const, extent, where
from bessemer.te.interpreter import extreme
from bessemer.te.tensor import Tensor

Body = Callable[[Expr], list[Stmt]]

_AHEAD = 8
"""Keys from the values in use to those asked for.

Rows of values lie far apart, often in the same few sets of the first cache. Measured on Cascade
Lake, 12 heads of 64, 128 and 197 keys: 0.93 to 0.96 of the time; with 4 and 12 the same, 16 0.97.
"""


@dataclass(eq=False)
class AttentionNest:
    """Builds the loops; a block is `vectors` vectors of queries of one head."""

    parts: Parts
    memory: Memory
    target: Target
    vectors: int

    def __post_init__(self) -> None:
        parts = self.parts
        self.lanes = self.target.lanes(f32)
        self.queries, self.keys = (int(n) for n in parts.scores.shape[-2:])  # type: ignore[arg-type]
        self.depth, self.width = int(parts.depth), int(parts.weighted.shape[-1])  # type: ignore[arg-type]
        self.batch = parts.scores.shape[:-2]
        self.furthest = furthest_key(parts.top)
        self.step = next(n for n in (4, 2, 1) if self.keys % n == 0)
        self.order = output_axes(parts)

    def build(self) -> list[Stmt]:
        """One parallel loop over heads and blocks."""
        block = self.vectors * self.lanes
        full, rest = divmod(self.queries, block)
        blocks = full + (rest > 0)
        task, number = Var("task", i64), Var("block", i64)
        body: list[Stmt] = [Let(number, task % blocks)]
        index: Expr = task // blocks
        self.heads: list[Expr] = []
        for k in reversed(range(len(self.batch))):
            variable = Var(f"head{k}", i64)
            size = self.batch[k]
            body.append(Let(variable, index % extent(size) if k else index))
            index = index // extent(size)
            self.heads.insert(0, variable)
        whole = self._block(number * block, self.vectors, block) if full else []
        last = self._block(number * block, -(-rest // self.lanes), rest) if rest else []
        if full and rest:
            body.append(If(number < extent(full), whole, last))
        else:
            body += whole or last
        return [For(task, product(self.batch) * blocks, "parallel", body)]

    # -- one block ------------------------------------------------------------------------------

    def _block(self, start: Expr, vectors: int, rows: int) -> list[Stmt]:
        """Statements for `rows` queries from `start`, in so many vectors."""
        width = vectors * self.lanes
        tag = "" if rows == width else "_last"
        self.packed = Buffer.dense(f"queries{tag}", f32, (self.depth, width), "stack")
        self.scores = Buffer.dense(f"scores{tag}", f32, (self.keys, width), "stack")
        self.top = Buffer.dense(f"top{tag}", f32, (width,), "stack")
        self.total = Buffer.dense(f"total{tag}", f32, (width,), "stack")
        self.start, self.count, self.rows = start, vectors, rows
        return [*map(Alloc, (self.packed, self.scores, self.top, self.total)),
                *self._pack(), *self._score(), *self._exponentials(), *self._weigh()]

    def _seen(self, key: Expr, body: list[Stmt]) -> list[Stmt]:
        """The statements for keys from `key` on, if a query of the block looks at any of them."""
        if self.furthest is None:
            return body
        return [If(key < self.start + (self.rows + self.furthest), body)]

    def _query(self, place: Expr) -> Expr:
        """The query at a place of the block; lanes behind the last one repeat it."""
        query = self.start + place
        if self.rows == self.count * self.lanes:
            return query
        return binary("min", query, const(self.queries - 1, i64))

    def _lanes(self, make: Body) -> list[Stmt]:
        """Runs over all queries of the block."""
        vector, lane = Var("q.v", i64), Var("q.l", i64)
        body = make(vector * self.lanes + lane)
        return [For(vector, self.count, "unroll", [For(lane, self.lanes, "vector", body)])]

    def _axes(self, stage: Tensor, values: tuple[Expr, ...], reduced: Expr | None = None) -> Axes:
        """The index variables of a stage: heads, then `values`."""
        body = stage.body
        names = {axis.name: value
                 for axis, value in zip(stage.axes, (*self.heads, *values), strict=True)}
        axes = list(stage.axes)
        if isinstance(body, Reduce) and reduced is not None:
            names[body.axes[0].name] = reduced
            axes.append(body.axes[0])
        return Axes(names, {axis.name: (0, axis.extent - 1) for axis in axes})

    def _pack(self) -> list[Stmt]:
        """Queries to [d][query].

        A vector of queries after the other: the lines of all rows of a block may lie in so few sets
        of the first cache that they push each other out before the next d. Each d asks for its
        line of one of the next vector's rows.
        """
        d, vector, lane = Var("d", i64), Var("q.v", i64), Var("q.l", i64)
        place = vector * self.lanes + lane
        axes = self._axes(self.parts.scores, (self._query(place), const(0, i64)), d)
        copy = Store(self.packed, (d, place), self.memory.expression(self.parts.q, axes))
        lowest = const(extreme(f32, "max"), f32)
        later = self._query((vector + 1) * self.lanes + d % self.lanes)
        asked = self.memory.expression(self.parts.q, self._axes(
            self.parts.scores, (later, const(0, i64)), d))
        assert isinstance(asked, Load)
        lines = [For(d, self.depth, "serial", [
            Prefetch(asked.tensor, asked.indices), For(lane, self.lanes, "vector", [copy])])]
        return [For(vector, self.count, "serial", list[Stmt](lines)),
                *self._lanes(lambda place: [Store(self.top, (place,), lowest)])]

    def _score(self) -> list[Stmt]:
        """Fills scores[t][query] = q k' with all that follows, and the maximum of each query."""
        free = self.target.vector_registers - 1 - self.count
        rows = max(1, min(self.keys, free // self.count, 14))
        result: list[Stmt] = []
        first = 0
        for height, tiles in balanced(self.keys, rows):
            key = Var("t.o", i64) * height + first
            # The exponentials take whole steps, of which the last key seen may be the first.
            result.append(For(Var("t.o", i64), tiles, "serial", self._seen(
                key - (self.step - 1), self._score_tile(key, height))))
            first += height * tiles
        return result

    def _score_tile(self, first: Expr, height: int) -> list[Stmt]:
        parts = self.parts
        acc = Buffer.dense("acc", f32, (height, self.count, self.lanes), "register")
        step = next(n for n in (4, 2, 1) if self.depth % n == 0)
        outer, inner, row = Var("d.o", i64), Var("d.i", i64), Var("t.i", i64)
        d, key = outer * step + inner, first + row

        def multiply(place: Expr, at: tuple[Expr, ...]) -> list[Stmt]:
            axes = self._axes(parts.scores, (const(0, i64), key), d)
            k = self.memory.expression(parts.k, axes)
            q = self.packed.at(d, place)
            return [Store(acc, at, Fma(k, q, acc.at(*at), f32))]

        def finish(place: Expr, at: tuple[Expr, ...]) -> list[Stmt]:
            axes = self._axes(parts.top, (self._query(place),), key)
            body = reduction(parts.top).body
            value = self.memory.expression(body, axes, {id(parts.scores): acc.at(*at)})
            score, top = self.scores.at(key, place), self.top.at(place)
            # A NaN need not be the maximum: it makes the sum NaN.
            return [Store(self.scores, (key, place), value),
                    Store(self.top, (place,), where(score > top, score, top))]

        zero = const(0, f32)
        return [Alloc(acc), *self._tile(row, height, lambda place, at: [Store(acc, at, zero)]),
                For(outer, self.depth // step, "serial", [
                    For(inner, step, "unroll", self._tile(row, height, multiply))]),
                *self._tile(row, height, finish)]

    def _tile(self, row: Var, height: int,
              make: Callable[[Expr, tuple[Expr, ...]], list[Stmt]]) -> list[Stmt]:
        """All accumulators of a tile: its rows, and vectors of queries."""
        vector, lane = Var("q.v", i64), Var("q.l", i64)
        body = make(vector * self.lanes + lane, (row, vector, lane))
        return [For(row, height, "unroll", [
            For(vector, self.count, "unroll", [For(lane, self.lanes, "vector", body)])])]

    def _exponentials(self) -> list[Stmt]:
        """The exponentials take the place of the scores; their sums."""
        parts = self.parts
        assert isinstance(parts.exps.body, Unary)
        difference = parts.exps.body.a
        assert isinstance(difference, Binary)
        outer, inner = Var("t.o", i64), Var("t.i", i64)
        vector, lane = Var("q.v", i64), Var("q.l", i64)
        key = outer * self.step + inner
        acc = Buffer.dense("sum", f32, (self.count, self.lanes), "register")
        place, at = vector * self.lanes + lane, (vector, lane)
        axes = self._axes(parts.exps, (self._query(place), key))
        shift = self.memory.expression(difference.b, axes, {id(parts.top): self.top.at(place)})
        score = self.scores.at(key, place)

        def each(body: list[Stmt]) -> list[Stmt]:
            return [For(vector, self.count, "unroll", [For(lane, self.lanes, "vector", body)])]

        weight = Unary("exp", score - shift, f32)
        return [Alloc(acc), *each([Store(acc, at, const(0, f32))]),
                For(outer, self.keys // self.step, "serial", self._seen(outer * self.step, [
                    For(inner, self.step, "serial", each([
                        Store(self.scores, (key, place), weight),
                        Store(acc, at, acc.at(*at) + score)]))])),
                *each([Store(self.total, (place,), acc.at(*at))])]

    def _weigh(self) -> list[Stmt]:
        """The weighted sum of the values, with all that follows, to the result."""
        vectors = -(-self.width // self.lanes)
        wide = min(4 if self.target.vector_registers >= 32 else 2, vectors)
        tall = max(1, (self.target.vector_registers - 1 - wide) // wide)
        result: list[Stmt] = []
        column = 0
        for count, groups in balanced(vectors, wide):
            group = Var("e.o", i64)
            begin = group * (count * self.lanes) + column
            first, body = 0, []
            for height, tiles in balanced(self.rows, min(tall, self.rows, 14)):
                tile = Var("s.o", i64)
                body.append(For(tile, tiles, "serial", self._weigh_tile(
                    tile * height + first, height, begin, count)))
                first += height * tiles
            result.append(For(group, groups, "serial", list[Stmt](body)))
            column += groups * count * self.lanes
        return result

    def _weigh_tile(self, first: Expr, height: int, begin: Expr, count: int) -> list[Stmt]:
        parts = self.parts
        acc = Buffer.dense("acc", f32, (height, count, self.lanes), "register")
        outer, inner = Var("t.o", i64), Var("t.i", i64)
        row, vector, lane = Var("s.i", i64), Var("e.v", i64), Var("e.l", i64)
        key, place, at = outer * self.step + inner, first + row, (row, vector, lane)
        column = begin + vector * self.lanes + lane
        values = self._axes(parts.weighted, (const(0, i64), column), key)
        known: dict[int, Expr] = {id(parts.weighted): acc.at(*at),
                                  id(parts.total): self.total.at(place)}
        own = self._result_axes(self.start + place, column)
        (operand,) = self.memory.kernel.outputs
        assert parts.result.body is not None
        body = self.memory.expression(parts.result.body, own, known)
        indices = tuple(own.values[axis.name] for axis in parts.result.axes)

        def each(make: Stmt | list[Stmt]) -> list[Stmt]:
            inside = make if isinstance(make, list) else [make]
            if self.width % self.lanes:
                inside = [If(column < extent(self.width), inside)]
            return [For(row, height, "unroll", [
                For(vector, count, "unroll", [For(lane, self.lanes, "vector", inside)])])]

        v = self.memory.expression(parts.v, values)
        weight = self.scores.at(key, place)
        return [Alloc(acc), *each(Store(acc, at, const(0, f32))),
                For(outer, self.keys // self.step, "serial", self._seen(outer * self.step, [
                    For(inner, self.step, "unroll", [*self._ask(key, begin, count), *each(
                        Store(acc, at, Fma(weight, v, acc.at(*at), f32)))])])),
                *each(self.memory.store(operand, own, indices, body))]

    def _ask(self, key: Expr, begin: Expr, count: int) -> list[Stmt]:
        """Prefetches of what the tile reads of a later key's values."""
        line, places = Var("e.p", i64), LINE_BYTES // f32.size_bytes
        axes = self._axes(self.parts.weighted, (const(0, i64), begin + line * places), key + _AHEAD)
        value = self.memory.expression(self.parts.v, axes)
        if not isinstance(value, Load):
            return []
        lines = -(-count * self.lanes // places)
        return [For(line, lines, "unroll", [Prefetch(value.tensor, value.indices)])]

    def _result_axes(self, query: Expr, column: Expr) -> Axes:
        """The index variables of the result, which may have them in another order."""
        assert self.order is not None
        values = (*self.heads, query, column)
        axes = self.parts.result.axes
        names = {axis.name: values[k] for axis, k in zip(axes, self.order, strict=True)}
        return Axes(names, {axis.name: (0, axis.extent - 1) for axis in axes})
