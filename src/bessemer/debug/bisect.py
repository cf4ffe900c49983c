"""Names the first pass, else the first kernel, that breaks a result."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.debug.compare import RunGraph
from bessemer.debug.difference import Difference, compare_named, worst_first
from bessemer.debug.extra_outputs import with_extra_outputs
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph_values

Observer = Callable[[str, Graph], None]
RunPasses = Callable[[Graph, Observer], object]
"""Runs all passes on a graph in place, showing the graph after each that changed it."""

Boundaries = Callable[[Graph], Sequence[tuple[str, Collection[str]]]]
"""The kernels of a graph in order: (name, names of the values that it writes)."""


@dataclass(frozen=True)
class Finding:
    """What broke the result.

    `stage` is "pass", "kernel", "engine" (only the whole engine is wrong: memory planning,
    fusion across kept values, or the runtime) or "" where everything agrees.
    """

    stage: str
    name: str
    detail: str
    worst: Difference | None
    checked: tuple[str, ...]

    @property
    def found(self) -> bool:
        """True if something is wrong."""
        return bool(self.stage)


def bisect(
    graph: Graph, inputs: Mapping[str, Any], *, run_passes: RunPasses, run: RunGraph,
    boundaries: Boundaries, tolerance: float | None = None,
    on_progress: Callable[[str, int, int, str], None] | None = None,
) -> Finding:
    """Compares the reference result with the graph after each pass, then with each kernel.

    Passes are searched by halves (each trial runs the reference interpreter once); kernels are
    compared all at once, by an engine that gives the values between them too.
    """
    report = on_progress or (lambda stage, done, total, detail: None)
    expected = run_graph_values(graph, inputs, keep=())
    snapshots: list[tuple[str, Graph]] = [("import", graph.clone())]
    working = graph.clone()
    run_passes(working, lambda name, seen: snapshots.append((name, seen.clone())))
    checked = tuple(name for name, _ in snapshots)

    def differs(index: int) -> Difference | None:
        report("passes", index, len(snapshots) - 1, snapshots[index][0])
        found = run_graph_values(snapshots[index][1], inputs, keep=())
        return first_wrong(compare_named(expected, found, tolerance))

    if differs(len(snapshots) - 1):
        index = _first_bad(len(snapshots), lambda i: differs(i) is not None)
        worst = differs(index)
        detail = f"pass run {index} of {len(snapshots) - 1}; the one before it is right"
        return Finding("pass", snapshots[index][0], detail, worst, checked)
    return _find_kernel(working, inputs, run, boundaries, tolerance, checked, report)


def _first_bad(count: int, bad: Callable[[int], bool]) -> int:
    good, wrong = 0, count - 1
    while wrong - good > 1:
        middle = (good + wrong) // 2
        if bad(middle):
            wrong = middle
        else:
            good = middle
    return wrong


def _find_kernel(
    graph: Graph, inputs: Mapping[str, Any], run: RunGraph, boundaries: Boundaries,
    tolerance: float | None, checked: tuple[str, ...],
    report: Callable[[str, int, int, str], None],
) -> Finding:
    report("kernels", 0, 2, "build")
    plain = run(graph.clone(), inputs)
    kernels = boundaries(graph)
    names = {value for _, values in kernels for value in values}
    expected = run_graph_values(graph, inputs, keep=names)
    outputs = [value.name for value in graph.outputs]
    final = first_wrong(
        compare_named({name: expected[name] for name in outputs}, plain, tolerance)
    )
    report("kernels", 1, 2, "build with the values between kernels")
    found = run(with_extra_outputs(graph, names), inputs)
    checked = (*checked, *(name for name, _ in kernels))
    for kernel, values in kernels:
        wanted = {name: expected[name] for name in values if name in expected}
        wrong = first_wrong(compare_named(wanted, found, tolerance))
        if wrong is not None:
            detail = f"its inputs are right and its output {wrong.name!r} is wrong"
            return Finding("kernel", kernel, detail, wrong, checked)
    if final is not None:
        detail = (
            "every kernel is right when its outputs are kept, so the fault is in what differs "
            "then: memory planning, in-place writing or a barrier"
        )
        return Finding("engine", "", detail, final, checked)
    return Finding("", "", "every pass and every kernel agrees with the reference", None, checked)


def first_wrong(differences: Sequence[Difference]) -> Difference | None:
    """The worst tensor beyond its tolerance, or None."""
    ranked = worst_first(list(differences))
    return ranked[0] if ranked and not ranked[0].within else None
