"""One variant of an engine: an optimised graph for one target as steps, memory and constants."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from bessemer.compiler.conditions import conditions_of
from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.equal_groups import KernelMaker
from bessemer.compiler.kernels import CompiledKernel, name_symbols
from bessemer.compiler.nested import lower_bodies, without_bodies
from bessemer.compiler.pad_rows import pad_rows
from bessemer.compiler.residence import Residence, StepDraft
from bessemer.compiler.symbols import Ranges, Symbols, formula
from bessemer.compiler.tuning import Choose
from bessemer.compiler.work import kernel_bytes, kernel_flops, kernel_instructions
from bessemer.core.dtypes import f32
from bessemer.core.shapes import Sym
from bessemer.core.switches import SWITCHES
from bessemer.engine.plan import (
    RUNNER_UP,
    Binding,
    Extent,
    HostStep,
    KernelStep,
    NodeRecord,
    Plan,
    ShapeStep,
    Step,
    TensorRef,
)
from bessemer.ir.codec import encode_operator
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.types import TensorType
from bessemer.lower.fuse import partition
from bessemer.lower.groups import Group, Partition
from bessemer.lower.loops import For, statements
from bessemer.lower.storage import StorageMap
from bessemer.ops.literal import Literal
from bessemer.passes.choose_layouts import ChooseLayouts
from bessemer.passes.runner import PassResult, run_passes
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target


@dataclass(eq=False)
class Variant:
    """What `lower_variant` gives: the plan and its kernels."""

    target: Target
    graph: Graph
    partition: Partition
    plan: Plan
    kernels: list[CompiledKernel]
    passes: list[PassResult]
    bodies: list["Variant"] = field(default_factory=list)
    """The graphs that control flow runs; their plans lie in its steps."""

    @property
    def all_kernels(self) -> list[CompiledKernel]:
        """The kernels, those of bodies included."""
        return [*self.kernels, *(kernel for body in self.bodies for kernel in body.all_kernels)]


def lower_variant(graph: Graph, target: Target, constants: ConstantPool, *,
                  disable: Collection[str] = (), verify: Any = None, fuse: bool = True,
                  ranges: Ranges | None = None, choose: Choose | None = None) -> Variant:
    """Chooses layouts, fuses, schedules and plans the memory of a graph (which is changed)."""
    pipeline = ("dequantize-block-weights", "scan-recurrent", "recognise-attention",
                ChooseLayouts(block=target.lanes(f32)), "place-concats")
    results = run_passes(graph, pipeline, disable=disable, verify=verify)
    groups = partition(graph, fuse)
    if _unplace_for_host(groups):
        groups = partition(graph, fuse)
    if "pad-rows" not in disable:
        pad_rows(graph, groups)

    def lower_body(node: Node) -> dict[str, Variant]:
        return lower_bodies(
            node, lambda body: lower_variant(body, target, constants, disable=disable,
                                             verify=verify, fuse=fuse, ranges=ranges),
            disable, verify)

    symbols = Symbols(ranges or {})
    without = tuple(name for name in disable if name in SWITCHES)
    return _Lowering(graph, target, constants, groups, results, lower_body, symbols, without,
                     choose).run()


def _unplace_for_host(groups: Partition) -> bool:
    """Host operators see dense arrays: their operands must not live inside other tensors.

    True if one did; it no longer does.
    """
    changed = False
    for group in groups.groups:
        if group.kind != "host":
            continue
        for value in (*group.last.inputs, *group.last.outputs):
            if value is not None and value.placement is not None:
                value.placement, changed = None, True
    return changed


class _Lowering:
    def __init__(self, graph: Graph, target: Target, constants: ConstantPool, groups: Partition,
                 results: list[PassResult],
                 lower_body: Callable[[Node], dict[str, Variant]], symbols: Symbols,
                 without: tuple[str, ...], choose: Choose | None = None) -> None:
        self.graph, self.target, self.constants = graph, target, constants
        self.partition, self.results = groups, results
        self.storage = StorageMap(graph, groups, symbols.hints)
        self.symbols = symbols
        self.without = without
        self.residence = Residence(graph, groups, self.storage, constants, symbols)
        self.lower_body = lower_body
        self.choose = choose
        self.bodies: list[Variant] = []

    def run(self) -> Variant:
        """The variant."""
        drafts = self._drafts()
        self._find_symbols(drafts)
        self.residence.plan(drafts)
        kernels = [draft.kernel for draft in drafts if draft.kernel is not None]
        name_symbols(kernels)
        steps = tuple(self._step(draft) for draft in drafts)
        plan = Plan(
            self.graph.name, tuple(self._input(v) for v in self.graph.inputs),
            tuple(self._output(k, v) for k, v in enumerate(self.graph.outputs)), steps,
            arena_bytes=0 if self.symbols.records else self.residence.arena_bytes,
            host_slots=len(self.residence.slots),
            memory=self.residence.report(), nodes=self._records(drafts),
            notes=tuple(str(note) for note in self.partition.notes),
            symbols=tuple(self.symbols.records.values()),
            blocks=self.residence.block_records(), epochs=tuple(self.symbols.epochs),
            conditions=conditions_of(self.graph, self.symbols.records))
        return Variant(self.target, self.graph, self.partition, plan, kernels, self.results,
                       self.bodies)

    def _drafts(self) -> list[StepDraft]:
        """The steps, without those that make shapes nobody reads as a tensor."""
        drafts: list[StepDraft] = []
        maker = KernelMaker(self.storage, self.target, self.without)
        read = {id(self.storage.of(value).root) for value in self.graph.outputs
                if not self.residence.is_slot(value)}
        for group in self.partition.groups:
            if group.kind in ("host", "shape"):
                drafts.append(StepDraft(group, None))
            elif group.kind not in ("placed", "alias", "empty"):
                drafts += [StepDraft(group, part) for part in maker.kernels(group)]
        if self.choose is not None:
            self.choose([draft.kernel for draft in drafts if draft.kernel is not None])
        for draft in drafts:
            keys: list[Any] = [] if draft.group.kind == "shape" else list(draft.group.last.inputs)
            if draft.kernel is not None:
                keys = [operand.key for operand in draft.kernel.scheduled.operands]
            read |= {id(self.storage.of(key).root) for key in keys
                     if isinstance(key, Value) and not self.residence.is_slot(key)}
        return [*self._literals(), *(
            draft for draft in drafts if draft.group.kind != "shape" or any(
                id(self.storage.of(value).root) in read for value in draft.group.last.outputs))]

    def _find_symbols(self, drafts: list[StepDraft]) -> None:
        """Where the values of symbols come from; a plan with any is symbolic."""
        self.symbols.from_inputs(self.graph)
        for step, draft in enumerate(drafts):
            if draft.group.kind == "host":
                self.symbols.from_step(step, draft.group.last.outputs)

    def _literals(self) -> list[StepDraft]:
        """Steps that make the constants which only Python objects can hold (strings)."""
        drafts = []
        for value in self.graph.values():
            if value.constant is not None and self.residence.is_slot(value):
                node = Node(value.name, Literal(value=value.constant), [], [value])
                value.producer = None  # the constant stays one for the graph
                drafts.append(StepDraft(Group("host", [node], "a constant of strings"), None))
        return drafts

    def _step(self, draft: StepDraft) -> Step:
        entry = draft.kernel
        if draft.group.kind == "shape":
            return self._shape_step(draft.group)
        if entry is None:
            return self._host_step(draft.group)
        args = tuple(map(self.residence.argument, entry.scheduled.operands))
        parallel = any(isinstance(s, For) and s.kind == "parallel"
                       for s in statements(entry.function.body))
        knobs = " ".join(f"{k}={v}" for k, v in entry.scheduled.knobs.items())
        return KernelStep(
            entry.name, entry.symbol, args, entry.kernel.sources, kernel_flops(entry.kernel),
            kernel_bytes(entry.kernel), entry.scheduled.rule,
            f"{knobs}\n{entry.scheduled.text}".strip(), _shapes(draft.group), parallel,
            notes=(*map(str, draft.group.notes), *_runner_up(entry.scheduled)),
            scalars=entry.function.symbols,
            instructions=kernel_instructions(entry.kernel))

    def _shape_step(self, group: Group) -> ShapeStep:
        node, value = group.last, group.last.outputs[0]
        assert value.tensor.symbolic is not None
        return ShapeStep(node.name, self._tensor(value),
                         tuple(map(formula, value.tensor.symbolic)), node.sources)

    def _host_step(self, group: Group) -> HostStep:
        node = group.last
        bodies = self.lower_body(node)
        self.bodies += bodies.values()
        return HostStep(
            node.name, encode_operator(without_bodies(node.op, bodies)),
            tuple(self._tensor(v) if v is not None else None for v in node.inputs),
            tuple(self._tensor(v) for v in node.outputs), node.sources,
            "it runs compiled bodies" if bodies else group.reason,
            {name: body.plan for name, body in bodies.items()})

    def _tensor(self, value: Value) -> TensorRef:
        ref = self.residence.ref(value)
        if not isinstance(value.type, TensorType):
            return TensorRef(ref, "", None)
        shape = None if self.residence.is_slot(value) else tuple(map(formula, value.type.dims))
        return TensorRef(ref, value.type.dtype.name, shape)

    def _input(self, value: Value) -> Binding:
        if not isinstance(value.type, TensorType):
            return Binding(value.name, "", None)
        return Binding(value.name, value.type.dtype.name, self._extents(value))

    def _output(self, k: int, value: Value) -> Binding:
        source = None if k in self.residence.direct.values() else self.residence.ref(value)
        if not isinstance(value.type, TensorType):
            return Binding(value.name, "", None, source)
        return Binding(value.name, value.type.dtype.name, self._extents(value), source)

    def _extents(self, value: Value) -> tuple[Extent | None, ...] | None:
        if value.tensor.shape is None:
            return None
        known = set(self.symbols.records)
        return tuple(
            None if isinstance(dim, Sym) and not dim.symbols() <= known else formula(dim)
            for dim in value.tensor.shape)

    def _records(self, drafts: list[StepDraft]) -> tuple[NodeRecord, ...]:
        step_of = {id(draft.group): k for k, draft in reversed(list(enumerate(drafts)))}
        rows = []
        for group in self.partition.groups:
            why = group.reason or "; ".join(str(note) for note in group.notes) or "its own kernel"
            rows += [NodeRecord(source, node.op.op_name, step_of.get(id(group), -1), why)
                     for node in group.nodes for source in node.sources]
        return tuple(rows)


def _runner_up(scheduled: Scheduled) -> tuple[str, ...]:
    return (RUNNER_UP + scheduled.runner_up,) if scheduled.runner_up else ()


def _shapes(group: Group) -> str:
    def show(node: Node) -> str:
        return ", ".join(str(v.type) for v in node.inputs if v is not None)

    return f"{show(group.anchor)} -> {', '.join(str(v.type) for v in group.last.outputs)}"


