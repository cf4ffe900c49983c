"""One compilation opened for looking: the model, its passes, kernels at every stage, the plan."""

import fnmatch
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bessemer.bench.kernel_table import Roof
from bessemer.core.errors import InputError
from bessemer.debug.explain import block_text, why_lines
from bessemer.debug.layered import Box
from bessemer.debug.page import PageData, PageKernel
from bessemer.engine.plan import KernelStep, PassRecord, Plan
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.runner import PassResult
from bessemer.runtime.profile import Profile

STAGES = ("graph", "kernels", "loops", "llvm", "asm")


@dataclass(frozen=True)
class KernelView:
    """One kernel at every stage. Texts of later stages are made when asked for."""

    name: str
    sources: tuple[str, ...]
    rule: str
    schedule: str
    loops: Callable[[], str]
    llvm: Callable[[], str]
    asm: Callable[[], str]

    def line(self) -> str:
        """The kernel in one line: rule, knobs, sources."""
        knobs = self.schedule.partition("\n")[0]
        return f"kernel by rule {self.rule or '-'} ({knobs}): {' + '.join(self.sources)}"

    def at(self, stage: str) -> str:
        """The text of a stage."""
        if stage == "kernels":
            sources = ", ".join(self.sources)
            schedule = textwrap.indent(self.schedule, "  ")
            return f"kernel {self.name}: rule {self.rule or '-'}; from {sources}\n{schedule}"
        texts = {"loops": self.loops, "llvm": self.llvm, "asm": self.asm}
        return f"; kernel {self.name}\n{texts[stage]()}"


@dataclass(frozen=True)
class Compilation:
    """What `inspect` and the HTML page show of one build."""

    imported: Graph
    graph: Graph
    results: Sequence[PassResult]
    fusion: Sequence[str]
    kernels: Sequence[KernelView]
    boxes: Sequence[Box]
    plan: Plan
    free: Sequence[tuple[tuple[str, ...], str]] = ()
    """Groups that need no kernel: (source names, why)."""
    engine: Any = field(default=None, repr=False)  # Any: the runtime's Engine, to profile with


def find_kernels(kernels: Sequence[KernelView], name: str | None) -> list[KernelView]:
    """The kernels of that name, or made from a source node of that name; all if None.

    Raises: InputError with the known names.
    """
    if name is None:
        return list(kernels)
    found = [k for k in kernels if k.name == name or name in k.sources]
    found = found or [k for k in kernels if name in k.name]
    if not found:
        known = ", ".join(k.name for k in kernels[:20])
        raise InputError(f"no kernel is named {name!r} or made from such a node; kernels: {known}")
    return found


def boxes_of_graph(graph: Graph) -> list[Box]:
    """One box per input and node."""
    boxes = [Box(f"%{v.name}", v.name, str(v.type), kind="input") for v in graph.inputs]
    names = {id(v): f"%{v.name}" for v in graph.inputs}
    for number, node in enumerate(graph.nodes):
        key = f"n{number}"
        inputs = tuple(names[id(v)] for v in node.inputs if v is not None and id(v) in names)
        types = ", ".join(str(value.type) for value in node.outputs)
        tip = f"{node.op} {node.name}: {types}; from {', '.join(node.sources)}"
        boxes.append(Box(key, f"{node.op}", node.name, tip, "node", tuple(dict.fromkeys(inputs))))
        names.update((id(value), key) for value in node.outputs)
    return boxes


