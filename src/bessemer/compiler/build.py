"""build: a model becomes an engine. One function, one line per stage."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import llvmlite
import numpy as np
import onnx

import bessemer
from bessemer.codegen.cache import ObjectCache
from bessemer.codegen.llvm.driver import driver_module
from bessemer.compiler.api import PRECISIONS, OptimizationProfile, check_plugins
from bessemer.compiler.conditions import has_choices, is_checked
from bessemer.compiler.constants import ConstantPool, stored_source
from bessemer.compiler.dump import Dumper
from bessemer.compiler.kernels import CompiledKernel, compile_kernels
from bessemer.compiler.symbols import Ranges, symbol_ranges, usual_values
from bessemer.compiler.tuning import FASTER, Choose, Tuning, choosers
from bessemer.compiler.variant import Variant, lower_variant
from bessemer.core.assumptions import settling
from bessemer.core.errors import SettingsError, ShapeError
from bessemer.core.settings import settings
from bessemer.core.shapes import Sym
from bessemer.engine.plan import EngineData, PassRecord, Plan
from bessemer.frontends import import_model
from bessemer.frontends.formats import Fallback, specialize, substitute_symbols
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.lower.groups import Group
from bessemer.ops.offload import Offload, offloads_of
from bessemer.passes.pipelines import run_pipeline
from bessemer.passes.runner import PassResult
from bessemer.runtime.engine import Engine
from bessemer.targets import get_target, missing_flags
from bessemer.targets.target import Target
from bessemer.tune.levels import LEVELS

Progress = Callable[[str, int, int, str], None]
LOGGER = logging.getLogger("bessemer.compiler")

_COMPARE_SECONDS = 2.0
"""What it takes to see whether a tuned network is faster."""


@dataclass(frozen=True)
class BuildOptions:
    """All that decides an engine besides the model."""

    targets: tuple[Target, ...]
    name: str | None = None
    disable: tuple[str, ...] = ()
    verify: Any = None
    tuning: Tuning = field(default_factory=Tuning)
    strict: bool = True
    fuse: bool = True
    threads: int | None = None
    store: bool = True
    ranges: Ranges = field(default_factory=dict)
    exact: bool = False
    """Takes nothing for granted that valid inputs may break (`core.assumptions.settling`)."""

    @property
    def usual(self) -> list[dict[str, int]]:
        """Values of symbols for which things may be taken for granted: usual ones and limits."""
        return [] if self.exact else usual_values(self.ranges)


@dataclass(eq=False)
class Compiled:
    """A build with all its stages, for looking at; `engine` runs."""

    imported: Graph
    graph: Graph
    passes: list[PassResult]
    groups: list[Group]
    fusion: list[str]
    kernels: list[CompiledKernel]
    variants: list[Variant]
    plan: Plan
    engine: Engine
    compile_seconds: float = 0.0
    """What making machine code took."""


def build(
    model: Any, *, precision: str = "fp32", calibration: Any = None,
    profiles: Sequence[OptimizationProfile] | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    target: str | Sequence[str] | None = None, threads: int | None = None, tune: str | None = None,
    budget_s: float | None = None, plugins: Iterable[type] = (), strict: bool = True,
    verify: bool | Mapping[str, np.ndarray[Any, Any]] = False, on_progress: Progress | None = None,
    logger: logging.Logger | None = None, name: str | None = None, disable: Collection[str] = (),
    allow_fallback: Sequence[str] = (), fallback_nodes: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
) -> Engine:
    """Compiles a model into an engine.

    `model` is a path, the bytes of a file, an onnx.ModelProto or a Graph. `shapes` fixes symbolic
    dimensions, by symbol or by input name. `target` names one chip or several (an engine then holds
    a variant for each); "host" is this machine. `tune` says how schedules are chosen: "none" by
    formula, "default" times a few for each kernel that matters, "max" searches for `budget_s`
    seconds (without one, for ten minutes); what was found is kept and used again. The default is
    the setting BESSEMER_TUNE, else "none". `budget_s` limits the whole build. `verify` compares
    the graph before and after every pass on random data (or on the arrays given) and rolls back a
    pass that changes the answer. `strict` False lets nodes whose operator has no tensor expression
    run on the host without a warning. `disable` names passes to leave out.
    `on_progress(stage, done, total, detail)` is told how far the build is. `threads` is the number
    of threads the engine runs on unless told otherwise; it changes no result.
    `allow_fallback=["onnxruntime"]` leaves nodes that Bessemer cannot run to ONNX Runtime, inside
    the engine; without it they are an error that lists them all. `fallback_nodes` are names of
    nodes (`*` and `?` stand for anything) that shall go there although Bessemer could run them.
    Initializers are constants of the engine, also where the model lists them as inputs; those
    named in `keep_inputs` are inputs, and each run gives their values.
    Raises: ModelFormatError, UnsupportedOperatorError, ShapeError, SettingsError, TargetError.
    """
    _check_options(precision, calibration, tune, budget_s, plugins)
    log = logger or LOGGER
    options = BuildOptions(
        _targets(target), name, tuple(disable), verify or None,
        Tuning.of(tune, budget_s), strict, threads=threads)
    fallback = Fallback(tuple(allow_fallback), tuple(fallback_nodes))
    graph = import_model(model, shapes=_all_shapes(shapes), fallback=fallback,
                         keep_inputs=tuple(keep_inputs))
    options = replace(options, ranges=symbol_ranges(graph, profiles or ()))
    compiled = compile_graph(graph, options, on_progress=on_progress, logger=log)
    return compiled.engine


def compile_graph(graph: Graph, options: BuildOptions, *, on_progress: Progress | None = None,
                  logger: logging.Logger = LOGGER) -> Compiled:
    """The whole pipeline on a graph, keeping every stage.

    With tuning a network is built by formula, tuned, built anew, and the faster of both is kept.
    """
    tell = on_progress or (lambda stage, done, total, detail: None)
    tuning = options.tuning
    if tuning.level == "none":
        return _compile(graph, options, tell, logger, {})
    with tuning.opened() as records:
        choose = choosers(tuning, options.targets, options.threads, records)
        first = _compile(graph, options, tell, logger, choose)
        open_ones = {name: each for name, each in choose.items() if not each.settled}
        reserve = time.perf_counter() - tuning.started + _COMPARE_SECONDS
        if settings().cache:
            reserve -= first.compile_seconds
        found = [each.search(first.engine.program_of(name), reserve, partial(tell, "tune"))
                 for name, each in open_ones.items()]
        tuning.found.extend(row for each in choose.values() for row in each.report())
        if not any(found):
            return first
        second = _compile(graph, options, tell, logger, choose)
        ratio = max(each.judge(second.engine.program_of(name), first.engine.program_of(name))
                    for name, each in open_ones.items())
        kept = "kept" if ratio <= FASTER else "the formula's schedules are kept"
        tell("tune", 1, 1, f"the network takes {ratio:.1%} of its time by formula: {kept}")
        return second if ratio <= FASTER else first


def _compile(graph: Graph, options: BuildOptions, tell: Progress, logger: logging.Logger,
             choose: Mapping[str, Choose]) -> Compiled:
    """All stages, with schedules as `choose` says for each target, else by formula."""
    dump = Dumper.from_settings()
    tell("import", 1, 1, graph.name)
    imported = graph
    constants = ConstantPool()
    dump.graph("import", imported)
    with settling(options.usual) as settled:
        try:
            graph, passes, variants = _lower(imported, options, constants, tell, dump, choose)
        except ShapeError:
            if not settled.taken:
                raise
            variants = []
        taken = tuple(settled.taken)
    if taken and not (variants and all(
            is_checked(each, variant.plan) for each in taken for variant in variants)):
        return _compile(imported, replace(options, exact=True), tell, logger, choose)
    tell("schedule", len(options.targets), len(options.targets), "")
    _report_host_steps(variants[0], options.strict, logger)
    cache = ObjectCache.from_settings()
    objects, requires = {}, {}
    start = time.perf_counter()
    for variant in variants:
        def on_done(done: int, total: int, chip: Target = variant.target) -> None:
            tell("compile", done, total, chip.name)

        objects[variant.target.name] = tuple(compile_kernels(
            variant.all_kernels, variant.target, cache, on_done, (driver_module(variant.target),)))
        requires[variant.target.name] = variant.target.requires
    compile_seconds = time.perf_counter() - start
    tell("pack", 0, 1, "")
    source = None
    if options.store and any(variant.plan.symbols for variant in variants):
        if taken:  # the engine was made for usual shapes, the graph is stored for all
            graph = imported.clone()
            run_pipeline(graph, disable=options.disable)
        source = stored_source(graph, constants)
    data = replace(pack(variants, passes, constants, objects, requires, options), source=source)
    foreign = not any(not missing_flags(chip) for chip in options.targets)
    engine = Engine(data, foreign=foreign)
    tell("pack", 1, 1, f"{data.constant_bytes / 1e6:.1f} MB of constants")
    first = variants[0]
    return Compiled(imported, first.graph, [*passes, *first.passes], first.partition.groups,
                    [str(note) for note in first.partition.notes], first.kernels, variants,
                    data.plan, engine, compile_seconds)


def _lower(imported: Graph, options: BuildOptions, constants: ConstantPool, tell: Progress,
           dump: Dumper, choose: Mapping[str, Choose]
           ) -> tuple[Graph, list[PassResult], list[Variant]]:
    """The optimised graph, what the passes did, and the graph lowered for each target."""
    graph = substitute_symbols(imported, {}) if has_choices(imported) else imported.clone()
    tell("optimise", 0, 1, f"{len(graph.nodes)} nodes")
    passes = run_pipeline(graph, disable=options.disable, verify=options.verify,
                          observer=dump.graph)
    tell("optimise", 1, 1, f"{len(graph.nodes)} nodes")
    variants = []
    for number, chip in enumerate(options.targets):
        tell("schedule", number, len(options.targets), chip.name)
        variants.append(lower_variant(graph.clone(), chip, constants, disable=options.disable,
                                      verify=options.verify, fuse=options.fuse,
                                      ranges=options.ranges,
                                      choose=choose.get(chip.name)))
        dump.variant(variants[-1])
    return graph, passes, variants


def pack(variants: list[Variant], passes: list[PassResult], constants: ConstantPool,
         objects: dict[str, tuple[bytes, ...]], requires: dict[str, tuple[str, ...]],
         options: BuildOptions) -> EngineData:
    """The engine's data: plans of all variants over one blob of constants."""
    plans = {}
    offloads = list(offloads_of(variants[0].graph))
    offloaded = [node for op in offloads for node in op.nodes]
    versions = {"onnxruntime": offloads[0].version} if offloads else {}
    for variant in variants:
        records = tuple(
            PassRecord(r.name, r.changed, r.nodes_before, r.nodes_after, r.notes)
            for r in (*passes, *variant.passes) if r.changed)
        memory = replace(variant.plan.memory, weights_bytes=constants.size_bytes)
        plans[variant.target.name] = replace(
            variant.plan, passes=records, memory=memory, name=options.name or variant.plan.name,
            options={"precision": "fp32", "tune": options.tuning.level,
                     "disable": list(options.disable), "target": variant.target.name} | (
                         {"threads": options.threads} if options.threads else {}) | (
                         {"offloaded": offloaded} if offloaded else {}),
            versions={"bessemer": bessemer.__version__, "llvmlite": llvmlite.__version__,
                      "onnx": onnx.__version__} | versions)
    first, *rest = plans
    return EngineData(plans[first], objects, requires, constants.entries(),
                      {name: plans[name] for name in rest})


