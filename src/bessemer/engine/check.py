"""Proves a plan consistent: every reference lies inside its space, shapes and sizes agree.

Where sizes are formulas this proves what holds for every shape (formulas can be read, their symbols
are known in time); the runtime checks the rest when it knows the values.
"""

import math
import re
from bisect import bisect_right

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import EngineFormatError
from bessemer.core.formula import formula_symbols
from bessemer.engine.plan import (
    Binding,
    BufferRef,
    EngineData,
    Extent,
    HostStep,
    KernelStep,
    Plan,
    ShapeStep,
    StoredGraph,
    SymbolRecord,
    TensorRef,
)

CONSTANT_ALIGNMENT = 64
_OBJECT_SPACES = ("host", "input", "output")
_NAME = re.compile(r"[A-Za-z_?][A-Za-z0-9_.?$]*\Z")


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a dense tensor of that dtype."""
    return math.prod(shape) * DTYPES[dtype].size_bytes


def binding_bytes(binding: Binding) -> int | None:
    """Bytes of a binding, None if a dimension is open or it is no numeric tensor."""
    if not binding.is_static or binding.dtype == "string":
        return None
    assert binding.shape is not None
    return tensor_bytes(binding.dtype, tuple(int(extent or 0) for extent in binding.shape))


def known_epochs(plan: Plan) -> dict[str, int]:
    """From which epoch on each symbol is known; beyond the last epoch: only after the last step."""
    return {
        symbol.name: 0 if symbol.source[0] in ("input", "content")
        else 1 + bisect_right(plan.epochs, int(symbol.source[1]))
        for symbol in plan.symbols
    }


class _Checker:
    def __init__(self, plan: Plan, constant_bytes: int) -> None:
        self.plan = plan
        self.limits = {"arena": plan.arena_bytes, "constant": constant_bytes}
        self.bindings = {"input": plan.inputs, "output": plan.outputs}
        self.known: dict[str, int] = {}
        self.last = len(plan.epochs)
        self.symbolic = plan.is_symbolic
        self.sizes: dict[int, int] = {}

    def fail(self, where: str, text: str) -> EngineFormatError:
        return EngineFormatError(f"plan {self.plan.name!r}, {where}: {text}")

    # --- formulas and symbols --------------------------------------------------------------------

    def number(self, value: Extent, where: str, epoch: int) -> int | None:
        """The number; None for a formula, of which each symbol must be known in that epoch."""
        if isinstance(value, int):
            return value
        if not self.symbolic:
            raise self.fail(where, f"the formula {value!r} needs a plan with symbols")
        late = [name for name in self.symbols_of(value, where) if self.known[name] > epoch]
        if late:
            raise self.fail(where, f"symbol {late[0]!r} is not known in epoch {epoch}")
        return None

    def symbols_of(self, formula: Extent, where: str) -> frozenset[str]:
        try:
            names = formula_symbols(formula)
        except ValueError as error:
            raise self.fail(where, str(error)) from None
        for name in names:
            if name not in self.known:
                raise self.fail(where, f"unknown symbol {name!r}; known: {', '.join(self.known)}")
        return names

    def is_shaped(self, binding: Binding, epoch: int) -> bool:
        """True if the bytes of a binding are known in that epoch."""
        if not binding.dtype or binding.dtype == "string" or binding.shape is None:
            return False
        if binding.is_static:
            return True
        return self.symbolic and all(
            extent is not None
            and all(self.known[n] <= epoch for n in self.symbols_of(extent, binding.name))
            for extent in binding.shape
        )

    def symbols(self) -> None:
        plan = self.plan
        ends = (*plan.epochs, len(plan.steps))
        if list(ends) != sorted(ends):
            raise self.fail("epochs", f"{list(plan.epochs)} are no ascending steps")
        for symbol in plan.symbols:
            where = f"symbol {symbol.name!r}"
            if not _NAME.match(symbol.name):
                raise self.fail(where, "this is no name")
            if symbol.high is not None and symbol.high < symbol.low:
                raise self.fail(where, f"no value lies in {symbol.low}..{symbol.high}")
            self.symbol_source(symbol, where)
        self.known = known_epochs(plan)
        if len(self.known) != len(plan.symbols):
            raise self.fail("symbols", "names are not unique")
        for index, condition in enumerate(plan.conditions):
            self.number(condition.left, f"condition {index}", self.last)
            self.number(condition.right, f"condition {index}", self.last)
        for index, block in enumerate(plan.blocks):
            where = f"block {index}"
            if block.epoch > self.last:
                raise self.fail(where, f"there is no epoch {block.epoch}")
            self.number(block.size, where, block.epoch)
            if any(i >= index or plan.blocks[i].epoch != block.epoch for i in block.below):
                raise self.fail(where, f"{list(block.below)} are no earlier blocks of its epoch")

    def symbol_source(self, symbol: SymbolRecord, where: str) -> None:
        kind, *numbers = symbol.source or ("",)
        if len(numbers) != (2 if kind in ("input", "content") else 3):
            raise self.fail(where, f"the source {list(symbol.source)} is malformed")
        first, second = int(numbers[0]), int(numbers[1])
        if kind in ("input", "content"):
            binding = self.binding(BufferRef("input", first, 0), where)
            if kind == "content":
                if not binding.dtype or DTYPES[binding.dtype].kind not in ("int", "uint"):
                    raise self.fail(where, f"input {binding.name!r} holds no integers")
            elif binding.shape is None or symbol.name not in binding.shape[second : second + 1]:
                raise self.fail(where, f"is not extent {second} of input {binding.name!r}")
            return
        steps = self.plan.steps[first : first + 1]
        if not steps or not isinstance(steps[0], HostStep) or \
                steps[0].outputs[second : second + 1] in ((), (None,)):
            raise self.fail(where, f"step {first} is no host step with an output {second}")

    # --- references ------------------------------------------------------------------------------

    def buffer(self, ref: BufferRef, where: str, epoch: int) -> None:
        """A reference to bytes: it must lie inside its space."""
        if ref.space == "host":
            raise self.fail(where, "kernels cannot use the space 'host'")
        size: int | None
        byte: int | None
        if isinstance(ref.size_bytes, int) and isinstance(ref.byte, int):
            size, byte = ref.size_bytes, ref.byte
        else:
            size, byte = (self.number(n, where, epoch) for n in (ref.size_bytes, ref.byte))
        limit = self.limits.get(ref.space)
        if limit is not None:
            if self.symbolic and ref.space == "arena":
                raise self.fail(where, "a symbolic plan has blocks and no arena")
            if size is None or byte != 0 or ref.offset + size > limit:
                raise self.fail(
                    where, f"bytes {ref.offset}+{ref.byte}..{ref.offset}+{ref.size_bytes} of "
                    f"{ref.space} lie outside its {limit} bytes"
                )
            return
        room = self.block(ref, where, epoch) if ref.space == "block" \
            else self.room(self.binding(ref, where), where, epoch)
        if None not in (size, byte, room) and size + byte > room:  # type: ignore[operator]
            raise self.fail(
                where, f"bytes {byte}..{byte}+{size} of {ref.space} {ref.offset} lie outside its "
                f"{room} bytes"
            )

    def block(self, ref: BufferRef, where: str, epoch: int) -> int | None:
        """The size of a block, None if it is a formula."""
        if ref.offset >= len(self.plan.blocks):
            raise self.fail(where, f"block {ref.offset} of {len(self.plan.blocks)}")
        block = self.plan.blocks[ref.offset]
        if block.epoch > epoch:
            raise self.fail(where, f"block {ref.offset} of epoch {block.epoch} in epoch {epoch}")
        return block.size if isinstance(block.size, int) else None

    def room(self, binding: Binding, where: str, epoch: int) -> int | None:
        """The bytes of a binding, None if they are a formula."""
        size = self.sizes.get(id(binding))
        if size is None:
            if not self.is_shaped(binding, epoch):
                raise self.fail(where, f"binding {binding.name!r} has no fixed size for a kernel")
            size = binding_bytes(binding)
            if size is not None:
                self.sizes[id(binding)] = size
        return size

    def binding(self, ref: BufferRef, where: str) -> Binding:
        known = self.bindings[ref.space]
        if ref.offset >= len(known):
            text = f"{ref.space} {ref.offset} does not exist; there are {len(known)}"
            raise self.fail(where, text)
        return known[ref.offset]

    def tensor(self, ref: TensorRef, where: str, epoch: int) -> None:
        """A value of a host step."""
        buffer = ref.buffer
        if buffer.space == "host":
            if buffer.offset >= self.plan.host_slots:
                raise self.fail(where, f"host slot {buffer.offset} of {self.plan.host_slots}")
            for extent in ref.shape or ():
                self.number(extent, where, self.last + 1)
            return
        numeric = ref.dtype not in ("", "string") and ref.shape is not None
        if buffer.space in _OBJECT_SPACES and (
            not numeric or not self.is_shaped(self.binding(buffer, where), epoch)
        ):
            self.binding(buffer, where)
            if buffer.byte:
                raise self.fail(where, "a byte offset needs a tensor of fixed size")
            for extent in ref.shape or ():
                self.number(extent, where, self.last + 1)
            return
        if not numeric:
            raise self.fail(where, f"a value in {buffer.space} needs a dtype and a shape")
        assert ref.shape is not None
        shape = [self.number(extent, where, epoch) for extent in ref.shape]
        if None not in shape:
            size = tensor_bytes(ref.dtype, tuple(extent or 0 for extent in shape))
            if isinstance(buffer.size_bytes, int) and size != buffer.size_bytes:
                raise self.fail(
                    where, f"{ref.dtype}{list(ref.shape)} takes {size} bytes, not "
                    f"{buffer.size_bytes}"
                )
        self.buffer(buffer, where, epoch)

    def output(self, binding: Binding, where: str) -> None:
        """An output with a source: the source must give as many bytes as the output has."""
        if self.plan.is_symbolic:
            for extent in binding.shape or ():
                self.number(0 if extent is None else extent, where, self.last + 1)
        ref = binding.source
        if ref is None:
            return
        if ref.space == "host":
            if ref.offset >= self.plan.host_slots:
                raise self.fail(where, f"host slot {ref.offset} of {self.plan.host_slots}")
            return
        if ref.space == "output":
            raise self.fail(where, "the source of an output cannot be an output")
        if not self.is_shaped(binding, self.last):
            if ref.space != "input" or ref.byte:
                raise self.fail(where, f"an open shape cannot be copied from {ref.space}")
            self.binding(ref, where)
            return
        size = binding_bytes(binding)
        if size is not None and isinstance(ref.size_bytes, int) and size != ref.size_bytes:
            raise self.fail(where, f"the output takes {size} bytes, its source {ref.size_bytes}")
        self.buffer(ref, where, self.last)

    # --- the whole plan --------------------------------------------------------------------------

    def names(self, bindings: tuple[Binding, ...], where: str) -> None:
        names = [binding.name for binding in bindings]
        if len(set(names)) != len(names):
            raise self.fail(where, f"names are not unique: {names}")

    def kernel(self, step: KernelStep, where: str, epoch: int) -> None:
        for number, ref in enumerate(step.args):
            if ref.space == "input" and self.binding(ref, where).dtype == "":
                raise self.fail(where, f"argument {number} is no tensor")
            self.buffer(ref, f"{where}, argument {number}", epoch)
        if len(step.work) not in (0, 2):
            raise self.fail(where, "its work is not two formulas")
        for formula in (*step.scalars, *step.work):
            self.number(formula, where, epoch)

    def host(self, step: HostStep, where: str, epoch: int) -> None:
        for number, value in enumerate(step.inputs):
            if value is not None:
                self.tensor(value, f"{where}, input {number}", epoch)
        for number, value in enumerate(step.outputs):
            if value is None:
                continue
            if value.buffer.space in ("constant", "input"):
                raise self.fail(where, f"output {number} is read-only")
            later = epoch
            if value.buffer.space == "block" and value.buffer.offset < len(self.plan.blocks):
                later = max(epoch, self.plan.blocks[value.buffer.offset].epoch)
            self.tensor(value, f"{where}, output {number}", later)

    def shape(self, step: ShapeStep, where: str, epoch: int) -> None:
        output = step.output
        if not self.plan.is_symbolic:
            raise self.fail(where, "a shape step needs a plan with symbols")
        if output.dtype not in DTYPES or DTYPES[output.dtype].kind not in ("int", "uint") or \
                output.shape is None or not all(isinstance(n, int) for n in output.shape) or \
                math.prod(int(n) for n in output.shape) != len(step.values):
            raise self.fail(where, f"its output does not hold {len(step.values)} integers")
        if output.buffer.space not in ("block", "output", "host"):
            raise self.fail(where, f"its output cannot lie in {output.buffer.space}")
        self.tensor(output, where, epoch)
        for value in step.values:
            self.number(value, where, epoch)

    def run(self) -> None:
        plan = self.plan
        if plan.binding_alignment & (plan.binding_alignment - 1):
            raise self.fail("binding_alignment", f"{plan.binding_alignment} is no power of two")
        self.names(plan.inputs, "inputs")
        self.names(plan.outputs, "outputs")
        self.symbols()
        for index, ref in enumerate(plan.zeroed):
            if ref.space != ("block" if plan.is_symbolic else "arena"):
                raise self.fail(f"zeroed[{index}]", "must lie in the arena")
            self.buffer(ref, f"zeroed[{index}]", self.last)
        for binding in plan.inputs if plan.is_symbolic else ():
            for extent in binding.shape or ():
                self.number(0 if extent is None else extent, f"input {binding.name!r}", 0)
        for index, step in enumerate(plan.steps):
            where = f"step {index} {step.name!r}"
            epoch = bisect_right(plan.epochs, index) if plan.epochs else 0
            if isinstance(step, KernelStep):
                self.kernel(step, where, epoch)
            elif isinstance(step, HostStep):
                self.host(step, where, epoch)
            else:
                self.shape(step, where, epoch)
        for index, output in enumerate(plan.outputs):
            self.output(output, f"output {index} {output.name!r}")


def check_plan(plan: Plan, constant_bytes: int) -> None:
    """Raises EngineFormatError naming the step and argument that is inconsistent."""
    for each in (plan, *plan.inner_plans):
        _Checker(each, constant_bytes).run()


def check_engine(data: EngineData) -> None:
    """Checks the plans of all variants and the constants.

    Raises: EngineFormatError.
    """
    position = 0
    for offset, array in sorted(data.constants, key=lambda entry: entry[0]):
        if offset % CONSTANT_ALIGNMENT or offset < position:
            raise EngineFormatError(
                f"plan {data.plan.name!r}: the constant at {offset} overlaps another or is not "
                f"aligned to {CONSTANT_ALIGNMENT} bytes"
            )
        position = offset + array.nbytes
    unknown = (data.plans.keys() | data.requires.keys()) - data.objects.keys()
    if unknown:
        raise EngineFormatError(f"plan {data.plan.name!r}: no code for variants {sorted(unknown)}")
    check_plan(data.plan, data.constant_bytes)
    for name, plan in data.plans.items():
        if _signature(plan) != _signature(data.plan):
            raise EngineFormatError(f"variant {name!r} has other bindings than the engine")
        check_plan(plan, data.constant_bytes)
    if data.source is not None:
        _check_source(data.source, data)


def _check_source(source: StoredGraph, data: EngineData) -> None:
    """Constants of the stored graph lie in the blob; packed ones take no less than their shape."""
    for constant in source.constants:
        size = tensor_bytes(constant.dtype, constant.shape)
        if constant.offset + size > data.constant_bytes:
            raise EngineFormatError(
                f"plan {data.plan.name!r}: constant {constant.key!r} of the stored graph, bytes "
                f"{constant.offset}..{constant.offset + size}, lies outside the "
                f"{data.constant_bytes} bytes of constants"
            )


def _signature(plan: Plan) -> list[tuple[object, ...]]:
    """What callers see of the bindings; where an output comes from may differ by variant."""
    return [
        (len(plan.inputs), binding.name, binding.dtype, binding.shape)
        for binding in (*plan.inputs, *plan.outputs)
    ]
