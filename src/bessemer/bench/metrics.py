"""Measures an engine, alone or beside other runtimes, in one interleaved run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bessemer.bench.accuracy import LabelledData, measure_accuracy
from bessemer.bench.energy import joules_per_run
from bessemer.bench.latency import Timing, measure, paired_ratio
from bessemer.bench.machine import read_machine, resident_bytes
from bessemer.bench.report import BenchReport, Memory, SubjectReport

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]


class Runner(Protocol):
    """Anything that computes outputs by name from inputs by name."""

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """One inference."""


@dataclass(frozen=True)
class Subject:
    """A runtime to be measured. `open` loads it; it is called here so that its memory is seen.

    `measure_arena` gives the bytes of the arena that a run of the opened runtime writes.
    `shows_growth` False means that `open` uses memory that was there before.
    """

    name: str
    version: str
    open: Callable[[], Runner]
    arena_bytes: int | None = None
    weights_bytes: int | None = None
    measure_arena: Callable[[Any, Inputs], int] | None = None  # Any: what `open` gives
    shows_growth: bool = True


@dataclass(frozen=True)
class BenchOptions:
    """How long and how to measure. `batch` is the number of examples in one inference."""

    duration_s: float = 3.0
    slices: int = 10
    warm_up_runs: int = 3
    batch: int = 1
    energy_s: float = 2.0


def bench(
    model: str, subjects: Sequence[Subject], inputs: Inputs, options: BenchOptions,
    *, data: LabelledData | None = None, settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int, int, str], None] | None = None,
) -> BenchReport:
    """Opens all subjects, times them in interleaved slices, and scores them on labelled data."""
    runners: list[Runner] = []
    memories: list[Memory] = []
    feed = dict(inputs)
    for subject in subjects:
        before = resident_bytes()
        runner = subject.open()
        runner.run(feed)
        after = resident_bytes()
        runners.append(runner)
        used = subject.measure_arena(runner, feed) if subject.measure_arena else None
        memories.append(Memory(
            subject.arena_bytes, subject.weights_bytes, after,
            max(after - before, 0) if subject.shows_growth else None, used,
        ))
    timings = measure(
        [(s.name, _bind(r, feed)) for s, r in zip(subjects, runners, strict=True)],
        duration_s=options.duration_s, slices=options.slices, items_per_run=options.batch,
        warm_up_runs=options.warm_up_runs,
        on_slice=(lambda done, total, name: on_progress("measure", done, total, name))
        if on_progress else None,
    )
    reports = [
        _report(subject, runner, memory, timing, timings[0], feed, data, options)
        for subject, runner, memory, timing in zip(
            subjects, runners, memories, timings, strict=True
        )
    ]
    return BenchReport(model, read_machine(), dict(settings or {}), tuple(reports))


def _bind(runner: Runner, feed: dict[str, Array]) -> Callable[[], object]:
    return lambda: runner.run(feed)


def _report(
    subject: Subject, runner: Runner, memory: Memory, timing: Timing, first: Timing,
    feed: dict[str, Array], data: LabelledData | None, options: BenchOptions,
) -> SubjectReport:
    accuracy = measure_accuracy(runner.run, data, options.batch) if data is not None else None
    joules = joules_per_run(_bind(runner, feed), duration_s=options.energy_s)
    ratio = None if timing is first else paired_ratio(first, timing)
    return SubjectReport(
        subject.name, subject.version, timing, memory, accuracy, joules, ratio
    )
