"""Runs a model by Bessemer and by something independent on the same inputs, value by value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.bench.inputs import Arrays, InputSpec, Sizes
from bessemer.bench.rivals import load_rival
from bessemer.core.errors import InputError
from bessemer.debug.difference import Difference, compare_named, worst_first
from bessemer.debug.extra_outputs import with_extra_outputs
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph_values
from bessemer.ir.types import TensorType

REFERENCE = "reference"
"""The name of Bessemer's own numpy interpreter as the side to compare against."""

RunGraph = Callable[[Graph, Mapping[str, Any]], Mapping[str, Any]]
"""Compiles a graph and runs it once: outputs by name."""


@dataclass(frozen=True)
class Comparison:
    """The tensors compared, in graph order, and the values that only one side had."""

    against: str
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """True if something was compared and every tensor is within its tolerance."""
        return bool(self.differences) and all(item.within for item in self.differences)

    def worst(self, count: int = 10) -> list[Difference]:
        """The tensors furthest beyond their tolerance, then those with the largest errors."""
        return worst_first(list(self.differences))[:count]


def input_specs(graph: Graph) -> list[InputSpec]:
    """The tensor inputs of a graph. Raises: InputError for a sequence or an unknown rank."""
    specs = []
    for value in graph.inputs:
        if not isinstance(value.type, TensorType) or value.type.shape is None:
            raise InputError(
                f"input {value.name!r} is {value.type}; random data can only be made for "
                "tensors of known rank"
            )
        specs.append(InputSpec(value.name, value.type.dtype, value.type.shape))
    return specs


def compile_and_run(
    *, threads: int | None = None, disable: tuple[str, ...] = ()
) -> RunGraph:
    """The usual other side: builds an engine from a graph, for the inputs' shapes, and runs it."""
    from bessemer.compiler.build import build

    def run(graph: Graph, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        engine = build(graph, threads=threads, shapes=open_shapes(graph, inputs), disable=disable)
        outputs: Mapping[str, Any] = engine.run(dict(inputs))
        return {name: np.array(data) if isinstance(data, np.ndarray) else data
                for name, data in outputs.items()}

    return run


def open_shapes(
    graph: Graph, inputs: Mapping[str, Any]
) -> dict[str, int | tuple[int, ...]] | None:
    """The given shapes of the inputs that have symbols; None if there are none."""
    shapes: dict[str, int | tuple[int, ...]] = {
        value.name: tuple(inputs[value.name].shape) for value in graph.inputs
        if isinstance(value.type, TensorType) and not value.type.is_static
    }
    return shapes or None


def compare_graph(
    graph: Graph, inputs: Mapping[str, Any], run: RunGraph, *, against: str = REFERENCE,
    model: str | Path | None = None, all_values: bool = False, tolerance: float | None = None,
    threads: int | None = None,
) -> Comparison:
    """Compares a compiled graph with the reference interpreter or another runtime.

    `all_values` compares every intermediate value too: the engine is then built with all of them
    as outputs, which keeps kernels from being fused across them.
    `model` is the file that another runtime loads.
    """
    compiled = with_extra_outputs(graph) if all_values else graph.clone()
    names = [value.name for value in compiled.outputs]
    expected = expected_values(graph, inputs, names, against, model, all_values, threads)
    found = run(compiled, inputs)
    order = [name for name in names if name in expected]
    differences = compare_named({name: expected[name] for name in order}, found, tolerance)
    missing = [name for name in names if name not in expected or name not in found]
    return Comparison(against, tuple(differences), tuple(missing))


def expected_values(
    graph: Graph, inputs: Mapping[str, Any], names: list[str], against: str,
    model: str | Path | None, all_values: bool, threads: int | None,
) -> dict[str, Any]:
    """The values of the side that is trusted, by name."""
    if against == REFERENCE:
        return run_graph_values(graph, inputs, keep=set(names))
    if model is None:
        raise InputError(f"comparing with {against} needs a model file")
    rival = load_rival(
        against, model, threads=threads, extra_outputs=names if all_values else None
    )
    return rival.run(inputs)


def compare_model(
    model: str | Path, inputs: Arrays | None = None, *, against: str = REFERENCE,
    all_values: bool = False, tolerance: float | None = None, threads: int | None = None,
    sizes: Sizes | None = None, seed: int = 0, disable: tuple[str, ...] = (),
) -> Comparison:
    """Compares a model file, built by Bessemer, with a rival or the reference interpreter.

    Inputs that are not given are random (seeded).
    """
    from bessemer.bench.inputs import complete_inputs
    from bessemer.frontends import import_model

    graph = import_model(model)
    data = complete_inputs(inputs or {}, input_specs(graph), seed=seed, sizes=sizes)
    run = compile_and_run(threads=threads, disable=disable)
    return compare_graph(
        graph, data, run, against=against, model=model, all_values=all_values,
        tolerance=tolerance, threads=threads,
    )
