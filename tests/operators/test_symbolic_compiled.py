"""Kernels with symbolic extents agree with the reference on every sample of every operator.

Each extent of an input that is not constant becomes a symbol, one for each number, so that the
sample's own relations between extents hold.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_compiled import NAMES, graph_of
from test_generated import assert_close, tolerance_of

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.engine.plan import HostStep
from bessemer.ir.inference import infer_node_types
from bessemer.passes.pipelines import OPTIMIZE_PIPELINE
from bessemer.passes.runner import pass_names
from bessemer.targets import get_target


def symbolic_graph(name: str):
    """The samples of an operator over symbolic extents: of all inputs, or of the first at least.

    What an operator must know, such as the extents of a convolution's kernel, stays a number.
    """
    graph, rows = graph_of(name)
    for node in graph.nodes:
        values = list(dict.fromkeys(v for v in node.inputs if v is not None and not v.is_constant))
        for chosen in (values, values[:1], []):
            static = {value: value.type for value in chosen}
            for value in chosen:
                value.type = value.type.with_shape(
                    tuple(symbol(f"d{n}") if n > 1 else n for n in value.type.static_shape))
            try:
                types = infer_node_types(node.op, node.inputs, node.name)
                break
            except ShapeError:
                for value, known in static.items():
                    value.type = known
        for value, inferred in zip(node.outputs, types, strict=False):
            value.type = inferred
    return graph, rows


@pytest.mark.parametrize("name", NAMES)
def test_symbolic_equals_reference(name):
    graph, rows = symbolic_graph(name)
    if not rows:
        pytest.skip("no sample with compiled dtypes")
    options = BuildOptions((get_target("host"),), disable=tuple(pass_names(OPTIMIZE_PIPELINE)),
                           strict=False)
    engine = compile_graph(graph, options).engine
    feed = {key: array for _, part, _ in rows for key, array in part.items()}
    hosted = {n for s in engine.plan.steps if isinstance(s, HostStep) for n in s.sources}
    with engine.create_context(threads=2) as context:
        got = context.run(feed)
    for number, (case, _, wanted) in enumerate(rows):
        for output, want in wanted:
            if not isinstance(want, np.ndarray | np.generic):
                continue
            want = np.asarray(want)
            tolerance = tolerance_of(case.op, dtype_from_numpy(want.dtype).name)
            how = "host" if graph.nodes[number].name in hosted else "compiled"
            assert_close(got[output], want, tolerance * 4, f"{name} {case.sample} ({how})")
