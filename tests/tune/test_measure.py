"""Measuring: which rounds count, and that what runs is what the engine would run."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from kernels import convolution, product

from bessemer.codegen.cache import ObjectCache
from bessemer.lower.kernel import Operand
from bessemer.runtime.cpu import missing_features
from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target
from bessemer.te.interpreter import evaluate
from bessemer.tune.measure import Code, _Rounds
from bessemer.tune.operands import ColdWeights, Workspace, is_cold, operand_bytes
from bessemer.tune.records import Records
from bessemer.tune.session import TOLERANCE, Built, Session, difference
from bessemer.tune.space import Candidate, Space

HOST = get_target("host")


def rounds(*rows):
    """Rounds of (seconds, probe) for each schedule; a probe takes 1 when nothing disturbs it."""
    found = _Rounds(max(len(row) for row in rows))
    for row in rows:
        order = [k for k, entry in enumerate(row) if entry is not None]
        found.add(order, [1] * len(row), [np.array([1.0, row[k][0], row[k][1]]) for k in order])
    return found


def test_disturbed_rounds_do_not_count():
    calm, stormy = ((1.0, 1.0), (0.9, 1.0)), ((1.0, 1.0), (4.0, 2.0))
    timing = rounds(calm, stormy, calm, stormy, calm, stormy, stormy).timings()[1]
    assert timing.clean
    assert timing.slices == 3
    assert timing.ratio == pytest.approx(0.9)


def test_times_are_compared_within_rounds():
    slow, fast = ((3.0, 1.0), (2.4, 1.0)), ((1.0, 1.0), (0.8, 1.0))
    assert rounds(slow, slow, fast, fast).timings()[1].ratio == pytest.approx(0.8)


def test_without_calm_rounds_all_count_and_it_is_said():
    stormy = ((1.0, 1.6), (0.9, 1.7))
    timing = rounds(((1.0, 1.0), (0.5, 1.0)), stormy, stormy, stormy).timings()[1]
    assert not timing.clean
    assert timing.slices == 4


def test_schedules_far_behind_are_dropped_and_cannot_win():
    found = rounds(((1.0, 1.0), (2.5, 1.0), (1.1, 1.0)))
    assert found.worth_running(2.0) == [0, 2]
    found.add([0, 2], [1] * 3, [np.array([1.0, 9.0, 1.0]), np.array([1.0, 9.0, 1.0])])
    timing = found.timings()[1]
    assert timing.slices == 1
    assert timing.ratio == pytest.approx(2.5)


def test_the_formula_is_never_dropped():
    assert 0 in rounds(((5.0, 1.0), (1.0, 1.0))).worth_running(2.0)


def test_cold_weights_come_from_other_memory_each_time():
    cold = ColdWeights()
    places = {cold.take(1 << 20) for _ in range(64)}
    assert len(places) == 64
    cold.reserve(100 << 20)
    assert cold.take(100 << 20) != 0


@pytest.fixture
def session():
    with Records(None) as records, Session(HOST, 2, records, ObjectCache(None)) as session:
        yield session


def built(kernel, rule="", **knobs):
    made = make_loops(kernel, HOST, "kernel", rule, knobs or None)
    return Built(Candidate.of(made.rule, made.knobs), made)


@pytest.mark.parametrize("kernel", [product(), product(rows=1)], ids=["rows", "row"])
def test_checked_results_are_those_of_the_expression(session, kernel):
    workspace = Workspace(kernel)
    (first,) = session.measure(kernel, [built(kernel)], 0.2)
    assert first.ratio == 1.0
    entry = built(kernel)
    (content,) = session.compile([entry.scheduled])
    (found,) = session.bench.check(Code.load(entry.scheduled, content), workspace)
    arrays = {o.tensor: o.constant if o.constant is not None else workspace.logical(o)
              for o in kernel.inputs}
    (expected,) = evaluate((kernel.outputs[0].tensor,), arrays)
    assert difference(found, np.asarray(expected)) < TOLERANCE


def test_a_wrong_schedule_is_reported_and_its_time_not_taken(session, caplog):
    kernel, other = product(seed=2), product(seed=3)
    wrong = built(other, rows=2)
    moved = tuple(o if o.constant is not None else kernel.inputs[0] if o.tensor.body is None
                  else kernel.outputs[0] for o in wrong.scheduled.operands)
    wrong = Built(wrong.candidate, replace(wrong.scheduled, operands=moved))
    with caplog.at_level(logging.ERROR):
        trials = session.measure(kernel, [built(kernel), wrong], 0.2)
    assert [trial.wrong for trial in trials] == [False, True]
    assert "internal error" in caplog.text
    assert session.records.trials(session.key(kernel))[-1].wrong


def test_all_schedules_of_a_sample_agree(session):
    if missing_features(HOST.requires) or HOST.vector_bits != 512:
        pytest.skip("the kernel's layout is for AVX-512")
    kernel = convolution(window=3, size=9)
    space, rng = Space(kernel, HOST), np.random.default_rng(4)
    randoms = space.randoms(rng)
    found = {}
    while len(found) < 5:
        candidate = next(randoms)
        made = space.loops(candidate, for_use=True)
        if made is not None:
            found[candidate] = Built(candidate, made)
    trials = session.measure(kernel, [built(kernel), *found.values()], 0.3)
    assert not any(trial.wrong for trial in trials)


def test_differences():
    ones = np.ones(4, np.float32)
    assert difference(ones, ones) == 0
    assert difference(ones * 1.01, ones) == pytest.approx(0.01, rel=1e-3)
    assert difference(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0
    assert difference(np.array([np.nan, 1.0]), np.array([1.0, 1.0])) == np.inf
    assert difference(np.array([np.inf]), np.array([np.inf])) == 0
    assert difference(np.array([np.inf]), np.array([1.0])) == np.inf
    assert difference(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert difference(np.zeros(0, np.float32), np.zeros(0, np.float32)) == 0


def test_operands_inside_other_tensors_have_their_whole_span():
    kernel = product()
    x = kernel.inputs[0]
    apart = Operand(x.tensor, x.layout, (100, 1), 5)
    assert operand_bytes(apart) == (5 + 31 * 100 + 23 + 1) * 4
    assert not is_cold(apart)
    assert is_cold(kernel.inputs[1])
