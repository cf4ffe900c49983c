"""Chains of reductions over rows (softmax, normalisation): one pass, rows shared between threads.

All stages run over the same rows; what lies between them is kept for one row in a scratch buffer
of the thread, so each element is read from and written to memory once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.core.dtypes import i64
from bessemer.core.shapes import Dim, Shape, Sym, product, usual
from bessemer.lower.kernel import Kernel, is_expensive
from bessemer.lower.loops import Alloc, Buffer, For, Let, Stmt
from bessemer.schedule.accumulators import MAX_STACK_BYTES
from bessemer.schedule.memory import Memory
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Rule, schedule_rule
from bessemer.schedule.rules.reduction import epilogue_reason
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Expr, Load, Reduce, Var
from bessemer.te.tensor import Tensor
from bessemer.te.walk import loads, walk


@dataclass(frozen=True)
class Rows:
    """The row loops: their extents, and for each stage which of its axes is which row loop."""

    extents: Shape
    axes: dict[int, dict[int, int]]
    """stage id -> {axis of the stage: row loop}."""


def rows_of(kernel: Kernel) -> Rows:
    """The largest set of loops that all stages share.

    A row loop is an axis of the last output that every load between stages carries through
    unchanged.
    """
    computed = kernel.stages
    outputs = [operand.tensor for operand in kernel.outputs]
    first = outputs[-1]
    if any(out.shape != first.shape for out in outputs):
        return Rows((), {id(stage): {} for stage in computed})
    mapping: dict[int, dict[int, int]] = {
        id(out): {k: k for k in range(out.rank)} for out in outputs}
    alive = set(range(first.rank))
    for stage in reversed(computed):
        own = mapping.setdefault(id(stage), {})
        names = {id(axis): own.get(k) for k, axis in enumerate(stage.axes)}
        assert stage.body is not None
        for load in loads(stage.body):
            if load.tensor.body is None:
                continue
            alive &= _follow(load, names, mapping, first.shape)
    kept = sorted(alive)
    number = {row: k for k, row in enumerate(kept)}
    axes = {key: {axis: number[row] for axis, row in own.items() if row in number}
            for key, own in mapping.items()}
    extents = tuple(first.shape[row] for row in kept)
    return Rows(extents, axes)


def _follow(load: Load, names: Mapping[int, int | None], mapping: dict[int, dict[int, int]],
            shape: Shape) -> set[int]:
    """Maps the producer's axes through one load; returns the rows that survive.

    A row is as long in the producer as in the last output: Concat reads only a part of it.
    """
    found: dict[int, int] = {}
    for axis, index in enumerate(load.indices):
        row = names.get(id(index))
        if row is not None and load.tensor.shape[axis] == shape[row]:
            found[axis] = row
    known = mapping.get(id(load.tensor))
    if known is None:
        mapping[id(load.tensor)] = found
        return set(found.values())
    agreed = {axis: row for axis, row in known.items() if found.get(axis) == row}
    mapping[id(load.tensor)] = agreed
    return set(agreed.values())


@schedule_rule("rowwise", priority=40)
class Rowwise(Rule):
    """Several stages over common rows; memory bound on long rows."""

    def matches(self, kernel: Kernel, target: Target) -> str:
        if len(kernel.reductions) < 1 or len(kernel.stages) < 2:
            return "not a chain of reductions"
        if not epilogue_reason(kernel):
            return "one reduction with an element-wise epilogue"
        if any(not out.layout.is_plain for out in kernel.outputs):
            return "the output has a blocked layout"
        if any(isinstance(s.body, Reduce) and s.body.kind in ("argmax", "argmin")
               for s in kernel.stages):
            return "positions of extremes are not kept in rows"
        rows = rows_of(kernel)
        needs = [row_bytes(stage, rows) for stage in kernel.stages]
        if any(isinstance(need, Sym) for need in needs):
            return "the length of a row is symbolic, its scratch would have no fixed size"
        scratch = sum(map(int, needs))  # type: ignore[arg-type]
        if scratch > MAX_STACK_BYTES:
            return f"a row needs {scratch} bytes of scratch"
        if not rows.extents and kernel.stages[-1].shape and scratch > 65536:
            return "the stages share no rows"
        return ""

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        rows = rows_of(kernel)
        variables: list[Expr] = [Var(f"row{k}", i64) for k in range(len(rows.extents))]
        body, texts = row_body(
            kernel, rows, variables, memory,
            lambda stage, bound: self._stage_schedule(stage, bound, target))
        return shared_rows(body, variables, rows.extents), texts

    def _stage_schedule(self, stage: Tensor, bound: Mapping[int, Expr], target: Target) -> Schedule:
        schedule = Schedule.of(stage, bound)
        lanes = target.lanes(stage.dtype)
        spatial = [n for n in schedule.order if n not in schedule.reducing]
        body = stage.body
        if spatial and not isinstance(body, Reduce):
            lanes *= _chains(usual(schedule.extents[spatial[-1]]), lanes, body)
        if spatial and usual(schedule.extents[spatial[-1]]) >= lanes:
            _, inner = schedule.split(spatial[-1], lanes, "mask")
            schedule.reorder(*[n for n in schedule.order if (n != inner and n in spatial)
                               or n == spatial[-1] + ".o"],
                             *[n for n in schedule.order if n in schedule.reducing], inner)
            schedule.vectorize(inner)
        elif isinstance(body, Reduce) and body.kind in ("sum", "max", "min", "prod") \
                and body.body.dtype.kind != "bool":
            last = f"r{len(body.axes) - 1}"
            width = target.lanes(body.body.dtype)
            width *= _chains(usual(schedule.extents[last]), width, body.body)
            if usual(schedule.extents[last]) >= width:
                _, inner = schedule.split(last, width, "mask")
                schedule.vectorize(inner)
        return schedule


def _chains(extent: int, lanes: int, body: Expr | None) -> int:
    """Vectors that are computed side by side, so that none waits for the one before."""
    choices = (2,) if body is not None and is_expensive(body) else (4, 2)
    return next((n for n in choices if extent >= 4 * n * lanes
                 or (extent >= n * lanes and extent % (n * lanes) == 0)), 1)


def row_body(
    kernel: Kernel, rows: Rows, variables: list[Expr], memory: Memory,
    schedule_of: Callable[[Tensor, Mapping[int, Expr]], Schedule],
) -> tuple[list[Stmt], str]:
    """The statements of one row, and the schedules' text."""
    outputs = {id(operand.tensor): operand for operand in kernel.outputs}
    body: list[Stmt] = []
    texts = []
    for number, stage in enumerate(kernel.stages):
        own = rows.axes[id(stage)]
        bound = {axis: variables[row] for axis, row in own.items()}
        rest = tuple(k for k in range(stage.rank) if k not in bound)
        operand = outputs.get(id(stage))
        local: tuple[Buffer, tuple[int, ...]] | None = None
        if operand is None or _is_read(stage, kernel):
            shape = tuple(stage.shape[k] for k in rest)
            # Not the stage's name: two may have the same, and generated ones are not stable.
            buffer = Buffer.dense(f"stage{number}", stage.dtype, shape, "stack")
            body.append(Alloc(buffer))
            local = (buffer, rest)
        schedule = schedule_of(stage, bound)
        texts.append(schedule.text)
        if local is not None:
            body += Nest(stage, schedule, memory, [], bound, local).build()
            memory.local[id(stage)] = local
        if operand is not None:
            again = schedule if local is None else schedule_of(stage, bound)
            body += Nest(stage, again, memory, [operand], bound).build()
    return body, "\n".join(filter(None, texts))


def shared_rows(body: list[Stmt], variables: list[Expr], extents: Shape) -> list[Stmt]:
    """The statements for all rows, which the threads share."""
    row = Var("row", i64)
    lets: list[Stmt] = []
    rest: Expr = row
    for variable, extent in reversed(list(zip(variables, extents, strict=True))):
        assert isinstance(variable, Var)
        lets.append(Let(variable, rest % extent))
        rest = rest // extent
    return [For(row, product(extents), "parallel", [*lets, *body])]


def row_bytes(stage: Tensor, rows: Rows) -> Dim:
    """Scratch for one row of a stage."""
    own = rows.axes.get(id(stage), {})
    count = product([dim for k, dim in enumerate(stage.shape) if k not in own])
    return count * stage.dtype.size_bytes


def _is_read(stage: Tensor, kernel: Kernel) -> bool:
    """True if another stage reads this one."""
    return any(
        isinstance(node, Load) and node.tensor is stage
        for other in kernel.stages if other is not stage and other.body is not None
        for node in walk(other.body))
