"""The inception block before and after: fused vertically, merged horizontally, no concat."""

import pytest

import bessemer
from bessemer.frontends.onnx import read_onnx
from bessemer.ir.interpreter import run_graph
from bessemer.passes.pipelines import run_pipeline
from bessemer.passes.runner import run_passes
from bessemer.zoo import ZooOptions, make_model, sample_inputs

BLOCK = "inception3a"


@pytest.fixture(scope="module")
def model():
    return make_model("googlenet", ZooOptions(size=64))


def of_block(nodes, op=None):
    return [
        node
        for node in nodes
        if any(source.startswith(f"/{BLOCK}/") for source in node.sources)
        and op in (None, node.op.op_name)
    ]


def sources(*names):
    return {f"/{BLOCK}/{name}" for name in names}


def test_graph_before_and_after(model):
    graph = read_onnx(model)
    before = of_block(graph.nodes)
    assert len([node for node in before if node.op.op_name == "Conv"]) == 6
    assert len([node for node in before if node.op.op_name == "BatchNormalization"]) == 6
    run_pipeline(graph)
    assert not of_block(graph.nodes, "BatchNormalization")
    convolutions = of_block(graph.nodes, "Conv")
    # The three 1x1 branches that read the block's input are one convolution now.
    assert len(convolutions) == 4
    merged = max(convolutions, key=lambda node: len(node.sources))
    assert set(merged.sources) >= sources(
        "branch1/conv/Conv", "branch2/0/conv/Conv", "branch3/0/conv/Conv"
    )
    assert merged.output.tensor.shape[1] == 64 + 96 + 16


def test_concat_copies_nothing(model):
    graph = read_onnx(model)
    inputs = [sample_inputs(model)["input"]]
    expected = run_graph(graph, inputs)[0]
    run_pipeline(graph)
    run_passes(graph, ("place-concats",))
    (concat,) = of_block(graph.nodes, "Concat")
    assert all(value is not None and value.placement is not None for value in concat.inputs)
    assert abs(run_graph(graph, inputs)[0] - expected).max() < 1e-3 * abs(expected).max()


def test_engine_has_one_kernel_for_each_convolution(model):
    engine = bessemer.build(model)
    steps = [
        step
        for step in engine.plan.steps
        if any(source.startswith(f"/{BLOCK}/") for source in step.sources)
    ]
    by_sources = [set(step.sources) for step in steps]
    merged = sources(
        "branch1/conv/Conv", "branch2/0/conv/Conv", "branch3/0/conv/Conv",
        "branch1/Relu", "branch2/0/Relu", "branch3/0/Relu",
    )  # fmt: skip
    assert any(merged <= found for found in by_sources), by_sources
    for branch in ("branch2/1", "branch3/1", "branch4/1"):
        fused = sources(f"{branch}/conv/Conv", f"{branch}/Relu")
        assert any(fused <= found for found in by_sources), branch
    # Four convolutions and the pool; no step only copies parts together.
    assert len(steps) == 5
