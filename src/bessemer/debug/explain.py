"""What the passes joined and what they refused, and parts of a model before and after, as text."""

import fnmatch
from collections.abc import Iterable, Sequence

from bessemer.core.errors import PassError
from bessemer.ir.graph import Graph, Node
from bessemer.ir.printer import print_graph
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.pipelines import LAYOUT_PIPELINE, run_pipeline
from bessemer.passes.runner import Observer, PassResult, pass_names


def run_all_passes(
    graph: Graph, *, disable: Sequence[str] = (), observer: Observer | None = None,
    with_layouts: bool = False,
) -> list[PassResult]:
    """Runs the default passes in place, and those on layouts if every shape is known."""
    results = run_pipeline(graph, disable=disable, observer=observer)
    if with_layouts:
        results += run_pipeline(
            graph, disable=disable, observer=observer, pipeline=LAYOUT_PIPELINE
        )
    return results


def graph_after(graph: Graph, name: str, disable: Sequence[str] = ()) -> str:
    """The text of the graph as the last run of that pass left it.

    Where the pass changed nothing the text is that of the end of the pipeline up to there.
    Raises: PassError for an unknown pass, or one that is not in the pipeline.
    """
    PASSES.get(name)
    seen: list[str] = []
    working = graph.clone()
    results = run_all_passes(
        working, disable=disable, with_layouts=name in pass_names(LAYOUT_PIPELINE),
        observer=lambda done, now: seen.append(print_graph(now, hashes=False)),
    )
    runs = [number for number, result in enumerate(results) if result.name == name]
    if not runs:
        raise PassError(f"pass {name!r} is off by default or disabled; see 'bessemer passes'")
    changes = sum(result.changed for result in results[: runs[-1] + 1])
    return seen[changes - 1] if changes else print_graph(graph, hashes=False)


def why_lines(
    results: Iterable[PassResult], fusion: Iterable[str] = (), only: Sequence[str] = (),
) -> list[str]:
    """One line for each thing that a pass joined or changed (+) or refused (-), then fusion.

    `only` keeps the lines of those passes; "fusion" stands for the fusion into kernels.
    """
    lines: list[str] = []
    for result in results:
        if only and result.name not in only:
            continue
        lines += [f"+ {result.name}: {note}" for note in result.notes]
        if result.offence:
            lines.append(f"! {result.name}: rolled back: {result.offence}")
    refused = dict.fromkeys(
        f"- {refusal}" for result in results for refusal in result.refusals
        if not only or result.name in only
    )
    lines += refused
    if not only or "fusion" in only:
        lines += [f"= fusion: {line}" for line in fusion]
    return lines


def matching_nodes(graph: Graph, pattern: str) -> list[Node]:
    """Nodes of which a source name or output fits a pattern such as `inception_3a*`."""
    return [
        node for node in graph.nodes
        if any(fnmatch.fnmatchcase(name, pattern) for name in (*node.sources, node.name))
        or any(fnmatch.fnmatchcase(value.name, pattern) for value in node.outputs)
    ]


def block_text(graph: Graph, pattern: str) -> list[str]:
    """The nodes of a part of a graph, one line each: operator, sources, types, where they lie."""
    return [_node_line(node) for node in matching_nodes(graph, pattern)]


def _node_line(node: Node) -> str:
    types = ", ".join(str(value.type) for value in node.outputs)
    places = [
        f"{value.name} inside {value.placement.root.name}" for value in node.outputs
        if value.placement is not None
    ]
    where = f" ({'; '.join(places)})" if places else ""
    return f"{node.op} {' + '.join(node.sources)}: {types}{where}"
