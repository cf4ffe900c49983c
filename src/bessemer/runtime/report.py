"""The engine as text and as JSON values, for people and programs that look into it."""

from collections.abc import Sequence
from typing import Any

from bessemer.engine.manifest import encode_plan
from bessemer.engine.plan import EngineData, HostStep, KernelStep, Plan, SymbolRecord
from bessemer.runtime.bindings import shape_text


def engine_report(
    plan: Plan, data: EngineData, variant: str | None, shapes: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Everything about the engine as JSON values; `shapes` are the variants for single shapes."""
    return {
        "shape_variants": shapes,
        "variant": variant,
        "variants": {
            name: {
                "code_bytes": sum(map(len, objects)),
                "requires": list(data.requires.get(name, ())),
            }
            for name, objects in data.objects.items()
        },
        "constant_bytes": data.constant_bytes,
        "plan": encode_plan(plan),
    }


def engine_text(
    plan: Plan, data: EngineData, variant: str | None, shapes: Sequence[dict[str, Any]] = ()
) -> str:
    """The engine for people, one fact a line; `shapes` are the variants for single shapes."""
    lines = [f"engine {plan.name}, format {plan.format_version}"]
    lines += [f"  input  {b.name}: {shape_text(b)}" for b in plan.inputs]
    lines += [f"  output {b.name}: {shape_text(b)}" for b in plan.outputs]
    for name, objects in data.objects.items():
        used = " (in use)" if name == variant else ""
        needs = " ".join(data.requires.get(name, ())) or "nothing special"
        lines.append(f"  code   {name}{used}: {sum(map(len, objects))} bytes, needs {needs}")
    lines += [_symbol(symbol) for symbol in plan.symbols]
    lines += [f"  variant for {row['shape']}: {_state(row)}" for row in shapes]
    lines += [f"  option {key}: {value}" for key, value in sorted(plan.options.items())]
    lines += [f"  made with {key} {value}" for key, value in sorted(plan.versions.items())]
    lines += [f"  note   {note}" for note in plan.notes]
    return "\n".join(lines + _steps(plan) + _memory(plan, data) + _passes(plan) + _nodes(plan))


def _symbol(symbol: SymbolRecord) -> str:
    """A symbol with its limits, as a line."""
    limits = f"{symbol.low} or more" if symbol.high is None else f"{symbol.low} to {symbol.high}"
    usual = "" if symbol.hint is None else f", usually {symbol.hint}"
    return f"  symbol {symbol.name}: {limits}{usual}"


def _state(row: dict[str, Any]) -> str:
    if row["state"] != "built":
        return str(row["state"]) + (f", {row['why']}" if "why" in row else "")
    return (
        f"built in {row['build_seconds']:.1f} s, arena {row['arena_bytes']} bytes, "
        f"{row['own_constant_bytes']} bytes of constants of its own"
    )


def _steps(plan: Plan) -> list[str]:
    lines = [f"steps ({len(plan.steps)}):"]
    for index, step in enumerate(plan.steps):
        sources = f" from {', '.join(step.sources)}" if step.sources else ""
        if isinstance(step, KernelStep):
            what = f"{step.rule or 'kernel'} {step.shapes}".rstrip()
            work = f", {step.flops} flop, {step.bytes} bytes"
            lines.append(f"  {index:4} {step.name}: {what}{work}{sources}")
            lines += [f"       schedule {line}" for line in step.schedule.splitlines()]
            lines += [f"       {note}" for note in step.notes]
        elif isinstance(step, HostStep):
            operator = step.operator.get("op", "?")
            why = f": {step.reason}" if step.reason else ""
            lines.append(f"  {index:4} {step.name}: {operator} on the host{why}{sources}")
            for name, body in step.bodies.items():
                lines += [f"       {name} {line}" for line in _steps(body)]
        else:
            values = ", ".join(map(str, step.values[:16]))
            lines.append(f"  {index:4} {step.name}: the shape ({values}){sources}")
    return lines


def _memory(plan: Plan, data: EngineData) -> list[str]:
    memory = plan.memory
    lines = [
        f"memory: arena {plan.arena_bytes} bytes (workspace {memory.workspace_bytes}), constants "
        f"{data.constant_bytes}, sum of tensors {memory.sum_of_tensors_bytes}, "
        f"liveness lower bound {memory.liveness_lower_bound_bytes}"
    ]
    for row in memory.table:
        alias = f" in {row.alias_of}" if row.alias_of else ""
        lines.append(
            f"  {row.offset:>12} +{row.size_bytes:<12} steps {row.first_step}..{row.last_step} "
            f"{row.value}{alias}"
        )
    return lines


def _passes(plan: Plan) -> list[str]:
    lines = [f"passes ({len(plan.passes)}):"] if plan.passes else []
    for entry in plan.passes:
        sizes = f"{entry.nodes_before} -> {entry.nodes_after} nodes"
        lines.append(f"  {entry.name}: {sizes if entry.changed else 'no change'}")
        lines += [f"       {note}" for note in entry.notes]
    return lines


def _nodes(plan: Plan) -> list[str]:
    lines = [f"source nodes ({len(plan.nodes)}):"] if plan.nodes else []
    for node in plan.nodes:
        where = f"step {node.step}" if node.step >= 0 else "no step"
        why = f", {node.why}" if node.why else ""
        lines.append(f"  {node.name} ({node.operator}): {where}{why}")
    return lines
