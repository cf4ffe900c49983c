"""One variant of an engine: an optimised graph for one target as steps, memory and constants."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from bessemer.compiler.conditions import conditions_of
from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.equal_groups import KernelMaker
from bessemer.compiler.kernels import (
    CompiledKernel,
    kernel_bytes,
    kernel_flops,
    name_symbols,
)
from bessemer.compiler.memory_plan import (
    Block,
    blocks_below,
    lower_bound,
    place_blocks,
)
from bessemer.compiler.nested import lower_bodies, without_bodies
from bessemer.compiler.symbols import Ranges, Symbols, formula
from bessemer.compiler.tuning import Choose
from bessemer.core.dtypes import DType, f32
from bessemer.core.shapes import Dim, Sym, product
from bessemer.core.switches import SWITCHES
from bessemer.engine.plan import (
    RUNNER_UP,
    Binding,
    BlockRecord,
    BufferRef,
    Extent,
    HostStep,
    KernelStep,
    MemoryReport,
    MemoryRow,
    NodeRecord,
    Plan,
    ShapeStep,
    Step,
    TensorRef,
)
from bessemer.ir.codec import encode_operator
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.types import TensorType
from bessemer.lower.fuse import Group, Partition, partition, symbols_of
from bessemer.lower.kernel import Operand, is_identity_load
from bessemer.lower.loops import For, dense_strides, statements
from bessemer.lower.lowering import Temporary
from bessemer.lower.storage import StorageMap
from bessemer.ops.literal import Literal
from bessemer.passes.choose_layouts import ChooseLayouts
from bessemer.passes.runner import PassResult, run_passes
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target
from bessemer.te.expr import Load, walk


@dataclass(eq=False)
class _StepDraft:
    group: Group
    kernel: CompiledKernel | None


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
        self.is_symbolic = False
        self.numbers: dict[int, int] = {}  # block -> its number in a symbolic plan
        self.below: list[tuple[int, ...]] = []
        self.inputs = {id(value): k for k, value in enumerate(graph.inputs)}
        self.direct: dict[int, int] = {}  # root value -> output binding it is written to
        self.slots: dict[int, int] = {}
        self.blocks: dict[int, Block] = {}
        self.owner: dict[int, Any] = {}
        self.workspace_bytes = 0
        self.lower_body = lower_body
        self.choose = choose
        self.bodies: list[Variant] = []

    def run(self) -> Variant:
        """The variant."""
        drafts = self._drafts()
        self._find_symbols(drafts)
        self._choose_outputs(drafts)
        self._live(drafts)
        self._share_in_place(drafts)
        kernels = [draft.kernel for draft in drafts if draft.kernel is not None]
        name_symbols(kernels)
        blocks = list({id(block): block for block in self.blocks.values()}.values())
        arena = self._place(blocks)
        steps = tuple(self._step(draft) for draft in drafts)
        plan = Plan(
            self.graph.name, tuple(self._input(v) for v in self.graph.inputs),
            tuple(self._output(k, v) for k, v in enumerate(self.graph.outputs)), steps,
            arena_bytes=0 if self.is_symbolic else arena, host_slots=len(self.slots),
            memory=self._report(blocks, arena), nodes=self._records(drafts),
            notes=tuple(str(note) for note in self.partition.notes),
            symbols=tuple(self.symbols.records.values()),
            blocks=self._block_records(blocks), epochs=tuple(self.symbols.epochs),
            conditions=conditions_of(self.graph, self.symbols.records))
        return Variant(self.target, self.graph, self.partition, plan, kernels, self.results,
                       self.bodies)

    def _drafts(self) -> list[_StepDraft]:
        """The steps, without those that make shapes nobody reads as a tensor."""
        drafts: list[_StepDraft] = []
        maker = KernelMaker(self.storage, self.target, self.without)
        read = {id(self.storage.of(v).root) for v in self.graph.outputs if not self._is_slot(v)}
        for group in self.partition.groups:
            if group.kind in ("host", "shape"):
                drafts.append(_StepDraft(group, None))
            elif group.kind not in ("placed", "alias", "empty"):
                drafts += [_StepDraft(group, part) for part in maker.kernels(group)]
        if self.choose is not None:
            self.choose([draft.kernel for draft in drafts if draft.kernel is not None])
        for draft in drafts:
            keys: list[Any] = [] if draft.group.kind == "shape" else list(draft.group.last.inputs)
            if draft.kernel is not None:
                keys = [operand.key for operand in draft.kernel.scheduled.operands]
            read |= {id(self.storage.of(key).root) for key in keys
                     if isinstance(key, Value) and not self._is_slot(key)}
        return [*self._literals(), *(
            draft for draft in drafts if draft.group.kind != "shape" or any(
                id(self.storage.of(value).root) in read for value in draft.group.last.outputs))]

    def _find_symbols(self, drafts: list[_StepDraft]) -> None:
        """Where the values of symbols come from; a plan with any is symbolic."""
        self.symbols.from_inputs(self.graph)
        for step, draft in enumerate(drafts):
            if draft.group.kind == "host":
                self.symbols.from_step(step, draft.group.last.outputs)
        self.is_symbolic = bool(self.symbols.records)

    def _place(self, blocks: list[Block]) -> int:
        """Bytes of the arena; in a symbolic plan for the usual shapes."""
        if not self.is_symbolic:
            return place_blocks(blocks)
        for block in blocks:
            block.epoch = self.symbols.epoch(block.size)
        for key, block in self.blocks.items():
            owner = self.owner[key]
            if block.size == 0 and isinstance(owner, Value):  # its extents may be known later
                block.epoch = max(map(self.symbols.epoch, owner.tensor.dims), default=0)
        epochs = {block.epoch for block in blocks}
        total = sum(place_blocks([b for b in blocks if b.epoch == epoch]) for epoch in epochs)
        blocks.sort(key=lambda block: (block.epoch, block.offset, block.first, block.name))
        self.numbers = {id(block): k for k, block in enumerate(blocks)}
        return total

    def _block_records(self, blocks: list[Block]) -> tuple[BlockRecord, ...]:
        if not self.is_symbolic:
            return ()
        return tuple(BlockRecord(formula(block.size), below, block.epoch)
                     for block, below in zip(blocks, blocks_below(blocks), strict=True))

    def _literals(self) -> list[_StepDraft]:
        """Steps that make the constants which only Python objects can hold (strings)."""
        drafts = []
        for value in self.graph.values():
            if value.constant is not None and self._is_slot(value):
                node = Node(value.name, Literal(value=value.constant), [], [value])
                value.producer = None  # the constant stays one for the graph
                drafts.append(_StepDraft(Group("host", [node], "a constant of strings"), None))
        return drafts

    # -- where values live ----------------------------------------------------------------------

    def _is_slot(self, value: Value) -> bool:
        """True if the value is a Python object between host steps."""
        return not isinstance(value.type, TensorType) or value.type.shape is None \
            or value.type.dtype.kind == "string" \
            or bool(symbols_of(value) - self.partition.symbols)

    def _choose_outputs(self, drafts: list[_StepDraft]) -> None:
        """Outputs that steps can write straight into the caller's memory.

        What fills an output may have another name: a Reshape, or the pieces of a Concat.
        """
        produced = {id(self.storage.of(value).root) for draft in drafts
                    for value in draft.group.last.outputs if not self._is_slot(value)}
        for k, value in enumerate(self.graph.outputs):
            if self._is_slot(value):
                continue
            where = self.storage.of(value)
            root = where.root
            if id(root) in produced and id(root) not in self.direct and where.layout.is_plain \
                    and where.offset == 0 \
                    and where.layout.count(value.tensor.dims) == self.storage.extent(root):
                self.direct[id(root)] = k

    def _root_key(self, operand_key: object) -> int | None:
        """The block that holds a value or temporary; None for constants, inputs and outputs."""
        if isinstance(operand_key, Temporary):
            return id(operand_key)
        assert isinstance(operand_key, Value)
        if operand_key.is_constant or self._is_slot(operand_key):
            return None
        root = self.storage.of(operand_key).root
        if id(root) in self.inputs or id(root) in self.direct:
            return None
        return id(root)

    def _touch(self, key: object, step: int) -> None:
        root = self._root_key(key)
        if root is None:
            return
        if root not in self.blocks:
            self.owner[root] = key
            if isinstance(key, Temporary):
                dense = Operand.dense(key.tensor)
                size = dense.layout.count(dense.shape) * dense.dtype.size_bytes
                self.workspace_bytes = max(self.workspace_bytes, self.symbols.usual(size))
                name = key.name
            else:
                assert isinstance(key, Value)
                value = self.storage.of(key).root
                size = self.storage.extent(value) * value.tensor.dtype.size_bytes
                name = value.name
            self.blocks[root] = Block(name, self.symbols.usual(size), step, step, size=size)
        self.blocks[root].last = max(self.blocks[root].last, step)

    def _live(self, drafts: list[_StepDraft]) -> None:
        for step, draft in enumerate(drafts):
            if draft.kernel is not None:
                for operand in draft.kernel.scheduled.operands:
                    self._touch(operand.key, step)
            else:
                for value in (*draft.group.last.inputs, *draft.group.last.outputs):
                    if value is not None:
                        self._touch(value, step)
        for value in self.graph.outputs:
            if not self._is_slot(value):
                self._touch(value, len(drafts))

    def _share_in_place(self, drafts: list[_StepDraft]) -> None:
        """Lets an output take the memory of an input that dies there and is read in its order."""
        for step, draft in enumerate(drafts):
            entry = draft.kernel
            if entry is None or entry.scheduled.knobs.get("kblock") \
                    or len(entry.kernel.outputs) != 1:
                continue
            out = entry.kernel.outputs[0]
            target = self._root_key(out.key)
            if target is None or not self._owns(out):
                continue
            mine = self.blocks[target]
            for operand in entry.kernel.inputs:
                root = self._root_key(operand.key) if operand.constant is None else None
                if root not in self.blocks or not self._owns(operand) or mine is self.blocks[root]:
                    continue
                theirs = self.blocks[root]
                if theirs.last != step or mine.first != step \
                        or theirs.size != mine.size \
                        or operand.layout != out.layout or operand.dtype != out.dtype \
                        or not _reads_same_element(entry, operand):
                    continue
                theirs.last = mine.last
                self.blocks = {key: theirs if block is mine else block
                               for key, block in self.blocks.items()}
                order = [o.tensor for o in entry.scheduled.operands]
                entry.function.notes["aliased"] = tuple(sorted(
                    (order.index(operand.tensor), order.index(out.tensor))))
                break

    def _owns(self, operand: Operand) -> bool:
        """True if the operand fills its root's memory."""
        if isinstance(operand.key, Temporary):
            return True
        assert isinstance(operand.key, Value)
        where = self.storage.of(operand.key)
        return where.offset == 0 and \
            where.layout.count(operand.key.tensor.dims) == self.storage.extent(where.root)

    # -- references -----------------------------------------------------------------------------

    def _ref(self, key: object) -> BufferRef:
        if isinstance(key, Temporary):
            return self._in_block(self.blocks[id(key)], 0, self.blocks[id(key)].size)
        assert isinstance(key, Value)
        if self._is_slot(key):
            if id(key) in self.inputs:
                return BufferRef("input", self.inputs[id(key)], 0)
            return BufferRef("host", self.slots.setdefault(id(key), len(self.slots)), 0)
        if key.constant is not None:
            return BufferRef("constant", self.constants.add(key.constant), key.constant.nbytes)
        where = self.storage.of(key)
        dtype: DType = key.tensor.dtype
        byte = where.offset * dtype.size_bytes
        size = self._span(key, dtype)
        root = id(where.root)
        if root in self.inputs:
            return BufferRef("input", self.inputs[root], formula(size), formula(byte))
        if root in self.direct:
            return BufferRef("output", self.direct[root], formula(size), formula(byte))
        return self._in_block(self.blocks[root], byte, size)

    def _in_block(self, block: Block, byte: Dim, size: Dim) -> BufferRef:
        if self.is_symbolic:
            return BufferRef("block", self.numbers[id(block)], formula(size), formula(byte))
        assert isinstance(byte, int)
        return BufferRef("arena", block.offset + byte, formula(size))

    def _span(self, value: Value, dtype: DType) -> Dim:
        """Bytes from the first to the last element of a value."""
        where = self.storage.of(value)
        shape = where.layout.physical_shape(value.tensor.dims)
        if 0 in shape:
            return 0
        if where.strides == dense_strides(shape):
            return product(shape) * dtype.size_bytes
        last: Dim = 0
        for extent, stride in zip(shape, where.strides, strict=True):
            last = last + (extent - 1) * stride
        return (last + 1) * dtype.size_bytes

    def _constant(self, operand: Operand) -> BufferRef:
        assert operand.constant is not None
        return self.constants.add_packed(operand.constant, operand.layout)

    # -- the plan -------------------------------------------------------------------------------

    def _step(self, draft: _StepDraft) -> Step:
        entry = draft.kernel
        if draft.group.kind == "shape":
            return self._shape_step(draft.group)
        if entry is None:
            return self._host_step(draft.group)
        args = tuple(self._constant(o) if o.constant is not None else self._ref(o.key)
                     for o in entry.scheduled.operands)
        parallel = any(isinstance(s, For) and s.kind == "parallel"
                       for s in statements(entry.function.body))
        knobs = " ".join(f"{k}={v}" for k, v in entry.scheduled.knobs.items())
        return KernelStep(
            entry.name, entry.symbol, args, entry.kernel.sources, kernel_flops(entry.kernel),
            kernel_bytes(entry.kernel), entry.scheduled.rule,
            f"{knobs}\n{entry.scheduled.text}".strip(), _shapes(draft.group), parallel,
            notes=(*map(str, draft.group.notes), *_runner_up(entry.scheduled)),
            scalars=entry.function.symbols)

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
        ref = self._ref(value)
        if not isinstance(value.type, TensorType):
            return TensorRef(ref, "", None)
        shape = None if self._is_slot(value) else tuple(map(formula, value.type.dims))
        return TensorRef(ref, value.type.dtype.name, shape)

    def _input(self, value: Value) -> Binding:
        if not isinstance(value.type, TensorType):
            return Binding(value.name, "", None)
        return Binding(value.name, value.type.dtype.name, self._extents(value))

    def _output(self, k: int, value: Value) -> Binding:
        source = None if k in self.direct.values() else self._ref(value)
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

    def _report(self, blocks: list[Block], arena: int) -> MemoryReport:
        rows = []
        for key, block in self.blocks.items():
            owner = self.owner[key]
            name = owner.name if isinstance(owner, Temporary) else self.storage.of(owner).root.name
            alias = block.name if block.name != name else ""
            rows.append(MemoryRow(name, block.offset, block.size_bytes, block.first, block.last,
                                  alias))
        total = sum(
            self.symbols.usual(value.tensor.count) * value.tensor.dtype.size_bytes
            for node in self.graph.nodes for value in node.outputs
            if not self._is_slot(value))
        return MemoryReport(arena, self.constants.size_bytes, self.workspace_bytes, total,
                            lower_bound(blocks), tuple(sorted(rows, key=lambda r: (r.first_step,
                                                                                   r.value))))

    def _records(self, drafts: list[_StepDraft]) -> tuple[NodeRecord, ...]:
        step_of = {id(draft.group): k for k, draft in reversed(list(enumerate(drafts)))}
        rows = []
        for group in self.partition.groups:
            why = group.reason or "; ".join(str(note) for note in group.notes) or "its own kernel"
            rows += [NodeRecord(source, node.op.op_name, step_of.get(id(group), -1), why)
                     for node in group.nodes for source in node.sources]
        return tuple(rows)


def _reads_same_element(entry: CompiledKernel, operand: Operand) -> bool:
    """True if the kernel reads the operand only at the index that it writes."""
    for stage in entry.kernel.stages:
        assert stage.body is not None
        written = any(stage is out.tensor for out in entry.kernel.outputs)
        for node in walk(stage.body):
            if isinstance(node, Load) and node.tensor is operand.tensor and not (
                    written and not stage.is_reduction and is_identity_load(node, stage.axes)):
                return False
    return True


def _runner_up(scheduled: Scheduled) -> tuple[str, ...]:
    return (RUNNER_UP + scheduled.runner_up,) if scheduled.runner_up else ()


def _shapes(group: Group) -> str:
    def show(node: Node) -> str:
        return ", ".join(str(v.type) for v in node.inputs if v is not None)

    return f"{show(group.anchor)} -> {', '.join(str(v.type) for v in group.last.outputs)}"


