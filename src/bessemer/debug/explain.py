"""What the passes joined and what they refused, and parts of a model before and after, as text."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bessemer.core.errors import PassError
from bessemer.ir.graph import Graph, Node
from bessemer.ir.printer import print_graph, print_node
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.pipelines import run_pipeline
from bessemer.passes.runner import PassResult


@dataclass(frozen=True)
class Step:
    """The graph as text after a pass that changed it."""

    name: str
    text: str
    nodes: int


def graph_after(graph: Graph, name: str, disable: Sequence[str] = ()) -> str:
    """The text of the graph as the last run of that pass left it.

    Where the pass changed nothing the text is that of the end of the pipeline up to there.
    Raises: PassError for an unknown pass, or one that is not in the pipeline.
    """
    PASSES.get(name)
    seen: list[tuple[str, str]] = []
    working = graph.clone()
    results = run_pipeline(
        working, disable=disable,
        observer=lambda done, now: seen.append((done, print_graph(now, hashes=False))),
    )
    if all(result.name != name for result in results):
        raise PassError(f"pass {name!r} is off by default or disabled; see 'bessemer passes'")
    last_run = max(i for i, result in enumerate(results) if result.name == name)
    changes_before = sum(1 for result in results[: last_run + 1] if result.changed)
    if changes_before == 0:
        return print_graph(graph, hashes=False)
    return seen[changes_before - 1][1]


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
    """The nodes of a part of a graph, one line each."""
    return [print_node(node, hashes=False) for node in matching_nodes(graph, pattern)]