def bind_symbols(graph: Graph, logger: logging.Logger = LOGGER) -> Graph:
    """A static form to look at: symbolic dimensions of inputs that nothing fixed become 1."""
    names: set[str] = set()
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            for dim in value.type.shape:
                if isinstance(dim, Sym):
                    names |= dim.symbols()
    if not names:
        return graph
    logger.warning(
        "model %r has symbolic dimensions %s; 1 is taken for each: give shapes={...} "
        "(--shape NAME=EXTENT) for others", graph.name, ", ".join(sorted(names)))
    return specialize(graph, dict.fromkeys(names, 1))


def _report_host_steps(variant: Variant, strict: bool, logger: logging.Logger) -> None:
    offloads = list(offloads_of(variant.graph))
    if offloads:
        logger.warning("left to onnxruntime: %s", ", ".join(n for op in offloads for n in op.nodes))
    steps = [step for step in variant.plan.opaque_steps if step.operator["op"] != Offload.op_name]
    if steps and strict:
        lines = "; ".join(f"{s.operator['op']} {s.name!r} ({s.reason})" for s in steps[:20])
        logger.warning("%d nodes run on the host by their reference: %s", len(steps), lines)


def _targets(target: str | Sequence[str] | None) -> tuple[Target, ...]:
    wished = target if target is not None else settings().target or "host"
    names = [wished] if isinstance(wished, str) else list(wished)
    if not names:
        raise SettingsError("target: at least one name is needed")
    found = {chip.name: chip for chip in map(get_target, names)}
    return tuple(found.values())


def _all_shapes(shapes: Mapping[str, int | Sequence[int]] | None
                ) -> dict[str, int | tuple[int, ...]] | None:
    """Shapes given by the user."""
    return {name: shape if isinstance(shape, int) else tuple(shape)
            for name, shape in (shapes or {}).items()} or None


def _check_options(precision: str, calibration: Any, tune: str | None, budget_s: float | None,
                   plugins: Iterable[type]) -> None:
    if precision not in PRECISIONS:
        raise SettingsError(f"precision {precision!r} is not available; choose from {PRECISIONS}")
    if calibration is not None:
        raise SettingsError("calibration data is for lower precisions; precision is fp32")
    if tune is not None and tune not in LEVELS:
        raise SettingsError(f"tune {tune!r} is not available; choose from {LEVELS}")
    if budget_s is not None and budget_s <= 0:
        raise SettingsError(f"budget_s is {budget_s}; a positive number of seconds is expected")
    check_plugins(plugins)
