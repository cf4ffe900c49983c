"""Where the values of a graph live during a run: blocks of the arena, bindings, slots, constants.

A value that lies inside another one, or under another name, lives where its root does.
"""

from dataclasses import dataclass
from typing import Any

from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.kernels import CompiledKernel
from bessemer.compiler.memory_plan import Block, blocks_below, lower_bound, place_blocks
from bessemer.compiler.symbols import Symbols, formula
from bessemer.core.dtypes import DType
from bessemer.core.shapes import Dim, product
from bessemer.engine.plan import BlockRecord, BufferRef, MemoryReport, MemoryRow
from bessemer.ir.graph import Graph, Value
from bessemer.ir.types import TensorType
from bessemer.lower.groups import Group, Partition, symbols_of
from bessemer.lower.kernel import Operand, is_identity_load
from bessemer.lower.loops import dense_strides
from bessemer.lower.lowering import Temporary
from bessemer.lower.storage import StorageMap
from bessemer.te.expr import Load
from bessemer.te.walk import walk


@dataclass(eq=False)
class StepDraft:
    """A step to be: a group, and its kernel if it has one."""

    group: Group
    kernel: CompiledKernel | None


class Residence:
    """Gives every value and temporary a place; `plan` first, then the questions."""

    def __init__(self, graph: Graph, partition: Partition, storage: StorageMap,
                 constants: ConstantPool, symbols: Symbols) -> None:
        self.graph, self.partition, self.storage = graph, partition, storage
        self.constants, self.symbols = constants, symbols
        self.is_symbolic = False
        self.inputs = {id(value): k for k, value in enumerate(graph.inputs)}
        self.direct: dict[int, int] = {}  # root value -> output binding it is written to
        self.slots: dict[int, int] = {}
        self.blocks: dict[int, Block] = {}
        self.owner: dict[int, Any] = {}
        self.distinct: list[Block] = []
        self.numbers: dict[int, int] = {}  # block -> its number in a symbolic plan
        self.workspace_bytes = 0
        self.arena_bytes = 0
        """In a symbolic plan for the usual shapes."""

    def plan(self, drafts: list[StepDraft]) -> None:
        """Places everything that the steps touch; the symbols are known by now."""
        self.is_symbolic = bool(self.symbols.records)
        self._choose_outputs(drafts)
        self._live(drafts)
        self._share_in_place(drafts)
        self.distinct = list({id(block): block for block in self.blocks.values()}.values())
        self.arena_bytes = self._place()

    def is_slot(self, value: Value) -> bool:
        """True if the value is a Python object between host steps."""
        return not isinstance(value.type, TensorType) or value.type.shape is None \
            or value.type.dtype.kind == "string" \
            or bool(symbols_of(value) - self.partition.symbols)

    def _choose_outputs(self, drafts: list[StepDraft]) -> None:
        """Outputs that steps can write straight into the caller's memory.

        What fills an output may have another name: a Reshape, or the pieces of a Concat.
        """
        produced = {id(self.storage.of(value).root) for draft in drafts
                    for value in draft.group.last.outputs if not self.is_slot(value)}
        for k, value in enumerate(self.graph.outputs):
            if self.is_slot(value):
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
        if operand_key.is_constant or self.is_slot(operand_key):
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

    def _live(self, drafts: list[StepDraft]) -> None:
        for step, draft in enumerate(drafts):
            if draft.kernel is not None:
                for operand in draft.kernel.scheduled.operands:
                    self._touch(operand.key, step)
            else:
                for value in (*draft.group.last.inputs, *draft.group.last.outputs):
                    if value is not None:
                        self._touch(value, step)
        for value in self.graph.outputs:
            if not self.is_slot(value):
                self._touch(value, len(drafts))

    def _share_in_place(self, drafts: list[StepDraft]) -> None:
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

    def _place(self) -> int:
        """Bytes of the arena; in a symbolic plan for the usual shapes."""
        blocks = self.distinct
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

    # -- references -----------------------------------------------------------------------------

    def ref(self, key: object) -> BufferRef:
        """Where a value or temporary lies."""
        if isinstance(key, Temporary):
            return self._in_block(self.blocks[id(key)], 0, self.blocks[id(key)].size)
        assert isinstance(key, Value)
        if self.is_slot(key):
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

    def argument(self, operand: Operand) -> BufferRef:
        """Where an operand of a kernel lies; a constant is packed in the operand's layout."""
        if operand.constant is not None:
            return self.constants.add_packed(operand.constant, operand.layout)
        return self.ref(operand.key)

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

    def block_records(self) -> tuple[BlockRecord, ...]:
        """The blocks of a symbolic plan, whose places a run works out."""
        if not self.is_symbolic:
            return ()
        return tuple(BlockRecord(formula(block.size), below, block.epoch) for block, below
                     in zip(self.distinct, blocks_below(self.distinct), strict=True))

    def report(self) -> MemoryReport:
        """What lies where and for how long, and what it all takes."""
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
            if not self.is_slot(value))
        rows.sort(key=lambda row: (row.first_step, row.value))
        return MemoryReport(
            self.arena_bytes, self.constants.size_bytes, self.workspace_bytes, total,
            lower_bound(self.distinct), tuple(rows))


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
