"""What callers pass in and get back: used in place where it lies well, else copied or refused."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bessemer.core.errors import InputError
from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data, with_plan
from bessemer.engine.plan import Binding, BufferRef, EngineData, Plan
from bessemer.runtime.bindings import address_of, empty_aligned
from bessemer.runtime.context import ExecutionContext
from bessemer.runtime.engine import Engine

ROWS, COLUMNS = 8, 16
COUNT = ROWS * COLUMNS


@pytest.fixture(scope="module")
def engine() -> Engine:
    data, _ = tiny_engine_data(COUNT)
    return Engine(with_plan(
        data, inputs=(Binding("x", "f32", (ROWS, COLUMNS)),),
        outputs=(Binding("y", "f32", (ROWS, COLUMNS)),), binding_alignment=16,
    ))


@pytest.fixture
def context(engine: Engine) -> Any:
    with engine.create_context(1) as made:
        yield made


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32)


def answer(x: np.ndarray) -> np.ndarray:
    constant = np.linspace(-1, 1, COUNT, dtype=np.float32)
    return tiny_answer(np.ascontiguousarray(x).reshape(-1), constant).reshape(ROWS, COLUMNS)


def used(context: ExecutionContext, space: str) -> int:
    """The address at which the kernels found the binding in the last run."""
    return context._runner.tables._bound[space, 0]


def odd(array: np.ndarray) -> np.ndarray:
    """The same content at an address that is no multiple of its element size."""
    place = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    place[:] = array
    return place


def strided(array: np.ndarray) -> np.ndarray:
    place = np.zeros((ROWS, 2 * COLUMNS), array.dtype)[:, ::2]
    place[:] = array
    return place


# --- inputs --------------------------------------------------------------------------------------

def test_well_lying_inputs_are_not_copied(context, x) -> None:
    place = empty_aligned(x.shape, x.dtype, x.nbytes, 64)
    place[:] = x
    np.testing.assert_array_equal(context.run(place)["y"], answer(x))
    assert used(context, "input") == place.ctypes.data
    place += 1  # The kernels read the caller's memory anew.
    np.testing.assert_array_equal(context.run(place)["y"], answer(x + 1))
    place.flags.writeable = False
    context.run(place)
    assert used(context, "input") == place.ctypes.data


@pytest.mark.parametrize("arrange", [
    np.asfortranarray, odd, strided, lambda a: a[::-1], lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1], lambda a: np.ascontiguousarray(a.T).T,
    lambda a: np.broadcast_to(a[:1], a.shape),
])
def test_other_inputs_are_copied(context, x, arrange) -> None:
    for turn in range(3):
        array = arrange(x + turn)
        np.testing.assert_array_equal(context.run({"x": array})["y"], answer(array))
        assert used(context, "input") != array.ctypes.data


def test_other_kinds_of_arrays(context, x, tmp_path: Path) -> None:
    class Exchanged:
        def __dlpack__(self, **options: Any) -> Any:
            return x.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return x.__dlpack_device__()

    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for value in (Exchanged(), mapped, memoryview(x), x.view(np.recarray)):
        np.testing.assert_array_equal(context.run(value)["y"], answer(x))


@pytest.mark.parametrize("inputs, found", [
    ({"x": np.zeros((ROWS, COLUMNS))}, "wrong dtype: expected f32[8,16], found f64[8,16]"),
    ({"x": np.zeros((ROWS, COLUMNS), np.int64)}, "found i64[8,16]"),
    ({"x": np.zeros((ROWS, COLUMNS), ml_dtypes.bfloat16)}, "found bf16[8,16]"),
    ({"x": np.zeros((ROWS, COLUMNS), np.complex64)}, "wrong dtype: expected f32[8,16], found"),
    ({"x": np.zeros((COLUMNS, ROWS), np.float32)}, "wrong shape: expected f32[8,16], found f32["),
    ({"x": np.zeros(COUNT, np.float32)}, "wrong rank: expected f32[8,16], found f32[128]"),
    ({"x": np.zeros((1, ROWS, COLUMNS), np.float32)}, "found f32[1,8,16]"),
    ({"x": np.zeros((0, COLUMNS), np.float32)}, "found f32[0,16]"), ({"x": 1.5}, "found f64[]"),
])
def test_wrong_inputs_name_what_was_expected_and_found(context, inputs, found: str) -> None:
    with pytest.raises(InputError) as caught:
        context.run(inputs)
    assert "input 'x'" in str(caught.value)
    assert "expected f32[8,16]" in str(caught.value)
    assert found in str(caught.value)


@pytest.mark.parametrize("names, words", [
    ((), "missing input 'x'; expected x: f32[8,16]; found none"),
    (("X",), "missing input 'x'; expected x: f32[8,16]; found 'X'"),
    (("x", "z", "w"), "unknown input 'z', 'w'; expected x: f32[8,16]"),
])
def test_wrong_names(context, x, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError) as caught:
        context.run(dict.fromkeys(names, x))
    assert words in str(caught.value)


def test_a_refused_run_leaves_the_context_usable(context, x) -> None:
    with pytest.raises(InputError):
        context.run(x.astype(np.float64))
    np.testing.assert_array_equal(context.run(x)["y"], answer(x))


# --- outputs -------------------------------------------------------------------------------------

def test_given_outputs_are_written_in_place(context, x) -> None:
    target = empty_aligned(x.shape, x.dtype, x.nbytes, 64)
    for turn in range(2):
        assert context.run(x + turn, outputs={"y": target})["y"] is target
        assert used(context, "output") == target.ctypes.data
        np.testing.assert_array_equal(target, answer(x + turn))
    fresh = context.run(x)["y"]
    assert not np.shares_memory(fresh, target)
    np.testing.assert_array_equal(target, answer(x + 1))


@pytest.mark.parametrize("arrange", [np.asfortranarray, odd, strided, lambda a: a[::-1]])
def test_awkward_given_outputs_are_filled(context, x, arrange) -> None:
    target = arrange(np.zeros_like(x))
    assert context.run(x, outputs={"y": target})["y"] is target
    np.testing.assert_array_equal(target, answer(x))


def test_output_over_the_input(context, x) -> None:
    """The kernels must not read what they have written already."""
    both = np.zeros(COUNT + 4, np.float32)
    source, target = both[:COUNT].reshape(x.shape), both[4:].reshape(x.shape)
    source[:] = x
    context.run(source, outputs={"y": target})
    np.testing.assert_array_equal(target, answer(x))


@pytest.mark.parametrize("outputs, words", [
    ({"q": np.zeros((ROWS, COLUMNS), np.float32)}, "unknown output 'q'; there are 'y'"),
    ({"y": np.zeros((ROWS, COLUMNS))}, "is float64[8, 16], expected float32[8, 16]"),
    ({"y": np.zeros((COLUMNS, ROWS), np.float32)}, "is float32[16, 8], expected float32[8, 16]"),
    ({"y": [0.0]}, "output 'y' needs a writable array"),
    ([np.zeros(3)], "outputs must map output names to arrays, found list"),
])
def test_wrong_given_outputs(context, x, outputs: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        context.run(x, outputs=outputs)
    assert words in str(caught.value)


def test_given_output_of_open_shape() -> None:
    plan = Plan("open", (Binding("x", "i64", ("N",)),),
                (Binding("y", "i64", ("N",), BufferRef("input", 0, 0)),), ())
    engine, x = Engine(EngineData(plan)), np.arange(5)
    target = np.zeros(5, np.int64)
    assert engine.run(x, outputs={"y": target})["y"] is target
    np.testing.assert_array_equal(target, x)
    with pytest.raises(InputError, match=r"output 'y' is int64\[5\], the given array int64\[4\]"):
        engine.run(x, outputs={"y": np.zeros(4, np.int64)})


# --- addresses -----------------------------------------------------------------------------------

@pytest.mark.parametrize("array", [
    np.zeros(3), np.zeros(()), np.zeros((0, 3)), np.zeros(6)[::2], np.zeros(4)[::-1],
    np.zeros(3, ml_dtypes.bfloat16), np.zeros(3, ml_dtypes.float8_e4m3fn), np.zeros(3, bool),
    np.asfortranarray(np.zeros((2, 3))), np.broadcast_to(np.zeros(1), (4,)),
])
def test_addresses(array: np.ndarray) -> None:
    assert address_of(array) == array.ctypes.data
