"""The passes that run by default, in order: the one list, because order is a decision."""

from collections.abc import Collection, Mapping
from typing import Any

from bessemer.ir.graph import Graph
from bessemer.passes.runner import Observer, PassResult, Pipeline, Repeat, run_passes

_CLEAN = (
    "infer-shapes",
    "canonicalise",
    "fold-constants",
    "inline-branches",
    "sink-constants",
    "refine-bodies",
    "resolve-sequences",
    "unroll-loops",
    "remove-no-ops",
    "merge-common-subexpressions",
    "remove-dead-nodes",
)

OPTIMIZE_PIPELINE: Pipeline = (
    "expand-flex-attention",
    Repeat(_CLEAN, rounds=6),
    # Before weights change: a folded factor would hide the spelling.
    "recognise-clip",
    "recognise-gelu",
    "recognise-hard-swish",
    "recognise-silu",
    "recognise-mish",
    "recognise-layer-norm",
    "recognise-softmax",
    Repeat(("fold-batch-norm", "fold-scale-bias", "fold-pad")),
    Repeat(("unstack-heads", "cancel-transposes", *_CLEAN), rounds=6),
    # Transposes moved out of the way may have parted a convolution from its scale.
    "fold-scale-bias",
    "move-average-pools",
    "unflatten-gemm",
    # Before products are merged: fewer rows may be wanted of one than of the others.
    "hoist-slices",
    "expand-conv-transpose",
    "merge-horizontal-convolutions",
    "merge-horizontal-matmuls",
    "expand-recurrent",
    "reshape-before-split",
    "join-pieces",
    # Last, so that conditions which can become known have done so.
    "select-branches",
    Repeat(_CLEAN),
)
"""Default passes that do not depend on layouts."""

LAYOUT_PIPELINE: Pipeline = (
    "dequantize-block-weights", "scan-recurrent", "recognise-attention", "choose-layouts",
    "place-concats",
)
"""Runs when all shapes are bound."""


def run_pipeline(
    graph: Graph, *, disable: Collection[str] = (),
    verify: Mapping[str, Any] | bool | None = None, observer: Observer | None = None,
    pipeline: Pipeline = OPTIMIZE_PIPELINE,
) -> list[PassResult]:
    """Runs the default passes in place; see `runner.run_passes` for the arguments."""
    return run_passes(graph, pipeline, disable=disable, verify=verify, observer=observer)
