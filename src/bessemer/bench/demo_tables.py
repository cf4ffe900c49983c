"""The tables of the demonstration: answers, latency, memory plan, kernels."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from bessemer.bench.latency import Timing
from bessemer.bench.limits import Limits
from bessemer.engine.plan import MemoryReport
from bessemer.runtime.profile import Profile, ProfileRow

_ROWS = 12
_NAME_WIDTH = 44


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def answers_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """What each runtime answered."""
    return make_table(title, ("runtime", *columns), rows)


def latency_table(timings: Sequence[Timing], threads: int) -> Table:
    """Latencies of one interleaved run."""
    rows = [
        (
            timing.name,
            f"{timing.median_ns / 1e6:.4g} ms",
            f"{timing.percentile_ns(90) / 1e6:.4g} ms",
            f"{timing.percentile_ns(99) / 1e6:.4g} ms",
            f"{timing.throughput_per_s:.4g} /s",
            str(timing.runs),
        )
        for timing in timings
    ]
    columns = ("runtime", "median", "p90", "p99", "throughput", "runs")
    return make_table(f"Latency, {threads} threads, interleaved slices", columns, rows)


def memory_text(memory: MemoryReport, measured_bytes: int) -> str:
    """The memory plan in two lines, the measured peak beside it."""
    return (
        f"memory: weights {_bytes(memory.weights_bytes)}, arena {_bytes(memory.arena_bytes)} "
        f"planned, {_bytes(measured_bytes)} measured\n"
        f"  all tensors together would take {_bytes(memory.sum_of_tensors_bytes)}; "
        f"no plan can be below {_bytes(memory.liveness_lower_bound_bytes)}"
    )


def memory_table(memory: MemoryReport) -> Table:
    """The largest values of the arena: where they lie and when they live."""
    largest = sorted(memory.table, key=lambda row: -row.size_bytes)[:_ROWS]
    rows = [
        (
            _cut(row.value),
            f"{row.offset}",
            f"{row.size_bytes}",
            f"{row.first_step}-{row.last_step}",
            _cut(row.alias_of),
        )
        for row in largest
    ]
    title = f"Memory plan, the {len(rows)} largest of {len(memory.table)} values"
    return make_table(title, ("value", "offset", "bytes", "steps", "inside"), rows)


def kernel_table(profile: Profile, limits: Limits) -> Table:
    """The slowest steps with their share of the machine's measured peak, and all together."""
    total_us = sum(row.microseconds for row in profile.rows) or 1.0
    shown = profile.slowest(_ROWS)
    rows = [_kernel_row(row, total_us, limits) for row in shown]
    rest = [row for row in profile.rows if row not in shown]
    if rest:
        rows.append(_kernel_row(_joined(f"{len(rest)} others", rest), total_us, limits))
    rows.append(_kernel_row(_joined("all steps", profile.rows), total_us, limits))
    columns = ("kernel", "time", "share", "GFLOP/s", "of peak", "GB/s", "of roof", "rule")
    return make_table("Kernels; roof = the lower of peak and bandwidth x intensity", columns, rows)


def _kernel_row(row: ProfileRow, total_us: float, limits: Limits) -> tuple[str, ...]:
    speed = row.gflops * 1e9
    return (
        _cut(row.name),
        f"{row.microseconds:.1f} us",
        f"{100 * row.microseconds / total_us:.1f} %",
        f"{row.gflops:.1f}",
        f"{100 * speed / limits.flops_per_s:.0f} %",
        f"{row.gigabytes_per_second:.1f}",
        f"{100 * roof_share(row, limits):.0f} %",
        row.rule or row.kind,
    )


def roof_share(row: ProfileRow, limits: Limits) -> float:
    """The least time that the machine needs for the step, over the time it took."""
    least_s = max(row.flops / limits.flops_per_s, row.bytes / limits.bytes_per_s)
    return least_s / (row.microseconds * 1e-6) if row.microseconds else 0.0


def _joined(name: str, rows: Sequence[ProfileRow]) -> ProfileRow:
    return ProfileRow(
        -1,
        name,
        "",
        sum(row.microseconds for row in rows),
        sum(row.flops for row in rows),
        sum(row.bytes for row in rows),
        "",
        (),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_WIDTH else text[: _NAME_WIDTH - 3] + "..."


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
