"""Schedule primitives: replay, what they refuse, equal results under random sequences of them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "lower"))
from meaning import assert_same_meaning
from test_rules import CASES

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.core.errors import ScheduleError
from bessemer.core.shapes import symbol
from bessemer.lower.bind import bind_function
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.lower.loop_parser import parse_function
from bessemer.lower.loop_verifier import verify_function
from bessemer.schedule.memory import Memory, border
from bessemer.schedule.nest import Nest
from bessemer.schedule.rule import Scheduled, make_loops
from bessemer.schedule.schedule import TAILS, Schedule
from bessemer.targets import get_target

ALL_CASES = [(name, number) for name, rows in CASES.items() for number in range(len(rows))]


def scaled(rows, columns):
    """y = 2 x + 1."""
    x = te.placeholder(f32, (rows, columns), "x")
    y = te.compute(f32, (rows, columns), lambda i, j: x[i, j] * 2.0 + 1.0)
    return Kernel("scaled", [Operand.dense(x)], [Operand.dense(y)])


def product(rows, depth, columns):
    """tanh of a matrix product."""
    a, b = te.placeholder(f32, (rows, depth), "a"), te.placeholder(f32, (depth, columns), "b")
    k = te.reduce_axis(depth)
    total = te.compute(f32, (rows, columns), lambda i, j: te.sum_(a[i, k] * b[k, j], k))
    out = te.compute(f32, (rows, columns), lambda i, j: te.tanh(total[i, j]))
    return Kernel("product", [Operand.dense(a), Operand.dense(b)], [Operand.dense(out)])


def summed(rows, depth, columns):
    """Sum over two axes."""
    x = te.placeholder(f32, (depth, rows, columns), "x")
    k, j = te.reduce_axis(depth), te.reduce_axis(columns)
    y = te.compute(f32, (rows,), lambda i: te.sum_(x[k, i, j], k, j))
    return Kernel("summed", [Operand.dense(x)], [Operand.dense(y)])


def stage_of(kernel):
    return (kernel.reductions or kernel.stages)[0]


def loops_of(kernel, schedule):
    memory = Memory(kernel, 4)
    body = Nest(stage_of(kernel), schedule, memory, kernel.outputs).build()
    function = memory.function("k", body)
    verify_function(function)
    return Scheduled(function, tuple(memory.order), "by hand", {}, schedule.text)


def arrays_of(kernel):
    rng = np.random.default_rng(5)
    return {o.tensor: rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}


def tiled(schedule):
    """A register tile with an uneven split of every axis."""
    row, inner_row = schedule.split("a0", 3, "balance")
    column, lane = schedule.split("a1", 4, "mask")
    depth, step = schedule.split("r0", 2, "shrink")
    schedule.reorder(row, column, depth, step, inner_row, lane)
    schedule.unroll(inner_row)
    schedule.vectorize(lane)
    schedule.parallel(schedule.fuse(row, column))
    schedule.accumulate("a0.o+a1.o")


def test_tiled_product():
    kernel = product(7, 5, 10)
    schedule = Schedule.of(stage_of(kernel))
    tiled(schedule)
    assert_same_meaning(kernel, loops_of(kernel, schedule), arrays_of(kernel))


def test_replay_gives_the_same_loops():
    kernel = product(7, 5, 10)
    schedule = Schedule.of(stage_of(kernel))
    tiled(schedule)
    again = Schedule.of(stage_of(kernel)).replay(schedule.text)
    assert again == schedule
    assert str(loops_of(kernel, again).function) == str(loops_of(kernel, schedule).function)


def test_text_of_steps():
    schedule = Schedule.of(stage_of(product(7, 5, 10)))
    tiled(schedule)
    assert schedule.text.split("\n") == [
        "split a0 3 balance", "split a1 4 mask", "split r0 2 shrink",
        "reorder a0.o a1.o r0.o r0.i a0.i a1.i", "unroll a0.i", "vectorize a1.i",
        "fuse a0.o a1.o", "parallel a0.o+a1.o", "accumulate a0.o+a1.o"]


@pytest.mark.parametrize(("steps", "message"), [
    ("split a5 2 mask", "no loop 'a5'; the loops are a0 a1 r0"),
    ("split a0 0 mask", "cannot split a0 by 0 with tail 'mask'"),
    ("split a0 2 sometimes", "cannot split a0 by 2 with tail 'sometimes'"),
    ("split a0 2 exact", r"2 does not divide a0 \(extent 7\)"),
    ("split a0 2 mask\nsplit a0 2 mask", "no loop 'a0'"),
    ("split a0 2 shrink\nsplit a0.o 2 mask", "a0.o is the outer loop of an uneven split of a0"),
    ("split a0 4 mask\nsplit a0.i 4 exact\nsplit a0.i.i 3 exact",
     r"3 does not divide a0.i.i \(extent 4\)"),
    ("split a0 4 shrink\nsplit a0.i 4 exact", r"4 does not divide a0.i \(extent 3, 4\)"),
    ("split a1 8 shrink\nsplit a1.i 3 pad", "a1.i is part of a1; only whole axes have padding"),
    ("split a0 2 shrink\nreorder a0.i a0.o", "a0.i must stay inside a0.o"),
    ("fuse a0 a1\nsplit a0+a1 2 mask", r"a0\+a1 is a fused loop; split a1 first"),
    ("split a1 4 shrink\nfuse a1.o a1.i", r"a1.i has no fixed extent inside a1.o"),
    ("fuse a0 r0", "a0 and r0 are not neighbours that can be fused"),
    ("fuse a1 r0", "a1 and r0 are not neighbours that can be fused"),
    ("reorder a0 a0", "reorder names a loop twice: a0 a0"),
    ("vectorize a0\nvectorize a1", "only one loop can be the vector loop"),
    ("parallel r0", "r0 is a reduction and cannot be shared between threads"),
    ("accumulate a7", "no loop 'a7'"),
    ("tile a0", "unknown primitive 'tile a0'"),
    ("split a0 2", "unknown primitive 'split a0 2'"),
])
def test_illegal_use_is_refused(steps, message):
    with pytest.raises(ScheduleError, match=message):
        Schedule.of(stage_of(product(7, 5, 10))).replay(steps)


def test_padding_must_not_count():
    x = te.placeholder(f32, (5, 7), "x")
    k = te.reduce_axis(7)
    y = te.compute(f32, (5,), lambda i: te.max_(x[i, k], k))
    kernel = Kernel("largest", [Operand.dense(x)], [Operand.dense(y)])
    schedule = Schedule.of(y)
    schedule.split("r0", 4, "pad")
    with pytest.raises(ScheduleError, match=r"r0 of t.* cannot be padded"):
        loops_of(kernel, schedule)


@pytest.mark.parametrize(("steps", "message"), [
    ("vectorize a0", "vector loop a0 must be the innermost one"),
    ("reorder r0 a0 a1 r1\nvectorize r1", "the lanes of r1 are summed in registers: unroll a0 a1"),
])
def test_loops_that_cannot_be_made(steps, message):
    x = te.placeholder(f32, (3, 4, 5, 6), "x")
    k, j = te.reduce_axis(5), te.reduce_axis(6)
    y = te.compute(f32, (3, 4), lambda i, m: te.sum_(x[i, m, k, j], k, j))
    kernel = Kernel("sums", [Operand.dense(x)], [Operand.dense(y)])
    with pytest.raises(ScheduleError, match=message):
        loops_of(kernel, Schedule.of(y).replay(steps))


@pytest.mark.parametrize(("name", "number"), [
    row for row in ALL_CASES if row[0] in ("convolution", "window", "matmul", "reduction")])
def test_the_text_of_a_rule_replays(name, number):
    target = get_target("x86-avx2")
    make, lanes = CASES[name][number], target.lanes(f32)
    scheduled = make_loops(simplify_axes(inline_stages(make(lanes))), target, "k", name)
    kernel = simplify_axes(inline_stages(make(lanes)))
    memory = Memory(kernel, lanes)
    schedule = Schedule.of(stage_of(kernel)).replay(scheduled.text)
    body = Nest(stage_of(kernel), schedule, memory, kernel.outputs).build()
    for operand in kernel.outputs:
        body += border(memory.buffer(operand), operand.layout, operand.shape, lanes)
    assert str(memory.function("k", body)) == str(scheduled.function)


SIZES = (1, 2, 3, 5, 7, 16, 17)


def bound(scheduled, symbolic, static, values):
    """A symbolic kernel's loops for some values of its symbols, over a static kernel's operands."""
    theirs = {id(mine.tensor): other for mine, other in zip(
        (*symbolic.inputs, *symbolic.outputs), (*static.inputs, *static.outputs), strict=True)}
    return replace(scheduled, function=bind_function(scheduled.function, values),
                   operands=tuple(theirs[id(o.tensor)] for o in scheduled.operands))


@pytest.mark.parametrize("tail", ["shrink", "balance", "mask"])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("axis", ["a0", "a1", "r0"])
def test_every_tail_of_every_symbolic_axis(axis, factor, tail):
    n, k, m = symbol("N"), symbol("K"), symbol("M")
    kernel = product(n, k, m)
    schedule = Schedule.of(stage_of(kernel))
    schedule.split(axis, factor, tail)
    scheduled = loops_of(kernel, schedule)
    for size in SIZES:
        static = product(size, 5, 3)
        values = {"N": size, "K": 5, "M": 3}
        if axis == "r0":
            static, values = product(4, size, 3), {"N": 4, "K": size, "M": 3}
        if axis == "a1":
            static, values = product(2, 5, size), {"N": 2, "K": 5, "M": size}
        assert_same_meaning(static, bound(scheduled, kernel, static, values), arrays_of(static))


def test_symbolic_tiled_product():
    kernel = product(symbol("N"), symbol("K"), symbol("M"))
    schedule = Schedule.of(stage_of(kernel))
    tiled(schedule)
    scheduled = loops_of(kernel, schedule)
    assert str(parse_function(str(scheduled.function))) == str(scheduled.function)
    for rows, depth, columns in ((1, 1, 1), (7, 5, 10), (3, 2, 4), (2, 9, 13)):
        static = product(rows, depth, columns)
        values = {"N": rows, "K": depth, "M": columns}
        assert_same_meaning(static, bound(scheduled, kernel, static, values), arrays_of(static))


def test_rules_make_loops_for_every_extent():
    for make, names in ((scaled, ("N", "M")), (product, ("N", "K", "M")), (summed, "NKM")):
        kernel = make(*map(symbol, names))
        scheduled = make_loops(kernel, get_target("x86-avx2"), "k")
        for sizes in ((1, 1, 1), (7, 5, 10), (17, 3, 33), (2, 16, 8)):
            static = make(*sizes[: len(names)])
            values = dict(zip(names, sizes, strict=False))
            assert_same_meaning(static, bound(scheduled, kernel, static, values),
                                arrays_of(static))


def test_symbolic_padding_is_refused():
    kernel = product(symbol("N"), 5, 3)
    with pytest.raises(ScheduleError, match="a0 is symbolic"):
        Schedule.of(stage_of(kernel)).split("a0", 4, "pad")


@pytest.mark.parametrize("tail", [tail for tail in TAILS if tail != "exact"])
@pytest.mark.parametrize("factor", [1, 2, 4, 16])
@pytest.mark.parametrize("axis", ["a0", "a1", "r0"])
def test_every_tail_of_every_axis(axis, factor, tail):
    kernel = product(7, 5, 3)
    schedule = Schedule.of(stage_of(kernel))
    schedule.split(axis, factor, tail)
    assert_same_meaning(kernel, loops_of(kernel, schedule), arrays_of(kernel))


STEPS = st.lists(st.tuples(
    st.sampled_from(("split", "split", "split", "fuse", "reorder", "swap", "unroll", "vectorize",
                     "parallel")),
    st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.sampled_from(TAILS)), max_size=7)


def apply(schedule, word, first, second, factor, tail):
    """One random primitive; those that are refused change nothing."""
    order = schedule.order
    name, other = order[first % len(order)], order[second % len(order)]
    if word == "split":
        schedule.split(name, factor, tail)
    elif word == "fuse":
        place = first % len(order)
        schedule.fuse(name, order[(place + 1) % len(order)])
    elif word in ("reorder", "swap"):
        spatial = [n for n in order if n not in schedule.reducing]
        group = spatial if word == "reorder" else [n for n in order if n in schedule.reducing]
        if group:
            shift = second % len(group)
            schedule.reorder(*group[shift:], *group[:shift])
    elif word == "vectorize":
        schedule.reorder(*[n for n in order if n != name], name)
        schedule.vectorize(name)
    elif word == "parallel" and other == order[0]:
        schedule.parallel(other)
    elif word == "unroll":
        schedule.unroll(name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(("scaled", "product", "summed")), st.integers(1, 7), st.integers(1, 7),
       st.integers(1, 7), STEPS)
def test_random_schedules_keep_the_meaning(which, rows, depth, columns, steps):
    kernel = scaled(rows, columns) if which == "scaled" else \
        product(rows, depth, columns) if which == "product" else summed(rows, depth, columns)
    schedule = Schedule.of(stage_of(kernel))
    for step in steps:
        try:
            apply(schedule, *step)
        except ScheduleError:
            continue
    try:
        scheduled = loops_of(kernel, schedule)
    except ScheduleError:
        return
    assert_same_meaning(kernel, scheduled, arrays_of(kernel), threads=2, backwards=True)
    again = Schedule.of(stage_of(kernel)).replay(schedule.text)
    assert str(loops_of(kernel, again).function) == str(scheduled.function)
