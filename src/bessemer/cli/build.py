"""`bessemer build`: a model in, an engine file out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bessemer.cli.console import bytes_text, print_json, print_table, print_text, progress_bar
from bessemer.cli.options import (
    Disable,
    FallbackNodes,
    Fallbacks,
    Json,
    KeepInputs,
    Model,
    Shapes,
    Threads,
)
from bessemer.cli.registry import command

if TYPE_CHECKING:
    from bessemer.runtime.engine import Engine


@command("build", example="bessemer build model.onnx -o model.plan --shape N=1")
def build(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The engine file; default: MODEL with suffix .plan."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Hardware: host, x86-64-v2, x86-avx2, x86-avx512, x86-amx, aarch64-neon; repeat "
            "it for an engine with several variants, of which the best is chosen when loading.",
        ),
    ] = None,
    shapes: Shapes = None,
    threads: Threads = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="How schedules are chosen: none (by formula), default (a few are timed for each "
            "kernel that matters) or max (searched until the budget ends); without it the setting "
            "BESSEMER_TUNE, else none.",
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds that the build may take with tuning.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic: fp32.")] = "fp32",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the graph on data around every pass.")
    ] = False,
    disable: Disable = None,
    fallbacks: Fallbacks = None,
    fallback_nodes: FallbackNodes = None,
    keep_inputs: KeepInputs = None,
    name: Annotated[str | None, typer.Option(help="Name of the engine.")] = None,
    as_json: Json = False,
) -> None:
    """Build an engine from a model and save it.

    Shows progress on stderr where that is a terminal, then a summary: kernels, memory, time.
    """
    from bessemer.bench.inputs import parse_sizes
    from bessemer.compiler.api import BuilderConfig
    from bessemer.compiler.build import build as build_engine

    config = BuilderConfig(
        target=_target(target), shapes=parse_sizes(shapes or []) or None, threads=threads,
        tune=tune, budget_s=budget, precision=precision, verify=verify,
        disable=tuple(disable or ()), name=name,
        allow_fallback=tuple(fallbacks or ()), fallback_nodes=tuple(fallback_nodes or ()),
        keep_inputs=tuple(keep_inputs or ()),
    )
    path = output or model.with_suffix(".plan")
    start = time.perf_counter()
    with progress_bar("build") as on_progress:
        engine = build_engine(model, on_progress=on_progress, **config.build_options())
    seconds = time.perf_counter() - start
    engine.save(path)
    summary = summarize(engine, path, seconds)
    if as_json:
        print_json(summary)
    else:
        print_table("", ("", ""), [(key.replace("_", " "), text(key, value))
                                   for key, value in summary.items() if key != "offloaded"])
        for node in summary["offloaded"]:
            print_text(f"left to onnxruntime: {node}")


def _target(names: list[str] | None) -> str | tuple[str, ...] | None:
    if not names:
        return None
    return names[0] if len(names) == 1 else tuple(names)


def summarize(engine: "Engine", path: Path, seconds: float) -> dict[str, Any]:
    """What was built, as JSON types."""
    from bessemer.engine.plan import KernelStep

    plan = engine.plan
    steps = [step for each in (plan, *plan.inner_plans) for step in each.steps]
    return {
        "engine": str(path), "file_bytes": path.stat().st_size, "seconds": round(seconds, 3),
        "kernels": sum(isinstance(step, KernelStep) for step in steps),
        "host_steps": len(list(plan.opaque_steps)),
        "arena_bytes": plan.memory.arena_bytes or plan.arena_bytes,
        "weights_bytes": plan.memory.weights_bytes,
        "sum_of_tensors_bytes": plan.memory.sum_of_tensors_bytes,
        "liveness_lower_bound_bytes": plan.memory.liveness_lower_bound_bytes,
        "offloaded": plan.options.get("offloaded", []),
    }


def text(key: str, value: Any) -> str:
    """A figure of the summary for people."""
    if key.endswith("_bytes"):
        return bytes_text(value)
    if key == "seconds":
        return f"{value:.2f} s"
    return str(value)
