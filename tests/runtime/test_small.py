"""Small inputs and outputs take the quick way, with the same answers and errors as any other."""

import numpy as np
import pytest

from bessemer.core import driver_abi as abi
from bessemer.core.errors import InputError
from bessemer.debug.tiny_engine import tiny_engine_data
from bessemer.runtime.engine import Engine

COUNT = 1000


def answer(x: np.ndarray, constant: np.ndarray) -> np.ndarray:
    return (x + constant) * (x + constant) + constant


def quick_of(context) -> object:
    return context._runner.quick


def test_quick_and_general_way_give_the_same(made, x) -> None:
    data, constant = made
    with Engine(data).create_context(1) as context:
        assert quick_of(context) is not None
        quick = context.run({"x": x})["y"]
        general = context.run([x])["y"]
        np.testing.assert_array_equal(quick, general)
        np.testing.assert_array_equal(quick, answer(x, constant))


def test_ways_may_take_turns(made, x) -> None:
    """Each way points the kernels at its own places."""
    data, constant = made
    with Engine(data).create_context(2) as context:
        for turn in range(6):
            array = x + turn
            given = np.empty(COUNT, np.float32)
            ways = {"x": array} if turn % 2 else [array]
            outputs = {"y": given} if turn % 3 == 0 else None
            found = context.run(ways, outputs=outputs)["y"]
            np.testing.assert_array_equal(found, answer(array, constant))


def test_outputs_are_the_callers_own(made, x) -> None:
    with Engine(made[0]).create_context(1) as context:
        first = context.run({"x": x})["y"]
        kept = first.copy()
        context.run({"x": x + 1})
        np.testing.assert_array_equal(first, kept)
        first[:] = 0


@pytest.mark.parametrize("arrange", [
    lambda a: np.stack([a, a], 1)[:, 0], lambda a: a[::-1], lambda a: np.asarray(a, np.float32),
    lambda a: np.frombuffer(b"0" + a.tobytes(), np.uint8)[1:].view(np.float32),
])
def test_arrays_that_lie_badly(made, x, arrange) -> None:
    data, constant = made
    with Engine(data).create_context(1) as context:
        array = arrange(x)
        np.testing.assert_array_equal(
            context.run({"x": array})["y"], answer(np.array(array), constant))


@pytest.mark.parametrize("inputs, words", [
    ({}, "missing input"), ({"z": 1}, "missing input"),
    ({"x": np.zeros(COUNT + 1, np.float32)}, "shape"),
    ({"x": np.zeros((1, COUNT), np.float32)}, "rank"),
    ({"x": np.zeros(COUNT, np.float64)}, "dtype"),
    ({"x": np.zeros(COUNT, np.float32), "w": 1}, "unknown input"),
])
def test_errors_are_those_of_the_general_way(made, x, inputs, words: str) -> None:
    with Engine(made[0]).create_context(1) as context:
        context.run({"x": x})
        with pytest.raises(InputError, match=words):
            context.run(inputs)
        context.run({"x": x})


def test_large_bindings_go_the_general_way() -> None:
    with Engine(tiny_engine_data(1 << 14)[0]).create_context(1) as context:
        assert quick_of(context) is None


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_steps_that_read_much_sweep(threads: int) -> None:
    """Weights that are read once are read to and fro; the answers stay."""
    count = 1 << 16
    data, constant = tiny_engine_data(count)
    x = np.random.default_rng(1).standard_normal(count, np.float32)
    engine = Engine(data)
    with engine.create_context(threads) as context:
        flags = context._runner.program.jobs.flags
        assert any(int(word) & abi.FLAG_SWEEP for word in flags)
        for turn in range(5):
            found = context.run({"x": x + turn})["y"]
            np.testing.assert_array_equal(found, answer(x + turn, constant))
