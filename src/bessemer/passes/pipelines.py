"""The passes that run by default, in order: the one list, because order is a decision."""

from collections.abc import Collection, Mapping
from typing import Any

from bessemer.ir.graph import Graph
from bessemer.passes.runner import Observer, PassResult, Pipeline, Repeat, run_passes

CLEAN = Repeat(("infer-shapes", "fold-constants", "remove-dead-nodes"))

OPTIMIZE_PIPELINE: Pipeline = (
    CLEAN,
    "fold-batch-norm",
)

LAYOUT_PIPELINE: Pipeline = ("choose-layouts", "place-concats")
"""Runs when all shapes are bound."""


def run_pipeline(
    graph: Graph, *, disable: Collection[str] = (),
    verify: Mapping[str, Any] | bool | None = None, observer: Observer | None = None,
    pipeline: Pipeline = OPTIMIZE_PIPELINE,
) -> list[PassResult]:
    """Runs the default passes in place; see `runner.run_passes` for the arguments."""
    return run_passes(graph, pipeline, disable=disable, verify=verify, observer=observer)
