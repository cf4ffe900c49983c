"""The loops of attention: what parts a kernel must have, and the nest over a block of queries."""

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.dtypes import f32, i64
from bessemer.core.shapes import Dim, product
from bessemer.lower.kernel import Kernel, product_of_loads
from bessemer.lower.loops import Alloc, Buffer, Fma, For, If, Let, Stmt, Store
from bessemer.schedule.memory import Axes, Memory
from bessemer.schedule.rules.convolution import balanced
from bessemer.targets.target import Target
from bessemer.te.expr import (
    Binary,
    Expr,
    Load,
    Reduce,
    Unary,
    Var,
    binary,
    const,
    extent,
    loads,
    substitute,
    text,
    walk,
    where,
)
from bessemer.te.interpreter import extreme
from bessemer.te.tensor import IterVar, Tensor


@dataclass(frozen=True)
class Parts:
    """The computes of an attention kernel and the operands of its products.

    scores [.., s, t] = sum over d of q * k; top [.., s] and total [.., s] of the exponentials;
    weighted [.., s, e] = sum over t of exps * v; result = weighted and total, element by element.
    """

    scores: Tensor
    q: Load
    k: Load
    top: Tensor
    exps: Tensor
    total: Tensor
    weighted: Tensor
    v: Load
    result: Tensor

    @property
    def depth(self) -> Dim:
        """The extent of the sum in a score."""
        return reduction(self.scores).axes[0].extent


def reduction(stage: Tensor) -> Reduce:
    """The reduction that a stage is."""
    assert isinstance(stage.body, Reduce)
    return stage.body


def parts_of(kernel: Kernel) -> Parts | str:
    """The parts of an attention kernel, or why it is none."""
    stages = kernel.stages
    if len(kernel.outputs) != 1 or len(stages) != 6 or len(kernel.reductions) != 4:
        return "not scores, maximum, exponentials, sum, weighted sum and result"
    if any(stage.dtype != f32 for stage in stages):
        return "not all in f32"
    if any(len(reduction(stage).axes) != 1 for stage in kernel.reductions):
        return "a sum over several axes"
    result = kernel.outputs[0].tensor
    exps = next((stage for stage in stages if not stage.is_reduction and stage is not result), None)
    top = _only(kernel, "max")
    sums = [stage for stage in kernel.reductions if reduction(stage).kind == "sum"]
    if exps is None or top is None or len(sums) != 3:
        return "not one maximum and three sums"
    total = next((s for s in sums if isinstance(reduction(s).body, Load)), None)
    pairs = [(s, found) for s in sums
             if (found := product_of_loads(reduction(s).body)) is not None]
    scores = next(((s, p) for s, p in pairs if all(x.tensor is not exps for x in p)), None)
    weighted = next(((s, p) for s, p in pairs if any(x.tensor is exps for x in p)), None)
    if total is None or scores is None or weighted is None:
        return "not a sum of exponentials and two products"
    operands = _operands(*scores)
    v = next((x for x in weighted[1] if x.tensor is not exps), None)
    if operands is None or v is None or any(x.tensor.body is not None for x in (*operands, v)):
        return "its products are not of queries, keys and values in memory"
    parts = Parts(scores[0], *operands, top, exps, total, weighted[0], v, result)
    return _refusal(parts) or parts


def _only(kernel: Kernel, kind: str) -> Tensor | None:
    found = [stage for stage in kernel.reductions if reduction(stage).kind == kind]
    return found[0] if len(found) == 1 else None


def _operands(scores: Tensor, pair: tuple[Load, Load]) -> tuple[Load, Load] | None:
    """(queries, keys) of the product."""
    if scores.rank < 2:
        return None
    s, t = scores.axes[-2:]
    for q, k in (pair, pair[::-1]):
        if _reads(q, s) and not _reads(q, t) and _reads(k, t) and not _reads(k, s) \
                and q.fill is None and k.fill is None:
            return q, k
    return None


def _reads(load: Load, axis: IterVar) -> bool:
    return any(node is axis for index in load.indices for node in walk(index))


def _refusal(parts: Parts) -> str:
    """Empty if the stages read each other as attention does."""
    rows = parts.scores.axes[:-1]
    shape = parts.scores.shape
    if parts.exps.shape != shape or parts.top.shape != shape[:-1] \
            or parts.total.shape != shape[:-1] or parts.weighted.shape[:-1] != shape[:-1]:
        return "the stages have other shapes than attention"
    own: dict[int, tuple[IterVar, ...]] = {
        id(parts.top): (*parts.top.axes, reduction(parts.top).axes[0]),
        id(parts.exps): parts.exps.axes,
        id(parts.total): (*parts.total.axes, reduction(parts.total).axes[0]),
        id(parts.weighted): (*parts.weighted.axes[:-1], reduction(parts.weighted).axes[0])}
    for stage in (parts.top, parts.exps, parts.total, parts.weighted):
        names = own[id(stage)]
        assert stage.body is not None
        for load in loads(stage.body):
            if load.tensor.body is not None and not all(
                    a is b for a, b in zip(load.indices, names)):
                return f"{stage.name} does not read {load.tensor.name} element by element"
    if not _is_softmax(parts, own) or parts.v.fill is not None:
        return "the exponentials are not of scores less their maximum"
    if output_axes(parts) is None:
        return "the result is not the weighted sum element by element"
    return "" if len(rows) >= 1 else "no rows"


