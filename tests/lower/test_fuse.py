"""Which nodes share a kernel."""

import numpy as np
import pytest

import bessemer
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.lower.fuse import partition

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
