"""Runs a list of passes over a graph: times them, checks them, rolls a wrong one back."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.core.errors import PassError
from bessemer.core.switches import SWITCHES
from bessemer.ir.graph import Graph
from bessemer.ir.verifier import find_faults
from bessemer.passes.graph_pass import PASSES, GraphPass, Refusal
from bessemer.passes.verification import choose_inputs, find_difference, run_quietly

log = logging.getLogger("bessemer.passes")

Observer = Callable[[str, Graph], None]


@dataclass(frozen=True)
class Repeat:
    """Passes that run in order, again and again until none changes anything, at most `rounds`."""

    passes: tuple[str, ...]
    rounds: int = 4


Pipeline = Sequence[str | Repeat | GraphPass]
"""Names, groups that repeat, or passes with their options set."""


@dataclass(frozen=True)
class PassResult:
    """What one run of a pass did; `offence` says how a rolled-back one changed the answer."""

    name: str
    changed: bool
    nodes_before: int
    nodes_after: int
    seconds: float
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    offence: str = ""

    @property
    def rolled_back(self) -> bool:
        """True if the pass changed the answer and its work was undone."""
        return bool(self.offence)


def pass_names(pipeline: Pipeline) -> list[str]:
    """The passes of a pipeline, each once, in order."""
    flat = [name for entry in pipeline for name in _names(entry)]
    return list(dict.fromkeys(flat))


def run_passes(
    graph: Graph, pipeline: Pipeline, *, disable: Collection[str] = (),
    verify: Mapping[str, Any] | bool | None = None, observer: Observer | None = None,
) -> list[PassResult]:
    """Runs the passes in place and gives one result for each run.

    `verify` holds input arrays by name, or True for seeded random ones: graph outputs are compared
    before and after every pass that changed something; a pass that changed the answer is rolled
    back and named in a warning and in its result. `observer(name, graph)` sees the graph after
    every pass that changed it.
    Raises: PassError for an unknown name in `disable`.
    """
    for name in disable:
        if name not in SWITCHES:
            PASSES.get(name, SWITCHES)
    runner = _Runner(graph, observer, choose_inputs(graph, verify))
    for entry in pipeline:
        names = [name for name in _names(entry) if name not in disable]
        if isinstance(entry, GraphPass):
            if names:
                runner.run(entry)
            continue
        for _ in range(entry.rounds if isinstance(entry, Repeat) else 1):
            changed = [name for name in names if runner.run(PASSES.get(name)())]
            if not changed:
                break
    return runner.results


def run_pass(graph: Graph, item: GraphPass, *, verify: Mapping[str, Any] | bool | None = None
             ) -> PassResult:
    """Runs one pass with its options; see `run_passes`."""
    runner = _Runner(graph, None, choose_inputs(graph, verify))
    runner.run(item)
    return runner.results[0]


def _names(entry: str | Repeat | GraphPass) -> tuple[str, ...]:
    if isinstance(entry, Repeat):
        return entry.passes
    return (entry,) if isinstance(entry, str) else (entry.pass_name,)


class _Runner:
    def __init__(self, graph: Graph, observer: Observer | None, inputs: list[Any] | None) -> None:
        self.graph = graph
        self.observer = observer
        self.inputs = inputs
        self.results: list[PassResult] = []
        self.banned: set[str] = set()
        self.interface = _interface(graph)
        self.expected: list[Any] | None = None
        if inputs is not None and not _is_deterministic(graph):
            log.warning("verify: graph %r draws random numbers; it is not verified", graph.name)
            self.inputs = None
        elif inputs is not None:
            outputs = run_quietly(graph, inputs)
            if isinstance(outputs, str):
                log.warning("verify: graph %r cannot be run: %s", graph.name, outputs)
                self.inputs = None
            else:
                self.expected = outputs

    def run(self, item: GraphPass) -> bool:
        """Runs one pass; True if it changed the graph and was kept."""
        name = type(item).pass_name
        if name in self.banned:
            return False
        before = self.graph.clone() if self.inputs is not None else None
        count, start = len(self.graph.nodes), time.perf_counter()
        changed = item.run(self.graph)
        if changed and _interface(self.graph) != self.interface:
            raise PassError(
                f"pass {name} changed the graph's inputs or outputs from {self.interface} to "
                f"{_interface(self.graph)}; disable it and report this"
            )
        seconds = time.perf_counter() - start
        offence = self._find_offence() if changed and before is not None else ""
        result = PassResult(
            name, changed and not offence, count, len(self.graph.nodes), seconds,
            tuple(item.notes), tuple(item.refusals), offence,
        )
        self.results.append(result)
        if offence and before is not None:
            log.warning("pass %s changed the answer and was rolled back: %s", name, offence)
            _restore(self.graph, before)
            self.banned.add(name)
            return False
        if changed:
            log.info("%s: %d -> %d nodes, %s", name, count, len(self.graph.nodes),
                     "; ".join(item.notes))
            if self.observer is not None:
                self.observer(name, self.graph)
        return changed

    def _find_offence(self) -> str:
        assert self.inputs is not None
        assert self.expected is not None
        faults = find_faults(self.graph)
        if faults:
            return f"the graph is inconsistent: {'; '.join(faults[:3])}"
        found = run_quietly(self.graph, self.inputs)
        if isinstance(found, str):
            return f"the graph no longer runs: {found}"
        return find_difference(self.graph, self.expected, found)


def _is_deterministic(graph: Graph) -> bool:
    return all(
        node.op.deterministic and all(map(_is_deterministic, node.op.subgraphs().values()))
        for node in graph.nodes
    )


def _interface(graph: Graph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(v.name for v in graph.inputs), tuple(v.name for v in graph.outputs)


def _restore(graph: Graph, saved: Graph) -> None:
    graph.inputs, graph.outputs, graph.nodes = saved.inputs, saved.outputs, saved.nodes
    graph.metadata, graph._names = saved.metadata, saved._names
