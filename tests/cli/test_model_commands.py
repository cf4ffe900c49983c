"""build, compare, bench, inspect, debug on a small convolutional ONNX model."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bessemer.engine.file import MAGIC


def weight(rng, name, *shape):
    data = (rng.standard_normal(shape) * 0.2).astype(np.float32)
    return helper.make_tensor(name, TensorProto.FLOAT, shape, data.tobytes(), raw=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two 1x1 convolutions over one input, joined, pooled, classified; batch size N."""
    rng = np.random.default_rng(0)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w0"], ["c0"], "stem", kernel_shape=[3, 3],
                          pads=[1, 1, 1, 1]),
         helper.make_node("Relu", ["c0"], ["r0"], "stem_relu"),
         helper.make_node("Conv", ["r0", "w1"], ["c1"], "left", kernel_shape=[1, 1]),
         helper.make_node("Relu", ["c1"], ["r1"], "left_relu"),
         helper.make_node("Conv", ["r0", "w2"], ["c2"], "right", kernel_shape=[1, 1]),
         helper.make_node("Relu", ["c2"], ["r2"], "right_relu"),
         helper.make_node("Concat", ["r1", "r2"], ["cat"], "join", axis=1),
         helper.make_node("GlobalAveragePool", ["cat"], ["pool"], "pool"),
         helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
         helper.make_node("MatMul", ["flat", "w3"], ["y"], "fc")],
        "small", [info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [info("y", TensorProto.FLOAT, ["N", 10])],
        [weight(rng, "w0", 16, 3, 3, 3), weight(rng, "w1", 16, 16, 1, 1),
         weight(rng, "w2", 16, 16, 1, 1), weight(rng, "w3", 32, 10)],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(path))
    return path


@pytest.fixture(scope="module")
def engine(model):
    from bessemer.cli.main import main

    path = model.with_suffix(".plan")
    assert main(["build", str(model), "--shape", "N=1"]) == 0
    return path


def test_build_writes_an_engine(engine):
    assert engine.read_bytes().startswith(MAGIC)


