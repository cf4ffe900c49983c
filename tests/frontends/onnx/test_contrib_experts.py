"""com.microsoft: mixtures of experts, and what optimisers made of normalisations and gates."""

import numpy as np
import pytest
from contrib_node import bytes_of, case, compare, feeds, floats, node_model
from onnx_models import run

import bessemer
from bessemer.core.errors import ModelFormatError, UnsupportedOperatorError
from bessemer.frontends import import_model

T, H, INNER, E = 5, 6, 4, 3


def _experts(rows=(T,), activation="relu", both=1, biases=True, third=False, **attributes):
    """Inputs of MoE: `both` is 2 where the first weights hold the gate and the linear part."""
    tokens = int(np.prod(rows))
    return case(
        "MoE", floats(*rows, H), floats(tokens, E), floats(E, both * INNER, H),
        floats(E, both * INNER) if biases else None, floats(E, H, INNER),
        floats(E, H) if biases else None, floats(E, INNER, H) if third else None,
        activation_type=activation, constants=(2, 3, 4, 5, 6), atol=1e-5, **attributes)


EXPERTS = [
    *[_experts(activation=name, k=k, normalize_routing_weights=whole)
      for name in ("relu", "silu", "identity") for k, whole in ((1, 0), (2, 1), (2, 0))],
    _experts((2, 3), "gelu", k=2, biases=False, compiled=True),
    _experts((2, 3), "swiglu", both=2, k=2, swiglu_fusion=1, activation_alpha=1.702,
             activation_beta=1.0, swiglu_limit=0.7, compiled=True),
]