def _is_softmax(parts: Parts, own: dict[int, tuple[IterVar, ...]]) -> bool:
    """True if exps = exp(x - f(top)) with top = max of the same x."""
    body = parts.exps.body
    if not isinstance(body, Unary) or body.op != "exp" or not isinstance(body.a, Binary) \
            or body.a.op != "-":
        return False
    names = dict(zip(own[id(parts.top)], parts.exps.axes, strict=True))
    reduced = substitute(reduction(parts.top).body, names)  # type: ignore[arg-type]
    return text(reduced) == text(body.a.a) and {
        id(load.tensor) for load in loads(body.a.b)} == {id(parts.top)}


def output_axes(parts: Parts) -> tuple[int, ...] | None:
    """For each axis of the result the axis of the weighted sum that it runs over."""
    result = parts.result
    assert result.body is not None
    place = {id(axis): k for k, axis in enumerate(result.axes)}
    order: list[int] = []
    for load in loads(result.body):
        if load.tensor.body is None:
            continue
        if load.tensor is not parts.weighted and load.tensor is not parts.total:
            return None
        found = [place.get(id(index), -1) for index in load.indices]
        if load.tensor is parts.weighted:
            order = found
        elif order and found != order[:-1]:
            return None
    sums = [load for load in loads(result.body) if load.tensor is parts.total]
    if sorted(order) != list(range(result.rank)) or any(
            [place.get(id(i), -1) for i in load.indices] != order[:-1] for load in sums):
        return None
    return tuple(order.index(k) for k in range(result.rank))


Body = Callable[[Expr], list[Stmt]]


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
        """Queries to [d][query]."""
        d = Var("d", i64)

        def copy(place: Expr) -> list[Stmt]:
            axes = self._axes(self.parts.scores, (self._query(place), const(0, i64)), d)
            return [Store(self.packed, (d, place), self.memory.expression(self.parts.q, axes))]

        lowest = const(extreme(f32, "max"), f32)
        return [For(d, self.depth, "serial", self._lanes(copy)),
                *self._lanes(lambda place: [Store(self.top, (place,), lowest)])]

    def _score(self) -> list[Stmt]:
        """Fills scores[t][query] = q k' with all that follows, and the maximum of each query."""
        free = self.target.vector_registers - 1 - self.count
        rows = max(1, min(self.keys, free // self.count, 14))
        result: list[Stmt] = []
        first = 0
        for height, tiles in balanced(self.keys, rows):
            tile = Var("t.o", i64)
            result.append(For(tile, tiles, "serial",
                              self._score_tile(tile * height + first, height)))
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
        key, vector, lane = Var("t", i64), Var("q.v", i64), Var("q.l", i64)
        acc = Buffer.dense("sum", f32, (self.count, self.lanes), "register")
        place, at = vector * self.lanes + lane, (vector, lane)
        axes = self._axes(parts.exps, (self._query(place), key))
        shift = self.memory.expression(difference.b, axes, {id(parts.top): self.top.at(place)})
        score = self.scores.at(key, place)

        def each(body: list[Stmt]) -> list[Stmt]:
            return [For(vector, self.count, "unroll", [For(lane, self.lanes, "vector", body)])]

        weight = Unary("exp", score - shift, f32)
        return [Alloc(acc), *each([Store(acc, at, const(0, f32))]),
                For(key, self.keys, "serial", each([
                    Store(self.scores, (key, place), weight),
                    Store(acc, at, acc.at(*at) + score)])),
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
        step = next(n for n in (4, 2, 1) if self.keys % n == 0)
        outer, inner = Var("t.o", i64), Var("t.i", i64)
        row, vector, lane = Var("s.i", i64), Var("e.v", i64), Var("e.l", i64)
        key, place, at = outer * step + inner, first + row, (row, vector, lane)
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
                For(outer, self.keys // step, "serial", [
                    For(inner, step, "unroll", each(
                        Store(acc, at, Fma(weight, v, acc.at(*at), f32))))]),
                *each(self.memory.store(operand, own, indices, body))]

    def _result_axes(self, query: Expr, column: Expr) -> Axes:
        """The index variables of the result, which may have them in another order."""
        assert self.order is not None
        values = (*self.heads, query, column)
        axes = self.parts.result.axes
        names = {axis.name: values[k] for axis, k in zip(axes, self.order, strict=True)}
        return Axes(names, {axis.name: (0, axis.extent - 1) for axis in axes})
