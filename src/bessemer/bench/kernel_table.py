"""Per-kernel figures: time, share, speed, share of the machine's measured peak, what bounds it."""

from dataclasses import dataclass

from bessemer.engine.plan import KernelStep, Plan
from bessemer.runtime.profile import Profile, ProfileRow


@dataclass(frozen=True)
class Roof:
    """What the machine can do: measured floating-point operations and bytes per second."""

    flops_per_s: float
    bytes_per_s: float

    def limit(self, intensity: float) -> float:
        """The highest speed at that many operations per byte."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)


@dataclass(frozen=True)
class KernelRow:
    """One kernel as measured. `of_peak` is its share of the arithmetic peak, None if not known."""

    step: int
    name: str
    kind: str
    rule: str
    schedule: str
    microseconds: float
    share: float
    flops: int
    bytes: int
    gflops: float
    of_peak: float | None
    gigabytes_per_s: float
    bound_by: str
    sources: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """The row as texts."""
        knobs = self.schedule.partition("\n")[0]
        return (
            self.name, self.rule or self.kind, knobs or "-", f"{self.microseconds:.1f}",
            f"{100 * self.share:.1f} %", f"{self.flops / 1e6:.2f}", f"{self.gflops:.1f}",
            "-" if self.of_peak is None else f"{100 * self.of_peak:.0f} %",
            f"{self.gigabytes_per_s:.1f}", self.bound_by, "+".join(self.sources),
        )


def kernel_rows(profile: Profile, plan: Plan, roof: Roof | None) -> list[KernelRow]:
    """One row per step of the profile, in order of execution."""
    total = sum(row.microseconds for row in profile.rows) or 1.0
    return [_row(row, plan, roof, total) for row in profile.rows]


def _row(row: ProfileRow, plan: Plan, roof: Roof | None, total: float) -> KernelRow:
    step = plan.steps[row.step]
    known = roof is not None and row.flops > 0
    return KernelRow(
        step=row.step, name=row.name, kind=row.kind, rule=row.rule,
        schedule=step.schedule if isinstance(step, KernelStep) else "",
        microseconds=row.microseconds, share=row.microseconds / total, flops=row.flops,
        bytes=row.bytes, gflops=row.gflops,
        of_peak=row.gflops * 1e9 / roof.flops_per_s if known and roof is not None else None,
        gigabytes_per_s=row.gigabytes_per_second, bound_by=_bound_by(row, roof),
        sources=row.sources,
    )


def _bound_by(row: ProfileRow, roof: Roof | None) -> str:
    if roof is None:
        return "-"
    if not isinstance(row.flops, int) or row.flops == 0:
        return "memory" if row.bytes else "overhead"
    ridge = roof.flops_per_s / roof.bytes_per_s
    return "arithmetic" if row.flops / max(row.bytes, 1) >= ridge else "memory"


def measure_roof(threads: int) -> Roof:
    """The machine's arithmetic peak and memory bandwidth, measured now with that many threads."""
    from bessemer.bench.limits import measure_limits

    limits = measure_limits(threads)
    return Roof(limits.fma_gflops * 1e9, limits.dram_gbps * 1e9)
