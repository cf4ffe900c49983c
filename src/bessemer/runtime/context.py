"""An execution context: one arena, one job table, and the way of one inference."""

import ctypes
import statistics
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.core.errors import ExecutionError, InputError
from bessemer.engine.plan import BufferRef, HostStep, KernelStep, TensorRef
from bessemer.runtime import pool as pools
from bessemer.runtime.bindings import Signature, address_of, empty_aligned
from bessemer.runtime.memory import Region, round_up
from bessemer.runtime.operators import own
from bessemer.runtime.profile import Profile, ProfileRow
from bessemer.runtime.program import HostSegment, NativeSegment, Program, typed_view

Outputs = dict[str, Any]


@dataclass(eq=False)
class _Frame:
    """What one run works on."""

    inputs: list[Any]
    outputs: list[Any]
    slots: list[Any]
    stamps: "_Stamps | None"


class _Stamps:
    """Clock readings of one run: native ones by job, host ones by step."""

    def __init__(self, jobs: int, segments: int) -> None:
        self.words = np.zeros(2 * (jobs + segments), np.int64)
        self.address = address_of(self.words)
        self.host: dict[int, int] = {}

    def microseconds(self, segment: NativeSegment, number: int) -> list[float]:
        """Time of each job of the segment, the `number`-th native one."""
        start = 2 * (segment.first + number)
        pairs = self.words[start : start + 2 * (segment.count + 1)].reshape(-1, 2)
        return [float(x) / 1e3 for x in np.diff(pairs[:, 0] * 1_000_000_000 + pairs[:, 1])]


