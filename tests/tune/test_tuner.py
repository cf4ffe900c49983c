"""The tuner's decisions, with times that are made up: nothing here depends on the machine."""

import itertools

import numpy as np
import pytest
from kernels import convolution, product

from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target
from bessemer.tune import proposals
from bessemer.tune import tuner as tuner_module
from bessemer.tune.cost_model import CostModel
from bessemer.tune.description import describe_kernel, kernel_key
from bessemer.tune.records import KernelRecord, Records, Trial
from bessemer.tune.space import Candidate
from bessemer.tune.tuner import (
    CLEAR_WIN,
    Effort,
    Tuner,
    apply_picks,
    decide,
    entries_of,
    network_key,
    picks_of,
    runner_up,
    summary,
)

AVX512 = get_target("x86-avx512")
BASE = Candidate.of("matmul", {"rows": 6})


def trial(ratio, rows, **other):
    fields = {"slices": 6} | other
    return Trial("k", "matmul", f'{{"rows":{rows}}}', str(BASE), ratio, ratio, **fields)


def test_the_formula_stays_without_a_clear_win():
    assert decide([], BASE) == BASE
    assert decide([trial(1.0, 6), trial(CLEAR_WIN + 0.001, 5)], BASE) == BASE
    assert decide([trial(1.0, 6), trial(CLEAR_WIN - 0.001, 5)], BASE) == Candidate.of(
        "matmul", {"rows": 5})


def test_the_fastest_wins_and_ties_do_not_depend_on_the_order():
    trials = [trial(0.8, 5), trial(0.7, 3), trial(0.7, 4), trial(0.9, 2)]
    winners = {decide(order, BASE) for order in itertools.permutations(trials)}
    assert winners == {Candidate.of("matmul", {"rows": 3})}


def test_wrong_schedules_and_short_trials_never_count():
    assert decide([trial(0.1, 5, wrong=True)], BASE) == BASE
    assert decide([trial(0.1, 5, slices=2)], BASE) == BASE


def test_the_runner_up_is_named_with_its_time():
    assert runner_up([], BASE) == ""
    assert runner_up([trial(0.8, 5)], BASE) == "matmul rows=6, 1.25 of its time"
    trials = [trial(0.8, 5), trial(0.88, 3), trial(0.5, 2, wrong=True), trial(1.0, 6)]
    assert runner_up(trials, BASE) == "matmul rows=3, 1.10 of its time"
    # The formula stays where nothing wins clearly; what was faster by luck is then named.
    assert runner_up([trial(0.99, 5)], BASE) == "matmul rows=5, 0.99 of its time"


def test_times_beside_another_formula_do_not_count():
    other = Trial("k", "matmul", '{"rows":5}', "matmul rows=4", 0.5, 0.5, 6)
    assert decide([other], BASE) == BASE


