"""Where the time of a run goes: one row for each step, from time stamps taken in the native run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProfileRow:
    """One step: median time of its runs, what it computes and where it comes from."""

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
    """Time by step. `total_microseconds` is the median of whole runs, Python included."""

    name: str
    threads: int
    runs: int
    total_microseconds: float
    rows: tuple[ProfileRow, ...]

    def slowest(self, count: int = 10) -> tuple[ProfileRow, ...]:
        """The rows that take most time."""
        return tuple(sorted(self.rows, key=lambda row: -row.microseconds)[:count])

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.total_microseconds:.1f} us a run, {self.threads} threads, "
            f"{self.runs} runs",
            f"{'us':>10} {'%':>5} {'GFLOP/s':>9} {'GB/s':>7}  {'step':<40} rule; sources",
        ]
        total = sum(row.microseconds for row in self.rows) or 1.0
        lines.extend(
            f"{row.microseconds:10.1f} {100 * row.microseconds / total:5.1f} {row.gflops:9.1f} "
            f"{row.gigabytes_per_second:7.1f}  {row.name:<40} {row.rule or row.kind}; "
            f"{', '.join(row.sources)}"
            for row in self.rows
        )
        return "\n".join(lines)
