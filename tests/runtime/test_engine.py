"""Engines made by hand: right answers on any number of threads, clear errors, no growth."""

import concurrent.futures
import ctypes
import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from bessemer.core import driver_abi
from bessemer.core.errors import (
    EngineFormatError,
    ExecutionError,
    InputError,
    SettingsError,
    TargetError,
)
from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data, with_plan
from bessemer.engine.plan import Binding, BufferRef, EngineData, KernelStep, Plan
from bessemer.runtime.engine import Engine
from bessemer.runtime.load import load
from bessemer.runtime.memory import Region
from bessemer.targets import get_target

COUNT = 1000


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_answer_on_any_number_of_threads(made, x, threads: int) -> None:
    with Engine(made[0]).create_context(threads) as context:
        expected = tiny_answer(x, made[1])
        for _ in range(300):
            np.testing.assert_array_equal(context.run({"x": x})["y"], expected)


def test_ways_to_pass_inputs(engine, made, x) -> None:
    expected = tiny_answer(x, made[1])
    for inputs in ({"x": x}, [x], (x,), x, {"x": memoryview(x)}):
        np.testing.assert_array_equal(engine.run(inputs)["y"], expected)
    np.testing.assert_array_equal(engine(x)["y"], expected)


def test_outputs_are_fresh(engine, x) -> None:
    first = engine.run(x)["y"]
    kept = first.copy()
    engine.run(x + 1)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("alignment", [4, 64])
def test_awkward_inputs_are_copied(made, x, alignment: int) -> None:
    engine = Engine(with_plan(made[0], binding_alignment=alignment))
    expected = tiny_answer(x, made[1])
    strided = np.empty(2 * COUNT, np.float32)[::2]
    strided[:] = x
    odd = np.empty(4 * COUNT + 1, np.uint8)[1:].view(np.float32)
    odd[:] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for array in (strided, odd, frozen, x[::-1][::-1]):
        for _ in range(2):
            np.testing.assert_array_equal(engine.run(array)["y"], expected)
    assert engine.run(x)["y"].ctypes.data % alignment == 0


def test_given_outputs(engine, made, x) -> None:
    expected = tiny_answer(x, made[1])
    for target in (np.zeros(COUNT, np.float32), np.zeros(2 * COUNT, np.float32)[::2]):
        assert engine.run(x, outputs={"y": target})["y"] is target
        np.testing.assert_array_equal(target, expected)
    same = x.copy()
    engine.run(same, outputs={"y": same})
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize("inputs, words", [
    ({}, "missing input 'x'; expected x: f32\\[1000\\]; found none"),
    ({"y": 1}, "missing input 'x'"),
    ({"x": np.zeros(COUNT, np.float32), "z": 1}, "unknown input 'z'"),
    ({"x": np.zeros(COUNT)}, "wrong dtype: expected f32\\[1000\\], found f64\\[1000\\]"),
    ({"x": np.zeros(COUNT, ">f4")}, "wrong dtype"),
    ({"x": np.zeros(999, np.float32)}, "wrong shape: expected f32\\[1000\\], found f32\\[999\\]"),
    ({"x": np.zeros((1, COUNT), np.float32)}, "wrong rank"),
    ({"x": "text"}, "wrong dtype"), ({"x": [[1], [2, 3]]}, "no array"), ({"x": None}, "wrong"),
    ([], "got 0 inputs by position, expected 1: x: f32"), ([1, 2], "got 2 inputs"), (None, "got 0"),
])
def test_wrong_inputs(engine, inputs, words: str) -> None:
    with pytest.raises(InputError, match=f"engine 'tiny'.*{words}"):
        engine.run(inputs)


def test_wrong_given_outputs(engine, x) -> None:
    frozen = np.zeros(COUNT, np.float32)
    frozen.flags.writeable = False
    for outputs, words in (
        ({"q": frozen}, "unknown output 'q'; there are 'y'"), ({"y": frozen}, "writable"),
        ({"y": np.zeros(3, np.float32)}, "expected float32"),
    ):
        with pytest.raises(InputError, match=words):
            engine.run(x, outputs=outputs)


def test_contexts_in_parallel(engine, made) -> None:
    failures = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(COUNT, np.float32)
        expected = tiny_answer(x, made[1])
        with engine.create_context(2) as context:
            for _ in range(200):
                if not np.array_equal(context.run({"x": x})["y"], expected):
                    failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_taken_pool_is_not_waited_for(made, x) -> None:
    """While another run has the workers, a run does all work on its own thread."""
    with Engine(made[0]).create_context(3) as context:
        # The bare request writes where the last run's output lies, so that is kept.
        kept = [context.run(x)]
        request = context._runner.tables.requests[0]
        busy = ctypes.c_int32.from_address(context._runner.pool.address + driver_abi.POOL_BUSY)
        assert context._runner.pool.run(request) == 3
        busy.value = 1
        try:
            assert context._runner.pool.run(request) == 1
            kept.append(context.run(x))
        finally:
            busy.value = 0
        assert context._runner.pool.run(request) == 3
        for result in kept:
            np.testing.assert_array_equal(result["y"], tiny_answer(x, made[1]))