def _packed_experts(bits, block, zeros=False, both=1, activation="relu", compiled=False, **given):
    """Inputs of QMoE; ONNX Runtime's CPU kernel always normalises the shares of the chosen."""
    hidden, inner = 32, 32
    parts = (hidden // block,) if block else ()

    def layer(rows):
        scales = np.abs(floats(E, rows, *parts)) * np.float32(0.02) + np.float32(0.01)
        shape = (E, rows, -(-parts[0] * bits // 8)) if block else (E, -(-rows * bits // 8))
        return bytes_of(E, rows, hidden * bits // 8), scales, bytes_of(*shape) if zeros else None

    first, second = layer(both * inner), layer(hidden)
    inputs = [floats(T, hidden), floats(T, E), *first[:2], floats(E, both * inner), *second[:2],
              floats(E, hidden)]
    if zeros:
        inputs += [None, None, None, first[2], second[2]]
    if block:
        given["block_size"] = block
    return case("QMoE", *inputs, activation_type=activation, expert_weight_bits=bits,
                constants=tuple(range(2, len(inputs))), atol=2e-5, compiled=compiled,
                weights_prepacked=0, normalize_routing_weights=1, **given)


PACKED = [
    _packed_experts(4, 0, k=2),
    _packed_experts(4, 16, k=2, compiled=True),
    _packed_experts(4, 32, zeros=True, both=2, activation="swiglu", swiglu_fusion=1, k=2),
    _packed_experts(8, 0, zeros=True), _packed_experts(4, 0, zeros=True, activation="silu"),
    _packed_experts(2, 16, activation="gelu"),
]
_GATES = [
    case("GatedRMSNorm", floats(2, 3, 8), floats(8), floats(2, 3, 8), compiled=True),
    case("GatedRMSNorm", floats(2, 3, 8), floats(4), floats(2, 3, 8), activation="sigmoid",
         epsilon=0.1),
    case("ScaledSiLU", floats(3, 7), alpha=0.5, compiled=True),
    case("ScaledSiLU", floats(3, 7), np.array(1.5, np.float32)),
    case("GatedAdd", floats(2, 3, 7), floats(2, 3, 7), floats(2, 3, 1), compiled=True),
]
_STATES = [
    case("LinearAttention", floats(2, 3, 8), floats(2, 3, 8), floats(2, 3, 6), None,
         -np.abs(floats(2, 3, 2)), np.abs(floats(2, 3, 2)), q_num_heads=2, kv_num_heads=2,
         outputs=("y0", "y1"), compiled=True),
    case("LinearAttention", floats(2, 3, 8), floats(2, 3, 4), floats(2, 3, 3), floats(2, 1, 4, 3),
         q_num_heads=2, kv_num_heads=1, update_rule="linear", scale=0.5, outputs=("y0", "y1")),
    case("CausalConvWithState", floats(2, 3, 5), floats(3, 1, 4), floats(3), floats(2, 3, 3),
         outputs=("y0", "y1"), activation="silu", compiled=True),
    case("CausalConvWithState", floats(2, 3, 5), floats(3, 1, 4), outputs=("y0", "y1")),
]
_FOURS = [
    case("MatMulBnb4", floats(*rows, 32), bytes_of(7 * 32 // 2), np.abs(floats(-(-7 * 32 // size))),
         K=32, N=7, block_size=size, quant_type=kind, constants=(1, 2), atol=1e-4,
         compiled=size == 32)
    for rows in ((3,), (2, 3)) for size in (16, 32, 64) for kind in (0, 1)
]


@pytest.mark.rivals
@pytest.mark.parametrize("given", [*EXPERTS, *PACKED, *_GATES, *_STATES, *_FOURS])
def test_agrees_with_onnxruntime(given):
    given.check()


def _silu(x):
    return x / (1 + np.exp(-x))


def _groups(x, gamma, beta, groups, epsilon=1e-5):
    """Group normalisation of [n, h, w, c] in f64."""
    n, h, w, c = x.shape
    parts = x.astype(np.float64).reshape(n, h * w, groups, c // groups)
    centred = parts - parts.mean((1, 3), keepdims=True)
    normal = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + epsilon)
    return normal.reshape(x.shape) * gamma + beta


def _check(model, inputs, *expected):
    """An engine and the references give what is expected."""
    given = [item for item in inputs if item is not None]
    found = bessemer.build(model).run(feeds(inputs)).values()
    for one, other, truth in zip(found, run(model, *given), expected, strict=True):
        compare(one, truth.astype(np.float32))
        compare(other, truth.astype(np.float32))


# ONNX Runtime has these on GPUs only.
def test_group_norm():
    x, gamma, beta = floats(2, 3, 4, 6), floats(6), floats(6)
    expected = _groups(x, gamma, beta, 3)
    model = node_model("GroupNorm", [x, gamma, beta], groups=3, activation=0)
    _check(model, [x, gamma, beta], expected)
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    model = node_model("GroupNorm", [first, gamma, beta], groups=3, activation=1, channels_last=0)
    _check(model, [first, gamma, beta], _silu(expected).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 1, 1, 6), (2, 6)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_skip_group_norm(shape, with_bias):
    inputs = [floats(2, 3, 4, 6), floats(6), floats(6), floats(*shape)]
    if with_bias:
        inputs.append(floats(6))
    x, gamma, beta, skip = inputs[:4]
    total = x + (skip if skip.ndim == 4 else skip[:, None, None])
    total = total + inputs[4] if with_bias else total
    model = node_model("SkipGroupNorm", inputs, ("y0", "y1"), groups=2, activation=1)
    _check(model, inputs, _silu(_groups(total, gamma, beta, 2)), total)


@pytest.mark.parametrize(("axis", "shape"), [(3, (2, 1, 1, 5)), (3, (4, 5)), (2, (1, 1, 4, 5))])
def test_bias_softmax(axis, shape):
    x, bias = floats(2, 3, 4, 5), floats(*shape)
    total = np.exp((x + bias).astype(np.float64))
    expected = total / total.sum(tuple(range(axis, 4)), keepdims=True)
    model = node_model("BiasSoftmax", [x, bias], axis=axis, is_inner_broadcast=int(shape[0] == 2))
    _check(model, [x, bias], expected)


def test_bias_dropout_does_nothing_outside_of_training():
    x, bias, rest = floats(2, 3), floats(3), floats(2, 3)
    model = node_model("BiasDropout", [x, bias, rest])
    _check(model, [x, bias, rest], x + bias + rest)


def test_experts_with_a_third_matrix_and_halves():
    """Other forms of the gated unit, by the definition."""
    x, router = floats(T, H), floats(T, E)
    fc1, fc2, fc3 = floats(E, INNER, H), floats(E, H, INNER), floats(E, INNER, H)
    gates, lines = (np.einsum("eih,th->eti", part, x) for part in (fc1, fc3))
    results = np.einsum("ehi,eti->eth", fc2, _silu(gates) * lines)
    chance = np.exp(router) / np.exp(router).sum(1, keepdims=True)
    kept = np.where(chance >= np.sort(chance, 1)[:, -2:-1], chance, 0)
    expected = np.einsum("te,eth->th", kept, results)
    separate = [x, router, fc1, None, fc2, None, fc3]
    joined = [x, router, np.concatenate([fc1, fc3], 1), None, fc2]
    for inputs, given in (
        (separate, {"activation_type": "swiglu"}), (separate, {"activation_type": "silu"}),
        (joined, {"activation_type": "swiglu", "swiglu_fusion": 2}),
    ):
        model = node_model("MoE", inputs, k=2, **given)
        _check(model, inputs, expected)


@pytest.mark.parametrize(("op", "inputs", "attributes", "error", "words"), [
    ("MoE", (floats(T, H), floats(T, E), floats(E, INNER, H), None, floats(E, H, INNER)),
     {"use_sparse_mixer": 1}, UnsupportedOperatorError, "use_sparse_mixer"),
    ("MoE", (floats(T, H), floats(T, E), floats(E, INNER, H), None, floats(E, H, INNER)),
     {"k": 9}, ModelFormatError, "k is 9, but there are 3 experts"),
    ("MoE", (floats(T, H), floats(T, E), floats(E, INNER, H), None, floats(E, H, INNER)),
     {"activation_type": "tanh"}, UnsupportedOperatorError, "activation_type 'tanh'"),
    ("MoE", (floats(T, H), floats(T, E), floats(E, INNER, H), None, floats(E, H, INNER)),
     {"activation_type": "swiglu"}, ModelFormatError, "needs fc3_experts_weights"),
    ("QMoE", (floats(T, H), floats(T, E), bytes_of(E, 4, 3), None, None, bytes_of(E, H, 2)),
     {}, ModelFormatError, "need scales"),
    ("QMoE", (floats(T, H), floats(T, E), bytes_of(E, 4, 3), None, None, bytes_of(E, H, 2)),
     {"quant_type": "fp4"}, UnsupportedOperatorError, "quant_type 'fp4'"),
    ("GroupNorm", (floats(1, 2, 2, 4), floats(4), floats(4)),
     {"groups": 2, "activation": 7}, UnsupportedOperatorError, "activation 7"),
    ("CausalConvWithState", (floats(2, 3, 5), floats(3, 1, 4)), {"dilation": 2},
     UnsupportedOperatorError, "dilation 2"),
    ("MatMulBnb4", (floats(2, 16), bytes_of(16), floats(2)),
     {"K": 16, "N": 2, "block_size": 16, "quant_type": 2}, UnsupportedOperatorError,
     "quant_type 2"),
])
def test_refusals(op, inputs, attributes, error, words):
    with pytest.raises(error, match=words):
        import_model(node_model(op, inputs, **attributes))
