"""The tables of the demonstration: answers, latency, memory plan, kernels."""

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.bench.kernel_table import KernelRow, Roof
from bessemer.bench.latency import Timing
from bessemer.engine.plan import MemoryReport

_ROWS = 12
_NAME_WIDTH = 44


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """A title and a table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(
            name, justify="right" if index else "left", no_wrap=index > 0, overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # Not the table's own title, which would be wrapped to the width of the columns.
    return Group(Text(title, style="bold"), table)


def answers_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """What each runtime answered."""
    return make_table(title, ("runtime", *columns), rows)


def latency_table(timings: Sequence[Timing], threads: int) -> Group:
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


def memory_table(memory: MemoryReport) -> Group:
    """The largest values with memory of their own: where they lie and when they live."""
    own = [row for row in memory.table if not row.alias_of]
    largest = sorted(own, key=lambda row: -row.size_bytes)[:_ROWS]
    rows = [
        (
            _cut(row.value),
            f"{row.offset}",
            f"{row.size_bytes}",
            f"{row.first_step} to {row.last_step}",
        )
        for row in largest
    ]
    inside = len(memory.table) - len(own)
    title = f"Memory plan, the {len(rows)} largest of {len(own)} places"
    if inside:
        title += f"; {inside} more values lie inside them"
    return make_table(title, ("value", "offset", "bytes", "steps"), rows)


def kernel_table(kernels: Sequence[KernelRow], roof: Roof) -> Group:
    """The slowest kernels with their share of the machine's measured peak, and all together."""
    slowest = sorted(kernels, key=lambda kernel: -kernel.microseconds)
    rows: list[tuple[str, ...]] = [
        (
            _cut(kernel.name),
            f"{kernel.microseconds:.1f} us",
            f"{100 * kernel.share:.1f} %",
            f"{kernel.gflops:.1f}",
            "-" if kernel.of_peak is None else f"{100 * kernel.of_peak:.0f} %",
            f"{kernel.gigabytes_per_s:.1f}",
            kernel.bound_by,
            kernel.rule or kernel.kind,
        )
        for kernel in slowest[:_ROWS]
    ]
    rows += [_sum_row(name, group, kernels, roof) for name, group in (
        (f"{len(slowest) - _ROWS} others", slowest[_ROWS:]), ("all", slowest)
    ) if group]  # fmt: skip
    columns = ("kernel", "time", "share", "GFLOP/s", "of peak", "GB/s", "bound by", "rule")
    return make_table(f"Kernels, the slowest of {len(kernels)}", columns, rows)


def _sum_row(
    name: str, group: Sequence[KernelRow], kernels: Sequence[KernelRow], roof: Roof
) -> tuple[str, ...]:
    """Several kernels as one row."""
    spent_us = sum(kernel.microseconds for kernel in group)
    total_us = sum(kernel.microseconds for kernel in kernels)
    speed = sum(kernel.flops for kernel in group) / max(spent_us, 1e-3) * 1e6
    traffic = sum(kernel.bytes for kernel in group) / max(spent_us, 1e-3) * 1e6
    return (
        name,
        f"{spent_us:.1f} us",
        f"{100 * spent_us / max(total_us, 1e-3):.1f} %",
        f"{speed / 1e9:.1f}",
        f"{100 * speed / roof.flops_per_s:.0f} %",
        f"{traffic / 1e9:.1f}",
        "",
        "",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_WIDTH else text[: _NAME_WIDTH - 3] + "..."


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
