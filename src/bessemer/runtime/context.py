"""An execution context: one arena, one set of tables, and the way of one inference."""

import concurrent.futures
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from bessemer.core.errors import ExecutionError, InputError
from bessemer.runtime import pool as pools
from bessemer.runtime.bindings import Signature, make_output
from bessemer.runtime.frame import Frame, deliver, use_given
from bessemer.runtime.memory import Region
from bessemer.runtime.nested import make_body
from bessemer.runtime.places import static_place
from bessemer.runtime.profile import Profile, Recorder
from bessemer.runtime.program import HostSegment, NativeSegment, Program
from bessemer.runtime.tables import Tables

Outputs = dict[str, Any]


class ExecutionContext:
    """Runs an engine in memory of its own; contexts of one engine may run in parallel.

    One context does one run at a time; a second caller waits. Use it as a context manager or
    `close` it.
    """

    def __init__(self, program: Program, signature: Signature, threads: int) -> None:
        self._program = program
        self._signature = signature
        self._threads_wanted = threads
        self._threads = 1
        self._lock = threading.Lock()
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._closed = False
        self._pool: pools.Pool | None = None
        plan = program.plan
        self._mask = plan.binding_alignment - 1
        self._region = Region(plan.arena_bytes, huge=True)
        self._arena = self._region.array(0, plan.arena_bytes)
        self._tables = Tables(program, self._region.address)
        self._sources = [
            (index, static_place(binding.source)) for index, binding in enumerate(plan.outputs)
            if binding.source is not None
        ]
        self._names = [binding.name for binding in plan.outputs]
        self._inner: list[ExecutionContext] = []
        self._bodies = {
            segment.number: {name: self._body(body) for name, body in segment.bodies.items()}
            for segment in program.segments
            if isinstance(segment, HostSegment) and segment.bodies
        }

    # --- the public face -------------------------------------------------------------------------

    def run(self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None) -> Outputs:
        """One inference: {output name: array}.

        `inputs` maps names to arrays, or is a list in the order of the bindings, or the single
        array. Contiguous aligned arrays are used in place, others are copied. `outputs` may give
        arrays to write into; they are also what is returned.

        Raises: InputError, ExecutionError.
        """
        with self._lock:
            return self._run(inputs, outputs, None)

    def enqueue(
        self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None
    ) -> "concurrent.futures.Future[Outputs]":
        """Starts `run` in the background; runs of one context keep their order."""
        with self._lock:
            self._check_open()
            if self._executor is None:
                # Named in full, so that only who enqueues imports the executor.
                self._executor = concurrent.futures.ThreadPoolExecutor(
                    1, thread_name_prefix="bessemer-context"
                )
            return self._executor.submit(self.run, inputs, outputs=outputs)

    def profile(self, inputs: Any = None, *, runs: int = 10, warmup: int = 2) -> Profile:
        """Runs several times with time stamps at each step: where a typical run spends its time."""
        if runs < 1 or warmup < 0:
            raise InputError(f"runs={runs} must be at least 1 and warmup={warmup} at least 0")
        recorder = Recorder(self._program)
        with self._lock:
            self._check_open()
            self._tables.set_stamps(recorder.address)
            try:
                for turn in range(warmup + runs):
                    start = time.perf_counter_ns()
                    self._run(inputs, None, recorder)
                    spent = time.perf_counter_ns() - start
                    if turn >= warmup:
                        recorder.collect(spent)
            finally:
                self._tables.set_stamps(0)
        shared = any(isinstance(s, NativeSegment) and s.parallel for s in self._program.segments)
        return recorder.result(self._threads if shared else 1)

    def measured_peak_bytes(self, inputs: Any = None) -> int:
        """The end of the last arena byte that a run writes, found with two fill patterns.

        A check of the memory plan, not a way to run: it takes two inferences.
        """
        touched = np.zeros(len(self._arena), bool)
        with self._lock:
            self._check_open()
            for pattern in (0xA5, 0x5A):
                self._arena[:] = pattern
                self._clear_zeroed()
                self._run(inputs, None, None)
                touched |= self._arena != pattern
            self._clear_zeroed()
        places = np.flatnonzero(touched)
        return int(places[-1]) + 1 if len(places) else 0

    @property
    def threads(self) -> int:
        """Threads that a run asks for; one whose work is too small to share uses the caller's."""
        return self._threads_wanted

    @property
    def arena_bytes(self) -> int:
        """Planned bytes of the arena."""
        return self._program.plan.arena_bytes

    def close(self) -> None:
        """Waits for running work and frees the arena; the context cannot run afterwards."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)
        with self._lock:
            self._closed = True
            for inner in self._inner:
                inner.close()
            self._arena = np.empty(0, np.uint8)
            self._region.close()
            self._tables.close()

    def __enter__(self) -> "ExecutionContext":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- one run ---------------------------------------------------------------------------------

    def _body(self, program: Program) -> Any:
        """What runs a body of control flow: a context of its own, inside this one."""
        plan = program.plan
        signature = Signature(program.label, plan.inputs, plan.outputs)
        context = ExecutionContext(program, signature, self._threads_wanted)
        self._inner.append(context)
        return make_body(plan, context)

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutionError(f"{self._program.label}: this context is closed; make a new one")

    def _clear_zeroed(self) -> None:
        for ref in self._program.plan.zeroed:
            self._arena[ref.offset : ref.offset + int(ref.size_bytes)] = 0

    def _run(
        self, inputs: Any, given: Mapping[str, Any] | None, recorder: Recorder | None
    ) -> Outputs:
        self._check_open()
        arrays = self._signature.arrays(inputs)
        made = [make_output(spec, self._mask) for spec in self._signature.outputs]
        if given is not None:
            use_given(self._signature, given, made, arrays, self._mask)
        self._tables.bind(arrays, made)
        program = self._program
        if program.is_native:
            self._call(0)
        else:
            self._run_mixed(arrays, made, recorder)
        if given:
            for index, name in enumerate(self._names):
                if name in given:
                    made[index] = deliver(self._signature, name, given[name], made[index])
        # As many names as values; a strict zip would take twice the time.
        return dict(zip(self._names, made))

    def _run_mixed(
        self, arrays: list[Any], made: list[Any], recorder: Recorder | None
    ) -> None:
        """Native calls and host steps in turn, then outputs that are copied from elsewhere."""
        frame = Frame(
            [self._arena], self._program.constants, arrays, made,
            [None] * self._program.plan.host_slots,
        )
        number = 0
        for segment in self._program.segments:
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
        pool = self._pool
        if pool is None or pool is not pools.current_pool():
            pool = self._ready_pool()
        pool.run(self._tables.requests[number])

    def _ready_pool(self) -> pools.Pool:
        """The pool; looked up again where there is none yet, as in a new child process."""
        assert self._program.linked is not None
        self._pool = pools.get_pool(self._program.linked.driver)
        self._threads = self._pool.grow(self._threads_wanted)
        self._tables.set_pool(self._pool.address, self._threads)
        return self._pool
