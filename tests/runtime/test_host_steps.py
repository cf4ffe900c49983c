"""Operators that run by their reference between native segments."""

from typing import Any

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError, ExecutionError, InputError
from bessemer.debug.tiny_engine import tiny_engine_data, with_plan
from bessemer.engine.plan import (
    Binding,
    BufferRef,
    EngineData,
    HostStep,
    KernelStep,
    Plan,
    TensorRef,
)
from bessemer.ir.codec import encode_operator
from bessemer.ir.operator import Operator, operator
from bessemer.runtime.engine import Engine

COUNT = 64
SIZE = 4 * COUNT


@operator("test.Negate")
class Negate(Operator):
    """-x, in two results; the second is the input itself."""

    scale: int = 1

    def reference(self, x: Any) -> Any:
        return -x * np.float32(self.scale), x


@operator("test.Kept")
class Kept(Operator):
    """The positive elements, whose number is known only when running."""

    def reference(self, x: Any, y: Any = None) -> Any:
        return x[x > 0] if y is None else [x, y]


@operator("test.Fails")
class Fails(Operator):
    """Raises what it is told to."""

    def reference(self, x: Any) -> Any:
        raise ValueError("negative axis")


@operator("test.Writes")
class Writes(Operator):
    """Wrongly changes its input."""

    def reference(self, x: Any) -> Any:
        x[0] = 1
        return x


@operator("test.Wrong")
class Wrong(Operator):
    """Gives another dtype than the plan says."""

    def reference(self, x: Any) -> Any:
        return x.astype(np.float64)


def tensor(space: str, offset: int = 0) -> TensorRef:
    return TensorRef(BufferRef(space, offset, SIZE), "f32", (COUNT,))


