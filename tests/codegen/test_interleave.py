"""Copies of straight-line code side by side: every line once, behind what it uses."""

import itertools

from bessemer.codegen.llvm.interleave import interleaved


def chain(name, length, first="%x"):
    steps = [first, *(f"%{name}{k}" for k in range(length))]
    return [f"  {new} = fadd float {old}, 1.0" for old, new in itertools.pairwise(steps)]


def test_chains_take_turns():
    a, b = chain("a", 3), chain("b", 3)
    assert interleaved([a, b]) == [a[0], b[0], a[1], b[1], a[2], b[2]]


def test_the_longer_one_ends_alone():
    a, b, c = chain("a", 1), chain("b", 3), []
    assert interleaved([a, b, c]) == [a[0], *b]


def test_a_part_waits_for_values_of_another():
    a, b = chain("a", 3), chain("b", 2, first="%a1")
    assert interleaved([a, b]) == [a[0], a[1], b[0], a[2], b[1]]


def test_names_that_begin_alike_are_two():
    a = ["  %v1 = load float, ptr %p", "  %v12 = fneg float %v1"]
    b = ["  store float %v0, ptr %q", "  store float %v1, ptr %r"]
    assert interleaved([a, b]) == [a[0], b[0], a[1], b[1]]


def test_branches_stay():
    a = ["  br label %l", "l:", "  %a = fneg float %x"]
    b = chain("b", 2)
    assert interleaved([a, b]) == [*a, *b]
