"""The demonstration: two models built, saved, loaded, checked and measured beside ONNX Runtime."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bessemer.bench.demo_tables import (
    answers_table,
    kernel_table,
    latency_table,
    memory_table,
    memory_text,
)
from bessemer.bench.kernel_table import Roof, kernel_rows, roof_of
from bessemer.bench.latency import measure, paired_ratio
from bessemer.bench.limits import Limits, measure_limits
from bessemer.bench.machine import read_machine
from bessemer.bench.rivals import OnnxRuntime, load_onnxruntime
from bessemer.compiler.build import build
from bessemer.core.errors import VerifyError
from bessemer.runtime.context import ExecutionContext
from bessemer.runtime.engine import Engine
from bessemer.runtime.load import load
from bessemer.runtime.pool import default_threads
from bessemer.targets import host_target
from bessemer.zoo import digits_path, make_model, sample_inputs
from bessemer.zoo.digits import load_digits

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]

_RESNET_IMAGES = 8
_LATENCY_S = 2.0
_TOLERANCE = 1e-4
_FILE_WIDTH = 130


@dataclass(frozen=True)
class Bench:
    """What every part of the demonstration shares."""

    console: Console
    folder: Path
    threads: int
    limits: Limits


def run_demo(console: Console, threads: int | None = None) -> None:
    """Runs the demonstration on the digits network and on ResNet-50, printing to `console`.

    Raises: MissingExtraError without onnxruntime or scikit-learn; VerifyError if an answer
        disagrees with ONNX Runtime.
    """
    count = threads or default_threads()
    if not console.is_terminal:
        console = Console(file=console.file, width=_FILE_WIDTH)
    console.rule("[bold]Bessemer demo")
    console.print(f"{read_machine().cpu}, {count} threads; measuring its limits ...")
    limits = measure_limits(count)
    console.print(f"measured peaks of {limits.describe()}")
    with tempfile.TemporaryDirectory(prefix="bessemer-demo-") as folder:
        bench = Bench(console, Path(folder), count, limits)
        _show_digits(bench)
        _show_resnet50(bench)


def _show_digits(bench: Bench) -> None:
    """The trained network on the digits that it never saw."""
    bench.console.rule("Handwritten digits: a small convolutional network, trained")
    data = load_digits()
    engine, rival = _prepare(bench, digits_path(), "digits")
    feeds = [{"input": image[None]} for image in data.test_images]
    with engine.create_context(bench.threads) as context:
        rows = []
        for name, runner in (("bessemer", context), ("onnxruntime", rival)):
            found = [int(runner.run(feed)["scores"].argmax()) for feed in feeds]
            right = sum(a == b for a, b in zip(found, data.test_labels, strict=True))
            rows.append((name, f"{right} of {len(feeds)}", f"{100 * right / len(feeds):.2f} %"))
        bench.console.print(answers_table("Held-out digits", ("right", "accuracy"), rows))
        _check_agreement(bench, context, rival, feeds)
        _show_figures(bench, engine, context, rival, feeds[0])


def _show_resnet50(bench: Bench) -> None:
    """The large network; its weights are seeded, so agreement stands in for accuracy."""
    bench.console.rule("ResNet-50: seeded weights, 224 x 224, batch 1")
    model = make_model("resnet50")
    path = bench.folder / "resnet50.onnx"
    path.write_bytes(model.SerializeToString())
    engine, rival = _prepare(bench, path, "resnet50")
    feeds = [sample_inputs(model, seed) for seed in range(_RESNET_IMAGES)]
    with engine.create_context(bench.threads) as context:
        _check_agreement(bench, context, rival, feeds)
        _show_figures(bench, engine, context, rival, feeds[0])


def _prepare(bench: Bench, model: Path, name: str) -> tuple[Engine, OnnxRuntime]:
    """Builds, saves and loads the engine; loads the model into ONNX Runtime."""
    start = time.perf_counter()
    engine = _build(bench, model, name)
    build_s = time.perf_counter() - start
    plan = bench.folder / f"{name}.plan"
    engine.save(plan)
    start = time.perf_counter()
    loaded = load(plan)
    load_ms = 1e3 * (time.perf_counter() - start)
    bench.console.print(
        f"built in {build_s:.1f} s; saved {plan.stat().st_size / 1e6:.2f} MB; "
        f"loaded in {load_ms:.1f} ms; {len(loaded.plan.steps)} steps"
    )
    return loaded, load_onnxruntime(model, threads=bench.threads)


def _build(bench: Bench, model: Path, name: str) -> Engine:
    columns = (
        TextColumn("building [bold]{task.fields[stage]:<10}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=bench.console, transient=True) as progress:
        task = progress.add_task("build", stage="", detail="", total=None)

        def update(stage: str, done: int, total: int, detail: str) -> None:
            progress.update(
                task, completed=done, total=max(total, 1), stage=stage, detail=detail[:40]
            )

        return build(model, threads=bench.threads, on_progress=update, name=name)


def _check_agreement(
    bench: Bench, context: ExecutionContext, rival: OnnxRuntime, feeds: Sequence[Inputs]
) -> None:
    """Compares first outputs; says how often the first choice agrees and the largest error."""
    agreeing, worst = 0, 0.0
    for feed in feeds:
        (expected, *_), (found, *_) = rival.run(feed).values(), context.run(feed).values()
        agreeing += int(expected.argmax() == found.argmax())
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        worst = max(worst, float(error))
    bench.console.print(
        f"against ONNX Runtime on {len(feeds)} inputs: first choice agrees {agreeing} times, "
        f"largest relative error {worst:.1e}"
    )
    if not worst <= _TOLERANCE:
        raise VerifyError(
            f"{context}: relative error {worst:.1e} against ONNX Runtime, at most {_TOLERANCE:.0e} "
            "was expected; run 'bessemer debug bisect MODEL' and report it"
        )


def _show_figures(
    bench: Bench, engine: Engine, context: ExecutionContext, rival: OnnxRuntime, feed: Inputs
) -> None:
    """Latency in one interleaved run, the memory plan, the kernels."""
    timings = measure(
        [("bessemer", lambda: context.run(feed)), (_label(rival), lambda: rival.run(feed))],
        duration_s=_LATENCY_S,
        warm_up_runs=10,
    )
    print_ = bench.console.print
    print_(latency_table(timings, bench.threads))
    middle, low, high = paired_ratio(*timings)
    print_(f"bessemer takes 1/{middle:.2f} of the time (quartiles {low:.2f} to {high:.2f})")
    print_(memory_text(engine.memory, context.measured_peak_bytes(feed)))
    print_(memory_table(engine.memory))
    profile = context.profile(feed)
    roof = _measure_roof(bench)
    print_(kernel_table(kernel_rows(profile, engine.plan, roof), roof))


def _measure_roof(bench: Bench) -> Roof:
    """The best of the limits measured at the start and now; other load lowers them."""
    measure_limits.cache_clear()
    limits = vars(measure_limits(bench.threads))
    best = {name: max(value, limits[name]) for name, value in vars(bench.limits).items()}
    return roof_of(Limits(**best), host_target())


def _label(rival: OnnxRuntime) -> str:
    return f"{rival.name} {rival.version}"
