"""Which nodes share a kernel."""

import numpy as np
import pytest

import bessemer
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.lower.fuse import partition
from bessemer.passes.pipelines import LAYOUT_PIPELINE, run_pipeline

POOL = """
graph g(%x: f32[1,16,{extent},9]) -> (%y) {{
  @s : f32[16,1,1] = random(1)
  %m = Mul(%x, @s)
  %r = Relu(%m)
  %y = AveragePool(%r, kernel_shape=(2, 3), strides={strides}, pads={pads}, ceil_mode={ceil})
}}
"""


@pytest.mark.parametrize(("extent", "strides", "pads", "ceil", "joined"), [
    (6, (2, 3), (0, 0, 0, 0), 0, True),
    (7, (3, 4), (0, 0, 0, 0), 0, True),
    (6, (2, 2), (0, 0, 0, 0), 0, False),  # columns are read twice
    (6, (2, 3), (0, 1, 0, 1), 0, False),  # zeros around would be scaled
    (7, (2, 3), (0, 0, 0, 0), 1, False),
])
def test_windows_that_follow_each_other_compute_what_they_read(
        extent, strides, pads, ceil, joined):
    text = POOL.format(extent=extent, strides=strides, pads=pads, ceil=ceil)
    graph = parse_graph(text)
    assert (len(partition(graph).groups) == 1) == joined
    x = np.random.default_rng(0).normal(size=(1, 16, extent, 9)).astype(np.float32)
    found = bessemer.build(parse_graph(text)).run({"x": x})["y"]
    np.testing.assert_allclose(found, run_graph(graph, [x])[0], rtol=1e-5, atol=1e-6)


DENSE = """
graph g(%x: f32[{batch},16,{high},{wide}]) -> (%y, %p) {{
  @w0 : f32[{channels},16,3,3] = random(1)
  @s : f32[{channels},1,1] = random(2)
  @t : f32[{channels},1,1] = random(3)
  @w : f32[{filters},{channels},1,1] = random(4)
  %c = Conv(%x, @w0, pads=(1, 1, 1, 1))
  %p = MaxPool(%c, kernel_shape=(1, 1))
  %m = Mul(%p, @s)
  %a = Add(%m, @t)
  %r = Relu(%a)
  %k = Conv(%r, @w{options})
  %y = {then}(%k)
}}
"""


def dense(batch=1, high=9, wide=7, channels=32, filters=48, options="", then="Relu"):
    return DENSE.format(batch=batch, high=high, wide=wide, channels=channels, filters=filters,
                        options=options, then=then)


@pytest.mark.parametrize("sizes", [
    {}, {"batch": 3, "channels": 64, "filters": 20}, {"high": 1, "wide": 5, "channels": 256},
    {"high": 37, "wide": 41, "channels": 96}, {"then": "Neg", "filters": 512},
])
def test_pointwise_convolutions_compute_their_input(sizes):
    graph = parse_graph(dense(**sizes))
    engine = bessemer.build(parse_graph(dense(**sizes)))
    x = np.random.default_rng(0).normal(size=graph.inputs[0].type.static_shape).astype(np.float32)
    rows = engine.create_context().profile({"x": x}, runs=1).rows
    assert any({"r", "k"} <= {*row.sources} and row.rule == "convolution" for row in rows)
    for name, wanted in zip(("y", "p"), run_graph(graph, [x]), strict=True):
        found = engine.run({"x": x})[name]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("options", "channels"), [
    (", strides=(2, 2)", 32), (", pads=(1, 1, 1, 1)", 32), ("", 24)])
def test_other_convolutions_read_their_input(options, channels):
    graph = parse_graph(dense(options=options, channels=channels))
    run_pipeline(graph, pipeline=LAYOUT_PIPELINE)
    assert all(len(group.nodes) < 4 for group in partition(graph).groups)
