"""Compiles a model and keeps every stage for looking; bisects a model by the real compiler."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bessemer.bench.inputs import Arrays, Sizes, complete_inputs
from bessemer.codegen.llvm.emit import emit_assembly
from bessemer.compiler.build import BuildOptions, Compiled, bind_symbols, compile_graph
from bessemer.compiler.kernels import CompiledKernel
from bessemer.debug.bisect import Finding, Observer, bisect
from bessemer.debug.compare import compile_and_run, input_specs, open_shapes
from bessemer.debug.compilation import Compilation, KernelView, boxes_of_groups
from bessemer.frontends import import_model
from bessemer.ir.graph import Graph
from bessemer.passes.pipelines import OPTIMIZE_PIPELINE, run_pipeline
from bessemer.passes.runner import pass_names
from bessemer.targets import get_target
from bessemer.targets.target import Target

Progress = Callable[[str, int, int, str], None]
_FREE = ("placed", "alias", "empty")


def open_compilation(
    graph: Graph, *, target: str = "host", threads: int | None = None,
    disable: Sequence[str] = (), on_progress: Progress | None = None,
) -> Compilation:
    """Compiles a graph for one target and opens the result."""
    options = BuildOptions((get_target(target),), disable=tuple(disable), threads=threads)
    compiled = compile_graph(graph, options, on_progress=on_progress)
    return opened(compiled)


def opened(compiled: Compiled) -> Compilation:
    """The view of a finished build (of its first variant)."""
    target = compiled.variants[0].target
    groups = [
        (group.name, group.nodes, group.kind if group.kind in (*_FREE, "host") else "kernel")
        for group in compiled.groups
    ]
    return Compilation(
        compiled.imported, compiled.graph, compiled.passes, compiled.fusion,
        [kernel_view(kernel, target) for kernel in compiled.kernels],
        boxes_of_groups(compiled.graph, groups), compiled.plan,
        [(group.sources, group.reason) for group in compiled.groups if group.kind in _FREE],
        compiled.engine,
    )


def kernel_view(kernel: CompiledKernel, target: Target) -> KernelView:
    """One kernel with the texts of its later stages made when asked for."""
    knobs = " ".join(f"{name}={value}" for name, value in kernel.scheduled.knobs.items())
    return KernelView(
        kernel.name, kernel.kernel.sources, kernel.scheduled.rule,
        f"{knobs}\n{kernel.scheduled.text}".strip(), lambda: str(kernel.function),
        lambda: kernel.llvm(target), lambda: emit_assembly(kernel.llvm(target), target),
    )


def bisect_model(
    model: str | Path | Graph, inputs: Arrays | None = None, *, sizes: Sizes | None = None,
    seed: int = 0, tolerance: float | None = None, threads: int | None = None,
    disable: Sequence[str] = (), on_progress: Progress | None = None,
) -> Finding:
    """Names the first pass, else the first kernel, that breaks a model's result.

    Inputs that are not given are random (seeded); symbolic dimensions take the inputs' extents.
    """
    graph = import_model(model)
    data = complete_inputs(inputs or {}, input_specs(graph), seed=seed, sizes=sizes)
    graph = bind_symbols(import_model(graph, shapes=open_shapes(graph, data)))
    # The graph that is compiled has had all passes; none of them shall hide a wrong kernel.
    frozen = (*disable, *pass_names(OPTIMIZE_PIPELINE))

    def run_passes(working: Graph, observer: Observer) -> object:
        return run_pipeline(working, disable=disable, observer=observer)

    return bisect(
        graph, data, run_passes=run_passes, run=compile_and_run(threads=threads, disable=frozen),
        boundaries=lambda done: kernel_outputs(done, frozen), tolerance=tolerance,
        on_progress=on_progress,
    )


def kernel_outputs(graph: Graph, disable: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The kernels of a graph in order: (name, names of the values that they write)."""
    options = BuildOptions((get_target("host"),), disable=tuple(dict.fromkeys(disable)))
    groups = compile_graph(graph, options).groups
    return [(group.name, [value.name for value in group.last.outputs]) for group in groups]
