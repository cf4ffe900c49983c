"""Times schedules of a kernel side by side, on the engine's threads, and notices disturbances.

In each round every schedule runs once, in another order, with a guard probe before and after it.
All of it is one call of the native driver, which takes a time stamp after each barrier. A round's
time of a schedule counts only if both probes took as long as the fastest ones. What is compared
are ratios to the first schedule within rounds, because clock rates drift.
"""

import ctypes
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.lower.loops import For, statements
from bessemer.runtime.linker import LinkedCode
from bessemer.runtime.memory import Region
from bessemer.runtime.pool import get_pool
from bessemer.schedule.rule import Scheduled
from bessemer.tune.guard import GUARD, PART_BYTES
from bessemer.tune.operands import Array, ColdWeights, Workspace, is_cold, operand_bytes

GUARD_SLACK = 1.12
"""A probe that takes longer than the fastest by this factor was disturbed."""
SLICE_SECONDS = 3e-4
"""Short kernels run several times in a row until they take that long."""
MOST_REPEATS = 12
DROPPED = {-1: 3.0, 0: 2.0, 1: 1.25, 3: 1.1}
"""After round k, schedules slower than the fastest by this factor are no longer run."""
LEAST_SLICES = 3
"""Fewer rounds say that a schedule is slow, not how slow."""


@dataclass(frozen=True)
class Timing:
    """What was measured of one schedule.

    `ratio` is its time by the first schedule's: the median over `slices` rounds, or that of the
    best rounds if it is higher; `seconds` the median of its times. `clean` False says that too few
    rounds were undisturbed, so all of them were counted.
    """

    seconds: float
    ratio: float
    slices: int
    clean: bool


@dataclass(eq=False)
class Code:
    """A schedule with its machine code in memory."""

    scheduled: Scheduled
    linked: LinkedCode
    times: list[float] = field(default_factory=list)

    @staticmethod
    def load(scheduled: Scheduled, content: bytes) -> "Code":
        """Links the object of a schedule."""
        return Code(scheduled, LinkedCode([content], f"a schedule of {scheduled.function.name}"))

    @property
    def address(self) -> int:
        """Where its function is."""
        return self.linked.address(self.scheduled.function.name)

    @property
    def flags(self) -> int:
        """Flags of its job."""
        shared = any(isinstance(stmt, For) and stmt.kind == "parallel"
                     for stmt in statements(self.scheduled.function.body))
        return abi.FLAG_BARRIER | (abi.FLAG_PARALLEL if shared else 0)


class Bench:
    """Runs schedules of kernels on the engine's pool."""

    def __init__(self, driver: bytes, guard: bytes, threads: int) -> None:
        """`driver` and `guard` are objects of the native driver and of the guard probe."""
        self._pool = get_pool(driver)
        self.threads = self._pool.grow(threads)
        self._code = LinkedCode([guard], "the guard probe")
        self._guard = self._code.address(GUARD)
        self._scratch = Region(PART_BYTES * abi.MAX_THREADS)
        self._scratch.array().view(np.float32)[:] = 0.5
        self._cold = ColdWeights()
        self._jobs = _Jobs()

    def check(self, code: Code, workspace: Workspace) -> list[Array]:
        """Outputs of one run on the workspace's inputs, with the real constants."""
        addresses = workspace.addresses(code.scheduled)
        workspace.spoil()
        self._jobs.clear()
        self._jobs.add(code.address, code.flags, addresses)
        self._run()
        workspace.release(code.scheduled)
        return workspace.results()

    def compare(self, codes: Sequence[Code], workspace: Workspace, seconds: float,
                rounds: int = 12, wanted: int = 6) -> list[Timing]:
        """Times of schedules side by side, the one to compare with first.

        Ends when there are `wanted` clean rounds, or after `rounds` of them or that many seconds.
        """
        end = time.perf_counter() + seconds
        rng = np.random.default_rng(len(codes))
        cold = [sum(operand_bytes(o) + 4096 for o in code.scheduled.operands if is_cold(o))
                for code in codes]
        self._cold.reserve(max(cold))
        addresses = [workspace.addresses(code.scheduled, is_cold) for code in codes]
        found = _Rounds(len(codes))
        running, repeats = list(range(len(codes))), [1] * len(codes)
        for number in range(-1, rounds):
            order = [int(k) for k in rng.permutation(running)]
            found.add(order, repeats, self._round(codes, addresses, order, repeats))
            if number in DROPPED:
                running = found.worth_running(DROPPED[number])
            if number < 0:  # only to see who is hopeless, and how often the others should run
                repeats = found.repeats()
                found.restart()
            elif found.clean_count() >= wanted or time.perf_counter() > end:
                break
        for code in codes:
            workspace.release(code.scheduled)
        return found.timings()

    def _arguments(self, code: Code, addresses: Sequence[int]) -> list[int]:
        return [address or self._cold.take(operand_bytes(operand)) for operand, address
                in zip(code.scheduled.operands, addresses, strict=True)]

    def _round(self, codes: Sequence[Code], addresses: Sequence[Sequence[int]],
               order: Sequence[int], repeats: Sequence[int]) -> list[Array]:
        """For each schedule in that order the seconds of (probe, runs ..., probe)."""
        jobs = self._jobs
        jobs.clear()
        guard = [self._scratch.address]
        flags = abi.FLAG_PARALLEL | abi.FLAG_BARRIER
        jobs.add(self._guard, flags, guard)  # threads may still wake up during the first one
        jobs.add(self._guard, flags, guard)
        for k in order:
            for _ in range(repeats[k]):
                jobs.add(codes[k].address, codes[k].flags, self._arguments(codes[k], addresses[k]))
            jobs.add(self._guard, flags, guard)
        spans = self._run()[1:]
        result, at = [], 0
        for k in order:
            result.append(spans[at: at + repeats[k] + 2])
            at += repeats[k] + 1
        return result

    def _run(self) -> Array:
        """Runs the jobs; seconds of each."""
        request, stamps = self._jobs.request(self._pool.address, self.threads)
        self._pool.run(request)
        return np.diff(stamps().astype(np.int64)) * 1e-9


