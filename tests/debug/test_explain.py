"""Why lines, the graph after a pass, and parts of a model before and after."""

import numpy as np
import pytest

from bessemer.compiler.api import Network
from bessemer.core.errors import PassError
from bessemer.debug.compilation import boxes_of_graph, boxes_of_groups
from bessemer.debug.explain import (
    block_text,
    graph_after,
    matching_nodes,
    run_all_passes,
    why_lines,
)


@pytest.fixture
def graph():
    """A block of two 1x1 convolutions with batch normalisation and Relu over one input."""
    network = Network("block")
    rng = np.random.default_rng(0)
    x = network.add_input("x", "f32", (1, 4, 5, 5))
    branches = []
    for name in ("left", "right"):
        w = network.add_constant(f"{name}.w", rng.standard_normal((8, 4, 1, 1)).astype(np.float32))
        y = network.add("Conv", x, w, name=f"block/{name}/conv", kernel_shape=(1, 1))
        stats = [
            network.add_constant(f"{name}.{k}", np.abs(rng.standard_normal(8)).astype(np.float32))
            for k in ("scale", "bias", "mean", "var")
        ]
        y = network.add("BatchNormalization", y, *stats, name=f"block/{name}/bn")
        branches.append(network.add("Relu", y, name=f"block/{name}/relu"))
    both = network.add("Concat", *branches, name="block/concat", axis=1)
    network.mark_output(network.add("Sigmoid", both, name="end"), "y")
    return network.graph


def test_graph_after_a_pass(graph):
    before, after = graph_after(graph, "recognise-gelu"), graph_after(graph, "fold-batch-norm")
    assert "BatchNormalization" in before
    assert "BatchNormalization" not in after
    assert "BatchNormalization" in [str(node.op) for node in graph.nodes]
    with pytest.raises(PassError, match="fold-batch-norm"):
        graph_after(graph, "fold-batch-nrm")
    with pytest.raises(PassError, match="off by default or disabled"):
        graph_after(graph, "fold-batch-norm", ["fold-batch-norm"])


def test_why_names_what_was_folded_and_merged(graph):
    results = run_all_passes(graph)
    lines = why_lines(results, ["conv joined relu"])
    text = "\n".join(lines)
    assert "+ fold-batch-norm: " in text
    assert "block/left/bn" in text
    assert "= fusion: conv joined relu" in text
    only = why_lines(results, ["conv joined relu"], ["fold-batch-norm"])
    assert only
    assert all("fold-batch-norm" in line for line in only)
    assert why_lines(results, ["conv joined relu"], ["fusion"]) == ["= fusion: conv joined relu"]


def test_a_block_is_found_by_source_names(graph):
    before = block_text(graph, "block/*")
    assert len(before) == 7
    run_all_passes(graph)
    after = block_text(graph, "block/*")
    assert len(after) < len(before)
    assert matching_nodes(graph, "nothing*") == []


def test_boxes_have_edges(graph):
    boxes = {box.title: box for box in boxes_of_graph(graph)}
    assert len(boxes["Concat"].inputs) == 2
    nodes = graph.nodes
    grouped = boxes_of_groups(graph, [("k0", nodes[:3], "kernel"), ("k1", nodes[3:], "host")])
    assert [box.kind for box in grouped] == ["input", "kernel", "host"]
    assert set(grouped[2].inputs) == {"%x", "k0"}