def test_one_context_from_many_threads(engine, made) -> None:
    def work(value: int) -> bool:
        x = np.full(COUNT, value, np.float32)
        return np.array_equal(engine.run(x)["y"], tiny_answer(x, made[1]))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(100)))


def test_enqueue(engine, made, x) -> None:
    with engine.create_context() as context:
        futures = [context.enqueue({"x": x + i}) for i in range(20)]
        for i, future in enumerate(futures):
            np.testing.assert_array_equal(future.result()["y"], tiny_answer(x + i, made[1]))
        with pytest.raises(InputError):
            context.enqueue({}).result()


def test_close_waits_and_refuses(engine, x) -> None:
    context = engine.create_context()
    future = context.enqueue(x)
    context.close()
    assert future.done()
    context.close()
    for call in (context.run, context.enqueue, context.profile, context.measured_peak_bytes):
        with pytest.raises(ExecutionError, match="closed"):
            call(x)


def test_planned_memory_is_what_a_run_touches(engine, x) -> None:
    with engine.create_context(2) as context:
        assert context.measured_peak_bytes(x) == engine.memory.arena_bytes == context.arena_bytes


def test_names(engine) -> None:
    assert [step.name for step in engine.find_layer("Relu_3")] == ["shift"]
    assert [step.name for step in engine.find_layer("square")] == ["square"]
    assert isinstance(engine.find_tensor("x"), Binding)
    assert engine.find_tensor("square").size_bytes == 4 * COUNT
    with pytest.raises(InputError, match="did you mean 'Relu_3'"):
        engine.find_layer("Relu3")
    with pytest.raises(InputError, match="did you mean 'square'"):
        engine.find_tensor("sqare")


def test_inspect(engine) -> None:
    text = engine.inspect()
    for words in ("f32[1000]", "shift", "Relu_3", "arena", "fold-constants", "(in use)"):
        assert words in text
    assert engine.describe()["plan"]["name"] == "tiny"
    assert "tiny" in repr(engine)


def test_save_and_load(engine, made, x, tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    engine.save(path)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.run(x)["y"], tiny_answer(x, made[1]))
    loaded.save(tmp_path / "again.plan")
    assert path.read_bytes() == (tmp_path / "again.plan").read_bytes()
    loaded.save(path)
    np.testing.assert_array_equal(loaded.run(x)["y"], tiny_answer(x, made[1]))


def test_best_variant_is_chosen(made) -> None:
    data = made[0]
    objects = data.objects["base"]
    flag = "sse2" if os.uname().machine == "x86_64" else "fp"
    several = dataclasses.replace(
        data, objects={"base": objects, "better": objects, "alien": objects},
        requires={"base": (), "better": (flag,), "alien": (flag, "warp_drive")},
    )
    assert Engine(several).variant == "better"
    with pytest.raises(TargetError, match=r"holds base for .* with warp_drive, which lacks warp"):
        Engine(dataclasses.replace(data, requires={"base": ("warp_drive",)}))


def test_other_architecture(tmp_path: Path) -> None:
    """Such an engine can be made, saved and looked into here, but not run."""
    here = os.uname().machine
    name, built_for = ("aarch64-neon", "aarch64") if here == "x86_64" else ("x86-64-v2", "x86_64")
    data, _ = tiny_engine_data(COUNT, get_target(name))
    words = f"does not fit this machine .{here}.: it holds base for {built_for}"
    with pytest.raises(TargetError, match=words):
        Engine(data)
    engine = Engine(data, foreign=True)
    assert engine.variant is None
    assert "tiny_add" not in engine.inspect()
    engine.save(tmp_path / "m.plan")
    with pytest.raises(TargetError, match=words):
        engine.run(np.zeros(COUNT, np.float32))
    with pytest.raises(TargetError, match=f"m.plan: .*{words}"):
        load(tmp_path / "m.plan")


def test_code_that_does_not_fit_the_plan(made) -> None:
    data = made[0]
    other = with_plan(data, steps=(KernelStep("k", "other", ()),))
    with pytest.raises(EngineFormatError, match="no function 'other'"):
        Engine(other)
    with pytest.raises(EngineFormatError, match="no driver of ABI version"):
        Engine(dataclasses.replace(data, objects={"base": data.objects["base"][:1]}))
    with pytest.raises(EngineFormatError, match="no machine code"):
        Engine(dataclasses.replace(data, objects={}, requires={}))
    with pytest.raises(EngineFormatError, match="defined twice"):
        Engine(dataclasses.replace(data, objects={"base": data.objects["base"] * 2}))


