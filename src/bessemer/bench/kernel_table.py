"""Per-kernel figures: time, share, speed, share of the machine's measured limits, what binds it."""

from collections.abc import Iterable
from dataclasses import dataclass

from bessemer.bench.limits import Limits, measure_limits
from bessemer.engine.plan import RUNNER_UP, KernelStep, Plan
from bessemer.runtime.profile import Profile, ProfileRow
from bessemer.targets import host_target
from bessemer.targets.target import Target

# What a kernel costs besides its work: a barrier and a call.
_OVERHEAD_S = 5e-7


@dataclass(frozen=True)
class Level:
    """A place that data come from: a cache of all threads together, or memory."""

    name: str
    size_bytes: float
    bytes_per_s: float


@dataclass(frozen=True)
class Roof:
    """What the machine can do: measured operations and bytes per second.

    `bytes_per_s` is that of memory; `caches` are the levels before it, the nearest first.
    """

    flops_per_s: float
    bytes_per_s: float
    caches: tuple[Level, ...] = ()

    def limit(self, intensity: float) -> float:
        """The highest speed at that many operations per byte."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)

    def level(self, size_bytes: float) -> Level:
        """The nearest place that holds so much."""
        memory = Level("memory", float("inf"), self.bytes_per_s)
        return next((level for level in self.caches if size_bytes <= level.size_bytes), memory)


@dataclass(frozen=True)
class KernelRow:
    """One kernel as measured.

    `of_peak` is its share of the arithmetic peak, None if not known. `bound_by` names the limit
    that it meets first, `of_limit` is the least time that this limit allows by the time it took.
    """

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
    of_limit: float | None = None
    runner_up: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row as texts."""
        knobs = self.schedule.partition("\n")[0]
        return (
            self.name, self.rule or self.kind, knobs or "-", self.runner_up or "-",
            f"{self.microseconds:.1f}", f"{100 * self.share:.1f} %", f"{self.flops / 1e6:.2f}",
            f"{self.gflops:.1f}", _percent(self.of_peak), f"{self.gigabytes_per_s:.1f}",
            self.bound_by, _percent(self.of_limit), "+".join(self.sources),
        )


HEAD = ("kernel", "rule", "schedule", "runner-up", "us", "share", "MFLOP", "GFLOP/s", "of peak",
        "GB/s", "bound by", "of bound", "sources")
"""The head of a table of `cells`."""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def kernel_rows(profile: Profile, plan: Plan, roof: Roof | None) -> list[KernelRow]:
    """One row per step of the profile, in order of execution; shares are of the whole run."""
    total = profile.total_microseconds or 1.0
    weights = sum(map(_weights, plan.steps))
    return [_row(row, plan, roof, total, weights) for row in profile.rows]


def least_microseconds(rows: Iterable[KernelRow]) -> float:
    """The time that the limits of all steps allow together."""
    return sum(row.of_limit * row.microseconds for row in rows if row.of_limit is not None)


def call_row(profile: Profile) -> KernelRow:
    """What is no step's time: checking inputs, making outputs, the call itself.

    With it the rows add up to the time of a run.
    """
    spent = profile.call_microseconds
    return KernelRow(-1, "(the call itself)", "call", "", "", spent,
                     spent / (profile.total_microseconds or 1.0), 0, 0, 0.0, None, 0.0, "-", ())


def _weights(step: object) -> int:
    """Bytes of constants that a step reads."""
    if not isinstance(step, KernelStep):
        return 0
    return sum(int(ref.size_bytes) for ref in step.args if ref.space == "constant")


def _row(row: ProfileRow, plan: Plan, roof: Roof | None, total: float, weights: int) -> KernelRow:
    step = plan.steps[row.step]
    bound, least_s = _bound(row, step, weights, roof)
    notes = step.notes if isinstance(step, KernelStep) else ()
    runner_up = next((note for note in notes if note.startswith(RUNNER_UP)), "")
    measured = roof is not None and row.microseconds > 0
    return KernelRow(
        step=row.step, name=row.name, kind=row.kind, rule=row.rule,
        schedule=step.schedule if isinstance(step, KernelStep) else "",
        microseconds=row.microseconds, share=row.microseconds / total, flops=row.flops,
        bytes=row.bytes, gflops=row.gflops,
        of_peak=row.gflops * 1e9 / roof.flops_per_s if roof and row.flops > 0 else None,
        gigabytes_per_s=row.gigabytes_per_second, bound_by=bound, sources=row.sources,
        of_limit=1e6 * least_s / row.microseconds if measured and least_s else None,
        runner_up=runner_up.removeprefix(RUNNER_UP),
    )


def _bound(
    row: ProfileRow, step: object, all_weights: int, roof: Roof | None
) -> tuple[str, float]:
    """The limit that a step meets first, and the least seconds that it allows (0 if unknown).

    Arithmetic takes the places of its instructions in the units that could do a multiply-add each.

    A network reads its weights in turn, so they come from where all of them fit; other data have
    just been written, so they come from where those of the step fit.
    """
    if roof is None:
        return "-", 0.0
    if row.kind != "kernel" or not (row.flops or row.bytes):
        return "overhead", 0.0
    own_weights = _weights(step)
    others = max(row.bytes - own_weights, 0)
    places = [(size / level.bytes_per_s, level.name) for size, level in (
        (min(own_weights, row.bytes), roof.level(all_weights)), (others, roof.level(others)))]
    moving_s = sum(seconds for seconds, _ in places)
    computing_s = max(row.flops, 2 * _instructions(row, step)) / roof.flops_per_s
    if max(moving_s, computing_s) < _OVERHEAD_S:
        return "overhead", _OVERHEAD_S
    if computing_s >= moving_s:
        return "arithmetic", computing_s
    name = max(places)[1]
    return name if name == "memory" else f"memory ({name})", moving_s


def _instructions(row: ProfileRow, step: object) -> float:
    """Instructions of the step at the shape that was measured."""
    if not isinstance(step, KernelStep):
        return 0.0
    return step.instructions * (row.flops / step.flops if step.flops else 1.0)


def roof_of(limits: Limits, target: Target) -> Roof:
    """The roof of measured limits on a machine with that target's caches."""
    own = target.l2_bytes * limits.threads
    caches = (Level("L1", target.l1_bytes * limits.threads, limits.l1_gbps * 1e9),
              Level("L2", own, limits.l2_gbps * 1e9),
              Level("L3", max(target.l3_bytes, own), limits.l3_gbps * 1e9))
    return Roof(limits.flops_per_s, limits.bytes_per_s, caches)


def measure_roof(threads: int) -> Roof:
    """The machine's arithmetic peak and bandwidths, measured now with that many threads."""
    return roof_of(measure_limits(threads), host_target())
