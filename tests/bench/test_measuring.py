"""Latency, accuracy, energy, inputs and machine facts, on small made-up subjects."""

import time

import numpy as np
import pytest

from bessemer.bench.accuracy import LabelledData, measure_accuracy, read_labelled_data
from bessemer.bench.energy import NO_COUNTER, energy_text, find_counters, joules_per_run
from bessemer.bench.inputs import (
    InputSpec,
    complete_inputs,
    parse_sizes,
    random_inputs,
    read_arrays,
)
from bessemer.bench.latency import Timing, measure, paired_ratio
from bessemer.bench.machine import package_versions, read_caches, read_cpu_quota, read_machine
from bessemer.bench.metrics import BenchOptions, Subject, bench
from bessemer.core.dtypes import f32, i64
from bessemer.core.errors import InputError
from bessemer.core.shapes import symbol


class Sleeper:
    """Takes a known time and returns one-hot scores of the first input column."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, inputs):
        time.sleep(self.seconds)
        x = inputs["x"]
        return {"y": np.eye(10, dtype=np.float32)[x[:, 0].astype(int) % 10]}


def test_interleaved_slices_rank_two_subjects():
    fast, slow = Sleeper(0.0005), Sleeper(0.01)
    feed = {"x": np.zeros((1, 4), np.float32)}
    timings = measure(
        [("fast", lambda: fast.run(feed)), ("slow", lambda: slow.run(feed))],
        duration_s=0.05, slices=4, warm_up_runs=1,
    )
    assert [len(t.slices_ns) for t in timings] == [4, 4]
    assert paired_ratio(timings[0], timings[1])[0] > 1.5
    assert timings[0].percentile_ns(50) <= timings[0].percentile_ns(99)


def test_throughput_counts_the_batch():
    timing = Timing("t", (1_000_000, 1_000_000), (1e6,), items_per_run=8)
    assert timing.throughput_per_s == pytest.approx(8000)


def test_accuracy_fills_the_last_batch():
    labels = np.array([0, 1, 2, 3, 9])
    x = np.array([0, 1, 2, 3, 4], np.float32)[:, None]
    accuracy = measure_accuracy(Sleeper(0).run, LabelledData({"x": x}, labels), batch=2)
    assert accuracy.examples == 5
    assert accuracy.top1 == pytest.approx(4 / 5)
    assert accuracy.top5 is not None


def test_labelled_data_is_checked(tmp_path):
    good = tmp_path / "good.npz"
    np.savez(good, x=np.zeros((3, 4), np.float32), labels=np.arange(3))
    assert len(read_labelled_data(str(good), None, ["x"]).labels) == 3
    assert "input" in read_labelled_data(str(good), None, ["input"]).inputs
    bad = tmp_path / "bad.npz"
    np.savez(bad, x=np.zeros((3, 4), np.float32), labels=np.arange(2))
    with pytest.raises(InputError, match="3 examples, labels 2"):
        read_labelled_data(str(bad), None, ["x"])
    unlabelled = tmp_path / "unlabelled.npz"
    np.savez(unlabelled, x=np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match="--labels"):
        read_labelled_data(str(unlabelled), None, ["x"])
    with pytest.raises(InputError, match="no such file"):
        read_labelled_data(str(tmp_path / "none.npz"), None, ["x"])


def test_energy_reads_counters_and_their_wrap(tmp_path):
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text("900000\n")

    def burn():
        (folder / "energy_uj").write_text("100000\n")

    assert joules_per_run(burn, duration_s=0.0, root=tmp_path) == pytest.approx(0.2)


def test_without_a_counter_the_report_says_so(tmp_path):
    assert find_counters(tmp_path) == []
    assert joules_per_run(lambda: None, root=tmp_path) is None
    assert energy_text(None) == NO_COUNTER == "n/a: no counter"


def test_sizes_and_shapes():
    assert parse_sizes(["N=2", "x=1x3x8x8", "v=[5]", "s=[]"]) == {
        "N": 2, "x": (1, 3, 8, 8), "v": (5,), "s": (),
    }
    with pytest.raises(InputError, match="expected NAME=SIZES"):
        parse_sizes(["x"])
    spec = InputSpec("x", f32, (symbol("N"), 3))
    assert random_inputs([spec], sizes={"N": 4})["x"].shape == (4, 3)
    assert random_inputs([spec], sizes={"x": (2, 3)})["x"].shape == (2, 3)
    assert random_inputs([spec])["x"].shape == (1, 3)
    with pytest.raises(InputError, match="does not fit"):
        random_inputs([spec], sizes={"x": (2, 4)})


def test_random_inputs_are_seeded():
    specs = [InputSpec("x", f32, (2, 3)), InputSpec("i", i64, (4,))]
    a, b = random_inputs(specs, seed=7), random_inputs(specs, seed=7)
    np.testing.assert_array_equal(a["x"], b["x"])
    assert set(np.unique(a["i"])) <= {0, 1}


def test_arrays_from_files(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    specs = [InputSpec("x", f32, (symbol("N"), 3)), InputSpec("m", i64, (symbol("N"),))]
    arrays = read_arrays([f"x={tmp_path}/x.npy"], specs)
    full = complete_inputs(arrays, specs)
    assert full["m"].shape == (2,)
    with pytest.raises(InputError, match="no input is named 'z'"):
        read_arrays([f"z={tmp_path}/x.npy"], specs)
    with pytest.raises(InputError, match="say which input"):
        read_arrays([f"{tmp_path}/x.npy"], specs)
    (tmp_path / "bad.npy").write_bytes(b"not numpy")
    with pytest.raises(InputError, match="not a readable"):
        read_arrays([f"x={tmp_path}/bad.npy"], specs)


def test_machine_facts(tmp_path):
    machine = read_machine()
    assert machine.cores >= machine.usable_cores >= 1
    assert "numpy" in package_versions()
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert read_cpu_quota(tmp_path) == pytest.approx(1.5)
    assert read_cpu_quota(tmp_path / "none") is None
    index = tmp_path / "cpu0/cache/index0"
    index.mkdir(parents=True)
    for name, text in (("size", "32K"), ("level", "1"), ("type", "Data")):
        (index / name).write_text(text)
    assert read_caches(tmp_path)[0].size_bytes == 32768


def test_a_bench_reports_all_metrics():
    feed = {"x": np.zeros((1, 4), np.float32)}
    data = LabelledData({"x": np.zeros((4, 4), np.float32)}, np.zeros(4, int))
    subjects = [
        Subject("ours", "1", lambda: Sleeper(0.0002), arena_bytes=10, weights_bytes=20),
        Subject("theirs", "2", lambda: Sleeper(0.001)),
    ]
    report = bench(
        "model", subjects, feed, BenchOptions(duration_s=0.03, slices=3, energy_s=0.0), data=data,
        settings={"threads": 1},
    )
    rows = {row[0]: row[1:] for row in report.rows()}
    assert rows["accuracy, top 1"] == ("100.00 %", "100.00 %")
    assert rows["memory, predicted arena"] == ("0.0 MB", "-")
    assert "ours is" in report.verdict()[0]
    plain = report.as_dict()
    assert plain["settings"] == {"threads": 1}
    assert plain["subjects"][1]["first_is_faster_by"][0] > 1