def boxes_of_groups(
    graph: Graph, groups: Sequence[tuple[str, Sequence[Node], str]]
) -> list[Box]:
    """One box per input and per group of nodes: (name, nodes, kind of box)."""
    boxes = [Box(f"%{v.name}", v.name, str(v.type), kind="input") for v in graph.inputs]
    owner: dict[int, str] = {id(v): f"%{v.name}" for v in graph.inputs}
    for number, (_, nodes, _) in enumerate(groups):
        owner.update((id(v), f"k{number}") for node in nodes for v in node.outputs)
    for number, (name, nodes, kind) in enumerate(groups):
        key = f"k{number}"
        read: list[Value] = [v for node in nodes for v in node.inputs if v is not None]
        inputs = tuple(dict.fromkeys(owner[id(v)] for v in read if owner.get(id(v), key) != key))
        ops = " + ".join(str(node.op) for node in nodes)
        sources = [source for node in nodes for source in node.sources]
        types = ", ".join(str(v.type) for v in nodes[-1].outputs) if nodes else ""
        tip = f"{name}: {ops}; {types}; from {', '.join(dict.fromkeys(sources))}"
        boxes.append(Box(key, ops, f"{name} {types}", tip, kind, inputs))
    return boxes


def boxes_of_plan(plan: Plan) -> list[Box]:
    """One box per step, in a chain: an engine file keeps the order but not the graph."""
    boxes: list[Box] = []
    for number, step in enumerate(plan.steps):
        compiled = isinstance(step, KernelStep)
        below = (boxes[-1].name,) if boxes else ()
        what = step.shapes if isinstance(step, KernelStep) else "on the host"
        tip = f"{step.name} {what}; from {', '.join(step.sources)}"
        kind = "kernel" if compiled else "host"
        boxes.append(Box(f"s{number}", step.name, what, tip, kind, below))
    return boxes


def page_of(
    title: str, plan: Plan, compilation: Compilation | None, profile: Profile | None,
    roof: Roof | None,
) -> PageData:
    """The data of the HTML page, from an engine's plan and, if there is one, its compilation."""
    times = {row.step: row.microseconds / 1e6 for row in profile.rows} if profile else {}
    kernels = [
        PageKernel(step.name, step.sources, step.rule, step.schedule, step.shapes, step.flops,
                   step.bytes, times.get(number, 0.0), step.notes)
        for number, step in enumerate(plan.steps) if isinstance(step, KernelStep)
    ]
    facts = [("engine", plan.name), ("kernels", str(len(kernels))),
             ("host steps", str(len(plan.steps) - len(kernels)))]
    facts += [(f"input {b.name}", f"{b.dtype} {list(b.shape or ())}") for b in plan.inputs]
    facts += [(f"output {b.name}", f"{b.dtype} {list(b.shape or ())}") for b in plan.outputs]
    facts += [(f"option {key}", str(value)) for key, value in plan.options.items()]
    facts += [(f"made with {key}", value) for key, value in plan.versions.items()]
    if profile is not None:
        facts.append(("mean run", f"{profile.total_microseconds:.1f} us on {profile.threads} "
                                    "threads"))
    passes: Sequence[PassRecord] = plan.passes
    why: Sequence[str] = [f"= {note}" for note in plan.notes]
    before: Sequence[Box] = ()
    after: Sequence[Box] = boxes_of_plan(plan)
    if compilation is not None:
        passes = [PassRecord(r.name, r.changed, r.nodes_before, r.nodes_after, r.notes)
                  for r in compilation.results]
        why = why_lines(compilation.results, compilation.fusion)
        before, after = boxes_of_graph(compilation.imported), compilation.boxes
    return PageData(title, facts, before, after, passes, kernels, plan.memory, roof, why)




def block_lines(compilation: Compilation, pattern: str) -> list[str]:
    """A part of the model before the passes, after them, and as kernels.

    Raises: InputError if no source name fits the pattern.
    """

    def fits(sources: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in sources)

    before = block_text(compilation.imported, pattern)
    if not before:
        raise InputError(f"no node of the model has a name that fits {pattern!r}")
    after = block_text(compilation.graph, pattern)
    kernels = [kernel.line() for kernel in compilation.kernels if fits(kernel.sources)]
    free = [f"no kernel for {' + '.join(sources)}: {why}"
            for sources, why in compilation.free if fits(sources)]
    return [
        f"before: {len(before)} nodes", *(f"  {line}" for line in before),
        f"after the passes: {len(after)} nodes", *(f"  {line}" for line in after),
        f"compiled: {len(kernels)} kernels", *(f"  {line}" for line in (*kernels, *free)),
    ]
