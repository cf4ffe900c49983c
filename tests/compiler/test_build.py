"""The whole build on small models: determinism, threads, memory, in-place, options."""

import subprocess
import sys

import numpy as np
import pytest

import bessemer
from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import string
from bessemer.core.errors import SettingsError, TargetError
from bessemer.engine.plan import HostStep
from bessemer.frontends import import_model
from bessemer.ir.graph import Graph
from bessemer.ir.operator import operator_class
from bessemer.ir.types import TensorType
from bessemer.targets import get_target, missing_flags
from bessemer.zoo import ZooOptions, make_model

SMALL = {"squeezenet1_1": {"width": 0.25, "size": 64}, "resnet18": {"width": 0.25, "size": 64}}


def small(name):
    return make_model(name, ZooOptions(**SMALL[name]))


@pytest.fixture(scope="module")
def resnet():
    return small("resnet18")


def feed_of(engine, seed=0):
    rng = np.random.default_rng(seed)
    return {b.name: rng.standard_normal(b.shape).astype(b.dtype.replace("f", "float"))
            for b in engine.inputs}


BUILD = """
import sys
import bessemer
from bessemer.zoo import ZooOptions, make_model
bessemer.build(make_model("resnet18", ZooOptions(width=0.25, size=64))).save(sys.argv[1])
"""


def test_builds_are_byte_identical(tmp_path, monkeypatch):
    files = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.engine"
        subprocess.run([sys.executable, "-c", BUILD, str(path)], check=True,
                       env={"PYTHONHASHSEED": seed, "PATH": "", "BESSEMER_CACHE": "0"})
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_results_do_not_depend_on_threads(resnet):
    engine = bessemer.build(resnet)
    feed = feed_of(engine)
    results = []
    for threads in (1, 2, 3, 5):
        with engine.create_context(threads=threads) as context:
            results.append(next(iter(context.run(feed).values())))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_planned_memory_is_what_a_run_touches(resnet):
    engine = bessemer.build(resnet)
    with engine.create_context() as context:
        measured = context.measured_peak_bytes(feed_of(engine))
    memory = engine.memory
    assert measured <= memory.arena_bytes
    assert measured > 0.98 * memory.arena_bytes
    assert memory.liveness_lower_bound_bytes <= memory.arena_bytes <= memory.sum_of_tensors_bytes
    assert memory.arena_bytes <= 1.1 * memory.liveness_lower_bound_bytes


def test_engine_survives_saving(resnet, tmp_path):
    engine = bessemer.build(resnet)
    engine.save(tmp_path / "resnet.plan")
    loaded = bessemer.load(tmp_path / "resnet.plan")
    feed = feed_of(engine)
    for name, array in engine.run(feed).items():
        np.testing.assert_array_equal(array, loaded.run(feed)[name])


def test_residual_additions_run_in_place_and_in_the_convolution(resnet):
    compiled = compile_graph(import_model(resnet), BuildOptions((get_target("host"),)))
    additions = [n for n in compiled.plan.nodes if n.operator == "Add"]
    assert additions
    assert all("rule 3" in record.why for record in additions)
    assert any(row.alias_of for row in compiled.plan.memory.table)
    assert not any(isinstance(step, HostStep) for step in compiled.plan.steps)


def test_no_fusion_gives_the_same_answer(resnet):
    host = get_target("host")
    fused = compile_graph(import_model(resnet), BuildOptions((host,))).engine
    apart = compile_graph(import_model(resnet), BuildOptions((host,), fuse=False)).engine
    assert len(apart.plan.steps) > len(fused.plan.steps)
    feed = feed_of(fused)
    for name, array in fused.run(feed).items():
        np.testing.assert_allclose(apart.run(feed)[name], array, rtol=1e-4, atol=1e-5)


def test_several_variants_agree(resnet):
    names = [n for n in ("x86-64-v2", "x86-avx2", "x86-avx512")
             if not missing_flags(get_target(n))]
    if not names:
        pytest.skip("no x86 target runs here")
    model = small("squeezenet1_1")
    results = []
    for name in names:
        engine = bessemer.build(model, target=name)
        assert engine.variant == name
        results.append(next(iter(engine.run(feed_of(engine)).values())))
    for result in results[1:]:
        # Sums in another order: small outputs err as much as large ones, so compare by the largest.
        assert np.abs(result - results[0]).max() <= 1e-5 * np.abs(results[0]).max()
    fat = bessemer.build(model, target=names)
    assert fat.variant == names[-1]
    np.testing.assert_array_equal(
        next(iter(fat.run(feed_of(fat)).values())), results[-1])


def test_foreign_engine_is_saved_but_not_run(tmp_path):
    chip = "aarch64-neon" if missing_flags(get_target("aarch64-neon")) else "x86-64-v2"
    engine = bessemer.build(small("squeezenet1_1"), target=chip)
    engine.save(tmp_path / "foreign.plan")
    with pytest.raises(TargetError, match=chip):
        bessemer.load(tmp_path / "foreign.plan")


def test_verified_build(resnet):
    engine = bessemer.build(resnet, verify=True)
    assert any(record.changed for record in engine.plan.passes)


@pytest.mark.parametrize(("options", "message"), [
    ({"precision": "int7"}, "precision"), ({"tune": "hard"}, "tune"),
    ({"budget_s": -1.0}, "budget_s"), ({"target": "z80"}, "unknown target"),
    ({"target": ()}, "target"), ({"plugins": (int,)}, "plugins"),
])
def test_wrong_options_are_named(resnet, options, message):
    with pytest.raises((SettingsError, TargetError), match=message):
        bessemer.build(resnet, **options)


def test_progress_is_told(resnet):
    seen = []
    bessemer.build(resnet, on_progress=lambda *row: seen.append(row))
    assert [stage for stage, *_ in seen if stage in ("import", "pack")]
    assert all(done <= total for _, done, total, _ in seen)


def test_string_constants_reach_host_operators():
    graph = Graph("strings")
    x = graph.add_input("x", TensorType(string, (2,)))
    y = graph.add_constant("y", np.array(["a", "b"], object))
    node = graph.add_node(operator_class("Equal")(), [x, y], name="equal", outputs=["z"])
    graph.outputs = [node.output, y]
    engine = bessemer.build(graph, strict=False)
    result = engine.run({"x": np.array(["a", "c"], object)})
    assert result["z"].tolist() == [True, False]
    assert result["y"].tolist() == ["a", "b"]
