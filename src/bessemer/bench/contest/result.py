"""What a contest found: per model and runtime, as data, as a table and as JSON."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bessemer.bench.latency import Timing, paired_ratio
from bessemer.bench.limits import Limits

OURS = "bessemer"


@dataclass(frozen=True)
class Entry:
    """One runtime on one model; where there is a `reason`, it did not run.

    `prepare_s` is building or converting, `load_s` loading what that made, `first_s` the first run.
    `error` is the largest difference from ONNX Runtime relative to the largest magnitude.
    """

    name: str
    version: str
    reason: str = ""
    timing: Timing | None = None
    prepare_s: float = 0.0
    load_s: float = 0.0
    first_s: float = 0.0
    peak_bytes: int = 0
    error: float | None = None
    note: str = ""

    @property
    def milliseconds(self) -> float:
        """Median time of an inference; with several at once, their share of it."""
        if self.timing is None:
            return math.nan
        return self.timing.median_ns / self.timing.items_per_run / 1e6

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON values."""
        found: dict[str, Any] = {
            "name": self.name, "version": self.version, "reason": self.reason,
            "prepare_s": self.prepare_s, "load_s": self.load_s, "first_s": self.first_s,
            "peak_bytes": self.peak_bytes, "error": self.error, "note": self.note,
        }
        if self.timing is not None:
            found |= {**self.timing.as_dict(), "slices_ns": list(self.timing.slices_ns),
                      "items_per_run": self.timing.items_per_run,
                      "milliseconds": self.milliseconds}
        return found


@dataclass(frozen=True)
class Contest:
    """One model. `flops` and `bytes` are those of our plan, 0 where we have none.

    `limits` were measured in the same minute.
    """

    model: str
    batch: int
    threads: int
    streams: int
    flops: int
    bytes: int
    limits: Limits
    entries: tuple[Entry, ...]

    @property
    def label(self) -> str:
        """The model, and what is unusual about the task."""
        extras = [f"batch {self.batch}"] * (self.batch > 1) \
            + [f"{self.streams} streams"] * (self.streams > 1)
        return " ".join([self.model, *extras])

    def entry(self, name: str) -> Entry | None:
        """The entry of a runtime that ran."""
        return next((each for each in self.entries if each.name == name and each.timing), None)

    @property
    def best_rival(self) -> Entry | None:
        """The fastest runtime that is not ours: by slices beside ours, else by its median."""
        rivals = [each for each in self.entries if each.timing and each.name != OURS]

        def order(rival: Entry) -> float:
            ratio = self.ratio(rival)
            return rival.milliseconds if ratio is None else ratio[0]

        return min(rivals, key=order, default=None)

    def ratio(self, rival: Entry | None) -> tuple[float, float, float] | None:
        """(median, low, high) of their time by ours, by slices side by side; above 1 we win."""
        ours = self.entry(OURS)
        if ours is None or rival is None or ours.timing is None or rival.timing is None:
            return None
        scale = ours.timing.items_per_run / rival.timing.items_per_run
        count = min(len(ours.timing.slices_ns), len(rival.timing.slices_ns))
        cut = [Timing(t.name, t.samples_ns, t.slices_ns[:count]) for t in
               (ours.timing, rival.timing)]
        median, low, high = paired_ratio(*cut)
        return median * scale, low * scale, high * scale

    def gflops(self, entry: Entry) -> float:
        """Thousand million operations a second, by our count of them."""
        return self.flops / entry.milliseconds / 1e6

    def as_dict(self) -> dict[str, Any]:
        """The contest as JSON values."""
        best = self.best_rival
        ratio = self.ratio(best)
        return {
            "model": self.model, "batch": self.batch, "threads": self.threads,
            "streams": self.streams, "flops": self.flops, "bytes": self.bytes,
            "limits": vars(self.limits), "best_rival": best.name if best else None,
            "ratio_to_best": ratio, "entries": [each.as_dict() for each in self.entries],
        }


@dataclass(frozen=True)
class Report:
    """All contests of one call, with what ran them."""

    machine: dict[str, Any]
    contests: tuple[Contest, ...] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"machine": self.machine, "contests": [each.as_dict() for each in self.contests]}


def names_of(contests: Iterable[Contest]) -> list[str]:
    """The runtimes of some contests, ours first."""
    names = dict.fromkeys(entry.name for contest in contests for entry in contest.entries)
    return sorted(names, key=lambda name: (name != OURS, list(names).index(name)))


def table(contests: Sequence[Contest]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: times, the ratio to the best rival, and what of the peak we reach."""
    names = names_of(contests)
    head = ["model", "GFLOP", *(f"{name} ms" for name in names), "best rival", "ratio",
            "GFLOP/s", "of peak", "peak MB ours/least", "load ms", "build s", "error"]
    return head, [_row(contest, names) for contest in contests]


def _row(contest: Contest, names: Sequence[str]) -> list[str]:
    times = [contest.entry(name) for name in names]
    ours, best = contest.entry(OURS), contest.best_rival
    ratio = contest.ratio(best)
    row = [contest.label, f"{contest.flops / 1e9:.3f}",
           *(f"{each.milliseconds:.3f}" if each else "-" for each in times),
           best.name if best else "-",
           f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f})" if ratio else "-"]
    if ours is None:
        return [*row, "-", "-", "-", "-", "-", "-"]
    speed = contest.gflops(ours)
    rivals = [each.peak_bytes for each in contest.entries if each.timing and each.name != OURS]
    least = f"{min(rivals) / 1e6:.0f}" if rivals else "-"
    return [
        *row, f"{speed:.0f}", f"{100 * speed / contest.limits.fma_gflops:.0f} %",
        f"{ours.peak_bytes / 1e6:.0f}/{least}", f"{1e3 * ours.load_s:.0f}",
        f"{ours.prepare_s:.1f}", "-" if ours.error is None else f"{ours.error:.0e}",
    ]


def geometric_mean(contests: Iterable[Contest]) -> float:
    """The geometric mean of the ratios to the best rivals, NaN if there is none."""
    ratios = [ratio[0] for contest in contests
              if (ratio := contest.ratio(contest.best_rival)) is not None]
    if not ratios:
        return math.nan
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