def step(op: Operator, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> HostStep:
    return HostStep("negate", encode_operator(op), inputs, outputs, ("Neg_5",), "a test")


@pytest.fixture(scope="module")
def made() -> tuple[EngineData, np.ndarray]:
    return tiny_engine_data(COUNT)


X = np.linspace(-2, 3, COUNT, dtype=np.float32)


def test_between_kernels(made) -> None:
    """kernel, host step in the arena, kernel: y = -2(x + c) + c."""
    data, c = made
    add, _, shift = data.plan.steps
    middle = step(Negate(scale=2), (tensor("arena"),), (tensor("arena", SIZE), None))
    engine = Engine(with_plan(data, steps=(add, middle, shift)))
    for threads in (1, 3):
        with engine.create_context(threads) as context:
            for _ in range(20):
                np.testing.assert_allclose(context.run(X)["y"], -2 * (X + c) + c, rtol=1e-6)
            rows = context.profile(X).rows
            assert [row.kind for row in rows] == ["kernel", "host", "kernel"]
            assert context.measured_peak_bytes(X) == data.plan.arena_bytes
    assert "on the host: a test from Neg_5" in engine.inspect()


def test_straight_from_input_and_constant_to_output(made) -> None:
    data, c = made
    for space, expected in (("input", -X), ("constant", -c)):
        steps = (step(Negate(), (tensor(space),), (tensor("output"),)),)
        np.testing.assert_array_equal(Engine(with_plan(data, steps=steps)).run(X)["y"], expected)


def slot(number: int) -> TensorRef:
    return TensorRef(BufferRef("host", number, 0), "", None)


def test_unknown_shape_sequence_and_views(made) -> None:
    """Objects pass through slots; nothing that leaves a run is a view of memory that changes."""
    data, _ = made
    outputs = (
        Binding("kept", "f32", (None,), BufferRef("host", 0, 0)),
        Binding("pair", "", None, BufferRef("host", 1, 0)),
        Binding("view", "f32", (COUNT,), BufferRef("host", 2, 0)),
        Binding("same", "f32", (COUNT,), BufferRef("host", 3, 0)),
        Binding("direct", "f32", None),
    )
    x, arena = tensor("input"), tensor("arena")
    steps = (
        step(Kept(), (x,), (slot(0),)), step(Negate(), (x,), (arena,)),
        step(Kept(), (arena, slot(0)), (slot(1),)), step(Negate(), (arena,), (None, slot(2))),
        step(Negate(), (x,), (None, slot(3))),
        step(Kept(), (x,), (TensorRef(BufferRef("output", 4, 0), "f32", None),)),
    )
    engine = Engine(with_plan(data, steps=steps, outputs=outputs, host_slots=4))
    first = engine.run(X)
    engine.run(X + 1)
    np.testing.assert_array_equal(first["kept"], X[X > 0])
    np.testing.assert_array_equal(first["pair"][0], -X)
    np.testing.assert_array_equal(first["pair"][1], X[X > 0])
    np.testing.assert_array_equal(first["view"], -X)
    np.testing.assert_array_equal(first["same"], X)
    np.testing.assert_array_equal(first["direct"], X[X > 0])
    assert not np.shares_memory(first["same"], X)
    target = np.zeros(int((X > 0).sum()), np.float32)
    assert engine.run(X, outputs={"kept": target})["kept"] is target
    np.testing.assert_array_equal(target, X[X > 0])
    with pytest.raises(InputError, match="output 'kept' is"):
        engine.run(X, outputs={"kept": np.zeros(1, np.float32)})


def test_strings_and_objects_as_inputs() -> None:
    inputs = (Binding("s", "string", (2,)), Binding("o", "", None))
    outputs = (Binding("s2", "string", (2,), BufferRef("host", 0, 0)),
               Binding("o2", "", None, BufferRef("input", 1, 0)))
    steps = (step(Kept(), (TensorRef(BufferRef("input", 0, 0), "string", (2,)),
                           TensorRef(BufferRef("input", 1, 0), "", None)), (slot(0),)),)
    engine = Engine(EngineData(Plan("strings", inputs, outputs, steps, host_slots=1)))
    got = engine.run({"s": np.array(["a", "b"]), "o": [1, 2]})
    assert list(got["s2"][0]) == ["a", "b"]
    assert got["s2"][0].dtype == object
    assert got["o2"] == [1, 2]
    with pytest.raises(InputError, match="wrong shape: expected string"):
        engine.run({"s": np.array(["a"]), "o": 1})
    with pytest.raises(InputError, match="wrong dtype"):
        engine.run({"s": np.zeros(2), "o": 1})


def test_failures_name_the_step(made) -> None:
    data, _ = made
    for op, words in (
        (Fails(), "ValueError: negative axis; inputs: float32"),
        (Writes(), "read-only; inputs: float32"),
        (Wrong(), r"gave float64\[64\] where the plan has f32\[64\]"),
    ):
        steps = (step(op, (tensor("input"),), (tensor("output"),)),)
        engine = Engine(with_plan(data, steps=steps))
        with pytest.raises(ExecutionError, match=rf"host step 'negate' \(from Neg_5\).*{words}"):
            engine.run(X)
    steps = (step(Kept(), (tensor("input"),), (slot(0), slot(0))),)
    with pytest.raises(ExecutionError, match="gave 1 results, not 2"):
        Engine(with_plan(data, steps=steps, host_slots=1)).run(X)


@pytest.mark.parametrize("encoded", [
    {}, {"op": "NoSuchOperator"}, {"op": 3}, {"op": "test.Negate", "attributes": {"wrong": 1}},
    {"op": "test.Negate", "attributes": []},
])
def test_malformed_operators_are_refused_at_load(made, encoded: dict[str, Any]) -> None:
    bad = HostStep("bad", encoded, (), ())
    with pytest.raises(EngineFormatError, match="host step 'bad'"):
        Engine(with_plan(made[0], steps=(bad,)))


def test_kernels_after_kernels_share_a_call(made) -> None:
    data, _ = made
    steps = (*data.plan.steps, step(Negate(), (tensor("arena"),), (tensor("arena"),)))
    engine = Engine(with_plan(data, steps=steps))
    assert [type(s).__name__ for s in engine._program.segments] == ["NativeSegment", "HostSegment"]
    assert isinstance(engine.plan.steps[0], KernelStep)
