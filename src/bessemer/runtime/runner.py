"""Runs a program in memory of its own, one inference at a time: the inside of a context."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bessemer.runtime import pool as pools
from bessemer.runtime.bindings import Signature, make_output
from bessemer.runtime.frame import Frame, deliver, use_given
from bessemer.runtime.memory import Region
from bessemer.runtime.nested import make_body
from bessemer.runtime.places import static_place
from bessemer.runtime.program import HostSegment, NativeSegment, Program
from bessemer.runtime.small import Quick, quick_run
from bessemer.runtime.tables import Tables

if TYPE_CHECKING:
    from bessemer.runtime.profile import Recorder
    from bessemer.runtime.variants import Variants

Outputs = dict[str, Any]
MakeRunner = Callable[[Program, Signature, int], "Runner"]


class Runner:
    """The way of a static plan: everything is placed when the runner is made.

    It does not lock: its owner sees to it that one run ends before the next one starts. `make`
    makes the runners of bodies of control flow.
    """

    def __init__(
        self, program: Program, signature: Signature, threads: int, make: MakeRunner
    ) -> None:
        self.program = program
        self.variants: Variants | None = None
        """Of an engine with symbolic shapes."""
        self.signature = signature
        self.threads_wanted = threads
        self.threads = 1
        self.pool: pools.Pool | None = None
        self.tables: Tables
        self._make = make
        self._mask = program.plan.binding_alignment - 1
        self._names = [binding.name for binding in program.plan.outputs]
        self._inner: list[Runner] = []
        self.quick: Quick | None = None
        self._bodies = {
            segment.number: {name: self._body(body) for name, body in segment.bodies.items()}
            for segment in program.segments
            if isinstance(segment, HostSegment) and segment.bodies
        }
        self._place()

    def _place(self) -> None:
        plan = self.program.plan
        self._region = Region(plan.arena_bytes, huge=True)
        self._arena = self._region.array(0, plan.arena_bytes)
        self.tables = Tables(self.program, self._region.address)
        if self.program.is_native:
            self.quick = quick_run(self.signature, self.tables, self.ready_pool)
        self._sources = [
            (index, static_place(binding.source)) for index, binding in enumerate(plan.outputs)
            if binding.source is not None
        ]

    def _body(self, program: Program) -> Any:
        """What runs a body of control flow: a runner of its own, inside this one."""
        plan = program.plan
        signature = Signature(program.label, plan.inputs, plan.outputs)
        inner = self._make(program, signature, self.threads_wanted)
        self._inner.append(inner)
        return make_body(inner)

    @property
    def arena_bytes(self) -> int:
        """Planned bytes of the arena."""
        return self.program.plan.arena_bytes

    @property
    def arenas(self) -> list[np.ndarray[Any, Any]]:
        """The memory of all values, as uint8 arrays."""
        return [self._arena]

    def clear_zeroed(self) -> None:
        """Zeroes the parts of the arena that kernels expect so."""
        for ref in self.program.plan.zeroed:
            self._arena[ref.offset : ref.offset + int(ref.size_bytes)] = 0

    def prepared(self, inputs: Any) -> "Runner":
        """The runner that serves inputs of these shapes, with its memory ready for them."""
        return self

    def work(self) -> dict[int, tuple[int, int]]:
        """Operations and bytes of the last run, of the steps where they depend on shapes."""
        return {}

    @property
    def uses_threads(self) -> bool:
        """True if the last run shared some of its work."""
        return any(self.tables.shared)

    def run(
        self, inputs: Any, given: Mapping[str, Any] | None = None,
        recorder: "Recorder | None" = None,
    ) -> Outputs:
        """One inference, as `ExecutionContext.run`; times of host steps go to the recorder."""
        # Without a recorder the context has tried the quick way before.
        if recorder is not None and given is None and self.quick is not None:
            outputs = self.quick(inputs)
            if outputs is not None:
                return outputs
        arrays = self.signature.arrays(inputs)
        made = [make_output(spec, self._mask) for spec in self.signature.outputs]
        if given is not None:
            use_given(self.signature, given, made, arrays, self._mask)
        self.tables.bind(arrays, made)
        self.run_bound(arrays, made, recorder)
        if given:
            self._deliver(given, made)
        # As many names as values; a strict zip would take twice the time.
        return dict(zip(self._names, made))

    def run_bound(self, arrays: list[Any], made: list[Any], recorder: "Recorder | None" = None
                  ) -> None:
        """Runs on the inputs and outputs that the tables point at."""
        if self.program.is_native:
            self._call(0)
        else:
            self._run_mixed(arrays, made, recorder)

    def call_native(self) -> None:
        """Runs the native call of a program that is nothing else, on what the tables point at."""
        self._call(0)

    def set_stamps(self, recorder: "Recorder | None") -> None:
        """Where native calls write their time stamps; None for nowhere."""
        self.tables.set_stamps(0 if recorder is None else recorder.address)

    def close(self) -> None:
        """Frees the memory; nothing can run afterwards."""
        self.quick = None
        for inner in self._inner:
            inner.close()
        self._arena = np.empty(0, np.uint8)
        self._region.close()
        self.tables.close()

    def _deliver(self, given: Mapping[str, Any], made: list[Any]) -> None:
        for index, name in enumerate(self._names):
            if name in given:
                made[index] = deliver(self.signature, name, given[name], made[index])

    def _run_mixed(
        self, arrays: list[Any], made: list[Any], recorder: "Recorder | None"
    ) -> None:
        """Native calls and host steps in turn, then outputs that are copied from elsewhere."""
        frame = Frame(
            [self._arena], self.program.constants, arrays, made,
            [None] * self.program.plan.host_slots,
        )
        number = 0
        for segment in self.program.segments:
            if isinstance(segment, NativeSegment):
                self._call(number)
                number += 1
                continue
            assert isinstance(segment, HostSegment)
            start = time.perf_counter_ns()
            frame.run_host(segment, self._bodies.get(segment.number))
            if recorder is not None:
                recorder.add_host(segment.number, time.perf_counter_ns() - start)
        for index, source in self._sources:
            frame.fetch(source, index)

    def _call(self, number: int) -> None:
        """Runs one native segment."""
        self.ready_pool().run(self.tables.requests[number])

    def ready_pool(self) -> pools.Pool:
        """The pool; looked up again where there is none yet, as in a new child process."""
        if self.pool is not None and self.pool is pools.current_pool():
            return self.pool
        assert self.program.linked is not None
        self.pool = pools.get_pool(self.program.linked.driver)
        self.threads = self.pool.grow(self.threads_wanted)
        self.tables.set_pool(self.pool.address, self.threads)
        return self.pool
