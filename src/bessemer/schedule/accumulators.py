"""Accumulators of a reduction: the statements on them, what they start from, one step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bessemer.core.dtypes import DType, bf16, boolean, f16, f32, i64
from bessemer.core.errors import ScheduleError
from bessemer.lower.loops import Alloc, Buffer, Fma, LaneReduce, Stmt, Store
from bessemer.schedule.memory import Axes
from bessemer.schedule.regions import Env
from bessemer.te.expr import Binary, Expr, Load, Reduce, binary, cast, const, extent, where
from bessemer.te.functions import equal, isnan
from bessemer.te.interpreter import extreme

if TYPE_CHECKING:
    from bessemer.schedule.nest import Leaf, Nest

MAX_STACK_BYTES = 192 * 1024
"""Scratch of one thread; its stack has at least a megabyte."""


@dataclass(eq=False)
class Accumulator:
    """The accumulators of one reduction and the statements on them."""

    nest: "Nest"
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
        if self.nest.outer_reducing and self.nest.outputs[0].dtype != dtype:
            raise ScheduleError(f"partial results are {dtype}, the output that would hold them "
                                f"is {self.nest.outputs[0].dtype}")

    def declare(self) -> list[Stmt]:
        """Declarations."""
        return [Alloc(self.value), *([Alloc(self.position)] if self.is_arg else [])]

    def index(self, env: Env) -> tuple[Expr, ...]:
        last: Expr = env.values[self.lanes] if self.lanes in env.values else const(0, i64)
        return (*(env.values[name] for name in self.kept), last)

    def copied(self) -> "Accumulator":
        """The same accumulators in scratch memory."""
        return Accumulator(self.nest, self.body, self.shape, "stack", self.kept, self.lanes,
                            "sums")

    def copy_to(self, other: "Accumulator") -> "Leaf":
        """Copies one accumulator."""

        def leaf(env: Env) -> list[Stmt]:
            index = self.index(env)
            return [Store(other.value, index, Load(self.value, index, self.value.dtype))]

        return leaf

    def initialise(self, env: Env) -> list[Stmt]:
        """Neutral element, or the bias of the sum."""
        index = self.index(env)
        start: list[Stmt] = [Store(self.value, index, neutral(self.body.kind, self.value.dtype))]
        if self.nest.bias is not None:
            own = self.nest.renamed(self.nest.axes(env), self.nest.bias.tensor)
            value = self.nest.memory.expression(self.nest.bias.value, own)
            biased = self.nest.guarded([Store(self.value, index, value)], env, False)
            start = biased if isinstance(biased[0], Store) else [*start, *biased]
        if self.is_arg:
            start.append(Store(self.position, index, const(0, i64)))
        return start

    def add_partial(self, env: Env) -> list[Stmt]:
        """Adds the partial result of an outer reduction loop, from where the result will be."""
        (store,) = self._raw_store(env, const(0, self.value.dtype))
        assert isinstance(store, Store)
        index = self.index(env)
        total = combine(self.body.kind, Load(self.value, index, self.value.dtype),
                        Load(store.buffer, store.indices, store.buffer.dtype))
        return self.nest.guarded([Store(self.value, index, total)], env, False)

    def _raw_store(self, env: Env, value: Expr) -> list[Stmt]:
        operand = self.nest.outputs[0]
        axes = self.nest.axes(env)
        own = self.nest.renamed(axes, operand.tensor)
        indices = tuple(own.values[axis.name] for axis in operand.tensor.axes)
        return self.nest.memory.store(operand, replace_padding(own), indices, value)

    def update(self, env: Env) -> list[Stmt]:
        """One step."""
        index = self.index(env)
        axes = self.nest.axes(env)
        value = self.nest.memory.expression(self.body.body, axes)
        old = Load(self.value, index, self.value.dtype)
        if self.is_arg:
            stmts = self._update_arg(index, value, old, env)
        else:
            wide = cast(value, self.value.dtype)
            stmts = [Store(self.value, index, combine(self.body.kind, old, wide))]
        return self.nest.guarded(stmts, env, True)

    def _update_arg(self, index: tuple[Expr, ...], value: Expr, old: Load, env: Env) -> list[Stmt]:
        position: Expr = const(0, i64)
        for k, axis in enumerate(self.body.axes):
            position = position * extent(axis.extent) + self.nest.regions.value(f"r{k}", env)
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

    def finish(self, env: Env) -> list[Stmt]:
        """Epilogue and store."""
        index = self.index(env)
        result: Expr
        if self.is_arg:
            result = Load(self.position, index, i64)
        elif self.lanes and self.lanes in self.nest.schedule.reducing:
            result = LaneReduce(self.body.kind, self.value, index[:-1], self.value.dtype)
        else:
            result = Load(self.value, index, self.value.dtype)
        if not self.is_arg:
            result = cast(result, self.body.dtype)
        return self.nest.guarded(self.nest.stores(env, result), env, False)

    def suspend(self, env: Env) -> list[Stmt]:
        """Keeps a partial result where the result will be."""
        result = Load(self.value, self.index(env), self.value.dtype)
        return self.nest.guarded(self._raw_store(env, result), env, False)


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
