"""Recurrent cells: the product of the state with the weights of all gates, and the gates' formulas.

Each thread has units of its own and with them its own part of the weights, which stays in its
second-level cache from step to step.
"""

from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import f32, f64
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Stmt
from bessemer.schedule.joined import JoinedNest
from bessemer.schedule.memory import Memory
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.matmul import pack_columns
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Const, Load, Reduce
from bessemer.te.tensor import Tensor
from bessemer.te.walk import loads

MOST_GATES = 8
"""More gates than any cell has would not fit in registers."""


def weights_of(stage: Tensor) -> Load | None:
    """The load r[k, gate, n] of a sum over k of a[.., k] * r[k, gate, n]; None if it is no such."""
    body = stage.body
    if (
        not isinstance(body, Reduce)
        or body.kind != "sum"
        or len(body.axes) != 1
        or stage.rank < 2
        or body.dtype not in (f32, f64)
    ):
        return None
    found = loads(body.body)
    if len(found) != 2 or body.body.children() != tuple(found):
        found = found[::-1]
    if (
        len(found) != 2
        or body.body.children() != tuple(found)
        or getattr(body.body, "op", "") != "*"
    ):
        return None
    k, (gate, n) = body.axes[0], stage.axes[-2:]
    for state, weights in (found, found[::-1]):
        if (
            weights.indices == (k, gate, n)
            and state.indices[-1:] == (k,)
            and not any(index is gate or index is n for index in state.indices)
            and state.fill is None
            and weights.fill is None
        ):
            return weights
    return None


@schedule_rule("recurrent", priority=60)
class Recurrent(Rule):
    """A product over [.., gates, n], and outputs [.., n] of all gates of a unit.

    Expected: the weights stream from the second-level cache for one row; 70 % of the multiply-add
    peak from four rows on.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        if len(kernel.reductions) != 1:
            return f"{len(kernel.reductions)} reductions"
        stage = kernel.reductions[0]
        if weights_of(stage) is None:
            return "not a sum over k of a[.., k] * r[k, gate, n]"
        gates, units = stage.shape[-2:]
        if 0 in stage.shape or not isinstance(gates, int) or not isinstance(units, int):
            return "no elements, or gates or units of unknown number"
        if not 1 <= gates <= MOST_GATES:
            return f"{gates} gates"
        outputs = {id(operand.tensor) for operand in kernel.outputs}
        for tensor in kernel.stages:
            if tensor is not stage and (
                id(tensor) not in outputs or not _joins(tensor, stage, outputs)
            ):
                return f"{tensor.name} is no output that joins the gates of a unit"
        if any(not operand.layout.is_plain for operand in kernel.outputs):
            return "the output has a blocked layout"
        return ""

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        rows = _rows(kernel)
        return {
            "rows": tuple(range(1, min(rows, 12) + 1)),
            "vectors": (1, 2, 4, 8),
            "unroll": (1, 2, 4, 8),
            "share": ("units", "all"),
        }

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        stage = kernel.reductions[0]
        gates, units = int(stage.shape[-2]), int(stage.shape[-1])  # type: ignore[arg-type]
        rows, wide = _rows(kernel), -(-units // target.lanes(stage.dtype))
        # A register tile of rows x gates x vectors, one vector of weights each, one of the state.
        most = 8 if rows == 1 else 4
        vectors = max(1, most // gates)
        while vectors > 1 and wide // vectors < 2 * target.cores:
            vectors //= 2
        room = (target.vector_registers - 1) // (gates * vectors) - 1
        share = "units" if rows == 1 or wide >= 2 * target.cores else "all"
        return {
            "rows": max(1, min(rows, room)),
            "vectors": vectors,
            "unroll": 4 if rows == 1 else 2,
            "share": share,
        }

    def build(
        self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
    ) -> tuple[list[Stmt], str]:
        stage = kernel.reductions[0]
        weights = weights_of(stage)
        assert weights is not None
        lanes = target.lanes(stage.dtype)
        width = int(knobs["vectors"]) * lanes
        schedule = Schedule.of(stage)
        pack_columns(schedule, kernel, weights, stage.axes[-1], width)
        rank = stage.rank
        gate, batch = f"a{rank - 2}", [f"a{k}" for k in range(rank - 3)]
        tile, rest = schedule.split(f"a{rank - 1}", width, "mask")
        vector, lane = schedule.split(rest, lanes, "exact")
        outer, inner = [tile, *batch], []
        if rank > 2:
            row_tile, row = schedule.split(f"a{rank - 3}", int(knobs["rows"]), "balance")
            outer, inner = [*outer, row_tile], [row]
        depth = ["r0"]
        if int(knobs["unroll"]) > 1:
            depth = list(schedule.split("r0", int(knobs["unroll"]), "shrink"))
        schedule.reorder(*outer, *depth, *inner, gate, vector, lane)
        for name in (*depth[1:], *inner, gate, vector):
            schedule.unroll(name)
        schedule.vectorize(lane)
        shared = schedule.fuse_all(outer) if knobs["share"] == "all" else tile
        schedule.parallel(shared)
        schedule.accumulate(shared if shared not in outer else outer[-1])
        order = {id(tensor): k for k, tensor in enumerate(kernel.stages)}
        outputs = sorted(kernel.outputs, key=lambda operand: order[id(operand.tensor)])
        nest = JoinedNest(stage, schedule, memory, outputs)
        return nest.build(), schedule.text


def _rows(kernel: Kernel) -> int:
    """The usual number of rows."""
    stage = kernel.reductions[0]
    return kernel.usual(stage.shape[-3]) if stage.rank > 2 else 1


def _joins(tensor: Tensor, stage: Tensor, outputs: set[int]) -> bool:
    """True if the tensor reads the reduction at [.., constant, n] and outputs at its own place."""
    assert tensor.body is not None
    if tensor.shape != (*stage.shape[:-2], stage.shape[-1]):
        return False
    for load in loads(tensor.body):
        if load.tensor.body is None:
            continue
        indices = load.indices
        if load.tensor is stage:
            if not isinstance(indices[-2], Const):
                return False
            indices = (*indices[:-2], indices[-1])
        elif id(load.tensor) not in outputs:
            return False
        if not all(a is b for a, b in zip(indices, tensor.axes, strict=True)):
            return False
    return True
