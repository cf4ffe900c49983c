"""Latency and throughput: callables measured in interleaved slices of one run.

A machine's speed moves within minutes, so two programs are only compared inside one run, by
ratios of slices that lie beside each other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Run = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """The latencies of one subject. `slices_ns` are the medians of its slices, in order."""

    name: str
    samples_ns: tuple[int, ...]
    slices_ns: tuple[float, ...]
    items_per_run: int = 1

    @property
    def runs(self) -> int:
        """How many inferences were timed."""
        return len(self.samples_ns)

    @property
    def median_ns(self) -> float:
        """Half of the inferences were faster."""
        return float(np.median(self.samples_ns))

    @property
    def throughput_per_s(self) -> float:
        """Items (batch entries) per second, from the total time."""
        return self.items_per_run * self.runs * 1e9 / max(sum(self.samples_ns), 1)

    def percentile_ns(self, percent: float) -> float:
        """The latency that `percent` of the inferences did not exceed."""
        return float(np.percentile(self.samples_ns, percent))

    def as_dict(self) -> dict[str, float | int | str]:
        """The figures that a report shows."""
        return {
            "name": self.name, "runs": self.runs, "median_ns": self.median_ns,
            "p90_ns": self.percentile_ns(90), "p99_ns": self.percentile_ns(99),
            "min_ns": min(self.samples_ns), "throughput_per_s": self.throughput_per_s,
        }


def measure(
    subjects: Sequence[tuple[str, Run]], *, duration_s: float = 3.0, slices: int = 10,
    warm_up_runs: int = 3, items_per_run: int = 1,
    on_slice: Callable[[int, int, str], None] | None = None,
) -> list[Timing]:
    """Times all subjects in interleaved slices, about `duration_s` for each of them.

    Every round runs one slice of each subject, in turning order, so that none of them always
    comes first. A slice holds at least one inference.
    """
    for _, run in subjects:
        for _ in range(warm_up_runs):
            run()
    samples: list[list[int]] = [[] for _ in subjects]
    medians: list[list[float]] = [[] for _ in subjects]
    slice_ns = int(duration_s / slices * 1e9)
    for number in range(slices):
        for offset in range(len(subjects)):
            index = (number + offset) % len(subjects)
            name, run = subjects[index]
            if on_slice is not None:
                on_slice(number * len(subjects) + offset, slices * len(subjects), name)
            times = _time_slice(run, slice_ns)
            samples[index].extend(times)
            medians[index].append(float(np.median(times)))
    return [
        Timing(name, tuple(samples[index]), tuple(medians[index]), items_per_run)
        for index, (name, _) in enumerate(subjects)
    ]


def _time_slice(run: Run, slice_ns: int) -> list[int]:
    times: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + slice_ns
    while not times or clock() < end:
        start = clock()
        run()
        times.append(clock() - start)
    return times


def paired_ratio(ours: Timing, theirs: Timing) -> tuple[float, float, float]:
    """(median, low, high) of theirs / ours over slices beside each other; above 1 we are faster.

    Low and high are the quartiles.
    """
    ratios = [b / a for a, b in zip(ours.slices_ns, theirs.slices_ns, strict=True)]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return float(middle), float(low), float(high)
