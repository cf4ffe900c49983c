"""run, bench, profile and inspect on an engine file."""

import json

import numpy as np
import pytest

from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data
from bessemer.engine.file import write_engine

COUNT = 64


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """(path, constant) of an engine y = (x + c)^2 + c."""
    data, constant = tiny_engine_data(COUNT)
    path = tmp_path_factory.mktemp("engine") / "tiny.plan"
    write_engine(path, data)
    return path, constant


def test_run_from_file_to_files(program, engine, tmp_path):
    path, constant = engine
    x = np.linspace(0, 1, COUNT, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    done = program("run", path, "--input", f"x={tmp_path}/x.npy", "-o", tmp_path / "out.npz")
    assert done.code == 0, done.err
    found = np.load(tmp_path / "out.npz")["y"]
    np.testing.assert_allclose(found, tiny_answer(x, constant), rtol=1e-6)
    done = program("run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "folder")
    assert done.code == 0, done.err
    np.testing.assert_allclose(np.load(tmp_path / "folder" / "y.npy"), found)


def test_run_prints_json(program, engine):
    done = program("run", engine[0], "--random", "--json")
    assert len(json.loads(done.out)["y"]) == COUNT
    assert done.out == program("run", engine[0], "--random", "--json").out
    assert done.out != program("run", engine[0], "--random", "--seed", 1, "--json").out


def test_run_without_data_says_what_to_give(program, engine):
    done = program("run", engine[0])
    assert done.code == 1
    assert "--input x=FILE.npy or --random" in done.err


def test_run_refuses_a_wrong_shape(program, engine, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3, np.float32))
    done = program("run", engine[0], "--input", f"x={tmp_path}/x.npy")
    assert done.code == 1
    assert "x" in done.err
    assert "Traceback" not in done.err


def test_run_says_where_it_cannot_write(program, engine):
    done = program("run", engine[0], "--random", "--output", "/nonexistent/folder/out.npz")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_bench_reports_five_metrics(program, engine):
    done = program("bench", engine[0], "--duration", 0.05, "--slices", 2, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    (subject,) = report["subjects"]
    assert subject["latency"]["median_ns"] > 0
    assert {"p90_ns", "p99_ns"} <= set(subject["latency"])
    assert subject["throughput_per_s"] > 0
    memory = subject["memory"]
    assert 0 < memory["measured_arena_bytes"] <= memory["arena_bytes"]
    assert subject["memory"]["resident_bytes"] > 0
    assert subject["energy_per_inference"] == "n/a: no counter" or subject["joules_per_inference"]
    assert report["machine"]["cpu"]
    assert report["settings"]["batch"] == COUNT
    assert done.err == ""


def test_bench_as_a_table(program, engine):
    done = program("bench", engine[0], "--duration", 0.02, "--slices", 2)
    for row in ("throughput", "latency, p99", "accuracy", "memory, predicted arena", "energy"):
        assert row in done.out


def test_bench_against_another_engine(program, engine):
    done = program("bench", engine[0], "--against", engine[0], "--duration", 0.02, "--slices", 2)
    assert done.code == 0, done.err
    assert "paired slices" in done.out


def test_bench_against_needs_the_model(program, engine):
    done = program("bench", engine[0], "--against", "onnxruntime")
    assert done.code == 1
    assert "--model MODEL" in done.err


def test_profile_has_one_row_per_kernel(program, engine):
    done = program("profile", engine[0], "--no-peak", "--runs", 2, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert [row["name"] for row in report["kernels"]] == ["add", "square", "shift"]
    assert report["kernels"][2]["sources"] == ["Add_2", "Relu_3"]
    spent = sum(row["microseconds"] for row in report["kernels"])
    assert spent + report["call_us"] == pytest.approx(report["total_us"])
    text = program("profile", engine[0], "--no-peak", "--in-order", "--runs", 1).out
    assert text.index("add") < text.index("square") < text.index("shift")


def test_inspect_shows_the_plan(program, engine):
    text = program("inspect", engine[0]).out
    for wanted in ("engine tiny", "square", "fold-constants", "Relu_3", "arena"):
        assert wanted in text
    assert "plan" in json.loads(program("inspect", engine[0], "--json").out)
    assert "inside sum" in program("inspect", engine[0], "--memory").out
    assert "folded one" in program("inspect", engine[0], "--why").out


def test_inspect_writes_a_page(program, engine, tmp_path):
    done = program("inspect", engine[0], "--html", tmp_path / "page.html")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert "roofline" in page
    assert "square" in page


def test_inspect_engine_has_no_earlier_stages(program, engine):
    done = program("inspect", engine[0], "--stage", "llvm")
    assert done.code == 1
    assert "Give the model" in done.err
    done = program("inspect", engine[0], "--stage", "nonsense")
    assert "is not one of graph, kernels" in done.err


@pytest.mark.parametrize("command", ["run", "bench", "profile", "inspect"])
def test_a_damaged_engine_is_one_message(program, engine, tmp_path, command):
    content = bytearray(engine[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "damaged.plan"
    path.write_bytes(content)
    done = program(command, path)
    assert done.code == 1
    assert "damaged.plan" in done.err
    assert done.err.count("\n") == 1


def test_inspect_looks_into_an_engine_of_another_machine(program, tmp_path):
    from bessemer.targets import get_target

    data, _ = tiny_engine_data(COUNT, get_target("aarch64-neon"), ("asimd",))
    path = tmp_path / "arm.plan"
    write_engine(path, data)
    done = program("inspect", path)
    assert done.code == 0, done.err
    assert "square" in done.out
    assert "in use" not in done.out
    done = program("run", path, "--random")
    assert done.code == 1
    assert "does not fit this machine" in done.err
