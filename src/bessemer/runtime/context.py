"""An execution context: what users run an engine with.

What only some engines or calls need is imported by them, because a process waits for its first
engine.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from bessemer.core.errors import ExecutionError, InputError
from bessemer.runtime.bindings import Signature
from bessemer.runtime.program import Program
from bessemer.runtime.runner import Outputs, Runner

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from bessemer.runtime.profile import Profile, Recorder
    from bessemer.runtime.variants import Variants


def make_runner(program: Program, signature: Signature, threads: int) -> Runner:
    """The runner of a program, by the kind of its plan."""
    if not program.plan.is_symbolic:
        return Runner(program, signature, threads, make_runner)
    from bessemer.runtime.symbolic import SymbolicRunner

    return SymbolicRunner(program, signature, threads, make_runner)


def _make_recorder(program: Program) -> "Recorder":
    from bessemer.runtime.profile import Recorder

    return Recorder(program)


class ExecutionContext:
    """Runs an engine in memory of its own; contexts of one engine may run in parallel.

    One context does one run at a time; a second caller waits. Use it as a context manager or
    `close` it.
    """

    def __init__(
        self, program: Program, signature: Signature, threads: int,
        variants: "Variants | None" = None,
    ) -> None:
        self._program = program
        self._threads_wanted = threads
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._ready = False
        self._runner = make_runner(program, signature, threads)
        self._runner.variants = variants

    # --- the public face -------------------------------------------------------------------------

    def run(self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None) -> Outputs:
        """One inference: {output name: array}.

        `inputs` maps names to arrays, or is a list in the order of the bindings, or the single
        array. Contiguous aligned arrays are used in place unless they are small; others are
        copied. `outputs` may give arrays to write into; they are also what is returned. The first
        run of a loaded engine waits until its constants were checked.

        Raises: InputError, ExecutionError, EngineFormatError if the engine's file is damaged.
        """
        with self._lock:
            if not self._ready:
                self._make_ready()
            quick = self._runner.quick
            if quick is not None and outputs is None:
                found = quick(inputs)
                if found is not None:
                    return found
            return self._runner.run(inputs, outputs)

    def enqueue(
        self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None
    ) -> "Future[Outputs]":
        """Starts `run` in the background; runs of one context keep their order."""
        with self._lock:
            self._check_open()
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor

                self._executor = ThreadPoolExecutor(1, thread_name_prefix="bessemer-context")
            return self._executor.submit(self.run, inputs, outputs=outputs)

    def profile(self, inputs: Any = None, *, runs: int = 10, warmup: int = 2) -> "Profile":
        """Runs several times with time stamps at each step: where a typical run spends its time."""
        if runs < 1 or warmup < 0:
            raise InputError(f"runs={runs} must be at least 1 and warmup={warmup} at least 0")
        with self._lock:
            self._make_ready()
            runner = self._runner.prepared(inputs)
            recorder = _make_recorder(runner.program)
            runner.set_stamps(recorder)
            try:
                for turn in range(warmup + runs):
                    start = time.perf_counter_ns()
                    runner.run(inputs, None, recorder)
                    spent = time.perf_counter_ns() - start
                    if turn >= warmup:
                        recorder.collect(spent)
            finally:
                runner.set_stamps(None)
            threads = runner.threads if runner.uses_threads else 1
            return recorder.result(threads, runner.work())

    def measured_peak_bytes(self, inputs: Any = None) -> int:
        """The end of the last arena byte that a run writes, found with two fill patterns.

        A check of the memory plan, not a way to run: it takes several inferences. Where there are
        several arenas the ends add up.
        """
        with self._lock:
            self._make_ready()
            runner = self._runner.prepared(inputs)
            # With a recorder no other runner takes over.
            recorder = _make_recorder(runner.program)
            arenas = runner.arenas
            touched = [np.zeros(len(arena), bool) for arena in arenas]
            for pattern in (0xA5, 0x5A):
                for arena in arenas:
                    arena[:] = pattern
                runner.clear_zeroed()
                runner.run(inputs, None, recorder)
                for places, arena in zip(touched, arenas, strict=True):
                    places |= arena != pattern
            runner.clear_zeroed()
        ends = [np.flatnonzero(places)[-1:] + 1 for places in touched]
        return sum(int(end.sum()) for end in ends)

    @property
    def threads(self) -> int:
        """Threads that a run asks for; one whose work is too small to share uses the caller's."""
        return self._threads_wanted

    @property
    def arena_bytes(self) -> int:
        """Planned bytes of the arena; of a symbolic engine those of the last run's shapes."""
        return self._runner.arena_bytes

    def close(self) -> None:
        """Waits for running work and frees the arena; the context cannot run afterwards."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)
        with self._lock:
            self._closed, self._ready = True, False
            self._runner.close()

    def _make_ready(self) -> None:
        self._check_open()
        self._program.constants.verify()
        self._ready = True

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutionError(f"{self._program.label}: this context is closed; make a new one")

    def __enter__(self) -> "ExecutionContext":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
