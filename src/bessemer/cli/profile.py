"""`bessemer profile`: where the time of an inference goes, kernel by kernel."""

from typing import Annotated, Any

import typer

from bessemer.cli.console import print_json, print_table, print_text
from bessemer.cli.options import EngineOrModel, Inputs, Json, Seed, Shapes, Threads
from bessemer.cli.registry import command


@command("profile", example="bessemer profile model.plan --top 20")
def profile(
    engine: EngineOrModel,
    inputs: Inputs = None,
    seed: Seed = 0,
    shapes: Shapes = None,
    threads: Threads = None,
    runs: Annotated[int, typer.Option(
        min=1, help="Inferences to average (the middle half counts).")] = 20,
    top: Annotated[int, typer.Option(min=0, help="Only the slowest rows; 0 shows all.")] = 0,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="In order of execution instead of slowest first.")
    ] = False,
    peak: Annotated[
        bool, typer.Option(help="Measure the machine's limits and show the share of them.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Profile a model or engine: time of each kernel, its share, GFLOP/s, GB/s, share of peak.

    The limits are measured on this machine just before. 'bound by' names the one that the kernel
    meets first: arithmetic, the cache or memory that its data come from, or the overhead of a step.
    'of bound' is the least time that this limit allows by the time it took. Arithmetic counts the
    instructions of functions such as exp, too, so it may bind far from the peak of multiply-adds.
    'runner-up' is the schedule that came second when the kernel was tuned. With '(the call itself)'
    the rows add up to the time of a run.
    """
    from bessemer.bench.inputs import complete_inputs, parse_sizes, read_arrays, specs_of_bindings
    from bessemer.bench.kernel_table import (
        HEAD,
        call_row,
        kernel_rows,
        least_microseconds,
        measure_roof,
    )
    from bessemer.cli.loading import open_engine

    sizes = parse_sizes(shapes or [])
    loaded = open_engine(engine, shapes=sizes or None, threads=threads)
    specs = specs_of_bindings(loaded.plan.inputs)
    feed = complete_inputs(read_arrays(inputs or [], specs), specs, seed=seed, sizes=sizes)
    with loaded.create_context(threads) as context:
        measured = context.profile(feed, runs=runs)
    roof = measure_roof(measured.threads) if peak else None
    rows = [*kernel_rows(measured, loaded.plan, roof), call_row(measured)]
    if as_json:
        print_json({
            "engine": measured.name, "threads": measured.threads, "runs": measured.runs,
            "total_us": measured.total_microseconds,
            "peak_gflops": roof.flops_per_s / 1e9 if roof else None,
            "peak_gb_per_s": roof.bytes_per_s / 1e9 if roof else None, "kernels": rows[:-1],
            "call_us": measured.call_microseconds,
            "limit_us": least_microseconds(rows) if roof else None,
        })
        return
    chosen: list[Any] = rows if in_order else sorted(rows, key=lambda row: -row.microseconds)
    cells = [row.cells() for row in (chosen[:top] if top else chosen)]
    print_table("", HEAD, cells)
    flops = sum(row.flops for row in rows)
    print_text(
        f"{measured.name}: {measured.total_microseconds:.1f} us a run "
        f"(mean of the middle half of {measured.runs}), "
        f"{measured.threads} threads, {flops / 1e6:.1f} MFLOP, "
        f"{flops / measured.total_microseconds / 1e3:.1f} GFLOP/s"
    )
    if roof is not None:
        least = least_microseconds(rows)
        print_text(f"the limits allow {least:.1f} us, "
                   f"{100 * least / measured.total_microseconds:.0f} % of the run")
        caches = "".join(f", {each.name} {each.bytes_per_s / 1e9:.0f}" for each in roof.caches)
        print_text(f"measured limits: {roof.flops_per_s / 1e9:.1f} GFLOP/s; "
                   f"GB/s: memory {roof.bytes_per_s / 1e9:.1f}{caches}")
