"""Many iterations of a loop's body with little between them: pointers change, nothing is copied.

A body of static shapes that is one native call is entered again and again, or at once for all
iterations where none decides whether another follows. What it carries goes back and forth between
two buffers; stacked results are written where they stay.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bessemer.engine.plan import Plan
from bessemer.runtime.bindings import Spec, address_of, empty_aligned
from bessemer.runtime.program import NativeSegment
from bessemer.runtime.strip import Strip

if TYPE_CHECKING:
    from bessemer.runtime.runner import Runner

_ALIGNMENT = 64
_FIRST_ROWS = 16

Array = np.ndarray[Any, Any]
Patches = tuple[tuple[int, int], ...]


class Cycle:
    """Iterates the body that a runner runs.

    The body takes `head` (iteration number and condition of a Loop, or nothing), carried values,
    slices, captured values; it gives a condition (of a Loop), carried values, stacked ones.
    """

    def __init__(self, runner: "Runner", counts: bool) -> None:
        self._runner = runner
        self._tables = runner.tables
        self._head = 2 if counts else 0
        self._ahead = 1 if counts else 0
        template = runner.program.template
        assert template is not None
        patches = template.patches
        self._inputs: list[Patches] = [
            patches.get(("input", k), ()) for k in range(len(runner.signature.inputs))
        ]
        self._outputs: list[Patches] = [
            patches.get(("output", k), ()) for k in range(len(runner.signature.outputs))
        ]
        self._mask = runner.program.plan.binding_alignment - 1
        self._number = np.zeros((), np.int64)
        self._going = np.ones((), bool)
        self._next = np.ones((), bool)
        self._strip: Strip | None = None

    def run(
        self, carried: Sequence[Any], lines: Sequence[Array], captured: Sequence[Any], limit: int
    ) -> tuple[list[Any], list[Any]] | None:
        """The last carried values and the stacked results, after `limit` iterations at most.

        `lines` are scanned inputs, iterations first; there must be one iteration at least. None if
        something is not as the body expects it: the ordinary way then says what.
        """
        specs = self._runner.signature
        first = self._head + len(carried)
        given = [*carried, *(line[0] for line in lines), *captured]
        expected, states = specs.inputs[self._head :], specs.inputs[self._head : first]
        outputs = specs.outputs[self._ahead : self._ahead + len(carried)]
        if len(given) != len(expected) or len(states) != len(outputs):
            return None
        if not all(map(_fits, given, expected)) or not all(map(_same, states, outputs)):
            return None
        self._tables.forget()
        for k, array in enumerate(captured, first + len(lines)):
            self._point_input(k, array)
        if not self._head and limit:
            done = self._at_once(list(carried), lines, limit)
            if done is not None:
                return done
        self._going[...] = True
        for k, scalar in enumerate((self._number, self._going)[: self._head]):
            self._tables.point(self._inputs[k], address_of(scalar))
        if self._ahead:
            self._tables.point(self._outputs[0], address_of(self._next))
            self._next[...] = True
        return self._iterate(list(carried), lines, limit, first)

    def _at_once(
        self, carried: list[Any], lines: Sequence[Array], limit: int
    ) -> tuple[list[Any], list[Any]] | None:
        """All iterations by one native call; None if some row would lie badly."""
        specs, count = self._runner.signature.outputs, len(carried)
        rows = [spec.size_bytes or 0 for spec in specs[count:]]
        rows += [line[0].nbytes for line in lines]
        if any(size & self._mask for size in rows):
            return None
        pointers: list[tuple[Patches, Array]] = []
        states = []
        for k, array in enumerate(carried):
            state = _State(self._inputs[k], self._outputs[k], specs[k])
            pointers += state.pointers(self._tables.input_address(k, array), limit)
            states.append(state)
        whole = [self._well_placed(line) for line in lines]
        stacks = [_buffer((limit, *(spec.shape or ())), spec) for spec in specs[count:]]
        for patches, array in zip(
            (*self._inputs[count : count + len(lines)], *self._outputs[count:]),
            (*whole, *stacks), strict=True,
        ):
            pointers.append((patches, _addresses(address_of(array), array.strides[0], limit)))
        self._strip = self._strip or Strip(self._runner)
        self._strip.run(pointers, limit)
        self._tables.forget()
        return [state.last(limit) for state in states], stacks

    def _well_placed(self, line: Array) -> Array:
        """The slices of a scanned input, copied if a single one of them lies badly."""
        if line[0].flags.c_contiguous and not (address_of(line) | line.strides[0]) & self._mask:
            return line
        copy = empty_aligned(line.shape, line.dtype, line.nbytes, _ALIGNMENT)
        np.copyto(copy, line)
        return copy

    def _iterate(
        self, carried: list[Any], lines: Sequence[Array], limit: int, first: int
    ) -> tuple[list[Any], list[Any]]:
        point, call = self._tables.point, self._runner.call_native
        count, ahead = len(carried), self._ahead
        specs = self._runner.signature.outputs
        for k, array in enumerate(carried, self._head):
            self._point_input(k, array)
        states = [
            _State(self._inputs[self._head + k], self._outputs[ahead + k], specs[ahead + k])
            for k in range(count)
        ]
        stacks = [
            _Stack(patches, spec, limit, self._mask)
            for patches, spec in zip(self._outputs[ahead + count :], specs[ahead + count :],
                                     strict=True)
        ]
        slices = [
            _Line(self._inputs[k], line, self._mask) for k, line in enumerate(lines, first)
        ]
        done = 0
        while True:
            self._number[...] = done
            for state in states:
                state.point(point, done)
            for k, line in enumerate(slices, first):
                if not line.point(point, done):
                    self._point_input(k, line.array[done])
            for stack in stacks:
                stack.point(point, done)
            call()
            for stack in stacks:
                stack.keep(done)
            done += 1
            if done >= limit or (ahead and not self._next):
                break
        self._tables.forget()
        return [state.last(done) for state in states], [stack.rows(done) for stack in stacks]

    def _point_input(self, k: int, array: Array) -> None:
        self._tables.point(self._inputs[k], self._tables.input_address(k, array))


class _State:
    """A carried value: two buffers that are read and written in turn."""

    def __init__(self, reads: Patches, writes: Patches, spec: Spec) -> None:
        self._reads, self._writes = reads, writes
        self._buffers = [_buffer(spec.shape or (), spec) for _ in range(2)]
        self._addresses = [address_of(buffer) for buffer in self._buffers]

    def point(self, point: Any, done: int) -> None:
        """Points the body at what the last iteration wrote, and where this one writes."""
        if done:
            point(self._reads, self._addresses[(done - 1) & 1])
        point(self._writes, self._addresses[done & 1])

    def pointers(self, first: int, count: int) -> list[tuple[Patches, Array]]:
        """The addresses that `count` iterations read and write; the first one reads `first`."""
        writes = np.resize(np.array(self._addresses, np.uint64), count)
        reads = np.roll(writes, 1)
        reads[0] = first
        return [(self._reads, reads), (self._writes, writes)]

    def last(self, done: int) -> Array:
        """What the last of `done` iterations wrote."""
        return self._buffers[(done - 1) & 1]


class _Line:
    """A scanned tensor, iterations first, that is read where it lies if alignment allows it."""

    def __init__(self, reads: Patches, array: Array, mask: int) -> None:
        self.array = array
        self._reads = reads
        self._stride = array.strides[0]
        self._address = int(array.__array_interface__["data"][0])
        self._lies_well = array[0].flags.c_contiguous and not (self._address | self._stride) & mask

    def point(self, point: Any, done: int) -> bool:
        """Points the body at the slice of this iteration; False if it must be copied first."""
        if self._lies_well:
            point(self._reads, self._address + done * self._stride)
        return self._lies_well


class _Stack:
    """A stacked result: rows that grow, each written in place where alignment allows it."""

    def __init__(self, writes: Patches, spec: Spec, limit: int, mask: int) -> None:
        self._writes, self._spec = writes, spec
        self._shape = spec.shape or ()
        self._bytes = spec.size_bytes or 0
        self._rows = _buffer((min(limit, _FIRST_ROWS), *self._shape), spec)
        self._row: Array | None = None
        if self._bytes & mask:
            self._row = _buffer(self._shape, spec)
        self._address = address_of(self._rows if self._row is None else self._row)

    def point(self, point: Any, done: int) -> None:
        """Points the body at the row of this iteration."""
        if done == len(self._rows):
            grown = _buffer((2 * done, *self._shape), self._spec)
            grown[:done] = self._rows
            self._rows = grown
            if self._row is None:
                self._address = address_of(grown)
        if self._row is None:
            point(self._writes, self._address + done * self._bytes)
        elif not done:
            point(self._writes, self._address)

    def keep(self, done: int) -> None:
        """Copies the row of this iteration to its place if it was written elsewhere."""
        if self._row is not None:
            self._rows[done] = self._row

    def rows(self, done: int) -> Array:
        """The rows of `done` iterations."""
        return self._rows[:done]


def can_cycle(plan: Plan, segments: Sequence[Any], counts: bool) -> bool:
    """True if every iteration of the body is one native call that writes all its results.

    The condition of a Loop may also be one that never ends it.
    """
    if plan.is_symbolic or len(segments) != 1 or not isinstance(segments[0], NativeSegment):
        return False
    bindings = (*plan.inputs, *plan.outputs)
    if not all(binding.is_static and binding.dtype != "string" for binding in bindings):
        return False
    sources = [binding.source for binding in plan.outputs]
    if counts:
        if not _has_head(plan):
            return False
        # An output that is the condition as it came in: it was true, or nothing would run.
        if sources[0] is not None and (sources[0].space, sources[0].offset) == ("input", 1):
            sources = sources[1:]
    return all(source is None for source in sources)


def _has_head(plan: Plan) -> bool:
    """True if the plan begins like the body of a Loop: iteration and condition -> condition."""
    if len(plan.inputs) < 2 or not plan.outputs:
        return False
    return all(
        binding.dtype == dtype and math.prod(int(n or 0) for n in binding.shape or ()) == 1
        for binding, dtype in ((plan.inputs[0], "i64"), (plan.inputs[1], "bool"),
                               (plan.outputs[0], "bool"))
    )


def _addresses(first: int, step: int, count: int) -> Array:
    """The addresses of `count` rows; the step may be negative."""
    return (first + step * np.arange(count, dtype=np.int64)).astype(np.uint64)


def _buffer(shape: tuple[int, ...], spec: Spec) -> Array:
    assert spec.dtype is not None
    count = spec.dtype.itemsize
    for extent in shape:
        count *= extent
    return empty_aligned(shape, spec.dtype, count, _ALIGNMENT)


def _fits(value: Any, spec: Spec) -> bool:
    return isinstance(value, np.ndarray) and value.shape == spec.shape and value.dtype == spec.dtype


def _same(a: Spec, b: Spec) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype
