"""Tuning a network: schedules timed inside it, records used again, the formula kept on a loss."""

import numpy as np
import pytest

from bessemer import build
from bessemer.compiler import tuning as stage
from bessemer.tune import proposals, tuner
from bessemer.tune.network import Network, _Series, can_rehearse, time_by
from bessemer.tune.records import Records
from bessemer.zoo import digits_path


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("BESSEMER_RECORDS", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(tuner, "_SMALL_SECONDS", 0.0)
    monkeypatch.setattr(proposals, "_POOL", {"default": 6, "max": 6})
    monkeypatch.setattr(proposals, "_BATCH", {"default": 2, "max": 2})
    return tmp_path / "records.sqlite"


def tuned(**options):
    return build(digits_path(), tune="default", **options)


def picked(engine):
    return [(step.rule, step.schedule) for step in engine.plan.steps]


def test_tuned_engines_agree_and_the_second_build_times_nothing(records, monkeypatch, tmp_path):
    monkeypatch.setattr(stage, "time_by", lambda *_: 0.9)
    monkeypatch.setattr(tuner, "CLEAR_WIN", 10.0)  # anything wins
    first = tuned()
    formula = build(digits_path(), tune="none")
    assert picked(first) != picked(formula)
    x = np.random.default_rng(0).random(first.inputs[0].shape, np.float32)
    for name, value in formula.run(x).items():
        np.testing.assert_allclose(first.run(x)[name], value, rtol=1e-4, atol=1e-5)

    def refuse(*_):
        raise AssertionError("nothing is left to time")

    monkeypatch.setattr(stage, "Network", refuse)
    again = tuned()
    first.save(tmp_path / "a.plan")
    again.save(tmp_path / "b.plan")
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()


def test_a_network_that_got_slower_keeps_the_formula(records, monkeypatch):
    monkeypatch.setattr(stage, "time_by", lambda *_: 1.01)
    monkeypatch.setattr(tuner, "CLEAR_WIN", 10.0)
    formula = picked(build(digits_path(), tune="none"))
    assert picked(tuned()) == formula
    monkeypatch.setattr(stage, "time_by", lambda *_: 0.5)
    assert picked(tuned()) == formula  # as the records say


def test_merged_records_are_tried_in_the_network_first(records, monkeypatch):
    monkeypatch.setattr(stage, "time_by", lambda *_: 0.9)
    monkeypatch.setattr(tuner, "CLEAR_WIN", 10.0)
    chosen = picked(tuned())
    with Records(records) as kept:
        lines = list(kept.export())
    records.unlink()
    with Records(records) as kept:
        kept.merge(lines)
    judged = []
    monkeypatch.setattr(stage, "time_by", lambda *_: judged.append(1) or 0.9)
    assert len(picked(tuned())) == len(chosen)
    assert judged


def test_progress_names_kernels_and_the_time_left(records):
    told = []
    tuned(on_progress=lambda stage, done, total, text: told.append((stage, done, total, text)))
    rows = [each for each in told if each[0] == "tune"]
    assert rows[-1][1] == rows[-1][2] or rows[-1][1:3] == (1, 1)
    assert any("s left" in text for *_, text in rows)


def test_a_network_compared_with_itself_takes_its_time():
    engine = build(digits_path())
    assert can_rehearse(engine.plan)
    programs = [engine.program_of(engine.variant) for _ in range(2)]
    with Network(programs[0], 1) as a, Network(programs[1], 1) as b:
        assert 0.2 < time_by(a, b, 0.1) < 5


def test_ratios_are_taken_round_by_round_and_what_is_far_behind_is_dropped():
    series = _Series(2)
    for base in (1.0, 3.0, 1.0):
        for which, factor in enumerate((1.0, 0.8, 2.0)):
            if which in series.running:
                series.add(which, base * factor)
        series.end_round(0)
    assert series.running == [0, 1]
    first, second, third = series.timings()
    assert (first.ratio, second.ratio, third.ratio) == pytest.approx((1.0, 0.8, 2.0))
    assert third.slices == 1
    assert not third.clean