class _Rounds:
    """Times of all rounds, and which of them count."""

    def __init__(self, count: int) -> None:
        self.times: list[dict[int, tuple[float, float]]] = []
        self.least = [np.inf] * count
        self.best = np.inf

    def add(self, order: Sequence[int], repeats: Sequence[int], spans: Sequence[Array]) -> None:
        """Keeps (seconds of a run, slowest probe) of each schedule of a round."""
        row = {}
        for k, found in zip(order, spans, strict=True):
            row[k] = float(found[1:-1].sum()) / repeats[k], float(max(found[0], found[-1]))
            self.least[k] = min(self.least[k], row[k][0])
            self.best = min(self.best, float(min(found[0], found[-1])))
        self.times.append(row)

    def restart(self) -> None:
        """Forgets all rounds but the least times."""
        self.times.clear()

    def repeats(self) -> list[int]:
        """How often each schedule should run per round."""
        return [int(min(max(round(SLICE_SECONDS / max(least, 1e-9)), 1), MOST_REPEATS))
                for least in self.least]

    def worth_running(self, factor: float) -> list[int]:
        """The first schedule, and those that are not behind the fastest by that factor."""
        fastest = min(self.least)
        return sorted(k for k in self.times[-1] if k == 0 or self.least[k] <= factor * fastest)

    def clean_count(self) -> int:
        """Clean rounds of the schedule that has fewest among those still run."""
        return min(sum(self._clean(row, k) for row in self.times) for k in self.times[-1])

    def timings(self) -> list[Timing]:
        """The figures of each schedule."""
        return [self._timing(k) for k in range(len(self.least))]

    def _clean(self, row: dict[int, tuple[float, float]], k: int) -> bool:
        return k in row and row[k][1] <= GUARD_SLACK * self.best

    def _timing(self, k: int) -> Timing:
        rows = [row for row in self.times if self._clean(row, 0) and self._clean(row, k)]
        clean = len(rows) >= LEAST_SLICES
        if not clean:
            rows = [row for row in self.times if k in row]
        if len(rows) < LEAST_SLICES:
            return Timing(self.least[k], self.least[k] / self.least[0], len(rows), False)
        ratio = statistics.median(row[k][0] / row[0][0] for row in rows)
        # What is really faster is so in its best round as well; a load that the probes missed,
        # because it came and went between them, is not in the best rounds.
        ratio = max(ratio, min(row[k][0] for row in rows) / min(row[0][0] for row in rows))
        return Timing(statistics.median(row[k][0] for row in rows), ratio, len(rows), clean)


class _Jobs:
    """A job table that grows, with arguments and time stamps."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int]] = []
        self._arguments: list[int] = []
        self._region = Region(1 << 20)

    def clear(self) -> None:
        """Forgets all jobs."""
        self._rows.clear()
        self._arguments.clear()

    def add(self, function: int, flags: int, arguments: Sequence[int]) -> None:
        """Appends a job."""
        self._rows.append((function, len(self._arguments), flags))
        self._arguments += arguments

    def request(self, pool: int, threads: int) -> "tuple[int, _Stamps]":
        """The address of a request of the driver for these jobs, and what reads their stamps."""
        rows = len(self._rows)
        jobs_at = abi.REQUEST_BYTES
        stamps_at = jobs_at + abi.JOB_BYTES * rows
        arguments_at = stamps_at + abi.STAMP_BYTES * (rows + 1)
        size = arguments_at + 8 * len(self._arguments)
        if size > self._region.size_bytes:
            self._region = Region(2 * size)
        base = self._region.address
        words = self._region.array(0, size // 8 * 8).view(np.uint64)
        words[: arguments_at // 8] = 0
        table = words[jobs_at // 8: stamps_at // 8].reshape(rows, abi.JOB_BYTES // 8)
        for row, (function, first, flags) in zip(table, self._rows, strict=True):
            row[:3] = function, base + arguments_at + 8 * first, flags
        words[arguments_at // 8:] = np.array(self._arguments, np.uint64)
        for offset, value in ((abi.REQUEST_POOL, pool), (abi.REQUEST_JOBS, base + jobs_at),
                              (abi.REQUEST_COUNT, rows), (abi.REQUEST_THREADS, threads),
                              (abi.REQUEST_STAMPS, base + stamps_at)):
            ctypes.c_uint64.from_address(base + offset).value = value
        return base, _Stamps(words[stamps_at // 8: arguments_at // 8])


class _Stamps:
    """Time stamps in nanoseconds, to be read after the run."""

    def __init__(self, words: Array) -> None:
        self._words = words

    def __call__(self) -> Array:
        pairs = self._words.reshape(-1, abi.STAMP_BYTES // 8)
        return np.array(pairs[:, 0] * 1_000_000_000 + pairs[:, 1])
