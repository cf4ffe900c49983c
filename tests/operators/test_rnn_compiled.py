"""Recurrent layers with known lengths are compiled: no host steps, the answers of others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from running import Array

from bessemer.compiler.build import BuildOptions, Compiled, compile_graph
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.shapes import symbol
from bessemer.engine.plan import HostStep
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.ops.rnn import GRU, LSTM, RNN, Recurrent
from bessemer.targets import get_target

LAYERS = {cls.op_name: cls for cls in (RNN, GRU, LSTM)}
PLAIN = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")
OF_ALPHA = ("LeakyRelu", "ThresholdedRelu", "Elu")
OF_BOTH = ("Affine", "ScaledTanh", "HardSigmoid")
ALL = PLAIN + OF_ALPHA + OF_BOTH
SMOOTH = tuple(name for name in ALL if name != "ThresholdedRelu")

Inputs = list[Array | None]


def compiled(
    op: Recurrent,
    inputs: Inputs,
    constant: tuple[int, ...] = (1, 2, 3),
    symbols: tuple[int, ...] = (),
) -> Compiled:
    """The layer alone, compiled; inputs of the given numbers are constants.

    The axes `symbols` of x are left open.
    """
    batch_axis = 0 if op.layout else 1
    graph = Graph("layer")
    operands = []
    for k, array in enumerate(inputs):
        if array is None:
            operands.append(None)
        elif k in constant:
            operands.append(graph.add_constant(f"c{k}", array))
        else:
            type = TensorType.of(array, keep_value=False)
            # The axis of sequences is 0 or 1 in all of them.
            axes = symbols if k == 0 else (batch_axis,) if batch_axis in symbols else ()
            axes = (0,) * len(axes) if k == 4 else () if k in (1, 2, 3, 7) else axes
            names = {axis: "N" if axis == batch_axis or k == 4 else "T" for axis in axes}
            dims = [symbol(names[a]) if a in names else n for a, n in enumerate(array.shape)]
            operands.append(graph.add_input(f"x{k}", type.with_shape(tuple(dims))))
    outputs = [f"y{k}" for k in range(1 + op.states)]
    graph.outputs = graph.add_node(op, operands, name="layer", outputs=outputs).outputs
    return compile_graph(graph, BuildOptions((get_target("host"),)))


def run(made: Compiled, inputs: Inputs, threads: int = 2) -> list[Array]:
    feed = {f"x{k}": array for k, array in enumerate(inputs) if array is not None}
    names = {binding.name for binding in made.engine.inputs}
    with made.engine.create_context(threads=threads) as context:
        got = context.run({name: array for name, array in feed.items() if name in names})
    return list(got.values())


def host_steps(made: Compiled) -> list[str]:
    return [step.name for step in made.plan.steps if isinstance(step, HostStep)]


def operands(
    op: Recurrent,
    length: int,
    batch: int,
    width: int,
    size: int,
    *,
    bias: bool = True,
    lengths: bool = False,
    states: bool = False,
    peepholes: bool = False,
    seed: int = 0,
    dtype: Any = np.float32,
) -> Inputs:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> Array:
        return rng.uniform(-1, 1, shape).astype(dtype)

    count, gates = op.directions, op.gates
    x = array(batch, length, width) if op.layout else array(length, batch, width)
    state = (batch, count, size) if op.layout else (count, batch, size)
    inputs: Inputs = [
        x,
        array(count, gates * size, width),
        array(count, gates * size, size),
        array(count, 2 * gates * size) if bias else None,
        rng.integers(0, length + 1, batch).astype(np.int32) if lengths else None,
        *(array(*state) if states else None for _ in range(op.states)),
    ]
    if peepholes and isinstance(op, LSTM):
        inputs.append(array(count, 3 * size))
    return inputs


@st.composite
def layers(
    draw: st.DrawFn, layouts: tuple[int, ...] = (0, 1), functions: tuple[str, ...] = ALL
) -> tuple[Recurrent, Inputs]:
    """A layer with random attributes and inputs."""
    cls = LAYERS[draw(st.sampled_from(sorted(LAYERS)))]
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    count = 2 if direction == "bidirectional" else 1
    attributes: dict[str, Any] = {"direction": direction, "layout": draw(st.sampled_from(layouts))}
    if draw(st.booleans()):
        names = [draw(st.sampled_from(functions)) for _ in range(count * len(cls.defaults))]
        number = st.floats(0.125, 1.5, width=32)
        attributes["activations"] = tuple(names)
        attributes["activation_alpha"] = tuple(draw(number) for name in names if name not in PLAIN)
        attributes["activation_beta"] = tuple(draw(number) for name in names if name in OF_BOTH)
    if draw(st.booleans()):
        attributes["clip"] = draw(st.floats(0.25, 2.0, width=32))
    if cls is LSTM:
        attributes["input_forget"] = draw(st.sampled_from((0, 0, 1)))
    if cls is GRU:
        attributes["linear_before_reset"] = draw(st.sampled_from((0, 1)))
    op = cls(**attributes)
    size = draw(st.sampled_from((1, 3, 16, 17, 40)))
    inputs = operands(
        op,
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 9)),
        size,
        bias=draw(st.booleans()),
        lengths=draw(st.booleans()),
        states=draw(st.booleans()),
        peepholes=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )
    return op, inputs


@given(layers(), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_layer_is_compiled_and_right(layer: tuple[Recurrent, Inputs], fixed: bool) -> None:
    op, inputs = layer
    made = compiled(op, inputs, (1, 2, 3) if fixed else ())
    assert not host_steps(made)
    exact = op.reference(
        *(a.astype(np.float64) if a is not None and a.dtype == np.float32 else a for a in inputs)
    )
    for found, want in zip(run(made, inputs), exact, strict=True):
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_float_types(name: str, dtype: str) -> None:
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    op = LAYERS[name](direction="bidirectional")
    inputs = operands(op, 4, 2, 3, 5, lengths=True, states=True, dtype=kind)
    made = compiled(op, inputs)
    assert not host_steps(made)
    tolerance = {"float64": 1e-12, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    for found, want in zip(run(made, inputs), op.reference(*inputs), strict=True):
        assert dtype_from_numpy(found.dtype) == dtype_from_numpy(want.dtype)
        np.testing.assert_allclose(
            found.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(name: str, batch: int) -> None:
    op = LAYERS[name]()
    inputs = operands(op, 6, batch, 32, 64)
    made = compiled(op, inputs)
    one, two = run(made, inputs, 1), run(made, inputs, 2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_steps_share_their_machine_code() -> None:
    op = LSTM()
    made = compiled(op, operands(op, 9, 1, 16, 32))
    steps = [step for step in made.plan.steps if "recurrent" in getattr(step, "rule", "")]
    assert len(steps) == 8
    assert len({step.symbol for step in steps}) == 1
    assert len({step.args[1] for step in steps}) == 1, "the weights are packed once"


def test_lengths_that_are_all_full_cost_nothing() -> None:
    op = LSTM()
    inputs = operands(op, 4, 2, 3, 16)
    inputs[4] = np.array([4, 4], np.int32)
    made = compiled(op, inputs, (1, 2, 3, 4))
    assert all("bool" not in step.shapes for step in made.plan.steps)
    for found, want in zip(run(made, inputs), op.reference(*inputs), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def only_loops(made: Compiled) -> bool:
    """True if nothing but the loop over compiled steps runs on the host."""
    steps = [step for step in made.plan.steps if isinstance(step, HostStep)]
    return all(step.operator["op"] == "Scan" and "compiled" in step.reason for step in steps)


def test_very_long_layers_are_loops() -> None:
    op = RNN(direction="bidirectional")
    inputs = operands(op, 600, 1, 2, 2)
    made = compiled(op, inputs)
    assert only_loops(made)
    assert host_steps(made)
    for found, want in zip(run(made, inputs), op.reference(*inputs), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@given(layers(functions=SMOOTH), st.sampled_from(("T", "N", "both")))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_engine_serves_all_lengths_and_batches(
    layer: tuple[Recurrent, Inputs], open_dims: str
) -> None:
    op, inputs = layer
    time = 1 if op.layout else 0
    free = {"T": (time,), "N": (1 - time,), "both": (0, 1)}[open_dims]
    assert inputs[2] is not None
    made = compiled(op, inputs, symbols=free)
    assert only_loops(made)
    extra = {0: {}, 1: {time: 3}, 2: {1 - time: 2}}
    for grow in (extra[0], *(extra[1 if k == time else 2] for k in free)):
        again = resized(op, inputs, grow)
        want = op.reference(*again)
        for found, right in zip(run(made, again), want, strict=True):
            scale = max(1.0, float(np.abs(right).max()))
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4 * scale)


def resized(op: Recurrent, inputs: Inputs, grow: dict[int, int]) -> Inputs:
    """The inputs with more steps or sequences: axis of x -> how many more."""
    x, batch_axis = inputs[0], 0 if op.layout else 1
    assert x is not None
    rng = np.random.default_rng(5)
    shape = [n + grow.get(k, 0) for k, n in enumerate(x.shape)]
    more = grow.get(batch_axis, 0)
    state_axis = 0 if op.layout else 1
    result: Inputs = [rng.uniform(-1, 1, shape).astype(x.dtype), *inputs[1:4]]
    lengths = inputs[4] if len(inputs) > 4 else None
    result.append(
        None if lengths is None else np.concatenate([lengths, np.ones(more, lengths.dtype)])
    )
    for state in inputs[5 : 5 + op.states]:
        if state is not None:
            pads = [(0, more if k == state_axis else 0) for k in range(3)]
            state = np.pad(state, pads, constant_values=0.25)
        result.append(state)
    return [*result, *inputs[5 + op.states :]]


@pytest.mark.rivals
@given(layers(layouts=(0,), functions=SMOOTH))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_layer_is_like_another_runtime(layer: tuple[Recurrent, Inputs]) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    op, inputs = layer
    if isinstance(op, LSTM):
        op = replace(op, clip=0.0)  # there it does not bound the input of the last activation
    # A sequence without steps gives zero there, the initial state here.
    inputs[4] = None if inputs[4] is None else np.maximum(inputs[4], 1)
    names = [f"x{k}" if array is not None else "" for k, array in enumerate(inputs)]
    attributes = {
        k: list(v) if isinstance(v, tuple) else v for k, v in op.non_default_attributes().items()
    }
    assert inputs[2] is not None
    outs = [f"y{k}" for k in range(1 + op.states)]
    node = onnx.helper.make_node(
        op.op_name, names, outs, hidden_size=inputs[2].shape[2], **attributes
    )
    make = onnx.helper.make_tensor_value_info
    feed = {f"x{k}": array for k, array in enumerate(inputs) if array is not None}
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [make(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feed.items()],
        [make(k, onnx.TensorProto.FLOAT, None) for k in outs],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    theirs = session.run(None, feed)
    # States that grow at every step overflow one product earlier here or there.
    assume(all(np.isfinite(want).all() for want in theirs))
    for found, want in zip(op.reference(*inputs), theirs, strict=True):
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4 * scale)