def test_zero_size(x) -> None:
    data, _ = tiny_engine_data(0)
    assert Engine(data).run(np.empty(0, np.float32))["y"].shape == (0,)


def test_outputs_from_elsewhere(made, x) -> None:
    """A graph output that is an input, a constant, or a part of the arena."""
    data, constant = made
    size = 4 * COUNT
    outputs = (
        *data.plan.outputs,
        Binding("same", "f32", (COUNT,), BufferRef("input", 0, size)),
        Binding("half", "f32", (COUNT // 2,), BufferRef("input", 0, size // 2, byte=size // 2)),
        Binding("constant", "f32", (COUNT,), BufferRef("constant", 0, size)),
        Binding("sum", "f32", (10, COUNT // 10), BufferRef("arena", 0, size)),
    )
    got = Engine(with_plan(data, outputs=outputs)).run(x)
    np.testing.assert_array_equal(got["y"], tiny_answer(x, constant))
    np.testing.assert_array_equal(got["same"], x)
    assert not np.shares_memory(got["same"], x)
    np.testing.assert_array_equal(got["half"], x[COUNT // 2 :])
    np.testing.assert_array_equal(got["constant"], constant)
    np.testing.assert_array_equal(got["sum"].reshape(-1), x + constant)


def test_engine_without_steps() -> None:
    plan = Plan("id", (Binding("x", "i64", ("N", 2)),),
                (Binding("y", "i64", ("N", 2), BufferRef("input", 0, 0)),), ())
    engine = Engine(EngineData(plan))
    x = np.arange(6).reshape(3, 2)
    y = engine.run(x)["y"]
    np.testing.assert_array_equal(x, y)
    assert y is not x
    with pytest.raises(InputError, match=r"expected i64\[N,2\], found i64\[3,3\]"):
        engine.run(np.zeros((3, 3), np.int64))


def test_symbols_must_agree() -> None:
    inputs = (Binding("a", "f32", ("N", 2)), Binding("b", "f32", (None, "N")))
    engine = Engine(EngineData(Plan("s", inputs, (), ())))
    engine.run([np.zeros((3, 2), np.float32), np.zeros((9, 3), np.float32)])
    with pytest.raises(InputError, match="dimension 'N' is 3 in input 'a' but 4 in input 'b'"):
        engine.run([np.zeros((3, 2), np.float32), np.zeros((9, 4), np.float32)])


def test_thread_numbers(engine, made) -> None:
    assert engine.create_context(3).threads == 3
    assert Engine(with_plan(made[0], options={"threads": 1})).create_context().threads == 1
    for threads in (0, -1, 1.5, True, 100_000):
        with pytest.raises(SettingsError, match="from 1 to"):
            engine.create_context(threads)


def test_serial_steps_and_open_barriers(made, x) -> None:
    steps = made[0].plan.steps
    for changes in ({"parallel": False}, {"barrier_after": False, "parallel": False}):
        plan = with_plan(made[0], steps=tuple(dataclasses.replace(s, **changes) for s in steps))
        with Engine(plan).create_context(3) as context:
            np.testing.assert_array_equal(context.run(x)["y"], tiny_answer(x, made[1]))
    mixed = (dataclasses.replace(steps[0], parallel=False), steps[1],
             dataclasses.replace(steps[2], parallel=False))
    with Engine(with_plan(made[0], steps=mixed)).create_context(3) as context:
        for _ in range(100):
            np.testing.assert_array_equal(context.run(x)["y"], tiny_answer(x, made[1]))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_loading_and_unloading_does_not_grow(engine, x, tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    engine.save(path)

    def cycle() -> None:
        with load(path).create_context(2) as context:
            context.run(x)

    for _ in range(50):
        cycle()
    before, maps = _resident_bytes(), len(Path("/proc/self/maps").read_text().splitlines())
    for _ in range(500):
        cycle()
    assert _resident_bytes() - before < 4 << 20
    assert len(Path("/proc/self/maps").read_text().splitlines()) - maps < 20


def test_region_outlives_its_owner() -> None:
    array = Region(100).array(0, 100)
    array[:] = 7
    assert array.sum() == 700


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the file holds x86-64 code")
def test_files_of_format_1_are_read_for_ever() -> None:
    """Written by the first release; never write this file anew."""
    path = Path(__file__).parents[1] / "engine" / "data" / "format1.engine"
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    constant = np.linspace(-1, 1, 64, dtype=np.float32)
    for threads in (1, 2):
        with load(path).create_context(threads) as context:
            np.testing.assert_array_equal(context.run(x)["y"], tiny_answer(x, constant))