class Clock:
    """Time that only measuring moves."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class FakeSession:
    """Times schedules by a made-up rule: more vectors are faster.

    Each takes a tenth of a second. `luck` is what the first trial finds of the time that a
    rehearsal finds.
    """

    calls = 0
    fails = False
    luck = 1.0

    def __init__(self, target, threads, records):
        self.target, self.threads, self.records = target, threads, records
        self.compile_seconds = 0.1
        self.knows_speed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def compile(self, schedules):
        clock.now += 0.1 * len(schedules)

    def measure_in(self, network, trials, seconds):
        if FakeSession.fails:
            return [[] for _ in trials]
        FakeSession.calls += len(trials)
        return [self.time(each.kernel, each.built, FakeSession.luck) for each in trials]

    def rehearse(self, network, trials, seconds):
        return [self.time(each.kernel, each.built, 1.0) for each in trials]

    def time(self, kernel, built, luck):
        clock.now += 0.05 * len(built)
        cost = [self.cost(each.candidate) * (luck if k else 1.0) for k, each in enumerate(built)]
        key = kernel_key(kernel, self.target, self.threads)
        trials = [Trial(key, e.candidate.rule, e.candidate.knobs_text,
                        str(built[0].candidate), c, c / cost[0], 6)
                  for e, c in zip(built, cost, strict=True)]
        self.records.add(KernelRecord(key, "c", 2, describe_kernel(kernel)), trials)
        return trials

    def cost(self, candidate):
        knobs = dict(candidate.knobs)
        return 1.0 + 1.0 / (1 + int(knobs.get("vectors", 0))) + 0.1 * int(
            knobs.get("unroll", 0) != 8)


clock = Clock()


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    clock.now, FakeSession.calls, FakeSession.fails, FakeSession.luck = 0.0, 0, False, 1.0
    monkeypatch.setattr(tuner_module, "Session", FakeSession)
    monkeypatch.setattr(tuner_module, "time", clock)
    monkeypatch.setattr(tuner_module, "_SMALL_SECONDS", 0.0)
    monkeypatch.setattr(proposals, "_POOL", {"default": 12, "max": 24})


def choose(kernels, level, records, budget_s=None, on_progress=None):
    """What was found of each distinct kernel, and the schedules of all kernels."""
    pairs = [(kernel, make_loops(kernel, AVX512, "kernel")) for kernel in kernels]
    entries = entries_of(pairs, AVX512, 2, records)
    tuner = Tuner(AVX512, 2, Effort.of(level, budget_s, clock.now, 0.0), records,
                  model=CostModel(None), on_progress=on_progress)
    if any(records.effort(e.key, e.base) < tuner.effort.wanted for e in entries.values()):
        tuner.search(entries, None)
    picks = picks_of(entries.values())
    return (list(map(summary, entries.values())),
            [apply_picks(picks, kernel, default, AVX512, 2) for kernel, default in pairs])


def knobs_of(chosen):
    return [(each.rule, each.knobs) for each in chosen]


def test_equal_kernels_are_timed_once():
    with Records(None) as records:
        found, chosen = choose([convolution(seed=k) for k in range(4)], "default", records)
    assert FakeSession.calls == 1
    assert len({str(each) for each in knobs_of(chosen)}) == 1
    assert [each.count for each in found] == [4]


def test_each_kernel_keeps_its_own_constants():
    kernels = [convolution(seed=k) for k in range(2)]
    with Records(None) as records:
        _, chosen = choose(kernels, "default", records)
    for kernel, scheduled in zip(kernels, chosen, strict=True):
        weights = [o.constant for o in scheduled.operands if o.constant is not None]
        assert weights[0] is kernel.inputs[1].constant


def test_the_second_time_nothing_is_timed_and_all_is_the_same(tmp_path):
    kernels = [convolution(), convolution(window=3), product()]
    with Records(tmp_path / "r.sqlite") as records:
        _, first = choose(kernels, "default", records)
    calls, now = FakeSession.calls, clock.now
    with Records(tmp_path / "r.sqlite") as records:
        _, second = choose(kernels, "default", records)
    assert (FakeSession.calls, clock.now) == (calls, now)
    assert knobs_of(first) == knobs_of(second)
    assert [str(e.function) for e in first] == [str(e.function) for e in second]


def test_a_larger_budget_begins_with_the_same_schedules_and_is_never_slower():
    found = []
    for budget in (7.0, 9.0, 12.0):
        clock.now = 0.0
        with Records(None) as records:
            _, chosen = choose([convolution(size=28), product(64, 64, 64)], "max", records, budget)
            tried = {kernel.key: {(t.rule, t.knobs) for t in records.trials(kernel.key)}
                     for kernel in records.kernels()}
        session = FakeSession(AVX512, 2, None)
        found.append((tried, [session.cost(Candidate.of(e.rule, e.knobs)) for e in chosen]))
    for (few, slower), (many, faster) in itertools.pairwise(found):
        assert all(tried <= many[key] for key, tried in few.items())
        assert all(b <= a for a, b in zip(slower, faster, strict=True))
    first, last = (sum(map(len, tried.values())) for tried, _ in (found[0], found[-1]))
    assert last > first


@pytest.mark.parametrize("budget", [6.0, 9.0, 14.0])
def test_the_budget_is_kept(budget):
    with Records(None) as records:
        choose([convolution(size=k) for k in (7, 14, 28)], "max", records, budget)
    assert clock.now <= 1.1 * budget


def test_default_searches_again_only_if_it_had_less_time():
    counts = []
    with Records(None) as records:
        for budget in (5.0, 4.0, None, 5.0, None, 100.0):
            choose([product(64, 64, 64)], "default", records, budget)
            counts.append(FakeSession.calls)
    assert counts == [0, 0, 1, 1, 1, 1]


def test_max_goes_on_where_default_stopped_and_ends_when_nothing_is_found():
    with Records(None) as records:
        choose([product(64, 64, 64)], "default", records)
        few = len(records.trials(records.kernels()[0].key))
        choose([product(64, 64, 64)], "max", records, 1e6)
        assert len(records.trials(records.kernels()[0].key)) > few
    assert clock.now < 1e3


def test_a_kernel_that_llvm_refuses_keeps_the_formula():
    FakeSession.fails = True
    kernel = convolution()
    with Records(None) as records:
        _, chosen = choose([kernel], "default", records)
    assert knobs_of(chosen) == knobs_of([make_loops(kernel, AVX512, "kernel")])


@pytest.mark.parametrize("rule", ["injective", "matmul"])
def test_a_record_that_no_rule_can_make_any_more_hides_nothing(rule):
    """Neither a rule that does not apply to the kernel, nor knobs that the rule does not have."""
    kernel = product(64, 64, 64)
    with Records(None) as records:
        expected = choose([kernel], "max", records, 60.0)
        (known,) = records.kernels()
        base = make_loops(kernel, AVX512, "kernel")
        records.add(known, [Trial(known.key, rule, '{"gone":1}',
                                  str(Candidate.of(base.rule, base.knobs)), 0.1, 0.1, 6)])
        found = choose([kernel], "max", records, 60.0)
    assert found[0] == expected[0]
    assert knobs_of(found[1]) == knobs_of(expected[1])
    assert knobs_of(found[1]) != knobs_of([base])


def test_what_was_fast_by_luck_fails_in_the_rehearsal():
    FakeSession.luck = 0.5
    kernel = product(64, 64, 64)
    base = make_loops(kernel, AVX512, "kernel")
    with Records(None) as records:
        _, (chosen,) = choose([kernel], "default", records)
        trials = records.trials(records.kernels()[0].key)
    session = FakeSession(AVX512, 2, None)
    costs = [session.cost(Candidate.of(each.rule, each.knobs)) for each in (base, chosen)]
    assert costs[1] <= costs[0]
    assert any(t.ratio < CLEAR_WIN for t in trials) == (costs[1] < costs[0] * CLEAR_WIN)


def test_networks_are_told_apart_by_kernels_and_schedules():
    with Records(None) as records:
        entries = [entries_of([(k, make_loops(k, AVX512, "kernel")) for k in kernels], AVX512, 2,
                              records).values()
                   for kernels in ([product()], [product(), product(seed=5)], [convolution()])]
        keys = {network_key(each, picks_of(each)) for each in entries}
        assert len(keys) == 3
        assert records.network("n") is None
        records.set_network("n", 0.9)
        assert records.network("n") == 0.9


def test_progress_tells_kernels_done():
    told = []
    with Records(None) as records:
        choose([convolution(), convolution(window=3)], "default", records,
               on_progress=lambda *words: told.append(words))
    assert [(done, total) for done, total, _ in told] == [(0, 2), (1, 2), (2, 2)]
    assert "s left" in told[0][2]
    assert "of the formula's time" in told[1][2]


def test_kernels_that_do_not_matter_are_left_out(monkeypatch):
    monkeypatch.setattr(tuner_module, "_SMALL_SHARE", 0.2)
    with Records(None) as records:
        found, _ = choose([convolution(256, 256, 28, 3), product(2, 4, 3)], "default", records)
    assert FakeSession.calls == 1
    assert sorted(each.tried > 0 for each in found) == [False, True]


def test_random_numbers_do_not_depend_on_what_came_before():
    np.random.default_rng(0).random(5)
    with Records(None) as one, Records(None) as two:
        first = knobs_of(choose([product(48, 80, 64)], "default", one)[1])
        assert knobs_of(choose([product(48, 80, 64)], "default", two)[1]) == first
        assert [t.knobs for t in one.trials(one.kernels()[0].key)] == [
            t.knobs for t in two.trials(two.kernels()[0].key)]
