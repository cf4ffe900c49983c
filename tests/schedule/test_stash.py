"""Pointwise convolutions whose input is computed: every schedule means the same."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lower"))
from meaning import evaluate, run_loops

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.core.errors import ScheduleError
from bessemer.ir.layout import Layout
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.ops.conv import Conv
from bessemer.schedule.rule import apply_rule, make_loops
from bessemer.schedule.rules.convolution import Convolution
from bessemer.schedule.schedule import Schedule
from bessemer.targets import get_target


def normalised(lanes, n, c, m, h, w):
    """relu(conv(relu(x * scale + shift), w)), with a scale per channel that may be an input."""
    rng = np.random.default_rng(5)
    x, y = te.placeholder(f32, (n, c, h, w), "x"), te.placeholder(f32, (m, c, 1, 1), "w")
    scale = te.placeholder(f32, (n, c, 1, 1), "scale")
    shift = te.placeholder(f32, (c, 1, 1), "shift")
    value = te.compute(f32, x.shape, lambda b, k, i, j: te.maximum(
        x[b, k, i, j] * scale[b, k, 0, 0] + shift[k, 0, 0], 0.0))
    total = Conv().lower(value, y)
    out = te.compute(f32, total.shape, lambda *i: te.maximum(total[i], 0.0))
    blocked = Layout.blocked(4, 1, lanes)
    kernel = Kernel("conv", [
        Operand.dense(x, blocked), Operand.dense(scale, blocked),
        Operand.dense(shift, None, rng.normal(size=shift.shape).astype(np.float32)),
        Operand.dense(y, None, rng.normal(size=y.shape).astype(np.float32))],
        [Operand.dense(out, blocked)])
    return simplify_axes(inline_stages(kernel))


@pytest.mark.parametrize("sizes", [
    (1, 32, 48, 5, 7), (2, 16, 20, 3, 3), (1, 48, 96, 1, 6), (1, 16, 16, 1, 1), (3, 32, 64, 4, 1)])
@pytest.mark.parametrize("name", ["x86-avx512", "x86-avx2"])
def test_all_schedules_mean_the_same(name, sizes):
    target = get_target(name)
    kernel = normalised(target.lanes(f32), *sizes)
    rng = np.random.default_rng(6)
    arrays = {o.tensor: rng.normal(size=o.shape).astype(np.float32) if o.constant is None
              else o.constant for o in kernel.inputs}
    wanted = evaluate(kernel, arrays)
    rule, choice = Convolution(), random.Random(sum(sizes))
    assert not rule.matches(kernel, target)
    assert make_loops(kernel, target, "kernel").rule == "convolution"
    space = rule.space(kernel, target)
    for share in ("pixels", "filters", "pixels", "filters"):
        knobs = {**rule.default(kernel, target), "share": share,
                 "vectors": choice.choice(space["vectors"]),
                 "pixels": choice.choice(space["pixels"]),
                 "kblock": choice.choice(space["kblock"])}
        if share == "filters" and -(-sizes[2] // target.lanes(f32)) % knobs["vectors"]:
            continue  # the threads cannot divide uneven tiles of filters
        scheduled = apply_rule(rule, kernel, target, "kernel", knobs)
        found = run_loops(kernel, scheduled, arrays)
        np.testing.assert_allclose(found[0], wanted[0], rtol=2e-4, atol=2e-4)
        stage = kernel.reductions[0]
        assert Schedule.of(stage).replay(scheduled.text).stash_at


def test_what_a_task_keeps_fits_its_stack():
    target = get_target("x86-avx512")
    kernel = normalised(16, 1, 2048, 64, 28, 28)
    rule = Convolution()
    apply_rule(rule, kernel, target, "kernel", rule.default(kernel, target))
    knobs = {**rule.default(kernel, target), "share": "filters"}
    with pytest.raises(ScheduleError, match="computed factor takes"):
        apply_rule(rule, kernel, target, "kernel", knobs)
