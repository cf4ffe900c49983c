"""Corner cases of recurrent layers."""

import numpy as np
import pytest
from running import Array

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType
from bessemer.ops.rnn import GRU, LSTM, RNN

GATES = {RNN: 1, GRU: 3, LSTM: 4}


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


def weights(cls: type[Operator], count: int) -> tuple[Array, Array, Array]:
    gates = GATES[cls]
    return random(count, gates * 5, 3), random(count, gates * 5, 5), random(count, 2 * gates * 5)


@pytest.mark.parametrize("cls", list(GATES))
def test_both_directions_are_the_two_single_ones(cls: type[Operator]) -> None:
    x, (w, r, b) = random(4, 2, 3), weights(cls, 2)
    lengths = np.array([4, 2], np.int32)
    whole = cls(direction="bidirectional").reference(x, w, r, b, lengths)
    ahead = cls().reference(x, w[:1], r[:1], b[:1], lengths)
    back = cls(direction="reverse").reference(x, w[1:], r[1:], b[1:], lengths)
    np.testing.assert_allclose(whole[0], np.concatenate([ahead[0], back[0]], axis=1), rtol=1e-5)
    for found, a, c in zip(whole[1:], ahead[1:], back[1:]):
        np.testing.assert_allclose(found, np.concatenate([a, c]), rtol=1e-5)


@pytest.mark.parametrize("cls", list(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_short_sequence_is_as_if_alone(cls: type[Operator], direction: str) -> None:
    x, (w, r, b) = random(4, 2, 3), weights(cls, 1)
    every, last, *_ = cls(direction=direction).reference(x, w, r, b, np.array([4, 2], np.int32))
    alone, end, *_ = cls(direction=direction).reference(x[:2, 1:], w, r, b)
    np.testing.assert_allclose(every[:2, :, 1:], alone, rtol=1e-5)
    np.testing.assert_allclose(last[:, 1:], end, rtol=1e-5)
    assert (every[2:, :, 1] == 0).all()


@pytest.mark.parametrize("cls", list(GATES))
def test_the_state_carries_on(cls: type[Operator]) -> None:
    x, (w, r, b) = random(4, 2, 3), weights(cls, 1)
    whole = cls().reference(x, w, r, b)
    first = cls().reference(x[:2], w, r, b)
    rest = cls().reference(x[2:], w, r, b, None, *first[1:])
    np.testing.assert_allclose(rest[0], whole[0][2:], rtol=1e-5)
    np.testing.assert_allclose(rest[1], whole[1], rtol=1e-5)


@pytest.mark.parametrize("cls", list(GATES))
def test_layout_one_puts_the_batch_first(cls: type[Operator]) -> None:
    x, (w, r, b) = random(4, 2, 3), weights(cls, 1)
    plain = cls().reference(x, w, r, b)
    turned = cls(layout=1).reference(x.transpose(1, 0, 2), w, r, b)
    np.testing.assert_array_equal(turned[0], plain[0].transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(turned[1], plain[1].transpose(1, 0, 2))


def test_a_clip_bounds_what_activations_see() -> None:
    x = np.full((1, 1, 1), 100, np.float32)
    one = np.ones((1, 1, 1), np.float32)
    y = RNN(activations=("Affine",), activation_alpha=(1.0,), clip=2.5).reference(x, one, one)[0]
    assert y[0, 0, 0, 0] == 2.5


def test_parameters_go_to_the_activations_that_take_them() -> None:
    x = np.full((1, 1, 1), -1, np.float32)
    one = np.ones((2, 1, 1), np.float32)
    op = RNN(
        direction="bidirectional", activations=("Tanh", "LeakyRelu"), activation_alpha=(0.25,)
    )
    y = op.reference(x, one, one)[0]
    np.testing.assert_allclose(y[0, :, 0, 0], [np.tanh(-1), -0.25], rtol=1e-6)


def test_shapes_and_misfits() -> None:
    t, n = symbol("T"), symbol("N")
    x, w, r = (TensorType(f32, s) for s in ((t, n, 3), (1, 20, 3), (1, 20, 5)))
    assert [str(v) for v in LSTM().infer(x, w, r)] == ["f32[T,1,N,5]", "f32[1,N,5]", "f32[1,N,5]"]
    with pytest.raises(ShapeError, match="direction is 'up'"):
        LSTM(direction="up").infer(x, w, r)
    with pytest.raises(ShapeError, match="directions of r"):
        LSTM(direction="bidirectional").infer(x, w, r)
    with pytest.raises(ShapeError, match="gates of r"):
        GRU().infer(x, w, r)
    with pytest.raises(ShapeError, match="is not one of"):
        RNN(activations=("Swish",)).reference(random(1, 1, 3), random(1, 5, 3), random(1, 5, 5))


@pytest.mark.rivals
@pytest.mark.parametrize("cls", list(GATES))
def test_like_another_runtime(cls: type[Operator]) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    x, (w, r, b) = random(4, 2, 3), weights(cls, 2)
    inputs = {"x": x, "w": w, "r": r, "b": b, "l": np.array([2, 4], np.int32)}
    attributes = {"direction": "bidirectional", "hidden_size": 5, "clip": 0.7}
    if cls is GRU:
        attributes["linear_before_reset"] = 1
    outs = ["y", "h", "c"] if cls is LSTM else ["y", "h"]
    node = onnx.helper.make_node(cls.op_name, list(inputs), outs, **attributes)
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g",
        [make(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
         for k, v in inputs.items()],
        [make(k, onnx.TensorProto.FLOAT, None) for k in outs],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = cls(**attributes).reference(*inputs.values())
    for ours, theirs in zip(found, session.run(None, inputs)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
