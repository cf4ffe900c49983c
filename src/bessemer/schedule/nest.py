"""Applies a schedule: the loop nest of one compute and the outputs that are computed from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_

from bessemer.core.dtypes import i64
from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import Sym, is_static
from bessemer.lower.affine import Range
from bessemer.lower.kernel import Operand, is_expensive, product_of_loads
from bessemer.lower.loops import Buffer, For, If, Let, Stmt, Store, static
from bessemer.schedule.accumulators import Accumulator
from bessemer.schedule.ahead import asked_ahead
from bessemer.schedule.bias import Bias, bias_of, known_sums
from bessemer.schedule.memory import Axes, Memory
from bessemer.schedule.regions import Env, Regions
from bessemer.schedule.schedule import Schedule
from bessemer.schedule.stash import Pixels, computed_product, fill
from bessemer.te.expr import Expr, Load, Reduce, Var, binary, const, extent
from bessemer.te.functions import equal, not_equal
from bessemer.te.tensor import Tensor
from bessemer.te.walk import loads

STRAIGHT_RESULTS = 8
"""So many costly epilogues are straight-line code, side by side; more of them become a loop."""

Leaf = Callable[[Env], list[Stmt]]


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
    bias: Bias | None = field(default=None, init=False)
    """What the sum starts from."""
    _rolled: frozenset[str] = field(default=frozenset(), init=False, repr=False)
    """Unrolled loops that are real ones for now."""

    @cached_property
    def regions(self) -> Regions:
        """Where the loops stand."""
        return Regions(self.schedule)

    def build(self) -> list[Stmt]:
        """The statements.

        Raises: ScheduleError if the schedule cannot be applied to this compute.
        """
        self._check_order()
        for name, layout in self.schedule.packs.items():
            self.memory.pack(name, layout)
        self.memory.prefetches |= self.schedule.prefetches
        if not isinstance(self.stage.body, Reduce):
            return self._loops(self.schedule.order, Env(), self._plain_leaf)
        self._check_padding(self.stage.body)
        order = self.schedule.order
        if self.schedule.accumulate_at:
            point = order.index(self.schedule.accumulate_at) + 1
        else:
            point = next((k for k, name in enumerate(order) if name in self.schedule.reducing),
                         len(order))
        self.inner = order[point:]
        self.outer_reducing = [n for n in order[:point] if n in self.schedule.reducing]
        return self._loops(order[:point], Env(), self._accumulate)

    def _check_padding(self, body: Reduce) -> None:
        """Padding reads as zero, which must not change the result of a reduction."""
        harmless = body.kind == "sum" and (
            isinstance(body.body, Load) or product_of_loads(body.body) is not None)
        for k, axis in enumerate(body.axes):
            if self.regions.padded_extent(f"r{k}", axis.extent) != axis.extent and not harmless:
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

    def _loops(self, names: Sequence[str], env: Env, leaf: Leaf) -> list[Stmt]:
        if not names:
            return leaf(env)
        name, rest = names[0], names[1:]
        stash = self._stash(env) if name == self.schedule.stash_at else []
        return [*stash, *self._turns(name, rest, env, leaf)]

    def _turns(self, name: str, rest: Sequence[str], env: Env, leaf: Leaf) -> list[Stmt]:
        kind = "serial" if name in self._rolled else self.schedule.kinds.get(name, "serial")
        var = Var(name, i64)
        count = self.regions.size(name, env)
        regions = self.regions.of(name, env)
        if kind == "serial" and name not in self.schedule.fuses and len(regions) > 1:
            result: list[Stmt] = []
            for start, end, inner in regions:
                body = self._inside(name, rest, inner.bind(name, var + start), leaf)
                result.append(For(var, end - start, kind, body))
            return result
        bound = env.bind(name, var)
        return [For(var, count, kind, self._enter(name, var, bound, rest, leaf))]

    def _enter(self, name: str, value: Expr, env: Env, rest: Sequence[str], leaf: Leaf
               ) -> list[Stmt]:
        """What follows once a loop has its value: parts of a fused loop, regions by conditions."""
        fuse = self.schedule.fuses.get(name)
        if fuse is not None:
            count = self.regions.size(fuse.second, env)
            first, second = Var(fuse.first, i64), Var(fuse.second, i64)
            inner = env.bind(fuse.first, first).bind(fuse.second, second)
            body = self._enter(fuse.first, first, inner, (),
                               lambda e: self._enter(fuse.second, second, e, rest, leaf)) \
                if self.regions.is_divided(fuse.first, env) else \
                self._enter(fuse.second, second, inner, rest, leaf)
            if isinstance(count, Sym) and self.regions.size(fuse.first, env) == 1:
                # No division by a symbol could prove that this index is 0.
                return [Let(first, const(0, i64)), Let(second, value), *body]
            if isinstance(count, Sym):
                # Nor that it is below its extent, which the quotient never reaches.
                most = self.regions.size(fuse.first, env) - 1
                quotient = binary("min", value // count, extent(most))
                return [Let(first, quotient), Let(second, value % count), *body]
            return [Let(first, value // count), Let(second, value % count), *body]
        regions = self.regions.of(name, env)
        if len(regions) == 1:
            return self._inside(name, rest, regions[0][2], leaf)
        (_, end, low), (_, _, high) = regions
        return [If(value < extent(end), self._loops(rest, low, leaf),
                   self._loops(rest, high, leaf))]

    def _inside(self, name: str, rest: Sequence[str], env: Env, leaf: Leaf) -> list[Stmt]:
        """The body of a loop: what it asks for ahead, and the loops inside."""
        body = [*asked_ahead(self, name, env), *self._loops(rest, env, leaf)]
        if name not in self.schedule.skips:
            return body
        factor = self.memory.expression(self.load_of(self.schedule.skips[name]),
                                        self.start(name, env))
        # A NaN is no zero.
        return [If(not_equal(factor, const(0, factor.dtype)), body)]

    def _stash(self, env: Env) -> list[Stmt]:
        """Computes the factor for the pixels of a task; from here on it is read from scratch."""
        product = computed_product(self.memory.kernel, self.stage)
        assert product is not None
        body = self.stage.body
        assert isinstance(body, Reduce)
        pixels = []
        for k, axis in enumerate(self.stage.axes):
            if k == 1 or self.regions.is_bound(f"a{k}", env):
                continue
            free = self.regions.free(f"a{k}", env)
            start = self.regions.value(f"a{k}", env.bind(free, const(0, i64)))
            count, most = static((self.regions.size(free, env), self.schedule.extents[free]))
            pixels.append(Pixels(axis, start, count, most))
        bound = self.axes(env)
        lanes = self.memory.block
        self.memory.staged.pop(id(product.value), None)

        def compute(values: dict[str, Expr]) -> Expr:
            axes = Axes({**bound.values, **values}, bound.ranges)
            return self.memory.expression(product.value, axes)

        channels = static((body.axes[0].extent,))[0]
        stmts, read = fill(product, pixels, body.axes[0], channels // lanes, lanes, compute)
        self.memory.staged[id(product.value)] = read
        return stmts

    def load_of(self, tensor: str) -> Load:
        """The stage's load of a tensor."""
        assert self.stage.body is not None
        return next(node for node in loads(self.stage.body) if node.tensor.name == tensor)

    def start(self, block: str, env: Env) -> Axes:
        """The index variables at the first element of a block: the loops inside are at 0."""
        order = self.schedule.order
        for name in order[order.index(block) + 1:]:
            env = env.bind(name, const(0, i64))
        return self.axes(env)

    # -- values -----------------------------------------------------------------------------------

    def axes(self, env: Env) -> Axes:
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
                elif name in env.values or self.regions.is_bound(name, env):
                    values[axis.name] = self.regions.value(name, env)
                room = self.regions.padded_extent(name, axis.extent)
                ranges[axis.name] = (0, room - 1)
                if room != axis.extent:
                    padded.add(axis.name)
        return Axes(values, ranges, frozenset(padded))

    def guarded(self, body: list[Stmt], env: Env, reducing: bool) -> list[Stmt]:
        """Wraps statements in the conditions of masked splits whose loops are all bound."""
        for split in self.schedule.splits.values():
            size = self.regions.size(split.axis, env)
            if split.tail != "mask" or size % split.factor == 0:
                continue
            if not reducing and split.axis in self.schedule.reducing:
                continue
            body = [If(self.regions.value(split.axis, env) < extent(size), body)]
        return body

    # -- leaves -----------------------------------------------------------------------------------

    def _plain_leaf(self, env: Env) -> list[Stmt]:
        assert self.stage.body is not None
        return self.guarded(self.stores(env, None), env, False)

    def stores(self, env: Env, value: Expr | None) -> list[Stmt]:
        """Stores of all outputs, given the stage's value if it was accumulated."""
        axes = self.axes(env)
        if self.local is not None:
            buffer, kept = self.local
            if value is None:
                assert self.stage.body is not None
                value = self.memory.expression(self.stage.body, axes)
            indices = tuple(axes.values[self.stage.axes[k].name] for k in kept)
            return [Store(buffer, indices, value)]
        known = {} if value is None else known_sums(self.stage, self.bias, value)
        result: list[Stmt] = []
        for operand in self.outputs:
            tensor = operand.tensor
            own = axes if tensor is self.stage else self.renamed(axes, tensor)
            if tensor is self.stage and value is not None:
                body = value
            else:
                assert tensor.body is not None
                body = self.memory.expression(tensor.body, own, known)
            indices = tuple(own.values[axis.name] for axis in tensor.axes)
            result += self.memory.store(operand, own, indices, body)
        return result

    def renamed(self, axes: Axes, tensor: Tensor) -> Axes:
        """The stage's axes under the names of an output that has the same index space."""
        pairs = list(zip(self.stage.axes, tensor.axes, strict=True))
        return Axes({theirs.name: axes.values[ours.name] for ours, theirs in pairs},
                    {theirs.name: axes.ranges[ours.name] for ours, theirs in pairs},
                    frozenset(t.name for o, t in pairs if o.name in axes.padded))

    # -- reductions -------------------------------------------------------------------------------

    def _accumulate(self, env: Env) -> list[Stmt]:
        body = self.stage.body
        assert isinstance(body, Reduce)
        schedule = self.schedule
        lanes = next((n for n in self.inner if schedule.kinds.get(n) == "vector"), "")
        spatial = [n for n in self.inner if n not in schedule.reducing]
        kept = [n for n in spatial if n != lanes]
        fast = all(
            schedule.kinds.get(n) == "unroll" or self.regions.size(n, env) == 1 for n in kept)
        width = schedule.extents[lanes] if lanes else 1
        extents = (*(schedule.extents[n] for n in kept), width)
        if not is_static(extents):
            raise ScheduleError(f"accumulators of {extents}: their extents must be known")
        shape = static(extents)
        if lanes in schedule.reducing and not fast:
            raise ScheduleError(
                f"the lanes of {lanes} are summed in registers: unroll {' '.join(kept)}")
        accumulator = Accumulator(self, body, shape, "register" if fast else "stack", kept, lanes)
        if self.local is None and not self.outer_reducing and lanes in spatial:
            self.bias = bias_of(self.stage, [operand.tensor for operand in self.outputs])
        spread = spatial if lanes in spatial or not lanes else [*spatial, lanes]
        start = self._loops(spread, env, accumulator.initialise)
        rolled = self._loops_of_costly_end(kept) if fast and lanes in spatial else frozenset()
        end = self._rolled_end(accumulator, spatial, rolled, env) if rolled \
            else self._loops(spatial, env, accumulator.finish)
        return [*accumulator.declare(), *start,
                *self._loops(self.inner, env, accumulator.update),
                *self._of_blocks(env, end, spatial, accumulator)]

    def _of_blocks(self, env: Env, end: list[Stmt], spatial: Sequence[str],
                   accumulator: Accumulator) -> list[Stmt]:
        """The end, which all but the last turn of the reduction loops outside put off.

        They keep partial results, and all but the first add the earlier ones: at the end, because
        sums that started from them would wait for memory.
        """
        if not self.outer_reducing:
            return end
        first, last = (self._all_at(env, is_last) for is_last in (False, True))
        return [If(~first, self._loops(spatial, env, accumulator.add_partial)),
                If(last, end, self._loops(spatial, env, accumulator.suspend))]

    def _all_at(self, env: Env, is_last: bool) -> Expr:
        """Whether this is the first (or last) turn of the reduction loops outside."""
        goals = [self.regions.size(name, env) - 1 if is_last else 0 for name in self.outer_reducing]
        tests = [equal(env.values[name], extent(goal))
                 for name, goal in zip(self.outer_reducing, goals, strict=True)]
        return reduce(and_, tests)

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

    def _rolled_end(self, accumulator: Accumulator, spatial: Sequence[str],
                    rolled: frozenset[str], env: Env) -> list[Stmt]:
        """The results go through scratch memory, which a loop can index."""
        copy = accumulator.copied()
        self._rolled = rolled
        order = sorted(spatial, key=lambda name: name not in rolled)
        written = self._loops(order, env, copy.finish)
        self._rolled = frozenset()
        return [*copy.declare(), *self._loops(spatial, env, accumulator.copy_to(copy)), *written]
