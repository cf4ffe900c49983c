"""Variants of symbolic engines for single shapes: the stored graph, building, policy, memory."""

import gc
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.compiler.constants import ConstantPool, stored_source
from bessemer.compiler.specialise import source_graph, specialise
from bessemer.core.errors import EngineFormatError, InputError
from bessemer.engine.plan import EngineData, Plan, StoredGraph
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.layout import Layout
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import constant_table, print_graph
from bessemer.runtime.engine import Engine
from bessemer.runtime.load import load
from bessemer.runtime.variants import Variants
from bessemer.targets import get_target

TEXT = """graph mlp(%x: f32[N,64]) -> (%y) {
  @w : f32[64,96] = random(1)
  @b : f32[96] = random(2)
  @v : f32[96,10] = random(3)
  %h = MatMul(%x, @w)
  %a = Add(%h, @b)
  %r = Relu(%a)
  %y = MatMul(%r, @v)
}"""


def x_of(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> EngineData:
    options = BuildOptions((get_target("host"),))
    return compile_graph(parse_graph(TEXT), options).engine.data


@pytest.fixture
def engine(data, monkeypatch) -> Engine:
    monkeypatch.setenv("BESSEMER_SPECIALISE_AFTER", "3")
    monkeypatch.setenv("BESSEMER_MAX_VARIANTS", "2")
    return Engine(data)


def shapes(engine: Engine, state: str = "built") -> list[str]:
    return [row["shape"] for row in engine.variants if row["state"] == state]


def expected(x: np.ndarray) -> np.ndarray:
    return run_graph(parse_graph(TEXT), [x])[0]


# --- the stored graph ----------------------------------------------------------------------------

def round_trip(graph: Graph, pool: ConstantPool) -> Graph:
    source = stored_source(graph, pool)
    return source_graph(EngineData(Plan("p", (), (), ()), constants=pool.entries(), source=source))


def test_graphs_of_every_kind_of_constant_come_back() -> None:
    source = np.random.default_rng(0)
    arrays = {
        "f32": source.standard_normal((40, 33)).astype(np.float32),
        "i64": source.integers(-9, 9, (5, 7)), "bool": source.random((4, 9)) > 0.5,
        "c": (source.random(30) + 1j).astype(np.complex64),
        "small": np.array([1.5, -0.0, np.inf], np.float16), "empty": np.zeros((0, 70), np.float32),
        "text": np.array([f"word {i}" for i in range(20)], object),
        "one": np.array(3.0), "row": np.arange(20.0)[::2].reshape(1, 10, 1),
    }
    graph = Graph("g")
    for name, array in arrays.items():
        graph.outputs.append(graph.add_constant(name, array))
    pool = ConstantPool()
    weight = arrays["f32"]
    pool.add_packed(weight, Layout.blocked(2, 1, 16))
    before = pool.size_bytes
    found = round_trip(graph, pool)
    assert print_graph(found) == print_graph(graph)
    for value, array in zip(found.outputs, arrays.values(), strict=True):
        assert value.constant is not None
        assert value.constant.dtype == array.dtype
        np.testing.assert_array_equal(value.constant, array)
    assert pool.size_bytes - before < weight.nbytes, "the packed weight must not be stored twice"


def test_weights_lie_once_in_the_engine(data) -> None:
    assert data.source is not None
    layouts = {constant.shape: constant.layout for constant in data.source.constants}
    assert layouts[64, 96]
    graph = source_graph(data)
    arrays = constant_table(graph)
    for key, array in constant_table(parse_graph(TEXT)).items():
        np.testing.assert_array_equal(arrays[key], array)
    x = x_of(3)
    np.testing.assert_allclose(run_graph(graph, [x])[0], expected(x), rtol=1e-6)


@pytest.mark.parametrize("source, words", [
    (None, "stores no graph"), (StoredGraph("graph"), "malformed"),
    (StoredGraph("\0"), "malformed"),
    (StoredGraph("graph g() -> () {\n  @w : f32[9,9] = #ab\n}"), "#ab is not in the side table"),
    (StoredGraph("graph g() -> () {\n}", strings={"a": 3}), "malformed"),
])
def test_malformed_sources(source: StoredGraph | None, words: str) -> None:
    with pytest.raises(EngineFormatError, match=words):
        source_graph(EngineData(Plan("p", (), (), ()), source=source))


def test_specialise_gives_a_static_engine(data) -> None:
    made = Engine(specialise(data, None, {"N": 5}))
    assert not made.plan.is_symbolic
    assert made.data.source is None
    assert made.inputs[0].shape == (5, 64)
    np.testing.assert_allclose(made.run(x_of(5))["y"], expected(x_of(5)), rtol=1e-4, atol=1e-4)


# --- the policy ----------------------------------------------------------------------------------

def test_a_shape_that_is_run_often_gets_a_variant(engine) -> None:
    x = x_of(5)
    for turn in range(3):
        assert shapes(engine) == []
        np.testing.assert_allclose(engine.run(x)["y"], expected(x), rtol=1e-4, atol=1e-4)
        assert turn == 2 or engine.variants == []
    assert engine.wait_specialised(60)
    assert shapes(engine) == ["N=5"]
    given = np.zeros((5, 10), np.float32)
    assert engine.run(x, outputs={"y": given})["y"] is given
    np.testing.assert_allclose(given, expected(x), rtol=1e-4, atol=1e-4)
    with engine.create_context(2) as context:
        got = context.run({"x": x})["y"]
        np.testing.assert_array_equal(got, given)
        assert not context._runner._serving.program.plan.is_symbolic
        assert context.measured_peak_bytes(x) <= context.arena_bytes
        np.testing.assert_allclose(context.run(x_of(6))["y"], expected(x_of(6)), rtol=1e-4,
                                   atol=1e-4)
        assert context._runner._serving is context._runner
    assert [row.kind for row in engine.profile(x).rows] == ["kernel", "kernel"]
    assert "variant for N=5: built in" in engine.inspect()
    assert engine.describe()["shape_variants"][0]["state"] == "built"


def test_the_variant_not_used_for_longest_goes(engine) -> None:
    engine.specialise({"N": 2})
    engine.specialise({"N": 3})
    engine.run(x_of(3))
    engine.run(x_of(2))
    engine.specialise({"N": 4})
    assert sorted(shapes(engine)) == ["N=2", "N=4"]
    for n in (2, 3, 4):
        np.testing.assert_allclose(engine.run(x_of(n))["y"], expected(x_of(n)), rtol=1e-4,
                                   atol=1e-4)
    runner = engine._own_context()._runner
    assert sorted(variant.values for variant in runner._runners) == [(2,), (4,)]


def test_many_shapes_in_turn_do_not_keep_the_compiler_busy(engine, monkeypatch) -> None:
    built = []
    original = Variants.build
    monkeypatch.setattr(Variants, "build", lambda self, key: (
        built.append(key), original(self, key))[1])
    for _ in range(40):
        for n in range(1, 6):
            engine.run(x_of(n))
        assert engine.wait_specialised(60)
    assert 2 <= len(built) <= 5


def test_constants_are_shared(engine) -> None:
    """Those that both pack in the same way are the engine's own bytes."""
    engine.specialise({"N": 1})
    (row,) = engine.variants
    assert row["own_constant_bytes"] < engine.data.constant_bytes
    constants = engine._variants.present()[0].program.constants
    assert constants.own_bytes == row["own_constant_bytes"]
    assert constants._shared


def test_wrong_values(engine) -> None:
    for values in ({}, {"M": 1}, {"N": 1, "M": 1}, {"N": -1}, {"N": "2"}):
        with pytest.raises(InputError, match="engine 'mlp'"):
            engine.specialise(values)
    with pytest.raises(InputError, match="stores no graph"):
        Engine(EngineData(Plan("p", (), (), ()))).specialise({"N": 1})


def test_it_can_be_turned_off(data, monkeypatch) -> None:
    monkeypatch.setenv("BESSEMER_SPECIALISE", "0")
    engine = Engine(data)
    for _ in range(10):
        engine.run(x_of(4))
    assert engine.variants == []
    engine.specialise({"N": 4})
    assert shapes(engine) == ["N=4"]


def test_failures_are_logged_once_and_harmless(engine, monkeypatch, caplog) -> None:
    def fail(*arguments: Any) -> EngineData:
        raise ValueError("no luck")

    monkeypatch.setattr("bessemer.compiler.specialise.specialise", fail)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            np.testing.assert_allclose(engine.run(x_of(4))["y"], expected(x_of(4)), rtol=1e-4,
                                       atol=1e-4)
            engine.wait_specialised(10)
    assert [record.getMessage() for record in caplog.records] == [
        "engine 'mlp': no variant for N=4: no luck"]
    assert shapes(engine, "failed") == ["N=4"]
    assert "variant for N=4: failed, no luck" in engine.inspect()


def test_contexts_run_while_variants_come_and_go(engine) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        source = np.random.default_rng(seed)
        with engine.create_context(1) as context:
            for n in source.integers(1, 5, 300):
                got = context.run(x_of(int(n)))["y"]
                if not np.allclose(got, answers[n], rtol=1e-4, atol=1e-4):
                    wrong.append(n)

    answers = [expected(x_of(n)) for n in range(5)]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert engine.wait_specialised(60)


def test_random_shapes_take_no_memory(data, monkeypatch) -> None:
    monkeypatch.setenv("BESSEMER_SPECIALISE_AFTER", "1000000")
    engine = Engine(data)
    source = np.random.default_rng(0)
    inputs = np.zeros((400, 64), np.float32)

    def turn(count: int) -> None:
        for n in source.integers(0, 400, count):
            engine.run(inputs[:n])

    turn(2000)
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    turn(8000)
    gc.collect()
    assert int(Path("/proc/self/statm").read_text().split()[1]) * 4096 - before < 2 << 20
    assert len(engine._variants._counts) <= 256


SCRIPT = """
import sys, numpy as np
from bessemer.runtime.load import load
engine = load(sys.argv[1])
x = np.ones((5, 64), np.float32)
engine.run(x)
assert not {"llvmlite", "onnx", "bessemer.compiler"} & set(sys.modules)
for _ in range(3): engine.run(x)
if sys.argv[2] == "wait":
    assert engine.wait_specialised(60), engine.variants
    assert engine.variants[0]["state"] == "built", engine.variants
    engine.run(x)
print("done")
"""


@pytest.mark.parametrize("way", ["wait", "exit"])
def test_a_loaded_engine_loads_the_compiler_only_to_specialise(data, tmp_path, way: str) -> None:
    """And a process that ends while a variant is being built ends well."""
    Engine(data).save(tmp_path / "m.plan")
    assert load(tmp_path / "m.plan").data.source == data.source
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "m.plan"), way],
                          capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
