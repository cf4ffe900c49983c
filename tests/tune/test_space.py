"""Candidates: what they are, where they come from, and that bad ones are left out."""

import itertools

import numpy as np
import pytest
from kernels import convolution, product

from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target
from bessemer.tune.space import Candidate, Space, register_vectors

AVX512 = get_target("x86-avx512")


@pytest.fixture(params=[convolution, product], ids=["convolution", "product"])
def space(request):
    return Space(request.param(), AVX512)


def take(candidates, count):
    return list(itertools.islice(candidates, count))


def test_seeds_begin_with_what_the_formula_chooses(space):
    made = make_loops(space.kernel, AVX512, "kernel")
    assert space.seeds()[0] == Candidate.of(made.rule, made.knobs)
    assert len(set(space.seeds())) == len(space.seeds())


def test_every_rule_that_applies_is_searched(space):
    found = {candidate.rule for candidate in take(space.randoms(np.random.default_rng(0)), 200)}
    assert found == {rule.name for rule in space.rules if any(space.knobs[rule.name].values())} | {
        rule.name for rule in space.rules if not space.knobs[rule.name]}


def test_more_candidates_begin_with_the_same_ones(space):
    few = take(space.randoms(np.random.default_rng(5)), 10)
    assert take(space.randoms(np.random.default_rng(5)), 40)[:10] == few


def test_mutations_and_crossings_stay_in_the_space(space):
    rng = np.random.default_rng(1)
    one, other = take(space.randoms(rng), 2)
    for _ in range(60):
        one = space.mutate(one, rng)
        other = space.cross(other, one, rng)
        for candidate in (one, other):
            values = space.knobs[candidate.rule]
            default = space.defaults[candidate.rule]
            assert all(value in values[name] or value == default[name]
                       for name, value in candidate.knobs if name in values)


def test_a_mutation_changes_one_or_two_knobs():
    space = Space(convolution(), AVX512)
    rng = np.random.default_rng(1)
    parent = next(each for each in space.seeds() if each.rule == "convolution")
    changes = [sum(a != b for a, b in zip(parent.knobs, space.mutate(parent, rng).knobs,
                                          strict=True)) for _ in range(50)]
    assert max(changes) <= 2
    assert sum(changes) > 30


def test_a_candidate_is_read_back_from_its_text(space):
    for candidate in space.seeds():
        assert Candidate.parse(candidate.rule, candidate.knobs_text) == candidate


@pytest.mark.parametrize("text", ["[1]", "3", "{\"a\": [1]}", "{"])
def test_other_texts_are_no_candidates(text):
    with pytest.raises(ValueError):
        Candidate.parse("matmul", text)


def test_tiles_that_do_not_fit_the_registers_are_left_out():
    space = Space(convolution(filters=64, size=28), AVX512)
    default = space.defaults["convolution"]
    wide = Candidate.of("convolution", {**default, "pixels": 14, "rows": 2, "vectors": 4})
    assert space.loops(wide) is None
    narrow = space.loops(Candidate.of("convolution", {**default, "pixels": 6, "vectors": 2}))
    assert narrow is not None
    assert register_vectors(narrow, AVX512) <= AVX512.vector_registers


def test_records_of_rules_and_knobs_that_are_gone_are_not_used():
    space = Space(convolution(), AVX512)
    assert space.loops(Candidate.of("tensor-cores", {})) is None
    assert space.loops(Candidate.of("convolution", {"pixels": 6})) is None
    extra = {**space.defaults["convolution"], "magic": 1}
    assert space.loops(Candidate.of("convolution", extra)) is None
