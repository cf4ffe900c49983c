"""`bessemer inspect`: a model or engine as text at any stage, why it became so, or an HTML page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bessemer.cli.console import print_json, print_note, print_text
from bessemer.cli.options import Disable, FallbackNodes, Fallbacks, Json, Shapes, Threads
from bessemer.cli.registry import command
from bessemer.core.errors import SettingsError

if TYPE_CHECKING:
    from bessemer.debug.compilation import Compilation
    from bessemer.frontends.formats import Fallback
    from bessemer.ir.graph import Graph


@command("inspect", example="bessemer inspect model.onnx --stage loops --kernel conv1")
def inspect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL_OR_ENGINE", help="A model (.onnx) or engine (.plan).")
    ],
    only: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PASS]...", help="With --why: only these passes (or 'fusion')."),
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="PASS", help="The graph as this pass left it.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="graph, kernels, loops, llvm or asm.")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Only the kernel of this name or source node.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="What was joined, by which rule, and what was refused.")
    ] = False,
    block: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Part of the model before and after: source names such as 'inception_3a*'.",
        ),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="The memory plan.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page.")
    ] = None,
    shapes: Shapes = None,
    threads: Threads = None,
    disable: Disable = None,
    fallbacks: Fallbacks = None,
    fallback_nodes: FallbackNodes = None,
    as_json: Json = False,
) -> None:
    """Print a model or engine: graph, kernels, loops, machine code, memory, or why.

    Without options a model prints as its graph after all passes, an engine as its manifest. Lines
    of --why begin with + (joined or changed), - (a near match that was refused) and = (fusion).
    """
    from bessemer.cli.loading import is_engine_file
    from bessemer.frontends.formats import Fallback
    from bessemer.passes.graph_pass import PASSES

    if only and PASSES.find(str(model)) is not None and not model.exists():
        model, only = Path(only[-1]), [str(model), *only[:-1]]
    if only and not why:
        raise SettingsError(f"unexpected {only[0]!r}; names of passes belong to --why")
    _check_names(only or [], after, stage)
    request = _Request(model, tuple(only or ()), after, stage, kernel, why, block, memory, html,
                       tuple(disable or ()), threads, as_json)
    if is_engine_file(model):
        _inspect_engine(request)
    else:
        fallback = Fallback(tuple(fallbacks or ()), tuple(fallback_nodes or ()))
        _inspect_model(request, shapes or [], fallback)


@dataclass(frozen=True)
class _Request:
    """What the user asked to see."""

    path: Path
    only: tuple[str, ...]
    after: str | None
    stage: str | None
    kernel: str | None
    why: bool
    block: str | None
    memory: bool
    html: Path | None
    disable: tuple[str, ...]
    threads: int | None
    as_json: bool

    @property
    def needs_kernels(self) -> bool:
        """True if the model has to be compiled, not only its passes run."""
        late = self.stage not in (None, "graph")
        return bool(late or self.kernel or self.why or self.block or self.memory or self.html)


def _check_names(only: list[str], after: str | None, stage: str | None) -> None:
    from bessemer.debug.compilation import STAGES
    from bessemer.passes.graph_pass import PASSES

    if stage is not None and stage not in STAGES:
        raise SettingsError(f"--stage {stage!r} is not one of {', '.join(STAGES)}")
    for name in (*only, *([after] if after else ())):
        if name != "fusion":
            PASSES.get(name)


def _inspect_engine(request: _Request) -> None:
    from bessemer.cli.loading import runnable_variant
    from bessemer.debug.compilation import page_of
    from bessemer.debug.page import render_page
    from bessemer.engine.file import read_engine
    from bessemer.runtime.load import load
    from bessemer.runtime.report import engine_report, engine_text

    if request.after or request.stage not in (None, "kernels") or request.block:
        raise SettingsError(
            f"{request.path} is an engine; it keeps its plan only. Give the model for --after, "
            "--stage and --block"
        )
    data = read_engine(request.path)
    if request.html is not None:
        engine = load(request.path)
        profile, roof = _measure(engine, request.threads)
        page = page_of(str(request.path), engine.plan, None, profile, roof)
        _write(request.html, render_page(page))
        return
    # Engines of other machines can be looked at too, so nothing is loaded for running here.
    variant = runnable_variant(data)
    plan = data.plan_of(variant) if variant else data.plan
    if request.as_json:
        print_json(engine_report(plan, data, variant))
    elif request.why:
        print_text("\n".join(_plan_why(plan)))
    elif request.memory:
        print_text(_memory_text(plan))
    else:
        print_text(engine_text(plan, data, variant))


def _plan_why(plan: Any) -> list[str]:
    lines = [f"+ {entry.name}: {note}" for entry in plan.passes for note in entry.notes]
    fused = [note for step in plan.steps for note in getattr(step, "notes", ())]
    lines += [f"= fusion: {note}" for note in dict.fromkeys((*plan.notes, *fused))]
    return lines or ["nothing was recorded"]


def _inspect_model(request: _Request, shape_texts: list[str], fallback: "Fallback") -> None:
    from bessemer.bench.inputs import parse_sizes
    from bessemer.debug.explain import graph_after
    from bessemer.frontends import import_model

    sizes = parse_sizes(shape_texts)
    graph = import_model(request.path, shapes=sizes or None, fallback=fallback)
    if request.after is not None:
        print_text(graph_after(graph, request.after, request.disable))
    elif request.needs_kernels:
        from bessemer.debug.opening import open_compilation

        compilation = open_compilation(graph, threads=request.threads, disable=request.disable)
        _show(request, compilation)
    else:
        _show_graph(request, graph)


def _show_graph(request: _Request, graph: "Graph") -> None:
    from bessemer.ir.printer import print_graph
    from bessemer.passes.pipelines import run_pipeline

    working = graph.clone()
    results = run_pipeline(working, disable=request.disable)
    text = print_graph(working, hashes=False)
    if request.as_json:
        print_json({"graph": text, "passes": results})
    else:
        print_text(text)
        print_note(f"{len(graph.nodes)} nodes imported, {len(working.nodes)} after all passes")


def _show(request: _Request, compilation: "Compilation") -> None:
    from bessemer.debug.compilation import block_lines, find_kernels, page_of
    from bessemer.debug.explain import why_lines
    from bessemer.debug.page import render_page

    if request.html is not None:
        profile, roof = _measure(compilation.engine, request.threads)
        page = page_of(str(request.path), compilation.plan, compilation, profile, roof)
        _write(request.html, render_page(page))
    elif request.why:
        lines = why_lines(compilation.results, compilation.fusion, request.only)
        _print_lines(request, "why", lines or ["nothing was joined and nothing was refused"])
    elif request.block:
        _print_lines(request, "block", block_lines(compilation, request.block))
    elif request.memory:
        print_json(compilation.plan.memory) if request.as_json \
            else print_text(_memory_text(compilation.plan))
    else:
        stage = request.stage if request.stage not in (None, "graph") else "kernels"
        kernels = find_kernels(compilation.kernels, request.kernel)
        texts = [kernel.at(stage) for kernel in kernels]
        _print_lines(request, stage, texts)


def _print_lines(request: _Request, key: str, lines: list[str]) -> None:
    if request.as_json:
        print_json({key: lines})
    else:
        print_text("\n".join(lines))


def _measure(engine: Any, threads: int | None) -> tuple[Any, Any]:
    from bessemer.bench.inputs import random_inputs, specs_of_bindings
    from bessemer.bench.kernel_table import measure_roof

    feed = random_inputs(specs_of_bindings(engine.plan.inputs))
    with engine.create_context(threads) as context:
        profile = context.profile(feed, runs=10)
    return profile, measure_roof(profile.threads)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    print_note(f"written to {path} ({len(text) / 1000:.0f} kB)")


def _memory_text(plan: Any) -> str:
    memory = plan.memory
    lines = [
        f"arena {plan.arena_bytes} bytes, of which workspace {memory.workspace_bytes}",
        f"weights {memory.weights_bytes} bytes",
        f"sum of all tensors {memory.sum_of_tensors_bytes} bytes, "
        f"lower bound by liveness {memory.liveness_lower_bound_bytes} bytes",
        f"{'offset':>12} {'bytes':>12} {'steps':>11}  value",
    ]
    for row in memory.table:
        inside = f" (inside {row.alias_of})" if row.alias_of else ""
        lines.append(f"{row.offset:>12} {row.size_bytes:>12} "
                     f"{row.first_step:>5}..{row.last_step:<4}  {row.value}{inside}")
    return "\n".join(lines)
