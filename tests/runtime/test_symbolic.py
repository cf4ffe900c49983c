"""One engine for all shapes: symbols bound and checked, memory as formulas, late epochs."""

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError, ExecutionError, InputError
from bessemer.debug.symbolic_engine import (
    symbolic_answer,
    symbolic_engine_data,
    symbolic_inputs,
    symbolic_plan,
)
from bessemer.engine.plan import (
    Binding,
    BlockRecord,
    BufferRef,
    EngineData,
    HostStep,
    KernelStep,
    Plan,
    ShapeStep,
    SymbolRecord,
    TensorRef,
)
from bessemer.ir.codec import encode_operator
from bessemer.ir.operator import Operator, operator
from bessemer.runtime.engine import Engine
from bessemer.runtime.load import load
from bessemer.runtime.symbolic import MAX_STATES


@operator("test.Take")
class Take(Operator):
    """The first `count` elements of x, where count is the content of an input."""

    def reference(self, x: Any, count: Any) -> Any:
        return x[: int(count)], np.asarray(count)


@operator("test.Grow")
class Grow(Operator):
    """A shape other than it was said to be."""

    def reference(self, x: Any) -> Any:
        return np.zeros((x.shape[0] + 1, 2), np.float32)


@pytest.fixture(scope="module")
def data() -> EngineData:
    return symbolic_engine_data()


@pytest.fixture
def engine(data) -> Engine:
    return Engine(data)


def check(engine: Any, n: int, h: int, seed: int = 0) -> None:
    inputs = symbolic_inputs(n, h, seed)
    got = engine.run(inputs)
    for name, expected in symbolic_answer(inputs).items():
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_shape(engine, threads: int) -> None:
    source = np.random.default_rng(threads)
    with engine.create_context(threads) as context:
        for n, h in [(4, 3), (1, 1), (0, 5), (5, 0), (0, 0), (4, 3), (300, 70), (4, 3)]:
            check(context, n, h)
        for seed in range(100):
            check(context, *source.integers(0, 50, 2), seed)


def test_contexts_share_the_program(engine) -> None:
    with engine.create_context(1) as one, engine.create_context(2) as two:
        for n in range(10):
            check(one, n, 3)
            check(two, 10 - n, 4)


def test_save_and_load(engine, tmp_path: Path) -> None:
    engine.save(tmp_path / "m.plan")
    loaded = load(tmp_path / "m.plan")
    check(loaded, 5, 6)
    assert "x: f32[N,H]" in loaded.inspect()
    assert "the shape (N, H-3, (N//2))" in loaded.inspect()
    loaded.save(tmp_path / "again.plan")
    assert (tmp_path / "m.plan").read_bytes() == (tmp_path / "again.plan").read_bytes()


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("inputs, words", [
    ([f32(2, 3), f32(6)], r"input 'z' has shape \[6\], expected \[2\*N\+1=5\] where N=2"),
    ([f32(2, 3), f32(5, 1)], r"input 'z' has the wrong rank: expected f32\[2\*N\+1\]"),
    ([f32(2), f32(5)], "input 'x' has the wrong rank"),
    ([f32(2, 3).astype(float), f32(5)], "wrong dtype"),
    ([f32(1001, 3), f32(2003)],
     r"N \(extent 0 of input 'x'\) is 1001, but the engine was built for 0 to 1000"),
    ([f32(2, 3)], "got 1 inputs by position"), ({"x": f32(2, 3)}, "missing input 'z'"),
    ([[1.0], f32(5)], "wrong dtype"),
])
def test_wrong_inputs(engine, inputs: Any, words: str) -> None:
    check(engine, 2, 3)
    with pytest.raises(InputError, match=f"engine 'symbolic'.*{words}"):
        engine.run(inputs)
    check(engine, 2, 3)