def test_build_summary_is_json(program, model, tmp_path):
    done = program("build", model, "-o", tmp_path / "e.plan", "--shape", "x=2x3x8x8",
                   "--name", "two", "--threads", 1, "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary["kernels"] > 0
    assert summary["host_steps"] == 0
    assert summary["file_bytes"] == (tmp_path / "e.plan").stat().st_size
    assert summary["arena_bytes"] >= summary["liveness_lower_bound_bytes"] > 0
    assert done.err == ""


def test_build_mistakes_are_explained(program, model, tmp_path):
    done = program("build", model, "--shape", "N")
    assert done.code == 1
    assert "expected NAME=SIZES" in done.err
    done = program("build", model, "--precision", "fp12")
    assert "fp12" in done.err
    done = program("build", model, "--target", "x87", "--shape", "N=1")
    assert done.code == 1
    assert "x87" in done.err
    done = program("build", model, "--disable-pass", "fold-constant", "--shape", "N=1")
    assert "did you mean fold-constants" in done.err
    done = program("build", model, "--shape", "N=1", "-o", tmp_path / "no" / "folder" / "e.plan")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_build_verifies(program, model, tmp_path):
    done = program("build", model, "--shape", "N=1", "--verify", "-o", tmp_path / "v.plan")
    assert done.code == 0, done.err


def test_engine_and_model_give_the_same(program, model, engine):
    by_engine = program("run", engine, "--random", "--json")
    by_model = program("run", model, "--random", "--shape", "N=1", "--json")
    assert by_engine.code == by_model.code == 0, by_engine.err + by_model.err
    assert by_engine.out == by_model.out
    assert np.shape(json.loads(by_engine.out)["y"]) == (1, 10)


@pytest.mark.rivals
@pytest.mark.parametrize("extra", [(), ("--all-tensors",)], ids=["outputs", "all tensors"])
def test_compare_with_onnxruntime(program, model, extra):
    pytest.importorskip("onnxruntime")
    done = program("compare", model, "--against", "onnxruntime", "--shape", "N=2", *extra, "--json")
    assert done.code == 0, done.out + done.err
    report = json.loads(done.out)
    assert report["agrees"]
    assert len(report["tensors"]) == (10 if extra else 1)


def test_compare_with_the_reference(program, model):
    done = program("compare", model, "--against", "reference")
    assert done.code == 0, done.out + done.err
    assert "1 tensors compared with reference, 0 beyond tolerance" in done.out


def test_compare_ends_with_1_beyond_tolerance(program, model):
    done = program("compare", model, "--against", "reference", "--tolerance", 1e-14)
    assert done.code == 1
    assert "BEYOND" in done.out


def test_debug_compare_shows_every_value(program, model):
    done = program("debug", "compare", model, "--worst", 3)
    assert done.code == 0, done.out + done.err
    assert "10 tensors compared" in done.out


def test_bisect_finds_nothing_in_a_sound_build(program, model):
    done = program("debug", "bisect", model, "--json")
    assert done.code == 0, done.out + done.err
    report = json.loads(done.out)
    assert not report["found"]
    assert "import" in report["checked"]


def test_inspect_prints_every_stage(program, model):
    graph = program("inspect", model).out
    assert graph.startswith("graph small(%x: f32[N,3,8,8])")
    stages = {"kernels": "stem", "loops": "for", "llvm": "define", "asm": "ret"}
    for stage, wanted in stages.items():
        done = program("inspect", model, "--shape", "N=1", "--stage", stage)
        assert done.code == 0, done.err
        assert wanted in done.out


def test_inspect_one_kernel(program, model):
    done = program("inspect", model, "--shape", "N=1", "--stage", "loops", "--kernel", "fc")
    assert done.code == 0, done.err
    assert "stem" not in done.out.splitlines()[0]
    done = program("inspect", model, "--shape", "N=1", "--stage", "loops", "--kernel", "zzz")
    assert done.code == 1
    assert "no kernel is named 'zzz'" in done.err


def test_inspect_says_why(program, model):
    done = program("inspect", model, "--shape", "N=1", "--why")
    assert done.code == 0, done.err
    assert "= fusion: " in done.out
    assert "left" in done.out
    only = program("inspect", "merge-horizontal-convolutions", model, "--shape", "N=1", "--why")
    assert only.code == 0, only.err
    assert "fusion" not in only.out


def test_inspect_shows_a_block_before_and_after(program, model):
    done = program("inspect", model, "--shape", "N=1", "--block", "left*")
    assert done.code == 0, done.err
    for wanted in ("before: 2 nodes", "after the passes:", "compiled:"):
        assert wanted in done.out


def test_inspect_memory_and_page(program, model, tmp_path):
    done = program("inspect", model, "--shape", "N=1", "--memory")
    assert done.code == 0, done.err
    assert "lower bound by liveness" in done.out
    page = tmp_path / "page.html"
    done = program("inspect", model, "--shape", "N=1", "--html", page)
    assert done.code == 0, done.err
    text = page.read_text()
    for wanted in ("roofline", "Memory plan", "stem", "merge-horizontal-convolutions"):
        assert wanted in text


@pytest.mark.rivals
def test_bench_beside_onnxruntime_with_labels(program, engine, model, tmp_path):
    pytest.importorskip("onnxruntime")
    x = np.random.default_rng(1).standard_normal((5, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=np.zeros(5, np.int64))
    done = program("bench", engine, "--against", "onnxruntime", "--model", model, "--data",
                   tmp_path / "data.npz", "--duration", 0.05, "--slices", 2, "--json")
    assert done.code == 0, done.err
    ours, theirs = json.loads(done.out)["subjects"]
    assert ours["accuracy"]["top1"] == theirs["accuracy"]["top1"]
    assert theirs["first_is_faster_by"][0] > 0


def test_profile_of_a_model(program, model):
    done = program("profile", model, "--shape", "N=1", "--runs", 2, "--no-peak", "--json")
    assert done.code == 0, done.err
    kernels = json.loads(done.out)["kernels"]
    assert any("stem" in row["sources"] for row in kernels)


def test_bisect_names_a_planted_wrong_pass(program, model, monkeypatch):
    from bessemer.passes.graph_pass import PASSES

    def spoil(self, graph):
        weight = graph.find_value("w1")
        weight.constant = weight.constant * np.float32(1.01)
        return True

    monkeypatch.setattr(PASSES.get("recognise-mish"), "run", spoil)
    done = program("debug", "bisect", model)
    assert done.code == 1
    assert "first wrong pass: recognise-mish" in done.out
    assert "--disable-pass recognise-mish" in done.out


def test_bisect_names_a_planted_wrong_kernel(program, model, monkeypatch):
    from bessemer import te
    from bessemer.ir.operator import operator_class

    def wrong(self, x, **_):
        return te.compute(x.dtype, x.shape, lambda *i: te.maximum(x[i], te.const(0.25, x.dtype)))

    monkeypatch.setattr(operator_class("Relu"), "lower", wrong)
    done = program("debug", "bisect", model)
    assert done.code == 1
    assert "first wrong kernel: stem" in done.out
    assert "r0" in done.out
