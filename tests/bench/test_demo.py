"""The demonstration's tables, and (slow) the whole of it."""

import io

import pytest
from rich.console import Console

from bessemer.bench.demo_tables import kernel_table, latency_table, memory_table, memory_text
from bessemer.bench.kernel_table import KernelRow, Roof
from bessemer.bench.latency import Timing
from bessemer.engine.plan import MemoryReport, MemoryRow


def text_of(*things):
    file = io.StringIO()
    console = Console(file=file, width=130)
    for thing in things:
        console.print(thing)
    return file.getvalue()


def kernel(number, microseconds, flops=1_000_000):
    return KernelRow(
        number, f"conv{number}[x]", "kernel", "direct-conv", "", microseconds, 0.1, flops, 1000,
        flops / microseconds / 1e3, 0.5, 1.0, "arithmetic", (f"Conv_{number}",),
    )  # fmt: skip


def test_kernel_table_sums_what_it_does_not_show():
    kernels = [kernel(number, 10.0 + number) for number in range(20)]
    text = text_of(kernel_table(kernels, Roof(1e11, 1e10)))
    assert "conv19[x]" in text
    assert "conv0[x]" not in text
    assert "8 others" in text
    # 20 MFLOP in 390 us are 51.3 GFLOP/s, 51 % of the peak.
    last = text.splitlines()[-1].split()
    assert last[:2] == ["all", "390.0"]
    assert "51.3" in last
    assert "51" in last


def test_kernel_table_of_few_has_no_others():
    assert "others" not in text_of(kernel_table([kernel(0, 1.0)], Roof(1e11, 1e10)))


def test_memory_is_told_with_its_bounds():
    rows = tuple(
        MemoryRow(f"value{number}", 64 * number, 1000 * (number + 1), 0, number)
        for number in range(15)
    ) + (MemoryRow("inner", 0, 500, 0, 1, alias_of="value0"),)
    memory = MemoryReport(150_000, 2_000_000, 0, 300_000, 140_000, rows)
    text = text_of(memory_text(memory, 149_000), memory_table(memory))
    assert "weights 2.00 MB, arena 0.15 MB planned, 0.15 MB measured" in text
    assert "12 largest of 15 places; 1 more" in text
    assert "inner" not in text
    assert "value14" in text
    assert "value0 " not in text


def test_latency_table_has_percentiles():
    timing = Timing("bessemer", tuple(range(1_000_000, 2_000_000, 10_000)), (1.5e6,))
    text = text_of(latency_table([timing], 2))
    assert "1.495 ms" in text
    assert "2 threads" in text


@pytest.mark.slow
@pytest.mark.rivals
def test_whole_demo():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("sklearn")
    from bessemer.bench.demo import run_demo

    file = io.StringIO()
    run_demo(Console(file=file))
    text = file.getvalue()
    assert "98.33 %" in text
    assert text.count("Kernels, the slowest of") == 2
