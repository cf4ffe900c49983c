"""What loops ask for ahead: all memory of the results, and the next block of a stream."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_schedule import loops_of, product, stage_of, summed

from bessemer.core.dtypes import f32
from bessemer.core.errors import ScheduleError
from bessemer.lower.loop_interpreter import buffer_extent, run_function
from bessemer.lower.loops import For, If, Prefetch, Store, statements
from bessemer.schedule.schedule import Schedule
from bessemer.te.expr import const


def tiled_product(rows, depth, columns, height=3, block=0):
    """The loops of a product in tiles of height x 8, as 2 vectors of 4."""
    kernel = product(rows, depth, columns)
    schedule = Schedule.of(stage_of(kernel))
    row, inner_row = schedule.split("a0", height, "balance")
    column, rest = schedule.split("a1", 8, "exact")
    vector, lane = schedule.split(rest, 4, "exact")
    blocks, inner = [], "r0"
    if block:
        first, inner = schedule.split("r0", block, "shrink")
        blocks = [first]
    depth, step = schedule.split(inner, 2, "shrink")
    schedule.reorder(column, *blocks, row, depth, step, inner_row, vector, lane)
    for name in (step, inner_row, vector):
        schedule.unroll(name)
    schedule.vectorize(lane)
    schedule.accumulate(row)
    schedule.fetch_results([depth])
    return loops_of(kernel, schedule)


def marking(body):
    """The statements with a mark at each place that is asked for, and without stores."""
    result = []
    for stmt in body:
        match stmt:
            case For(body=inner):
                result.append(replace(stmt, body=marking(inner)))
            case If(body=inner, otherwise=otherwise):
                result.append(replace(stmt, body=marking(inner), otherwise=marking(otherwise)))
            case Prefetch(buffer=buffer, indices=indices):
                result.append(Store(buffer, indices, const(1, f32)))
            case Store(buffer=buffer) if buffer.scope == "global":
                pass
            case _:
                result.append(stmt)
    return result


@pytest.mark.parametrize(("rows", "depth", "height", "block"), [
    (3, 40, 3, 0), (13, 40, 5, 0), (7, 2, 3, 0), (12, 5, 4, 0), (1, 9, 1, 0), (12, 40, 4, 8)])
def test_all_results_are_asked_for(rows, depth, height, block):
    function = tiled_product(rows, depth, 24, height, block).function
    asked = replace(function, body=marking(function.body))
    arrays = [np.zeros(buffer_extent(buffer), np.float32) for buffer in function.params]
    run_function(asked, arrays)
    for buffer, array in zip(function.params, arrays, strict=True):
        marks = [1.0, 0, 0, 0] if buffer.writable else [0.0]
        np.testing.assert_array_equal(array, np.resize(marks, array.shape))


def test_the_iterations_of_a_long_sum_share_the_asking():
    scheduled = tiled_product(6, 40, 24)
    asked = [stmt for stmt in statements(scheduled.function.body) if isinstance(stmt, Prefetch)]
    assert len(asked) == 2
    assert "fetch_results r0.o" in scheduled.text


def test_loops_of_an_empty_sum():
    tiled_product(6, 0, 24)


def test_only_reductions_ask_for_results():
    schedule = Schedule.of(stage_of(summed(3, 4, 5)))
    with pytest.raises(ScheduleError, match="a0 is no reduction"):
        schedule.fetch_results(["a0"])
