"""Where the time of a run goes: one row for each step, from time stamps taken in the native run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.core.frozen import dataclass
from bessemer.engine.plan import KernelStep
from bessemer.runtime.bindings import address_of
from bessemer.runtime.program import EpochSegment, NativeSegment, Program


@dataclass(frozen=True)
class ProfileRow:
    """One step: its time in a typical run, what it computes and where it comes from."""

    step: int
    name: str
    kind: str
    microseconds: float
    flops: int
    bytes: int
    rule: str
    sources: tuple[str, ...]

    @property
    def gflops(self) -> float:
        """Thousand million floating-point operations a second."""
        return self.flops / self.microseconds / 1e3 if self.microseconds else 0.0

    @property
    def gigabytes_per_second(self) -> float:
        """Planned traffic by time."""
        return self.bytes / self.microseconds / 1e3 if self.microseconds else 0.0


@dataclass(frozen=True)
class Profile:
    """Time by step. `total_microseconds` is the time of whole runs, Python included.

    All times are means over the middle half of the runs, ordered by their whole time: that keeps
    out what disturbed single runs, and unlike medians such means add up. A step's time reaches
    from the end of the step before it to the end of its own last part, on whichever thread that
    was; so the rows add up to the time of the native run.
    """

    name: str
    threads: int
    runs: int
    total_microseconds: float
    rows: tuple[ProfileRow, ...]

    @property
    def call_microseconds(self) -> float:
        """What is no step's time: checking inputs, making outputs, the call itself."""
        return max(self.total_microseconds - sum(row.microseconds for row in self.rows), 0.0)

    def slowest(self, count: int = 10) -> tuple[ProfileRow, ...]:
        """The rows that take most time."""
        return tuple(sorted(self.rows, key=lambda row: -row.microseconds)[:count])

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.total_microseconds:.1f} us a run, {self.threads} threads, "
            f"{self.runs} runs",
            f"{'us':>10} {'%':>5} {'GFLOP/s':>9} {'GB/s':>7}  {'step':<40} rule; sources",
        ]
        total = self.total_microseconds or 1.0
        lines.extend(
            f"{row.microseconds:10.1f} {100 * row.microseconds / total:5.1f} {row.gflops:9.1f} "
            f"{row.gigabytes_per_second:7.1f}  {row.name:<40} {row.rule or row.kind}; "
            f"{', '.join(row.sources)}"
            for row in self.rows
        )
        call = self.call_microseconds
        lines.append(f"{call:10.1f} {100 * call / total:5.1f} {'':>9} {'':>7}  (the call itself)")
        return "\n".join(lines)


class Recorder:
    """Collects times over several runs: the driver writes clock readings at `address`."""

    def __init__(self, program: Program) -> None:
        self._program = program
        natives = [s for s in program.segments if isinstance(s, NativeSegment)]
        readings = sum(segment.jobs + 1 for segment in natives)
        self._words = np.zeros(max(readings, 1) * abi.STAMP_BYTES // 8, np.int64)
        self.address = address_of(self._words)
        self._totals: list[float] = []
        self._times: dict[int, list[float]] = {}
        self._host: dict[int, int] = {}

    def add_host(self, step: int, nanoseconds: int) -> None:
        """The time of one host or shape step of the present run."""
        self._host[step] = nanoseconds

    def collect(self, nanoseconds: int) -> None:
        """Takes the times of the run that just ended, which took so long as a whole."""
        self._totals.append(nanoseconds / 1e3)
        position = 0
        for segment in self._program.segments:
            if isinstance(segment, EpochSegment):
                continue
            if not isinstance(segment, NativeSegment):
                self._add(segment.number, self._host[segment.number])
                continue
            size = segment.jobs + 1
            pairs = self._words[2 * position : 2 * (position + size)].reshape(-1, 2)
            readings = pairs[:, 0] * 1_000_000_000 + pairs[:, 1]
            # Steps without a barrier between them may end in another order.
            ends = np.maximum.accumulate(readings)
            for step, spent in zip(segment.steps, np.diff(ends), strict=True):
                self._add(step, int(spent))
            position += size

    def _add(self, step: int, nanoseconds: int) -> None:
        self._times.setdefault(step, []).append(nanoseconds / 1e3)

    def take(self) -> dict[int, list[float]]:
        """Microseconds by step of the runs collected so far, which are forgotten."""
        times, self._times = self._times, {}
        self._totals.clear()
        return times

    def result(self, threads: int, work: Mapping[int, tuple[int, int]]) -> Profile:
        """The profile of the runs collected so far, at least one.

        `work` gives operations and bytes of the steps where they depend on shapes.
        """
        runs = len(self._totals)
        order = np.argsort(self._totals, kind="stable")
        typical = order[runs // 4 : runs - runs // 4]
        rows = tuple(self._row(index, typical, work) for index in sorted(self._times))
        total = float(np.mean(np.array(self._totals)[typical]))
        return Profile(self._program.plan.name, threads, runs, total, rows)

    def _row(
        self, index: int, typical: np.ndarray[Any, Any], work: Mapping[int, tuple[int, int]]
    ) -> ProfileRow:
        step = self._program.plan.steps[index]
        spent = float(np.mean(np.array(self._times[index])[typical]))
        if not isinstance(step, KernelStep):
            return ProfileRow(index, step.name, "host", spent, 0, 0, "", step.sources)
        flops, moved = work.get(index, (step.flops, step.bytes))
        return ProfileRow(
            index, step.name, "kernel", spent, flops, moved, step.rule, step.sources
        )
