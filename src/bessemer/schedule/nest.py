"""Applies a schedule: the loop nest of one compute and the outputs that are computed from it.

A split whose factor does not divide the extent gives regions: stretches of the outer loop with
their own inner extent. Each region gets its own loops, so the main one carries no conditions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bessemer.core.dtypes import DType, bf16, boolean, f16, f32, i64
from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import Dim, Sym, is_static, usual
from bessemer.lower.affine import Range
from bessemer.lower.kernel import Operand, is_expensive, product_of_loads
from bessemer.lower.loops import (
    Alloc,
    Buffer,
    Fma,
    For,
    If,
    LaneReduce,
    Let,
    Prefetch,
    Stmt,
    Store,
    static,
)
from bessemer.schedule.memory import Axes, Memory, physical
from bessemer.schedule.schedule import Schedule, Split, Stream, tiles_of
from bessemer.schedule.stash import Pixels, computed_product, fill
from bessemer.te.expr import (
    Binary,
    Expr,
    Load,
    Reduce,
    Var,
    binary,
    cast,
    const,
    equal,
    extent,
    isnan,
    loads,
    not_equal,
    where,
)
from bessemer.te.interpreter import extreme
from bessemer.te.tensor import Tensor

LINE_BYTES = 64
"""A cache line, of all our targets."""

MAX_STACK_BYTES = 192 * 1024
"""Scratch of one thread; its stack has at least a megabyte."""

STRAIGHT_RESULTS = 4
"""So many costly epilogues stand in a row as straight-line code; more of them become a loop."""


@dataclass(frozen=True)
class _Env:
    """What is bound so far: loop values, region sizes, how split axes combine in this region."""

    values: Mapping[str, Expr] = field(default_factory=dict)
    sizes: Mapping[str, Dim] = field(default_factory=dict)
    combine: Mapping[str, tuple[int, Dim]] = field(default_factory=dict)

    def bind(self, name: str, value: Expr) -> "_Env":
        return replace(self, values={**self.values, name: value})

    def sized(self, name: str, size: Dim) -> "_Env":
        return replace(self, sizes={**self.sizes, name: size})

    def combined(self, axis: str, factor: int, start: Dim) -> "_Env":
        return replace(self, combine={**self.combine, axis: (factor, start)})


Leaf = Callable[[_Env], list[Stmt]]


@dataclass(eq=False)
class Nest:
    """Builds the loops of `stage`; `outputs` are the operands computed from it at the same indices.

    `bound` gives the values of output axes that an enclosing nest already runs over.
    """

    stage: Tensor
    schedule: Schedule
    memory: Memory
    outputs: Sequence[Operand]
    bound: Mapping[int, Expr] = field(default_factory=dict)
    local: tuple[Buffer, tuple[int, ...]] | None = None
    """Instead of outputs: a stack buffer to store to, with the axes it has."""
    _rolled: frozenset[str] = field(default=frozenset(), init=False, repr=False)
    """Unrolled loops that are real ones for now."""

    def build(self) -> list[Stmt]:
        """The statements.

        Raises: ScheduleError if the schedule cannot be applied to this compute.
        """
        self._check_order()
        for name, layout in self.schedule.packs.items():
            self.memory.pack(name, layout)
        self.memory.prefetches |= self.schedule.prefetches
        if not isinstance(self.stage.body, Reduce):
            return self._loops(self.schedule.order, _Env(), self._plain_leaf)
        self._check_padding(self.stage.body)
        order = self.schedule.order
        if self.schedule.accumulate_at:
            point = order.index(self.schedule.accumulate_at) + 1
        else:
            point = next((k for k, name in enumerate(order) if name in self.schedule.reducing),
                         len(order))
        self._inner = order[point:]
        self._outer_reducing = [n for n in order[:point] if n in self.schedule.reducing]
        return self._loops(order[:point], _Env(), self._accumulate)

    def _check_padding(self, body: Reduce) -> None:
        """Padding reads as zero, which must not change the result of a reduction."""
        harmless = body.kind == "sum" and (
            isinstance(body.body, Load) or product_of_loads(body.body) is not None)
        for k, axis in enumerate(body.axes):
            if self._padded_extent(f"r{k}", axis.extent) != axis.extent and not harmless:
                raise ScheduleError(f"r{k} of {self.stage.name} cannot be padded: zeros would "
                                    f"count in the {body.kind} of {body.body}")

    def _check_order(self) -> None:
        """The vector loop is innermost; a parallel loop stands in serial loops only."""
        kinds, order = self.schedule.kinds, self.schedule.order
        vector = next((n for n, kind in kinds.items() if kind == "vector"), "")
        if vector in order[:-1]:
            raise ScheduleError(f"vector loop {vector} must be the innermost one")
        for k, name in enumerate(order):
            outer = next((n for n in order[:k] if kinds.get(n, "serial") != "serial"), "")
            if kinds.get(name) == "parallel" and outer:
                raise ScheduleError(f"parallel loop {name} stands inside {kinds[outer]} {outer}")

    # -- loops and regions ------------------------------------------------------------------------

    def _loops(self, names: Sequence[str], env: _Env, leaf: Leaf) -> list[Stmt]:
        if not names:
            return leaf(env)
        name, rest = names[0], names[1:]
        stash = self._stash(env) if name == self.schedule.stash_at else []
        return [*stash, *self._turns(name, rest, env, leaf)]

    def _turns(self, name: str, rest: Sequence[str], env: _Env, leaf: Leaf) -> list[Stmt]:
        kind = "serial" if name in self._rolled else self.schedule.kinds.get(name, "serial")
        var = Var(name, i64)
        count = self._size(name, env)
        regions = self._regions(name, count, env)
        if kind == "serial" and name not in self.schedule.fuses and len(regions) > 1:
            result: list[Stmt] = []
            for start, end, inner in regions:
                body = self._inside(name, rest, inner.bind(name, var + start), leaf)
                result.append(For(var, end - start, kind, body))
            return result
        bound = env.bind(name, var)
        return [For(var, count, kind, self._enter(name, var, bound, rest, leaf))]

    def _enter(self, name: str, value: Expr, env: _Env, rest: Sequence[str], leaf: Leaf
               ) -> list[Stmt]:
        """What follows once a loop has its value: parts of a fused loop, regions by conditions."""
        fuse = self.schedule.fuses.get(name)
        if fuse is not None:
            count = self._size(fuse.second, env)
            first, second = Var(fuse.first, i64), Var(fuse.second, i64)
            inner = env.bind(fuse.first, first).bind(fuse.second, second)
            body = self._enter(fuse.first, first, inner, (),
                               lambda e: self._enter(fuse.second, second, e, rest, leaf)) \
                if self._has_regions(fuse.first, env) else \
                self._enter(fuse.second, second, inner, rest, leaf)
            if isinstance(count, Sym) and self._size(fuse.first, env) == 1:
                # No division by a symbol could prove that this index is 0.
                return [Let(first, const(0, i64)), Let(second, value), *body]
            if isinstance(count, Sym):
                # Nor that it is below its extent, which the quotient never reaches.
                most = self._size(fuse.first, env) - 1
                quotient = binary("min", value // count, extent(most))
                return [Let(first, quotient), Let(second, value % count), *body]
            return [Let(first, value // count), Let(second, value % count), *body]
        regions = self._regions(name, self._size(name, env), env)
        if len(regions) == 1:
            return self._inside(name, rest, regions[0][2], leaf)
        (_, end, low), (_, _, high) = regions
        return [If(value < extent(end), self._loops(rest, low, leaf),
                   self._loops(rest, high, leaf))]

    def _inside(self, name: str, rest: Sequence[str], env: _Env, leaf: Leaf) -> list[Stmt]:
        """The body of a loop: what it asks for ahead, and the loops inside."""
        asked = [stmt for tensor, stream in self.schedule.streams.items()
                 if stream.turns[-1] == name for stmt in self._ask(tensor, stream, env)]
        body = [*asked, *self._loops(rest, env, leaf)]
        if name not in self.schedule.skips:
            return body
        factor = self.memory.expression(self._load(self.schedule.skips[name]),
                                        self._start(name, env))
        # A NaN is no zero.
        return [If(not_equal(factor, const(0, factor.dtype)), body)]

    def _stash(self, env: _Env) -> list[Stmt]:
        """Computes the factor for the pixels of a task; from here on it is read from scratch."""
        product = computed_product(self.memory.kernel, self.stage)
        assert product is not None
        body = self.stage.body
        assert isinstance(body, Reduce)
        pixels = []
        for k, axis in enumerate(self.stage.axes):
            if k == 1 or self._is_bound(f"a{k}", env):
                continue
            free = self._free(f"a{k}", env)
            start = self._value(f"a{k}", env.bind(free, const(0, i64)))
            count, most = static((self._size(free, env), self.schedule.extents[free]))
            pixels.append(Pixels(axis, start, count, most))
        bound = self._axes(env)
        lanes = self.memory.block
        self.memory.staged.pop(id(product.value), None)

        def compute(values: dict[str, Expr]) -> Expr:
            axes = Axes({**bound.values, **values}, bound.ranges)
            return self.memory.expression(product.value, axes)

        channels = static((body.axes[0].extent,))[0]
        stmts, read = fill(product, pixels, body.axes[0], channels // lanes, lanes, compute)
        self.memory.staged[id(product.value)] = read
        return stmts

    def _free(self, name: str, env: _Env) -> str:
        """What an axis is outside of the loops that are bound: itself, or the inner part."""
        split = self.schedule.splits.get(name)
        if split is not None and self._is_bound(split.outer, env):
            return self._free(split.inner, env)
        return name

    def _ask(self, tensor: str, stream: Stream, env: _Env) -> list[Stmt]:
        """Prefetches of this iteration's part of the next block."""
        load = self._load(tensor)
        operand = self.memory.kernel.operand(load.tensor)
        sizes = [self._size(name, env) for name in stream.turns]
        if operand is None or any(isinstance(size, Sym) for size in sizes[1:]):
            return []
        line = LINE_BYTES // operand.dtype.size_bytes
        each = -(-stream.count // (line * math.prod(map(usual, sizes))))
        turn: Expr = const(0, i64)
        for name, size in zip(stream.turns, sizes, strict=True):
            turn = turn * extent(size) + env.values[name]
        place = turn * (each * line)
        after = env.bind(stream.block, env.values[stream.block] + 1)
        start = self._start(stream.block, after)
        indices = physical(operand.layout, tuple(
            self.memory.expression(index, start) for index in load.indices))
        buffer = self.memory.buffer(operand)
        return [Prefetch(buffer, (*indices[:-1], indices[-1] + place + extent(k * line)))
                for k in range(each)]

    def _load(self, tensor: str) -> Load:
        """The stage's load of a tensor."""
        assert self.stage.body is not None
        return next(node for node in loads(self.stage.body) if node.tensor.name == tensor)

    def _start(self, block: str, env: _Env) -> Axes:
        """The index variables at the first element of a block: the loops inside are at 0."""
        order = self.schedule.order
        for name in order[order.index(block) + 1:]:
            env = env.bind(name, const(0, i64))
        return self._axes(env)

    def _has_regions(self, name: str, env: _Env) -> bool:
        return len(self._regions(name, self._size(name, env), env)) > 1 or \
            name in self.schedule.fuses

    def _split_of(self, outer: str) -> Split | None:
        return next((s for s in self.schedule.splits.values() if s.outer == outer), None)

    def _size(self, name: str, env: _Env) -> Dim:
        if name in env.sizes:
            return env.sizes[name]
        for split in self.schedule.splits.values():
            if name == split.outer:
                return tiles_of(self._size(split.axis, env), split.factor, split.tail)
            if name == split.inner:
                return split.factor
        fuse = self.schedule.fuses.get(name)
        if fuse is not None:
            return self._size(fuse.first, env) * self._size(fuse.second, env)
        return self.schedule.extents[name]

    def _regions(self, name: str, count: Dim, env: _Env) -> list[tuple[Dim, Dim, _Env]]:
        """(start, end, environment) of each stretch of a loop."""
        split = self._split_of(name)
        if split is None:
            return [(0, count, env)]
        size, factor = self._size(split.axis, env), split.factor
        if isinstance(size, Sym) or isinstance(count, Sym):
            return self._symbolic(split, size, count, env)
        if split.tail == "balance":
            return self._balanced(split, size, count, env)
        full, rest = divmod(size, factor)
        if not rest or split.tail in ("exact", "pad"):
            return [(0, count, env)]
        last = env.sized(split.inner, rest) if split.tail == "shrink" else env
        return [(0, full, env), (full, count, last)] if full else [(0, count, last)]

    def _symbolic(self, split: Split, size: Dim, count: Dim, env: _Env
                  ) -> list[tuple[Dim, Dim, _Env]]:
        """Whole tiles, then single iterations; one stretch if the factor certainly divides."""
        full = size // split.factor
        if split.tail not in ("shrink", "balance"):
            whole = size % split.factor == 0 or split.tail != "mask"
            return [(0, count, env)] if whole else [(0, full, env), (full, count, env)]
        if size % split.factor == 0:
            return [(0, count, env)]
        single = env.sized(split.inner, 1).combined(split.axis, 1, full * (split.factor - 1))
        return [(0, full, env), (full, count, single)]

    def _balanced(self, split: Split, extent: int, count: int, env: _Env
                  ) -> list[tuple[Dim, Dim, _Env]]:
        big = -(-extent // count)
        bigs = extent - count * (big - 1)
        first = env.sized(split.inner, big).combined(split.axis, big, 0)
        if bigs == count:
            return [(0, count, first)]
        second = env.sized(split.inner, big - 1).combined(split.axis, big - 1, bigs)
        return [(0, bigs, first), (bigs, count, second)]

    # -- values -----------------------------------------------------------------------------------

    def _value(self, axis: str, env: _Env) -> Expr:
        if axis in env.values:
            return env.values[axis]
        split = self.schedule.splits[axis]
        factor, start = env.combine.get(axis, (split.factor, 0))
        inner = self._value(split.inner, env)
        return self._value(split.outer, env) * factor + inner + extent(start)

    def _axes(self, env: _Env) -> Axes:
        """Values and ranges of the compute's own index variables."""
        values: dict[str, Expr] = {}
        ranges: dict[str, Range] = {}
        padded: set[str] = set()
        reduce_axes = self.stage.body.axes if isinstance(self.stage.body, Reduce) else ()
        for prefix, axes in (("a", self.stage.axes), ("r", reduce_axes)):
            for k, axis in enumerate(axes):
                name = f"{prefix}{k}"
                if prefix == "a" and k in self.bound:
                    values[axis.name] = self.bound[k]
                elif name in env.values or self._is_bound(name, env):
                    values[axis.name] = self._value(name, env)
                room = self._padded_extent(name, axis.extent)
                ranges[axis.name] = (0, room - 1)
                if room != axis.extent:
                    padded.add(axis.name)
        return Axes(values, ranges, frozenset(padded))

    def _is_bound(self, axis: str, env: _Env) -> bool:
        if axis in env.values:
            return True
        split = self.schedule.splits.get(axis)
        return split is not None and self._is_bound(split.outer, env) \
            and self._is_bound(split.inner, env)

    def _padded_extent(self, name: str, size: Dim) -> Dim:
        split = self.schedule.splits.get(name)
        if split is None or split.tail != "pad":
            return size
        return -(-size // split.factor) * split.factor

    def _guarded(self, body: list[Stmt], env: _Env, reducing: bool) -> list[Stmt]:
        """Wraps statements in the conditions of masked splits whose loops are all bound."""
        for split in self.schedule.splits.values():
            size = self._size(split.axis, env)
            if split.tail != "mask" or size % split.factor == 0:
                continue
            if not reducing and split.axis in self.schedule.reducing:
                continue
            body = [If(self._value(split.axis, env) < extent(size), body)]
        return body

    # -- leaves -----------------------------------------------------------------------------------

    def _plain_leaf(self, env: _Env) -> list[Stmt]:
        assert self.stage.body is not None
        return self._guarded(self._outputs(env, None), env, False)

    def _outputs(self, env: _Env, value: Expr | None) -> list[Stmt]:
        """Stores of all outputs, given the stage's value if it was accumulated."""
        axes = self._axes(env)
        if self.local is not None:
            buffer, kept = self.local
            if value is None:
                assert self.stage.body is not None
                value = self.memory.expression(self.stage.body, axes)
            indices = tuple(axes.values[self.stage.axes[k].name] for k in kept)
            return [Store(buffer, indices, value)]
        known = {} if value is None else {id(self.stage): value}
        result: list[Stmt] = []
        for operand in self.outputs:
            tensor = operand.tensor
            own = axes if tensor is self.stage else self._renamed(axes, tensor)
            if tensor is self.stage and value is not None:
                body = value
            else:
                assert tensor.body is not None
                body = self.memory.expression(tensor.body, own, known)
            indices = tuple(own.values[axis.name] for axis in tensor.axes)
            result += self.memory.store(operand, own, indices, body)
        return result

    def _renamed(self, axes: Axes, tensor: Tensor) -> Axes:
        """The stage's axes under the names of an output that has the same index space."""
        pairs = list(zip(self.stage.axes, tensor.axes, strict=True))
        return Axes({theirs.name: axes.values[ours.name] for ours, theirs in pairs},
                    {theirs.name: axes.ranges[ours.name] for ours, theirs in pairs},
                    frozenset(t.name for o, t in pairs if o.name in axes.padded))

    # -- reductions -------------------------------------------------------------------------------

    def _accumulate(self, env: _Env) -> list[Stmt]:
        body = self.stage.body
        assert isinstance(body, Reduce)
        schedule = self.schedule
        lanes = next((n for n in self._inner if schedule.kinds.get(n) == "vector"), "")
        spatial = [n for n in self._inner if n not in schedule.reducing]
        kept = [n for n in spatial if n != lanes]
        fast = all(schedule.kinds.get(n) == "unroll" or self._size(n, env) == 1 for n in kept)
        width = schedule.extents[lanes] if lanes else 1
        extents = (*(schedule.extents[n] for n in kept), width)
        if not is_static(extents):
            raise ScheduleError(f"accumulators of {extents}: their extents must be known")
        shape = static(extents)
        if lanes in schedule.reducing and not fast:
            raise ScheduleError(
                f"the lanes of {lanes} are summed in registers: unroll {' '.join(kept)}")
        accumulator = _Accumulator(self, body, shape, "register" if fast else "stack", kept, lanes)
        spread = spatial if lanes in spatial or not lanes else [*spatial, lanes]
        start = self._loops(spread, env, accumulator.initialise)
        rolled = self._loops_of_costly_end(kept) if fast and lanes in spatial else frozenset()
        end = self._rolled_end(accumulator, spatial, rolled, env) if rolled \
            else self._loops(spatial, env, accumulator.finish)
        return [*accumulator.declare(),
                *self._either(env, False, start, spread, accumulator.resume),
                *self._loops(self._inner, env, accumulator.update),
                *self._either(env, True, end, spatial, accumulator.suspend)]

    def _either(self, env: _Env, last: bool, at_end: list[Stmt], names: Sequence[str],
                between: Leaf) -> list[Stmt]:
        """One side at the first (or last) turn of the reduction loops outside the accumulators."""
        condition: Expr | None = None
        for name in self._outer_reducing:
            goal = self._size(name, env) - 1 if last else 0
            test = equal(env.values[name], extent(goal))
            condition = test if condition is None else condition & test
        return at_end if condition is None else [If(condition, at_end,
                                                    self._loops(names, env, between))]

    def _loops_of_costly_end(self, kept: Sequence[str]) -> frozenset[str]:
        """Unrolled loops that become real ones for the epilogue; none if it is cheap.

        Many copies of a long formula leave too few registers for the accumulators: LLVM then keeps
        some in memory already in the loop that sums. Measured on Cascade Lake: 1x1 16 -> 96 with
        Swish at 112x112 takes 0.63 ms as straight-line code, 0.52 ms so.
        """
        costly = self.local is None and any(
            is_expensive(operand.tensor.body) for operand in self.outputs
            if operand.tensor is not self.stage and operand.tensor.body is not None)
        rolled, count = [], 1
        for name in reversed(kept) if costly else ():
            size = static([self.schedule.extents[name]])[0]
            if count * size <= STRAIGHT_RESULTS:
                count *= size
            else:
                rolled.append(name)
        return frozenset(rolled)

    def _rolled_end(self, accumulator: "_Accumulator", spatial: Sequence[str],
                    rolled: frozenset[str], env: _Env) -> list[Stmt]:
        """The results go through scratch memory, which a loop can index."""
        copy = accumulator.copied()
        self._rolled = rolled
        order = sorted(spatial, key=lambda name: name not in rolled)
        written = self._loops(order, env, copy.finish)
        self._rolled = frozenset()
        return [*copy.declare(), *self._loops(spatial, env, accumulator.copy_to(copy)), *written]


@dataclass(eq=False)
class _Accumulator:
    """The accumulators of one reduction and the statements on them."""

    nest: Nest
    body: Reduce
    shape: tuple[int, ...]
    scope: str
    kept: list[str]
    lanes: str
    name: str = "acc"

    def __post_init__(self) -> None:
        dtype = accumulator_dtype(self.body)
        self.value = Buffer.dense(self.name, dtype, self.shape, self.scope)
        self.position = Buffer.dense("pos", i64, self.shape, self.scope)
        self.is_arg = self.body.kind in ("argmax", "argmin")
        if self.scope == "stack" and self.value.size_bytes > MAX_STACK_BYTES:
            raise ScheduleError(f"accumulators of {self.value.size_bytes} bytes do not fit")
        if self.nest._outer_reducing and self.nest.outputs[0].dtype != dtype:
            raise ScheduleError(f"partial results are {dtype}, the output that would hold them "
                                f"is {self.nest.outputs[0].dtype}")

    def declare(self) -> list[Stmt]:
        """Declarations."""
        return [Alloc(self.value), *([Alloc(self.position)] if self.is_arg else [])]

    def _index(self, env: _Env) -> tuple[Expr, ...]:
        last: Expr = env.values[self.lanes] if self.lanes in env.values else const(0, i64)
        return (*(env.values[name] for name in self.kept), last)

    def copied(self) -> "_Accumulator":
        """The same accumulators in scratch memory."""
        return _Accumulator(self.nest, self.body, self.shape, "stack", self.kept, self.lanes,
                            "sums")

    def copy_to(self, other: "_Accumulator") -> Leaf:
        """Copies one accumulator."""

        def leaf(env: _Env) -> list[Stmt]:
            index = self._index(env)
            return [Store(other.value, index, Load(self.value, index, self.value.dtype))]

        return leaf

    def initialise(self, env: _Env) -> list[Stmt]:
        """Neutral element."""
        index = self._index(env)
        start: list[Stmt] = [Store(self.value, index, neutral(self.body.kind, self.value.dtype))]
        if self.is_arg:
            start.append(Store(self.position, index, const(0, i64)))
        return start

    def resume(self, env: _Env) -> list[Stmt]:
        """The partial result of an outer reduction loop, from where the result will be."""
        (store,) = self._raw_store(env, const(0, self.value.dtype))
        assert isinstance(store, Store)
        partial = Load(store.buffer, store.indices, store.buffer.dtype)
        return self.nest._guarded([Store(self.value, self._index(env), partial)], env, False)

    def _raw_store(self, env: _Env, value: Expr) -> list[Stmt]:
        operand = self.nest.outputs[0]
        axes = self.nest._axes(env)
        own = self.nest._renamed(axes, operand.tensor)
        indices = tuple(own.values[axis.name] for axis in operand.tensor.axes)
        return self.nest.memory.store(operand, replace_padding(own), indices, value)

    def update(self, env: _Env) -> list[Stmt]:
        """One step."""
        index = self._index(env)
        axes = self.nest._axes(env)
        value = self.nest.memory.expression(self.body.body, axes)
        old = Load(self.value, index, self.value.dtype)
        if self.is_arg:
            stmts = self._update_arg(index, value, old, env)
        else:
            wide = cast(value, self.value.dtype)
            stmts = [Store(self.value, index, combine(self.body.kind, old, wide))]
        return self.nest._guarded(stmts, env, True)

    def _update_arg(self, index: tuple[Expr, ...], value: Expr, old: Load, env: _Env) -> list[Stmt]:
        position: Expr = const(0, i64)
        for k, axis in enumerate(self.body.axes):
            position = position * extent(axis.extent) + self.nest._value(f"r{k}", env)
        op = (">" if self.body.kind == "argmax" else "<") + ("=" if self.body.last else "")
        better = binary(op, value, old)
        if value.dtype.is_float:
            unseen = ~isnan(old) if not self.body.last else equal(const(1, i64), const(1, i64))
            better = better & ~isnan(old) | isnan(value) & unseen
        first = equal(position, const(0, i64))
        better = better | first
        then: list[Stmt] = [
            Store(self.position, index, where(better, position, Load(self.position, index, i64))),
            Store(self.value, index, where(better, value, old))]
        return then

    def finish(self, env: _Env) -> list[Stmt]:
        """Epilogue and store."""
        index = self._index(env)
        result: Expr
        if self.is_arg:
            result = Load(self.position, index, i64)
        elif self.lanes and self.lanes in self.nest.schedule.reducing:
            result = LaneReduce(self.body.kind, self.value, index[:-1], self.value.dtype)
        else:
            result = Load(self.value, index, self.value.dtype)
        if not self.is_arg:
            result = cast(result, self.body.dtype)
        return self.nest._guarded(self.nest._outputs(env, result), env, False)

    def suspend(self, env: _Env) -> list[Stmt]:
        """Keeps a partial result where the result will be."""
        result = Load(self.value, self._index(env), self.value.dtype)
        return self.nest._guarded(self._raw_store(env, result), env, False)


def replace_padding(axes: Axes) -> Axes:
    """The same axes, not marked as padded: partial results are stored as they are."""
    return Axes(axes.values, axes.ranges)


def accumulator_dtype(body: Reduce) -> DType:
    """Sums and products of 16-bit floats are kept in f32, as the expressions mean them."""
    dtype = body.body.dtype
    return f32 if dtype in (f16, bf16) and body.kind in ("sum", "prod") else dtype


def neutral(kind: str, dtype: DType) -> Expr:
    """The value a reduction starts from."""
    match kind:
        case "sum":
            return const(0, dtype)
        case "prod":
            return const(1, dtype)
        case "max" | "argmax":
            return const(extreme(dtype, "max"), dtype)
        case "min" | "argmin":
            return const(extreme(dtype, "min"), dtype)
    raise ScheduleError(f"unknown reduction {kind!r}")


def combine(kind: str, old: Expr, value: Expr) -> Expr:
    """One step of a reduction; a sum of products becomes a fused multiply-add."""
    if kind == "sum":
        if isinstance(value, Binary) and value.op == "*" and value.dtype.is_float:
            return Fma(value.a, value.b, old, value.dtype)
        return old | value if value.dtype == boolean else old + value
    if kind == "prod":
        return old * value
    return binary(kind, value, old)
