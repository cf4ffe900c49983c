"""Machine code agrees with the reference on every sample of every operator."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_generated import (
    Case,
    assert_close,
    is_random,
    tolerance_of,
)

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import COMPILED, dtype_from_numpy
from bessemer.core.errors import TargetError
from bessemer.core.registry import OPERATORS
from bessemer.engine.plan import HostStep
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.passes.pipelines import OPTIMIZE_PIPELINE
from bessemer.passes.runner import pass_names
from bessemer.runtime.cpu import missing_features
from bessemer.targets import get_target

DEFAULT_TARGETS = ("host",)
ALL_TARGETS = ("x86-avx512", "x86-avx2", "x86-64-v2")


def runnable(case: Case) -> bool:
    """True if inputs and results are arrays of dtypes that kernels compute with."""
    arrays = [array for array in case.inputs if array is not None]
    return all(
        isinstance(array, np.ndarray) and dtype_from_numpy(array.dtype) in COMPILED
        for array in arrays
    )


def graph_of(name: str) -> tuple[Graph, list[tuple[Case, dict, list]]]:
    """One graph with every sample of an operator as a node of its own."""
    graph, rows = Graph(name), []
    for number, item in enumerate(OPERATORS.get(name).samples):
        if item.skip:
            continue
        case = Case(name, number)
        if not runnable(case) or is_random(case):
            continue
        feed, operands = {}, []
        for k, array in enumerate(case.inputs):
            if array is None:
                operands.append(None)
            elif case.known[k] is not None:
                operands.append(graph.add_constant(f"c{number}_{k}", array))
            else:
                value = graph.add_input(f"x{number}_{k}", TensorType.of(array, keep_value=False))
                operands.append(value)
                feed[value.name] = array
        want = case.results()[: item.outputs]
        outputs = [f"y{number}_{k}" for k in range(len(want))]
        node = graph.add_node(case.op, operands, name=f"n{number}", outputs=outputs)
        graph.outputs += node.outputs
        rows.append((case, feed, list(zip(outputs, want))))
    return graph, rows


def check(name: str, target: str) -> None:
    chip = get_target(target)
    if missing_features(chip.requires):
        pytest.skip(f"this machine cannot run {target}")
    graph, rows = graph_of(name)
    if not rows:
        pytest.skip("no sample with compiled dtypes")
    options = BuildOptions((chip,), disable=tuple(pass_names(OPTIMIZE_PIPELINE)), strict=False)
    try:
        engine = compile_graph(graph, options).engine
    except TargetError as error:
        pytest.skip(str(error))
    feed = {key: array for _, part, _ in rows for key, array in part.items()}
    for threads in (1, 2):
        with engine.create_context(threads=threads) as context:
            got = context.run(feed)
        for case, _, wanted in rows:
            for output, want in wanted:
                if not isinstance(want, np.ndarray | np.generic):
                    continue
                want = np.asarray(want)
                tolerance = tolerance_of(case.op, dtype_from_numpy(want.dtype).name)
                steps = {n for s in engine.plan.steps if not isinstance(s, HostStep)
                         for n in s.sources}
                how = "compiled" if f"n{output[1:].split('_')[0]}" in steps else "host"
                assert_close(got[output], want, tolerance * 4, f"{name} {case.sample} ({how})")


NAMES = [n for n in OPERATORS.names() if not n.startswith("test.")]


@pytest.mark.parametrize("target", DEFAULT_TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_reference(name, target):
    check(name, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_reference_on_every_target(name, target):
    check(name, target)
