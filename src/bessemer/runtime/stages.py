"""A symbolic plan cut into epochs: each evaluates all its formulas at once for given values.

A `Stage` is what does not depend on shapes, made once for a program. Its `evaluate` gives a
`State`: where everything lies and how large it is, for one set of values of the symbols.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ExecutionError, InputError
from bessemer.core.formula import formula_symbols
from bessemer.engine.check import known_epochs, tensor_bytes
from bessemer.engine.plan import Binding, BufferRef, Extent, KernelStep, Plan, TensorRef
from bessemer.runtime.bindings import Spec
from bessemer.runtime.formulas import MAX_BYTES, Formulas
from bessemer.runtime.memory import round_up
from bessemer.runtime.places import Place
from bessemer.runtime.program import (
    EpochSegment,
    HostSegment,
    NativeSegment,
    Program,
    Segment,
    ShapeSegment,
    is_long,
)
from bessemer.runtime.state import Array, State

_ALIGNMENT = 64


class _Ref(NamedTuple):
    """A place with indices of formulas in place of numbers."""

    space: str
    number: int
    block: int
    room: int
    byte: int
    size: int
    dtype: str = ""
    shape: tuple[int, ...] | None = None


class Stage:
    """The steps of one epoch, and the formulas that say where their values lie."""

    def __init__(self, program: Program, epoch: int, segments: Sequence[tuple[Segment, int]]):
        """`segments` come with the numbers of the native calls among them."""
        plan = program.plan
        self.epoch = epoch
        self.segments = segments
        self._label = program.label
        self._plan = plan
        self._constants = program.constants
        self._known = known_epochs(plan)
        self._symbols = [symbol.name for symbol in plan.symbols]
        self._formulas = Formulas()
        self._zero = self._formulas.add(0)
        self._no_block = len(plan.blocks)
        self._inputs_at = len(plan.blocks)
        self._outputs_at = self._inputs_at + len(plan.inputs)
        self._no_room = self._outputs_at + len(plan.outputs)
        self._add_memory()
        self._add_arguments(program)
        self._add_hosts()

    # --- making: once for a program --------------------------------------------------------------

    def _add_memory(self) -> None:
        plan, add = self._plan, self._formulas.add
        self._blocks = [
            (index, add(block.size), block.below) for index, block in enumerate(plan.blocks)
            if block.epoch == self.epoch
        ]
        begun = self.epoch == 0
        self._rooms = [
            (self._inputs_at + index, self._bytes_of(binding))
            for index, binding in enumerate(plan.inputs) if begun and self._begins(binding) == 0
        ]
        self._outputs = [
            (index, self._bytes_of(binding)[1]) for index, binding in enumerate(plan.outputs)
            if self._begins(binding) == self.epoch
        ]
        self._zeroed = [
            (plan.blocks[ref.offset].epoch, self._ref(ref)) for ref in plan.zeroed
            if plan.blocks[ref.offset].epoch == self.epoch
        ]

    def _begins(self, binding: Binding) -> int | None:
        """The epoch from which on the bytes of a binding are known; None for never."""
        if binding.dtype in ("", "string") or binding.shape is None or None in binding.shape:
            return None
        names = {name for extent in binding.shape for name in formula_symbols(extent or 0)}
        return max((self._known[name] for name in names), default=0)

    def _bytes_of(self, binding: Binding) -> tuple[int, tuple[int, ...]]:
        shape = tuple(self._formulas.add(extent or 0) for extent in binding.shape or ())
        return DTYPES[binding.dtype].size_bytes, shape

    def _ref(self, ref: BufferRef, dtype: str = "", shape: tuple[Extent, ...] | None = None
             ) -> _Ref:
        """The reference with all its formulas taken up."""
        add = self._formulas.add
        byte, block, room, number = ref.byte, self._no_block, self._no_room, ref.offset
        if ref.space == "block":
            block, room, number = ref.offset, ref.offset, self._plan.blocks[ref.offset].epoch
        elif ref.space == "constant":
            number, byte = 0, ref.offset
        elif ref.space != "host":
            room = ref.offset + (self._inputs_at if ref.space == "input" else self._outputs_at)
        extents = None if shape is None else tuple(add(extent) for extent in shape)
        space = "arena" if ref.space == "block" else ref.space
        return _Ref(space, number, block, room, add(byte), add(ref.size_bytes), dtype, extents)

    def _add_arguments(self, program: Program) -> None:
        """The arguments of this epoch's kernels, as columns."""
        rows: list[tuple[int, int, int, int, int, int, int]] = []
        self._patches: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._native: list[tuple[int, bool, bool, Array, Array]] = []
        self._counted: list[tuple[int, tuple[Extent, ...]]] = []
        natives = [(s, n) for s, n in self.segments if isinstance(s, NativeSegment)]
        self.first = int(program.jobs.starts[natives[0][0].first]) if natives else 0
        for segment, number in natives:
            steps = [step for i in segment.steps
                     if isinstance(step := self._plan.steps[i], KernelStep)]
            for step in steps:
                rows += [self._argument(ref, self.first + len(rows) + i)
                         for i, ref in enumerate(step.args)]
                rows += [self._scalar(text) for text in step.scalars]
            self._native.append(self._work(steps, number))
            self._counted += [(i, step.work) for i, step in zip(segment.steps, steps, strict=True)
                              if step.work]
        self.last = self.first + len(rows)
        columns = np.array(rows, object).reshape(len(rows), 7).T
        self.bases, self._block, self._byte, self._size, self._room, self._scalars = (
            column.astype(np.intp) for column in columns[:6]
        )
        self._fixed = columns[6].astype(np.uint64)

    def _argument(self, ref: BufferRef, argument: int) -> tuple[int, int, int, int, int, int, int]:
        outside = len(self._plan.epochs) + 1
        if ref.space == "constant":
            address = self._constants.address_of(ref.offset, int(ref.size_bytes))
            return (outside, self._no_block, self._zero, self._zero, self._no_room, self._zero,
                    address)
        found = self._ref(ref)
        if ref.space != "block":
            patches = self._patches.setdefault((ref.space, ref.offset), [])
            patches.append((argument, found.byte))
        base = found.number if ref.space == "block" else outside
        return base, found.block, found.byte, found.size, found.room, self._zero, 0

    def _scalar(self, text: str) -> tuple[int, int, int, int, int, int, int]:
        value = self._formulas.add(text, count=False)
        return (len(self._plan.epochs) + 1, self._no_block, self._zero, self._zero, self._no_room,
                value, 0)

    def _work(self, steps: list[KernelStep], number: int
              ) -> tuple[int, bool, bool, Array, Array]:
        """Of a native call: its number, may it share work, is its work unknown, how much it is."""
        shared = any(step.parallel for step in steps)
        unknown = any(s.parallel and not (s.work or s.flops or s.bytes) for s in steps)
        work = [step.work or (step.flops, step.bytes) for step in steps]
        flops, moved = (
            np.array([self._formulas.add(pair[i], False) for pair in work]) for i in (0, 1))
        return number, shared, unknown, flops, moved

    def _add_hosts(self) -> None:
        """Operands of host steps and shape steps, results that arrive later, sources of outputs."""
        plan = self._plan
        self._operands: dict[int, tuple[list[_Ref | None], list[_Ref | None]]] = {}
        self._shapes: dict[int, tuple[_Ref, list[int]]] = {}
        self.later: dict[int, list[int]] = {}
        for segment, _ in self.segments:
            if isinstance(segment, HostSegment):
                step = segment.step
                self._operands[segment.number] = (
                    [None if ref is None else self._tensor(ref) for ref in step.inputs],
                    [None if ref is None else self._tensor(ref) for ref in step.outputs])
                self.later[segment.number] = [
                    i for i, ref in enumerate(step.outputs) if ref and self._is_later(ref.buffer)]
            elif isinstance(segment, ShapeSegment):
                values = [self._formulas.add(value, False) for value in segment.step.values]
                self._shapes[segment.number] = self._tensor(segment.step.output), values
        self._arrivals = [
            (number, index, self._tensor(ref)) for number, index, ref in _late_results(plan)
            if plan.blocks[ref.buffer.offset].epoch == self.epoch
        ]
        self._fetches = [
            (index, self._source(binding)) for index, binding in enumerate(plan.outputs)
            if binding.source is not None and self.epoch == len(plan.epochs)
        ]

    def _is_later(self, ref: BufferRef) -> bool:
        return ref.space == "block" and self._plan.blocks[ref.offset].epoch > self.epoch

    def _tensor(self, ref: TensorRef) -> _Ref:
        buffer = ref.buffer
        if self._is_later(buffer):
            return _Ref("later", 0, 0, 0, self._zero, self._zero)
        whole = buffer.space == "host"
        if buffer.space in ("input", "output"):
            known = self._plan.inputs if buffer.space == "input" else self._plan.outputs
            begins = self._begins(known[buffer.offset])
            whole = ref.shape is None or begins is None or begins > self.epoch
        if whole:
            return _Ref(buffer.space, buffer.offset, self._no_block, self._no_room, self._zero,
                        self._zero, ref.dtype)
        return self._ref(buffer, ref.dtype, ref.shape)

    def _source(self, binding: Binding) -> _Ref:
        """The source of an output; in full where the output has no size of its own."""
        assert binding.source is not None
        begins = self._begins(binding)
        if binding.source.space == "host" or begins is None or begins > self.epoch:
            return self._tensor(TensorRef(binding.source, "", None))
        return self._ref(binding.source)

    # --- evaluating: once for each set of values -------------------------------------------------

    def evaluate(self, values: Sequence[int], earlier: State | None) -> State:
        """The state for these values of all symbols; `earlier` is that of the epoch before.

        Raises: InputError (in epoch 0) or ExecutionError if a size is negative or too large, or
        something does not lie in the memory meant for it.
        """
        try:
            found, numbers = self._formulas.evaluate(values, self._symbols)
        except ArithmeticError as error:
            raise self._fail(values, str(error)) from None
        state = State(tuple(values), found)
        self._place_blocks(state, earlier)
        self._size_bindings(state, earlier)
        self._fill_arguments(state, numbers)
        self._fill_segments(state)
        return state

    def _fail(self, values: Sequence[int], text: str) -> InputError | ExecutionError:
        known = ", ".join(
            f"{name}={value}" for name, value in zip(self._symbols, values, strict=True)
            if self._known[name] <= self.epoch
        )
        kind = ExecutionError if self.epoch else InputError
        return kind(f"{self._label}: with {known or 'these shapes'}: {text}")

    def work(self, state: State) -> dict[int, tuple[int, int]]:
        """Operations and bytes of the steps that give them as formulas."""
        index, found = self._formulas.index, state.numbers
        return {step: (found[index[work[0]]], found[index[work[1]]])
                for step, work in self._counted}

    def _place_blocks(self, state: State, earlier: State | None) -> None:
        found = state.numbers
        if earlier is None:
            state.offsets = np.zeros(self._no_block + 1, np.int64)
            state.rooms = np.full(self._no_room + 1, MAX_BYTES, np.int64)
        else:
            state.offsets, state.rooms = earlier.offsets.copy(), earlier.rooms.copy()
        ends: dict[int, int] = {}
        for index, size, below in self._blocks:
            start = max([ends[i] for i in below], default=0)
            ends[index] = start + round_up(found[size], _ALIGNMENT)
            if start > MAX_BYTES:
                raise self._fail(state.values, f"the arena would take {ends[index]} bytes")
            state.offsets[index], state.rooms[index] = start, found[size]
        state.arena_bytes = max(ends.values(), default=0)

    def _size_bindings(self, state: State, earlier: State | None) -> None:
        found = state.numbers
        for room, (item_bytes, shape) in self._rooms:
            state.rooms[room] = min(math.prod([item_bytes, *(found[i] for i in shape)]), MAX_BYTES)
        state.specs = [None] * len(self._plan.outputs) if earlier is None else list(earlier.specs)
        for index, extents in self._outputs:
            binding = self._plan.outputs[index]
            shape = tuple(found[i] for i in extents)
            size = tensor_bytes(binding.dtype, shape)
            if size > MAX_BYTES:
                raise self._fail(state.values, f"output {binding.name!r} would take {size} bytes")
            state.specs[index] = Spec(binding, DTYPES[binding.dtype].numpy, shape, size)
            state.rooms[self._outputs_at + index] = size

    def _fill_arguments(self, state: State, numbers: Array) -> None:
        starts = numbers[self._byte]
        bad = np.flatnonzero(starts + numbers[self._size] > state.rooms[self._room])
        if len(bad):
            raise self._fail(
                state.values, f"argument {self.first + bad[0]} of the kernels does not lie in the "
                "memory meant for it"
            )
        places = starts + state.offsets[self._block] + numbers[self._scalars]
        state.relative = self._fixed + places.view(np.uint64)
        found = state.numbers
        for (space, index), patches in self._patches.items():
            kind = state.inputs if space == "input" else state.outputs
            kind.append((index, [(argument, found[byte]) for argument, byte in patches]))
        state.parallel = [
            (number, shared and (unknown or is_long(numbers[flops], numbers[moved])))
            for number, shared, unknown, flops, moved in self._native
        ]
        state.zeroed = [(epoch, place.offset, place.size_bytes) for epoch, place in (
            (epoch, self._placed(ref, state)) for epoch, ref in self._zeroed)]

    def _fill_segments(self, state: State) -> None:
        for segment, number in self.segments:
            if isinstance(segment, HostSegment):
                inputs, outputs = (
                    tuple(None if ref is None else self._placed(ref, state) for ref in refs)
                    for refs in self._operands[segment.number]
                )
                state.segments.append(segment._replace(inputs=inputs, outputs=outputs))
            elif isinstance(segment, ShapeSegment):
                ref, values = self._shapes[segment.number]
                content = self._content(segment, [state.numbers[i] for i in values], state)
                place = self._placed(ref, state)
                state.segments.append(segment._replace(place=place, content=content))
            else:
                state.segments.append(number)
        state.arrivals = [
            (number, index, self._placed(ref, state)) for number, index, ref in self._arrivals]
        state.fetches = [(index, self._placed(ref, state)) for index, ref in self._fetches]
        for index, place in state.fetches:
            spec = state.specs[index]
            if spec is not None and place.space != "host" and place.size_bytes != spec.size_bytes:
                raise self._fail(state.values, f"output {spec.binding.name!r} takes "
                                 f"{spec.size_bytes} bytes, its source {place.size_bytes}")

    def _content(self, segment: ShapeSegment, values: list[int], state: State) -> Array:
        output = segment.step.output
        wide = np.array(values, np.int64)
        with np.errstate(all="ignore"):
            content = wide.astype(DTYPES[output.dtype].numpy)
        if any(int(a) != int(b) for a, b in zip(content, wide, strict=True)):
            raise self._fail(state.values, f"{values} of step {segment.step.name!r} are no "
                             f"{output.dtype}")
        return content.reshape([int(extent) for extent in output.shape or ()])

    def _placed(self, ref: _Ref, state: State) -> Place:
        """The place of a reference. Raises: InputError or ExecutionError if it does not fit."""
        found = state.numbers
        start, size = found[ref.byte], found[ref.size]
        shape = None if ref.shape is None else tuple(found[i] for i in ref.shape)
        misfit = start + size > state.rooms[ref.room]
        if misfit or (shape is not None and tensor_bytes(ref.dtype, shape) != size):
            raise self._fail(
                state.values, f"{ref.dtype}{list(shape or ())} at byte {start} of {ref.space} "
                f"{ref.number} does not fit into {size} of {state.rooms[ref.room]} bytes"
            )
        start += int(state.offsets[ref.block])
        return Place(ref.space, ref.number, start, size, ref.dtype, shape)


def _late_results(plan: Plan) -> list[tuple[int, int, TensorRef]]:
    """Results of host steps that live in blocks: step, output, reference."""
    return [
        (number, index, ref) for number, step in enumerate(plan.steps)
        if not isinstance(step, KernelStep) and hasattr(step, "outputs")
        for index, ref in enumerate(step.outputs)
        if ref is not None and ref.buffer.space == "block"
        and plan.blocks[ref.buffer.offset].epoch > sum(start <= number for start in plan.epochs)
    ]


def stages_of(program: Program) -> tuple[Stage, ...]:
    """The stages of a symbolic program, one for each epoch; made once."""
    if not program.stages:
        parts: list[list[tuple[Segment, int]]] = [[]]
        natives = 0
        for segment in program.segments:
            if isinstance(segment, EpochSegment):
                parts.append([])
                continue
            parts[-1].append((segment, natives))
            natives += isinstance(segment, NativeSegment)
        program.stages = tuple(Stage(program, epoch, part) for epoch, part in enumerate(parts))
    return program.stages
