"""The five metrics of a measurement as data: throughput, latency, accuracy, memory, efficiency."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bessemer.bench.accuracy import Accuracy
from bessemer.bench.energy import energy_text
from bessemer.bench.latency import Timing
from bessemer.bench.machine import Machine


@dataclass(frozen=True)
class Memory:
    """Bytes predicted at build (None for a rival) and measured while running.

    `resident_bytes` is the whole process; `grown_bytes` what loading and running this subject
    added to it; `measured_arena_bytes` how much of the arena a run really wrote.
    """

    arena_bytes: int | None
    weights_bytes: int | None
    resident_bytes: int
    grown_bytes: int | None = None
    measured_arena_bytes: int | None = None

    @property
    def predicted_bytes(self) -> int | None:
        """Weights and arena together."""
        if self.arena_bytes is None or self.weights_bytes is None:
            return None
        return self.arena_bytes + self.weights_bytes


@dataclass(frozen=True)
class SubjectReport:
    """All that was measured of one runtime."""

    name: str
    version: str
    timing: Timing
    memory: Memory
    accuracy: Accuracy | None = None
    joules: float | None = None
    speed_up: tuple[float, float, float] | None = None
    """How many times faster the first subject is: median and quartiles of paired slices."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "name": self.name, "version": self.version, "latency": self.timing.as_dict(),
            "throughput_per_s": self.timing.throughput_per_s,
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
            "memory": {**asdict(self.memory), "predicted_bytes": self.memory.predicted_bytes},
            "energy_per_inference": energy_text(self.joules),
            "joules_per_inference": self.joules,
            "first_is_faster_by": list(self.speed_up) if self.speed_up else None,
        }


@dataclass(frozen=True)
class BenchReport:
    """One measurement: what was run, on which machine, with which settings, and the figures."""

    model: str
    machine: Machine
    settings: dict[str, Any]
    subjects: Sequence[SubjectReport] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "model": self.model, "settings": self.settings, "machine": asdict(self.machine),
            "subjects": [subject.as_dict() for subject in self.subjects],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """One table row per metric, one column per subject after the first."""
        return [
            ("throughput", *(f"{s.timing.throughput_per_s:.4g} /s" for s in self.subjects)),
            ("latency, median", *(_ms(s.timing.median_ns) for s in self.subjects)),
            ("latency, p90", *(_ms(s.timing.percentile_ns(90)) for s in self.subjects)),
            ("latency, p99", *(_ms(s.timing.percentile_ns(99)) for s in self.subjects)),
            ("inferences timed", *(str(s.timing.runs) for s in self.subjects)),
            ("accuracy, top 1", *(_top1(s.accuracy) for s in self.subjects)),
            ("accuracy, top 5", *(_top5(s.accuracy) for s in self.subjects)),
            ("memory, predicted arena", *(_mb(s.memory.arena_bytes) for s in self.subjects)),
            ("memory, measured arena",
             *(_mb(s.memory.measured_arena_bytes) for s in self.subjects)),
            ("memory, predicted weights", *(_mb(s.memory.weights_bytes) for s in self.subjects)),
            ("memory, measured growth", *(_mb(s.memory.grown_bytes) for s in self.subjects)),
            ("memory, resident process", *(_mb(s.memory.resident_bytes) for s in self.subjects)),
            ("energy per inference", *(energy_text(s.joules) for s in self.subjects)),
        ]

    def verdict(self) -> list[str]:
        """One sentence per rival on the paired ratio."""
        lines = []
        for rival in self.subjects[1:]:
            if rival.speed_up is None:
                continue
            middle, low, high = rival.speed_up
            word = "faster" if middle >= 1 else "slower"
            factor = middle if middle >= 1 else 1 / middle
            lines.append(
                f"{self.subjects[0].name} is {factor:.2f} x {word} than {rival.name} "
                f"(paired slices: {rival.name} / {self.subjects[0].name} = {middle:.3f}, "
                f"quartiles {low:.3f} to {high:.3f})"
            )
        return lines


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.4g} ms"


def _mb(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f} MB"


def _top1(accuracy: Accuracy | None) -> str:
    return "no labels" if accuracy is None else f"{100 * accuracy.top1:.2f} %"


def _top5(accuracy: Accuracy | None) -> str:
    if accuracy is None or accuracy.top5 is None:
        return "-"
    return f"{100 * accuracy.top5:.2f} %"
