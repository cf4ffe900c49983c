"""Pipelines: verification names and rolls back a wrong pass; names agree."""

import logging
from pathlib import Path

import numpy as np
import pytest

from bessemer.core.errors import PassError
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import print_graph
from bessemer.ir.verifier import verify
from bessemer.passes.graph_pass import PASSES, GraphPass, RewritePass, graph_pass
from bessemer.passes.pipelines import LAYOUT_PIPELINE, OPTIMIZE_PIPELINE, run_pipeline
from bessemer.passes.runner import Repeat, pass_names, run_passes

NETWORK = """graph net(%x: f32[1,3,8,8]) -> (%y) {
  @w : f32[16,3,3,3] = random(1)
  @gamma : f32[16] = random(2)
  @beta : f32[16] = random(3)
  @mean : f32[16] = random(4)
  @var : f32[16] = random(5, 0.5, 2.0)
  @one : f32[] = [1]
  @flat : i64[2] = [1, -1]
  @fc : f32[1024,10] = random(6)
  %c = Conv(%x, @w, pads=(1, 1, 1, 1)) from "conv"
  %b = BatchNormalization(%c, @gamma, @beta, @mean, @var) from "bn"
  %i = Identity(%b) from "id"
  %r = Relu(%i) from "relu"
  %m = Mul(%r, @one) from "one"
  %f = Reshape(%m, @flat) from "flatten"
  %y = MatMul(%f, @fc) from "fc"
}"""


@pytest.fixture
def faulty():
    """A pass that turns Relu into Abs; registered only for the test."""

    @graph_pass("break-relu")
    class BreakRelu(RewritePass):
        """Relu -> Abs, which is wrong."""

        def rewrite(self, node, graph):
            if node.op.op_name != "Relu":
                return None
            return self.build(graph, node, "Abs", node.inputs).output

    yield BreakRelu
    del PASSES._entries["break-relu"]


def test_the_pipeline_keeps_the_answer():
    graph = parse_graph(NETWORK)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    before = run_graph(graph, [x])[0]
    results = run_pipeline(graph, verify={"x": x})
    verify(graph)
    assert [node.op.op_name for node in graph.nodes] == ["Conv", "Relu", "Reshape", "MatMul"]
    assert graph.nodes[0].sources == ("conv", "bn")
    assert graph.outputs[0].name == "y"
    assert np.allclose(run_graph(graph, [x])[0], before, rtol=1e-4, atol=1e-4)
    assert not any(result.rolled_back for result in results)
    assert any(result.name == "fold-batch-norm" and result.changed for result in results)


def test_a_wrong_pass_is_named_and_rolled_back(faulty, caplog):
    graph = parse_graph(NETWORK)
    before = print_graph(graph)
    with caplog.at_level(logging.WARNING, "bessemer.passes"):
        results = run_passes(graph, ("break-relu",), verify=True)
    assert results[0].rolled_back
    assert not results[0].changed
    assert "output 'y' differs" in results[0].offence
    assert "break-relu changed the answer" in caplog.text
    assert print_graph(graph) == before
    verify(graph)


def test_a_wrong_pass_runs_only_once(faulty):
    graph = parse_graph(NETWORK)
    pipeline = (Repeat(("break-relu", "fold-batch-norm"), rounds=3),)
    results = run_passes(graph, pipeline, verify=True)
    assert [result.name for result in results].count("break-relu") == 1
    assert any(result.changed for result in results)


def test_without_verification_nothing_is_compared(faulty):
    graph = parse_graph(NETWORK)
    assert run_passes(graph, ("break-relu",))[0].changed


def test_a_pass_may_not_rename_outputs(faulty):
    @graph_pass("rename-outputs")
    class RenameOutputs(GraphPass):
        """Renames."""

        def run(self, graph):
            graph.rename_value(graph.outputs[0], "other")
            return True

    try:
        with pytest.raises(PassError, match="rename-outputs changed the graph's inputs or outputs"):
            run_passes(parse_graph(NETWORK), ("rename-outputs",))
    finally:
        del PASSES._entries["rename-outputs"]


def test_disabled_passes_do_not_run():
    graph = parse_graph(NETWORK)
    results = run_pipeline(graph, disable=("fold-batch-norm",))
    assert all(result.name != "fold-batch-norm" for result in results)
    assert any(node.op.op_name == "BatchNormalization" for node in graph.nodes)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(PassError, match="did you mean fold-batch-norm"):
        run_pipeline(parse_graph(NETWORK), disable=("fold-batchnorm",))
    with pytest.raises(PassError, match="did you mean pad-rows"):
        run_pipeline(parse_graph(NETWORK), disable=("pad-row",))


def test_the_observer_sees_every_change():
    seen = []
    results = run_pipeline(parse_graph(NETWORK), observer=lambda name, graph: seen.append(name))
    assert seen == [result.name for result in results if result.changed]


def test_file_class_and_registered_name_agree():
    folder = Path(PASSES.get("fold-batch-norm").__module__.replace(".", "/")).parent
    for name in PASSES.names():
        cls = PASSES.get(name)
        assert cls.__module__.rpartition(".")[2] == name.replace("-", "_"), folder
        assert cls.__name__ == "".join(word.capitalize() for word in name.split("-"))
        assert cls.__doc__


def test_every_default_pass_is_in_the_pipeline():
    listed = {*pass_names(OPTIMIZE_PIPELINE), *pass_names(LAYOUT_PIPELINE)}
    for name in PASSES.names():
        assert (name in listed) == PASSES.get(name).default_on, name


def test_every_pass_has_a_text_test():
    folder = Path(__file__).parent
    for name in PASSES.names():
        assert (folder / f"{name.replace('-', '_')}.ir").exists(), name


def test_random_graphs_are_not_verified(caplog):
    graph = parse_graph("""graph g(%x: f32[2]) -> (%y) {
      %a = Identity(%x)
      %y = Bernoulli(%a)
    }""")
    results = run_pipeline(graph, verify=True)
    assert "draws random numbers" in caplog.text
    assert not any(result.rolled_back for result in results)
