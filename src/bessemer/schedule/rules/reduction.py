"""One reduction of any form: vectors along the last output axis or along the reduction itself."""

from collections.abc import Mapping
from typing import Any

from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import Dim
from bessemer.lower.affine import linear
from bessemer.lower.kernel import Kernel, Operand, axis_ranges
from bessemer.lower.loops import Stmt
from bessemer.schedule.memory import Memory, physical
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Knobs, Rule, schedule_rule
from bessemer.schedule.rules.injective import schedule_outer, vector_axis, vectorize_output
from bessemer.schedule.schedule import Schedule
from bessemer.targets.target import Target
from bessemer.te.expr import Load, Reduce
from bessemer.te.tensor import IterVar, Tensor
from bessemer.te.walk import walk


def step_of(load: Load, operand: Operand, axis: IterVar, axes: tuple[IterVar, ...]) -> Dim | None:
    """Elements a load moves when an index variable grows by one; None if not constant."""
    ranges = axis_ranges(axes)
    total: Dim = 0
    for index, part, stride in zip(physical(operand.layout, load.indices), operand.layout.parts,
                                   operand.strides, strict=True):
        form = linear(index, ranges)
        for key, atom, coef in form.terms:
            if key == axis.name:
                total = total + coef * stride
            elif any(node is axis for node in walk(atom)):
                if part.div > 1:
                    continue  # the outer piece of a blocked axis: constant within a block
                if part.mod:
                    total = total + stride
                    continue
                return None
    return total


def reduced_stage(kernel: Kernel) -> Tensor:
    """The only reduction of a kernel."""
    return kernel.reductions[0]


def epilogue_reason(kernel: Kernel) -> str:
    """Empty if the outputs are computed from the only reduction element by element."""
    if len(kernel.reductions) != 1:
        return f"{len(kernel.reductions)} reductions"
    stage = reduced_stage(kernel)
    outputs = [operand.tensor for operand in kernel.outputs]
    if 0 in stage.shape:
        return "no elements"
    for tensor in kernel.stages:
        if tensor is stage:
            continue
        if not any(tensor is out for out in outputs):
            return f"stage {tensor.name} was not inlined"
        if tensor.shape != stage.shape:
            return f"output {tensor.name} has another shape than the reduction"
        assert tensor.body is not None
        for node in walk(tensor.body):
            if isinstance(node, Load) and node.tensor is stage and not all(
                    a is b for a, b in zip(node.indices, tensor.axes, strict=True)):
                return f"output {tensor.name} reads the reduction at other indices"
            if isinstance(node, Load) and node.tensor is not stage and node.tensor.body is not None:
                return f"output {tensor.name} reads another output"
    for node in walk(stage.body) if stage.body is not None else ():
        if isinstance(node, Load) and node.tensor.body is not None:
            return f"the reduction reads the computed {node.tensor.name}"
    return ""


def _is_blocked(kernel: Kernel) -> bool:
    """True if an output is in blocks of channels."""
    return any(operand.layout.block_of(axis) > 1 for operand in kernel.outputs
               for axis in range(operand.layout.rank))


@schedule_rule("reduction", priority=10)
class Reduction(Rule):
    """Any single reduction with an element-wise epilogue.

    `vector` is what a vector runs along. A blocked output leaves no choice: its vectors write the
    zeros behind the last channel as well.
    """

    def matches(self, kernel: Kernel, target: Target) -> str:
        return epilogue_reason(kernel)

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        return {"vector": ("output",) if _is_blocked(kernel) else ("output", "reduction", "none")}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        if _is_blocked(kernel):
            return {"vector": "output"}
        stage = reduced_stage(kernel)
        body = stage.body
        assert isinstance(body, Reduce)
        lanes = target.lanes(body.body.dtype)
        axes = (*stage.axes, *body.axes)
        out = vector_axis(kernel.outputs[0]) if stage.axes else -1
        along_out = self._cost(kernel, stage.axes[out], axes) if stage.axes else 1e9
        along_sum = self._cost(kernel, body.axes[-1], axes) if body.axes else 1e9
        out_extent = kernel.usual(stage.axes[out].extent) if stage.axes else 1
        sum_extent = kernel.usual(body.axes[-1].extent) if body.axes else 1
        lane_form = body.kind in ("sum", "prod", "max", "min") and body.body.dtype.kind != "bool"
        if lane_form and sum_extent >= lanes and (
                along_sum < along_out or out_extent < lanes // 2):
            return {"vector": "reduction"}
        return {"vector": "output" if out_extent > 1 else "none"}

    def _cost(self, kernel: Kernel, axis: IterVar, axes: tuple[IterVar, ...]) -> float:
        """Loads that are neither uniform nor contiguous along an axis."""
        body = reduced_stage(kernel).body
        assert isinstance(body, Reduce)
        cost = 0.0
        for node in walk(body.body):
            operand = kernel.operand(node.tensor) if isinstance(node, Load) else None
            if operand is not None and isinstance(node, Load):
                cost += step_of(node, operand, axis, axes) not in (0, 1)
        return cost

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        stage = reduced_stage(kernel)
        body = stage.body
        assert isinstance(body, Reduce)
        if _is_blocked(kernel) and knobs["vector"] != "output":
            raise ScheduleError(f"kernel {kernel.name}: the output is in blocks, so vectors run "
                                f"along it, not along {knobs['vector']!r}")
        schedule = Schedule.of(stage)
        lanes = target.lanes(body.body.dtype)
        outer = [name for name in schedule.order if name not in schedule.reducing]
        if knobs["vector"] == "output" and outer:
            outer = vectorize_output(schedule, kernel.outputs[0], lanes)
            vector = next((n for n, kind in schedule.kinds.items() if kind == "vector"), None)
            rest = [n for n in schedule.order if n in schedule.reducing]
            schedule.reorder(*outer, *rest, *([vector] if vector else []))
        elif knobs["vector"] == "reduction":
            last = f"r{len(body.axes) - 1}"
            _, inner = schedule.split(last, lanes, "mask")
            schedule.vectorize(inner)
        if outer:
            schedule_outer(schedule, outer)
        return Nest(stage, schedule, memory, kernel.outputs).build(), schedule.text
