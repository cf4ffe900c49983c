"""Contests between runtimes: figures from made-up times, and a real race of a small network."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bessemer.bench.contest.page import render_page
from bessemer.bench.contest.race import RaceOptions, race
from bessemer.bench.contest.result import Contest, Entry, Report, geometric_mean, table
from bessemer.bench.contest.season import ZOO, SeasonOptions, make_task, season
from bessemer.bench.contest.task import Loaded, Task, make_peer, peer_names, side_by_side
from bessemer.bench.contest.torch_model import torch_module
from bessemer.bench.latency import Timing
from bessemer.bench.limits import Limits
from bessemer.core.errors import MissingExtraError, SettingsError
from bessemer.zoo import ZooOptions, make_model, model_names, sample_inputs

LIMITS = Limits(2, 300.0, 500.0, 200.0, 50.0, 20.0)


def entry(name: str, milliseconds: list[float], items: int = 1, **more) -> Entry:
    times = tuple(int(each * 1e6) for each in milliseconds)
    return Entry(name, "1.0", "", Timing(name, times, tuple(map(float, times)), items),
                 peak_bytes=50_000_000, **more)


def contest(*entries: Entry) -> Contest:
    return Contest("net", 1, 2, 1, 600_000_000, 3_000_000, LIMITS, entries)


def test_ratio_pairs_slices() -> None:
    """The machine was half as fast in the second slice; the ratio does not show it."""
    found = contest(entry("bessemer", [2.0, 4.0, 2.0]), entry("a", [3.0, 6.0, 3.0]),
                    entry("b", [9.0, 9.0, 9.0]))
    assert found.best_rival.name == "a"
    assert found.ratio(found.best_rival) == pytest.approx((1.5, 1.5, 1.5))
    assert found.gflops(found.entry("bessemer")) == pytest.approx(300.0)


def test_ratio_counts_inferences() -> None:
    found = contest(entry("bessemer", [4.0], items=4), entry("a", [4.0], items=2))
    assert found.entry("bessemer").milliseconds == 1.0
    assert found.ratio(found.best_rival)[0] == pytest.approx(2.0)


def test_geometric_mean_leaves_out_what_did_not_run() -> None:
    won = contest(entry("bessemer", [1.0]), entry("a", [4.0]))
    tied = contest(entry("bessemer", [1.0]), entry("a", [1.0]))
    alone = contest(entry("bessemer", [1.0]), Entry("a", "", "not installed"))
    assert geometric_mean([won, tied, alone]) == pytest.approx(2.0)
    assert math.isnan(geometric_mean([alone]))


class _Balanced(HTMLParser):
    """Fails on an element that is closed but not open, and on addresses outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta", "polyline", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("polyline", "rect", "line", "circle"):
            assert self.open.pop() == tag


def test_table_json_and_page() -> None:
    entries = (entry("bessemer", [2.0], error=1e-6), entry("a<b", [3.0]), Entry("c", "", "why <i>"))
    report = Report({"cpu": "x & y"}, (contest(*entries), contest(entries[1])))
    head, rows = table(report.contests)
    assert all(len(row) == len(head) for row in rows)
    assert rows[0][rows[0].index("a<b") + 1].startswith("1.50")
    assert json.loads(json.dumps(report.as_dict()))["contests"][0]["best_rival"] == "a<b"
    page = render_page(report)
    reader = _Balanced()
    reader.feed(page)
    assert not reader.open
    assert "why &lt;i&gt;" in page
    assert "x &amp; y" in page


def test_peers_are_found() -> None:
    assert {"bessemer", "onnxruntime", "openvino", "torch", "inductor", "ncnn", "mnn",
            "litert"} <= set(peer_names())
    with pytest.raises(SettingsError, match="onnxruntime"):
        make_peer("onnxruntim")
    assert set(ZOO) <= set(model_names())


def test_copies_run_side_by_side() -> None:
    counts = [0, 0]

    def copy(k: int) -> Loaded:
        def run() -> None:
            counts[k] += 1

        return Loaded(run, lambda: [])

    both = side_by_side([copy(0), copy(1)])
    both.run()
    both.run()
    assert counts[0] * 2 == 2 * both.items
    assert counts[0] == counts[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp("contest")
    path = folder / "mlp.onnx"
    model = make_model("mlp", ZooOptions(width=0.25))
    path.write_bytes(model.SerializeToString())
    return make_task(str(path), SeasonOptions(folder, (), 1))


@pytest.mark.rivals
def test_a_race(small) -> None:
    pytest.importorskip("onnxruntime")
    heard: list[tuple[str, str]] = []
    entries = race(small, ["bessemer", "onnxruntime"], RaceOptions(2, 0.02),
                   lambda name, what: heard.append((name, what)))
    ours, theirs = entries
    for each in entries:
        assert not each.reason
        assert len(each.timing.slices_ns) == 2
        assert each.peak_bytes > 1e6
    assert theirs.error == 0
    assert ours.error < 1e-5
    assert ("bessemer", "slice 2 of 2") in heard


@pytest.mark.rivals
def test_a_season_with_streams(small, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    options = SeasonOptions(tmp_path, ("bessemer", "onnxruntime"), 2, streams=2,
                            race=RaceOptions(1, 0.02))
    (found,) = season([str(small.model)], options, lambda text: None)
    assert found.flops > 0
    assert all(each.timing.items_per_run > 2 for each in found.entries)
    assert found.ratio(found.best_rival) is not None


def test_what_cannot_run_says_why(small) -> None:

    try:
        make_peer("litert").version()
    except MissingExtraError as error:
        reason = str(error)
    else:
        pytest.skip("the runtime is installed here")
    (found,) = race(small, ["litert"], RaceOptions(1, 0.01), lambda name, what: None)
    assert reason in found.reason
    assert found.timing is None


def test_a_broken_model_is_a_reason(small, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    task = Task(path, small.inputs, small.outputs, 1, tmp_path)
    (found,) = race(task, ["bessemer"], RaceOptions(1, 0.01), lambda name, what: None)
    assert "broken.onnx" in found.reason


@pytest.mark.rivals
@pytest.mark.parametrize("name", ["mlp", "googlenet", "yolov8n", "distilbert", "lstm", "unet"])
def test_torch_reads_the_zoo(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    size = {"mlp": None, "lstm": 8, "distilbert": 32}.get(name, 64)
    model = make_model(name, ZooOptions(width=0.25, size=size))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    inputs = sample_inputs(model)
    wanted = onnxruntime.InferenceSession(str(path)).run(None, inputs)
    with torch.no_grad():
        found = torch_module(path).eval()(*map(torch.from_numpy, inputs.values()))
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-3, atol=1e-3 * np.abs(a).max())
