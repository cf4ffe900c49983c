"""Profiles add up and name every step; tiny work stays on one thread."""

import dataclasses
import threading

import numpy as np
import pytest

from bessemer.core.errors import InputError
from bessemer.debug.tiny_engine import tiny_engine_data, with_plan
from bessemer.runtime.engine import Engine
from bessemer.runtime.profile import Recorder

COUNT = 1000


def test_profile(engine, x) -> None:
    profile = engine.profile(x, runs=5)
    assert [row.name for row in profile.rows] == ["add", "square", "shift"]
    assert all(row.microseconds > 0 for row in profile.rows)
    assert profile.rows[0].flops == COUNT
    assert profile.rows[2].sources == ("Add_2", "Relu_3")
    assert profile.total_microseconds >= sum(row.microseconds for row in profile.rows) / 2
    assert "Relu_3" in str(profile)
    with pytest.raises(InputError):
        engine.profile(x, runs=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_profile_adds_up(threads: int) -> None:
    """Every step is seen whoever runs it, and the rows with the call are the whole time."""
    count = 1 << 20
    data, _ = tiny_engine_data(count)
    with Engine(data).create_context(threads) as context:
        profile = context.profile(np.ones(count, np.float32), runs=5)
    spent = [row.microseconds for row in profile.rows]
    assert min(spent) > 0
    assert sum(spent) + profile.call_microseconds == pytest.approx(profile.total_microseconds)
    assert "(the call itself)" in str(profile)


def test_times_reach_from_stamp_to_stamp(made) -> None:
    """No time between the first and the last stamp is lost, also when stamps are out of order."""
    program = Engine(made[0]).create_context(1)._runner.program
    recorder = Recorder(program)
    for start in (0, 10**9 - 50):
        ends = [start, start + 3000, start + 2000, start + 7000]
        recorder._words[:] = [part for end in ends for part in divmod(end, 10**9)]
        recorder.collect(9000)
    profile = recorder.result(1, {})
    assert [row.microseconds for row in profile.rows] == [3.0, 0.0, 4.0]
    assert profile.call_microseconds == pytest.approx(2.0)


def test_profile_while_others_run(engine, x) -> None:
    """Runs that get the workers and runs that do not write the same kind of time stamps."""
    done = threading.Event()

    def work() -> None:
        with engine.create_context(2) as context:
            while not done.is_set():
                context.run(x)

    other = threading.Thread(target=work)
    other.start()
    try:
        with engine.create_context(2) as context:
            profile = context.profile(x, runs=400)
    finally:
        done.set()
        other.join()
    assert all(0 <= row.microseconds < 1e5 for row in profile.rows)
    assert sum(row.microseconds for row in profile.rows) <= profile.total_microseconds


def test_tiny_work_stays_on_one_thread(x) -> None:
    """Waking others would take longer than the work."""
    def used(**changes: int) -> int:
        data, _ = tiny_engine_data(COUNT)
        steps = tuple(dataclasses.replace(step, **changes) for step in data.plan.steps)
        with Engine(with_plan(data, steps=steps)).create_context(2) as context:
            # The bare request writes where the last run's output lies, so that is kept.
            kept = context.run(x)
            threads = context._runner.pool.run(context._runner.tables.requests[0])
            assert kept
            assert context.profile(x, runs=1).threads == threads
            return threads

    assert used(flops=1000, bytes=12_000) == 1
    assert used(flops=1_000_000, bytes=12_000) == 2
    assert used(flops=1000, bytes=1_000_000) == 2
    assert used(flops=0, bytes=0) == 2