def test_awkward_inputs_and_given_outputs(engine) -> None:
    for n, h in ((4, 6), (2, 6), (4, 6)):
        inputs = symbolic_inputs(n, h)
        expected = symbolic_answer(inputs)
        wide = np.zeros((n, 2 * h), np.float32)
        wide[:, ::2] = inputs["x"]
        odd = {"x": wide[:, ::2], "z": inputs["z"][::-1].copy()[::-1]}
        given = {name: np.zeros_like(array) for name, array in expected.items()}
        got = engine.run(odd, outputs=given)
        for name, array in expected.items():
            assert got[name] is given[name]
            np.testing.assert_array_equal(got[name], array)
    for name in ("y", "twice"):
        with pytest.raises(InputError, match=f"output '{name}'"):
            engine.run(inputs, outputs={name: f32(1, 1)})
    got = engine.enqueue(inputs) if hasattr(engine, "enqueue") else None
    np.testing.assert_array_equal(got.result()["y"], expected["y"])


def test_memory_is_planned_by_formulas(engine) -> None:
    with engine.create_context(2) as context:
        for n, h in ((10, 20), (3, 3), (100, 30)):
            inputs = symbolic_inputs(n, h)
            count = symbolic_answer(inputs)["places"].shape[1]
            size, found = 4 * n * h, 16 * count
            assert context.measured_peak_bytes(inputs) == -(-size // 64) * 64 + size \
                + -(-found // 64) * 64 + found
            assert context.arena_bytes == 2 * (-(-size // 64) * 64) + 2 * (-(-found // 64) * 64)


def test_profile(engine) -> None:
    result = engine.profile(symbolic_inputs(6, 7), runs=3)
    assert [row.kind for row in result.rows] == [
        "kernel", "kernel", "host", "host", "kernel", "kernel", "kernel"]
    assert result.rows[0].flops == 42
    assert "NonZero_2" in str(result)


def test_work_decides_whether_threads_help(data) -> None:
    steps = tuple(dataclasses.replace(step, work=("N*H", "12*N*H"))
                  for step in data.plan.steps if isinstance(step, KernelStep))[:2]
    plan = dataclasses.replace(
        data.plan, steps=steps, symbols=data.plan.symbols[:2], blocks=data.plan.blocks[:2],
        epochs=(), outputs=(Binding("y", "f32", ("N", "H"), BufferRef("block", 1, "4*N*H")),),
    )
    with Engine(dataclasses.replace(data, plan=plan)).create_context(2) as context:
        for n, shared in ((2, False), (900, True), (2, False)):
            context.run(symbolic_inputs(n, 400))
            assert context._runner.uses_threads == shared


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_many_shapes_take_no_memory(engine) -> None:
    source = np.random.default_rng(0)
    with engine.create_context(1) as context:
        def turn(count: int) -> None:
            for _ in range(count):
                n, h = source.integers(0, 60, 2)
                context.run([f32(n, h), f32(2 * n + 1)])

        turn(2000)
        gc.collect()
        before = resident_bytes()
        turn(10_000)
        gc.collect()
        assert resident_bytes() - before < 2 << 20
        assert len(context._runner._by_shape) <= MAX_STATES


def host(op: Operator, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> HostStep:
    return HostStep("step", encode_operator(op), inputs, outputs, ("Node_1",))


def slot(number: int, shape: tuple[int | str, ...] | None = None) -> TensorRef:
    return TensorRef(BufferRef("host", number, 0), "f32", shape)


X = TensorRef(BufferRef("input", 0, "4*N"), "f32", ("N",))


def small(steps: tuple[Any, ...], *symbols: SymbolRecord, **changes: Any) -> Engine:
    """An engine of host steps over x: f32[N] and k: i64[]."""
    plan = Plan(
        "small", (Binding("x", "f32", ("N",)), Binding("k", "i64", ())), (), steps,
        symbols=(SymbolRecord("N", source=("input", 0, 0)), *symbols),
    )
    return Engine(EngineData(dataclasses.replace(plan, **changes)))


def test_symbols_from_the_content_of_inputs() -> None:
    engine = small(
        (ShapeStep("s", TensorRef(BufferRef("output", 0, 4), "i32", (1,)), ("k-N",)),),
        SymbolRecord("k", 1, 9, 2, ("content", 1, 0)), outputs=(
            Binding("d", "i32", (1,)),
            Binding("y", "f32", ("k",), BufferRef("input", 0, "4*k", "4*N-4*k"))),
    )
    x = np.arange(5, dtype=np.float32)
    for count in (3, 5, 1):
        got = engine.run([x, np.array(count)])
        np.testing.assert_array_equal(got["y"], x[5 - count :])
        assert got["d"] == [count - 5]
    with pytest.raises(InputError, match=r"k \(element 0 of input 'k'\) is 0, but .* 1 to 9"):
        engine.run([x, np.array(0)])
    with pytest.raises(InputError, match=r"with N=5, k=6: an extent or a size, 4.N-4.k, would be"):
        engine.run([x, np.array(6)])


def test_symbols_from_results_of_host_steps() -> None:
    """An extent and an element of results that stay Python objects."""
    k = TensorRef(BufferRef("input", 1, 8), "i64", ())
    symbols = (SymbolRecord("m", 0, 4, 1, ("step", 0, 0, 0)),
               SymbolRecord("c", source=("value", 0, 1, 0)))
    engine = small(
        (host(Take(), (X, k), (slot(0, ("m",)), slot(1, ()))),
         ShapeStep("s", TensorRef(BufferRef("host", 2, 0), "i64", (2,)), ("m", "c*N"))),
        *symbols, epochs=(1,), host_slots=3, outputs=(
            Binding("y", "f32", ("m",), BufferRef("host", 0, 0)),
            Binding("s", "i64", (2,), BufferRef("host", 2, 0))),
    )
    x = np.arange(6, dtype=np.float32)
    for count in (2, 0, 4):
        got = engine.run([x, np.array(count)])
        np.testing.assert_array_equal(got["y"], x[:count])
        np.testing.assert_array_equal(got["s"], [count, 6 * count])
    with pytest.raises(ExecutionError, match=r"host step 'step': m \(extent 0 of result 0\) is 5"):
        engine.run([x, np.array(5)])


@pytest.mark.parametrize("shape, words", [
    (("N", 2), r"result 0 has shape \[4, 2\], expected \[N=3, 2\] where N=3"),
    (("N+1",), r"shape \[4, 2\], expected \[N\+1=4\]"), (("N+1", 3), r"expected \[N\+1=4, 3\]"),
])
def test_results_must_have_the_promised_shape(shape: tuple[Any, ...], words: str) -> None:
    engine = small((host(Grow(), (X,), (slot(0, shape),)),), host_slots=1)
    with pytest.raises(ExecutionError, match=f"host step 'step': .*{words}"):
        engine.run([f32(3), np.array(1)])
    engine = small((host(Grow(), (X,), (slot(0),)),), host_slots=1, outputs=(
        Binding("y", "f32", shape, BufferRef("host", 0, 0)),))
    with pytest.raises(ExecutionError, match=f"output 'y' .*{words.removeprefix('result 0 ')}"):
        engine.run([f32(3), np.array(1)])


def test_zeroed_blocks_are_cleared_for_each_shape(data) -> None:
    """One kernel reads a block that nothing has written; it must be zero for every shape."""
    size = "4*N*H"
    block, x, y = (BufferRef(space, 0, size) for space in ("block", "input", "output"))
    other = BufferRef("block", 1, size)
    plan = dataclasses.replace(
        symbolic_plan(), inputs=(Binding("x", "f32", ("N", "H")),),
        outputs=(Binding("y", "f32", ("N", "H")),), symbols=data.plan.symbols[:2],
        blocks=(BlockRecord(size), BlockRecord(size, (0,))), zeroed=(block,), epochs=(), steps=(
            KernelStep("a", "add", (x, block, other), scalars=("N*H",)),
            KernelStep("b", "add", (other, block, y), scalars=("N*H",))),
    )
    with Engine(dataclasses.replace(data, plan=plan)).create_context(1) as context:
        for n, h in ((3, 4), (2, 2), (30, 30), (3, 4), (30, 30)):
            x = np.random.default_rng(n).standard_normal((n, h)).astype(np.float32)
            np.testing.assert_array_equal(context.run(x)["y"], x)


@pytest.mark.parametrize("change, words", [
    ({"blocks": (BlockRecord("(4*N//H)"), *symbolic_plan().blocks[1:])}, "formula of the plan f"),
    ({"blocks": (BlockRecord("4*N*H-9999"), *symbolic_plan().blocks[1:])}, "would be -9999"),
    ({"blocks": (BlockRecord("N*" * 99 + "4000000000"), *symbolic_plan().blocks[1:])}, "large|is"),
    ({"blocks": (BlockRecord("2*N*H"), *symbolic_plan().blocks[1:])}, "argument 2 of the kernels"),
    ({"outputs": (Binding("y", "f32", ("1000000*N", "1000000*N")), *symbolic_plan().outputs[1:])},
     "memory|would take"),
])
def test_formulas_that_fail_for_some_shapes(data, change: dict[str, Any], words: str) -> None:
    """They are errors when they happen, never faults; other shapes still work."""
    engine = Engine(dataclasses.replace(data, plan=dataclasses.replace(data.plan, **change)))
    with pytest.raises((InputError, ExecutionError), match=words):
        engine.run(symbolic_inputs(9, 0 if "formula" in words or "9999" in words else 4))


def test_kernels_that_are_missing(data) -> None:
    steps = (KernelStep("k", "other", (), scalars=("N",)),)
    plan = dataclasses.replace(data.plan, steps=steps, symbols=data.plan.symbols[:2], blocks=(),
                               epochs=(), outputs=())
    with pytest.raises(EngineFormatError, match="no function 'other'"):
        Engine(dataclasses.replace(data, plan=plan))


def test_an_output_given_too_early_must_fit(data) -> None:
    """A step writes an output before its epoch; what comes later needs the planned shape."""
    steps = list(data.plan.steps)
    steps[2] = dataclasses.replace(
        steps[2], output=TensorRef(BufferRef("output", 2, 24), "i64", (3,)))
    plan = dataclasses.replace(data.plan, steps=tuple(steps))
    with pytest.raises(ExecutionError, match=r"output 'twice' is not i64\[2, "):
        Engine(dataclasses.replace(data, plan=plan)).run(symbolic_inputs(4, 3))


@pytest.mark.parametrize("outer", [("N", "H"), (None, None)])
def test_bodies_of_any_shape(data, outer: tuple[Any, ...]) -> None:
    """A symbolic plan as the body of control flow, inside a plan with and without symbols."""
    names = [binding.name for binding in data.plan.outputs]
    inputs = (Binding("c", "bool", ()), Binding("x", "f32", outer), Binding("z", "f32", (None,)))
    step = HostStep(
        "choose", {"op": "If", "attributes": {}},
        tuple(TensorRef(BufferRef("input", i, 0), b.dtype, None) for i, b in enumerate(inputs)),
        tuple(slot(i) for i in range(len(names))),
        bodies={"then_branch": data.plan, "else_branch": data.plan},
    )
    symbols = tuple(SymbolRecord(name, source=("input", 1, axis))
                    for axis, name in enumerate(outer) if name)
    plan = Plan("outer", inputs, tuple(
        Binding(name, binding.dtype, None, BufferRef("host", i, 0))
        for i, (name, binding) in enumerate(zip(names, data.plan.outputs, strict=True))
    ), (step,), host_slots=len(names), symbols=symbols)
    with Engine(dataclasses.replace(data, plan=plan)).create_context(2) as context:
        for n, h in ((4, 3), (0, 2), (9, 9), (4, 3)):
            given = symbolic_inputs(n, h)
            got = context.run({"c": np.array(n > 4)} | given)
            for name, expected in symbolic_answer(given).items():
                np.testing.assert_array_equal(got[name], expected)
