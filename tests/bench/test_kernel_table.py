"""The figures of a profile: which limit binds a kernel, and that the rows add up."""

import dataclasses

import pytest

from bessemer.bench.kernel_table import (
    HEAD,
    Level,
    Roof,
    call_row,
    kernel_rows,
    least_microseconds,
    roof_of,
)
from bessemer.bench.limits import Limits
from bessemer.debug.tiny_engine import tiny_plan
from bessemer.engine.plan import BufferRef
from bessemer.runtime.profile import Profile, ProfileRow
from bessemer.targets import get_target

ROOF = Roof(100e9, 10e9, (Level("L1", 1e5, 1000e9), Level("L2", 1e6, 100e9)))


def rows_of(microseconds: float, flops: int, moved: int, weights: int = 0, all_weights: int = 0,
            notes: tuple[str, ...] = (), roof: Roof | None = ROOF, instructions: int = 0):
    """The row of a plan's first kernel, which reads `weights` bytes of the constants."""
    plan = tiny_plan(100)
    others = all_weights - weights
    refs = [(BufferRef("constant", 0, size),) for size in (weights, others)]
    steps = [dataclasses.replace(step, args=args, notes=notes, flops=1000,
                                 instructions=instructions)
             for step, args in zip(plan.steps, [*refs, ()], strict=True)]
    plan = dataclasses.replace(plan, steps=tuple(steps))
    row = ProfileRow(0, "k", "kernel", microseconds, flops, moved, "rule", ("Conv_0",))
    return kernel_rows(Profile("net", 2, 5, microseconds + 5, (row,)), plan, roof)


@pytest.mark.parametrize("flops, moved, weights, all_weights, bound, least_us", [
    (10**8, 1000, 0, 0, "arithmetic", 1000.0),
    (10**6, 10**7, 0, 0, "memory", 1000.0),
    (10**6, 10**6, 0, 0, "arithmetic", 10.0),
    (10**5, 10**6, 0, 0, "memory (L2)", 10.0),
    # Weights come from where those of the whole network fit.
    (10**5, 10**5, 10**5, 10**5, "arithmetic", 1.0),
    (10**5, 10**5, 10**5, 9 * 10**5, "arithmetic", 1.0),
    (10**5, 10**5, 10**5, 10**8, "memory", 10.0),
    (10, 100, 0, 0, "overhead", 0.5),
])
def test_bound(flops: int, moved: int, weights: int, all_weights: int, bound: str,
               least_us: float) -> None:
    (row,) = rows_of(2000.0, flops, moved, weights, all_weights)
    assert row.bound_by == bound
    assert row.of_limit == pytest.approx(least_us / 2000, rel=0.1)


def test_functions_take_the_places_of_multiply_adds() -> None:
    # Twice the usual work, whose 10,000 instructions could be 20,000 operations.
    (row,) = rows_of(1.0, 2000, 1000, instructions=10_000)
    assert row.bound_by == "overhead"
    (row,) = rows_of(1000.0, 2_000_000, 1000, instructions=10_000)
    assert (row.bound_by, row.of_peak) == ("arithmetic", pytest.approx(0.02))
    assert row.of_limit == pytest.approx(0.4)
    assert least_microseconds([row, row]) == pytest.approx(800.0)


def test_without_limits_and_with_a_runner_up() -> None:
    (row,) = rows_of(10.0, 100, 100, notes=("joined", "runner-up: direct rows=4, 1.05 of its time"),
                     roof=None)
    assert (row.bound_by, row.of_limit, row.of_peak) == ("-", None, None)
    assert row.runner_up == "direct rows=4, 1.05 of its time"
    assert len(row.cells()) == len(HEAD)


def test_rows_and_the_call_add_up() -> None:
    times = (3.0, 4.0, 5.0)
    rows = tuple(ProfileRow(k, f"k{k}", "kernel", time, 1, 1, "", ())
                 for k, time in enumerate(times))
    profile = Profile("net", 1, 5, 20.0, rows)
    shown = [*kernel_rows(profile, tiny_plan(100), ROOF), call_row(profile)]
    assert sum(row.microseconds for row in shown) == pytest.approx(20.0)
    assert sum(row.share for row in shown) == pytest.approx(1.0)


def test_caches_of_all_threads_count() -> None:
    target = get_target("x86-avx512")
    roof = roof_of(Limits(2, 300.0, 500.0, 200.0, 50.0, 20.0), target)
    assert roof.level(1.5 * target.l2_bytes).name == "L2"
    assert roof.level(3 * target.l2_bytes).name == "L3"
    assert roof.level(1e12) == Level("memory", float("inf"), 20e9)