class ExecutionContext:
    """Runs an engine in memory of its own; contexts of one engine may run in parallel.

    One context does one run at a time; a second caller waits. Use it as a context manager or `close` it.
    """

    def __init__(self, program: Program, signature: Signature, threads: int) -> None:
        self._program = program
        self._signature = signature
        self._threads_wanted = threads
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._pool: pools.Pool | None = None
        self._threads = 1
        self._staging: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
        plan = program.plan
        self._arena = Region(plan.arena_bytes, huge=True)
        self._arena_bytes = self._arena.array(0, plan.arena_bytes)
        self._alignment_mask = plan.binding_alignment - 1
        self._make_tables()
        self._native_count = sum(isinstance(s, NativeSegment) for s in program.segments)

    def _make_tables(self) -> None:
        """Arguments and jobs with this context's addresses; bindings are filled in by each run."""
        template = self._program.template
        count, jobs = len(template.spaces), len(template.functions)
        jobs_at = round_up(8 * count, 64)
        self._tables = Region(jobs_at + abi.JOB_BYTES * jobs)
        bases = np.array([self._arena.address, self._program.constants.address, 0, 0], np.uint64)
        arguments = self._tables.array(0, 8 * count).view(np.uint64)
        arguments[:] = bases[template.spaces] + template.offsets
        table = self._tables.array(jobs_at, abi.JOB_BYTES * jobs).view(np.uint64).reshape(jobs, 4)
        table[:, 0] = template.functions
        table[:, 1] = template.starts * np.uint64(8) + np.uint64(self._tables.address)
        table[:, 2] = template.flags
        self._jobs_address = self._tables.address + jobs_at
        self._arguments = (ctypes.c_uint64 * count).from_address(self._tables.address)
        self._bound: dict[tuple[str, int], int] = {}

    # --- the public face -------------------------------------------------------------------------

    def run(self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None) -> Outputs:
        """One inference: {output name: array}.

        `inputs` maps names to arrays, or is a list in the order of the bindings, or the single
        array. Contiguous aligned arrays are used in place, others are copied. `outputs` may give arrays
        to write into; they are also what is returned.

        Raises: InputError, ExecutionError.
        """
        with self._lock:
            return self._run(inputs, outputs, None)

    def enqueue(
        self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None
    ) -> "Future[Outputs]":
        """Starts `run` in the background; runs of one context keep their order."""
        with self._lock:
            self._check_open()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="bessemer-context")
            return self._executor.submit(self.run, inputs, outputs=outputs)

    def profile(self, inputs: Any = None, *, runs: int = 10, warmup: int = 2) -> Profile:
        """Runs several times with a time stamp after each step; medians by step."""
        if runs < 1 or warmup < 0:
            raise InputError(f"runs={runs} must be at least 1 and warmup={warmup} at least 0")
        totals: list[float] = []
        times: dict[int, list[float]] = {}
        with self._lock:
            for turn in range(warmup + runs):
                stamps = _Stamps(len(self._program.template.functions), self._native_count)
                start = time.perf_counter_ns()
                self._run(inputs, None, stamps)
                total = (time.perf_counter_ns() - start) / 1e3
                if turn >= warmup:
                    totals.append(total)
                    self._collect(stamps, times)
            return Profile(
                self._program.plan.name, self._threads, runs, statistics.median(totals),
                tuple(self._row(index, times[index]) for index in sorted(times)),
            )

    def measured_peak_bytes(self, inputs: Any = None) -> int:
        """The end of the last arena byte that a run writes, found with two fill patterns.

        A check of the memory plan, not a way to run: it takes two inferences.
        """
        touched = np.zeros(len(self._arena_bytes), bool)
        with self._lock:
            self._check_open()
            for pattern in (0xA5, 0x5A):
                self._arena_bytes[:] = pattern
                for ref in self._program.plan.zeroed:
                    self._arena_bytes[ref.offset : ref.offset + ref.size_bytes] = 0
                self._run(inputs, None, None)
                touched |= self._arena_bytes != pattern
            for ref in self._program.plan.zeroed:
                self._arena_bytes[ref.offset : ref.offset + ref.size_bytes] = 0
        places = np.flatnonzero(touched)
        return int(places[-1]) + 1 if len(places) else 0

    @property
    def threads(self) -> int:
        """Threads that a run asks for."""
        return self._threads_wanted

    @property
    def arena_bytes(self) -> int:
        """Planned bytes of the arena."""
        return len(self._arena_bytes)

    def close(self) -> None:
        """Waits for running work and frees the arena; the context cannot run afterwards."""
        with self._lock:
            executor, self._executor = self._executor, None
            self._closed = True
        if executor is not None:
            executor.shutdown(wait=True)
        with self._lock:
            self._arena_bytes = np.empty(0, np.uint8)
            self._arena.close()
            self._tables.close()

    def __enter__(self) -> "ExecutionContext":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- one run ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutionError(f"{self._program.label}: this context is closed; make a new one")

    def _run(
        self, inputs: Any, outputs: Mapping[str, Any] | None, stamps: _Stamps | None
    ) -> Outputs:
        self._check_open()
        arrays = self._signature.arrays(inputs)
        frame = _Frame(
            arrays, self._make_outputs(outputs, arrays), [None] * self._program.plan.host_slots, stamps
        )
        self._bind(frame)
        native = 0
        for segment in self._program.segments:
            if isinstance(segment, NativeSegment):
                self._run_native(segment, native, stamps)
                native += 1
            else:
                self._run_host(segment, frame)
        return self._results(frame, outputs)

    def _make_outputs(self, given: Mapping[str, Any] | None, inputs: list[Any]) -> list[Any]:
        alignment = self._alignment_mask + 1
        made: list[Any] = []
        for spec in self._signature.outputs:
            if spec.size_bytes is None or spec.shape is None or spec.dtype is None:
                made.append(None)
            else:
                made.append(empty_aligned(spec.shape, spec.dtype, spec.size_bytes, alignment))
        if given:
            self._use_given(given, made, inputs)
        return made

    def _use_given(self, given: Mapping[str, Any], made: list[Any], inputs: list[Any]) -> None:
        """Lets the run write straight into the caller's arrays where that is safe."""
        for name, array in given.items():
            index = self._signature.target(name)
            spec = self._signature.outputs[index]
            if not isinstance(array, np.ndarray) or not array.flags.writeable:
                raise InputError(f"{self._signature.label}: output {name!r} needs a writable array")
            if spec.shape is None:
                continue
            if array.dtype != spec.dtype or array.shape != spec.shape:
                raise InputError(
                    f"{self._signature.label}: the array for output {name!r} is "
                    f"{array.dtype}{list(array.shape)}, expected {spec.dtype}{list(spec.shape)}"
                )
            others = [*inputs, *(a for n, a in given.items() if n != name)]
            apart = not any(
                isinstance(o, np.ndarray) and np.may_share_memory(o, array) for o in others
            )
            if apart and array.flags.c_contiguous and not address_of(array) & self._alignment_mask:
                made[index] = array

    def _bind(self, frame: _Frame) -> None:
        """Writes the addresses of inputs and outputs into the kernels' arguments where they changed."""
        bound, arguments = self._bound, self._arguments
        for key, patches in self._program.template.patches.items():
            space, index = key
            if space == "input":
                address = self._input_address(index, frame.inputs[index])
            else:
                address = address_of(frame.outputs[index])
            if bound.get(key) != address:
                bound[key] = address
                for patch in patches:
                    arguments[patch.argument] = address + patch.byte

    def _input_address(self, index: int, array: np.ndarray[Any, Any]) -> int:
        address = address_of(array)
        if array.flags.c_contiguous and not address & self._alignment_mask:
            return address
        key = ("input", index)
        staging = self._staging.get(key)
        if staging is None:
            alignment = self._alignment_mask + 1
            staging = empty_aligned(array.shape, array.dtype, array.nbytes, max(alignment, 64))
            self._staging[key] = staging
        np.copyto(staging, array)
        return address_of(staging)

    def _ready_pool(self) -> pools.Pool:
        """The pool; looked up again where there is none yet, as in a new child process."""
        program = self._program
        assert program.driver is not None
        self._pool = pools.get_pool(program.driver)
        self._threads = self._pool.grow(self._threads_wanted)
        return self._pool

    def _run_native(self, segment: NativeSegment, number: int, stamps: _Stamps | None) -> None:
        pool = self._pool
        if pool is None or pool is not pools.current_pool():
            pool = self._ready_pool()
        where = None
        if stamps is not None:
            where = stamps.address + abi.STAMP_BYTES * (segment.first + number)
        pool.run(
            pool.address, self._jobs_address + abi.JOB_BYTES * segment.first, segment.count,
            self._threads if segment.parallel else 1, where,
        )

    def _run_host(self, segment: HostSegment, frame: _Frame) -> None:
        start = time.perf_counter_ns()
        operation = segment.operation
        inputs = [None if ref is None else self._value(ref, frame) for ref in segment.step.inputs]
        results = operation.run(inputs)
        for ref, result in zip(segment.step.outputs, results, strict=False):
            if ref is None:
                continue
            if ref.buffer.space == "host":
                frame.slots[ref.buffer.offset] = own(result)
            elif ref.buffer.space == "output" and frame.outputs[ref.buffer.offset] is None:
                frame.outputs[ref.buffer.offset] = own(result)
            else:
                np.copyto(self._value(ref, frame), operation.fit(result, ref))
        if frame.stamps is not None:
            frame.stamps.host[segment.index] = time.perf_counter_ns() - start

    def _value(self, ref: TensorRef, frame: _Frame) -> Any:
        """What a host step sees: a view of memory, or an object."""
        buffer = ref.buffer
        if buffer.space == "host":
            return frame.slots[buffer.offset]
        if buffer.space in ("arena", "constant"):
            blob = self._blob(buffer)
            return typed_view(blob, buffer.offset, buffer.size_bytes, ref.dtype, ref.shape or ())
        values = frame.inputs if buffer.space == "input" else frame.outputs
        value = values[buffer.offset]
        if not isinstance(value, np.ndarray) or value.dtype.hasobject or ref.shape is None:
            return value
        if value.shape == ref.shape and not buffer.byte:
            return value
        flat = value.reshape(-1).view(np.uint8)
        return typed_view(flat, buffer.byte, buffer.size_bytes, ref.dtype, ref.shape)

    def _blob(self, buffer: BufferRef) -> np.ndarray[Any, Any]:
        return self._arena_bytes if buffer.space == "arena" else self._program.constants.blob

    def _results(self, frame: _Frame, given: Mapping[str, Any] | None) -> Outputs:
        results: Outputs = {}
        for index, spec in enumerate(self._signature.outputs):
            if spec.binding.source is not None:
                self._fetch(spec.binding.source, index, frame)
            value = frame.outputs[index]
            if given and spec.binding.name in given:
                value = self._deliver(given[spec.binding.name], value, spec.binding.name)
            results[spec.binding.name] = value
        return results

    def _fetch(self, source: BufferRef, index: int, frame: _Frame) -> None:
        """Fills an output that is an input, a constant, a part of the arena or a host object."""
        made = frame.outputs[index]
        if source.space == "host" or (source.space == "input" and made is None):
            held = frame.slots if source.space == "host" else frame.inputs
            value = held[source.offset]
            if source.space == "input" or any(value is given for given in frame.inputs):
                value = value.copy() if isinstance(value, np.ndarray) else value
            frame.outputs[index] = value
            return
        target = made.reshape(-1).view(np.uint8)
        if source.space == "input":
            flat = np.ascontiguousarray(frame.inputs[source.offset]).reshape(-1).view(np.uint8)
            target[:] = flat[source.byte : source.byte + source.size_bytes]
        else:
            blob = self._blob(source)
            target[:] = blob[source.offset : source.offset + source.size_bytes]

    def _deliver(self, target: np.ndarray[Any, Any], value: Any, name: str) -> Any:
        if value is target:
            return target
        array = np.asarray(value)
        if array.shape != target.shape or array.dtype != target.dtype:
            raise InputError(
                f"{self._signature.label}: output {name!r} is {array.dtype}{list(array.shape)}, the "
                f"given array {target.dtype}{list(target.shape)}"
            )
        np.copyto(target, array)
        return target

    # --- profiling -------------------------------------------------------------------------------

    def _collect(self, stamps: _Stamps, times: dict[int, list[float]]) -> None:
        number = 0
        for segment in self._program.segments:
            if isinstance(segment, HostSegment):
                times.setdefault(segment.index, []).append(stamps.host[segment.index] / 1e3)
                continue
            for index, spent in zip(
                segment.steps, stamps.microseconds(segment, number), strict=True
            ):
                times.setdefault(index, []).append(spent)
            number += 1

    def _row(self, index: int, times: list[float]) -> ProfileRow:
        step: KernelStep | HostStep = self._program.plan.steps[index]
        spent = statistics.median(times)
        if isinstance(step, HostStep):
            return ProfileRow(index, step.name, "host", spent, 0, 0, "", step.sources)
        return ProfileRow(
            index, step.name, "kernel", spent, step.flops, step.bytes, step.rule, step.sources
        )
