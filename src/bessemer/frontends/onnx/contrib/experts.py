"""Mixtures of experts: MoE, QMoE."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, f32
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

_UNPACK = "bessemer.UnpackBits"

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}), "silu": ("Swish", {}), "identity": ("Identity", {}),
    # By tanh, as ONNX Runtime computes it.
    "gelu": ("Gelu", {"approximate": "tanh"}),
}


def _shares(d: Draft, router: Value, experts: int, k: int, normalize: bool) -> Value:
    """How much each expert gives to each token: 0 for all but the k best.

    Shapes: router [t, e] -> [e, t, 1]. The shares add up to 1 over the chosen experts with
    `normalize`, over all experts otherwise.
    """
    if not 0 < k <= experts:
        d.invalid(f"k is {k}, but there are {experts} experts")
    logits = router if normalize else d.op("Softmax", router, axis=-1)
    best, places = d.ops("TopK", logits, d.constant([k]), names=("", ""), axis=-1)
    if normalize:
        best = d.op("Softmax", best, axis=-1)
    nothing = d.op("Mul", router, d.constant(0, router.tensor.dtype))
    dense = d.op("ScatterElements", nothing, places, best, axis=-1)
    return d.op("Unsqueeze", d.transpose(dense, 1, 0), d.constant([2]))


def _halves(d: Draft, x: Value, fusion: int) -> list[Value]:
    """The gate and the linear part of x [e, t, 2 * n]: alternating, or one after the other."""
    if fusion == 2:
        return d.ops("Split", x, names=("", ""), axis=-1, num_outputs=2)
    pairs = d.op("Reshape", x, d.constant([0, 0, -1, 2]))
    return [d.op("Gather", pairs, d.constant(k), axis=-1) for k in (0, 1)]


@dataclass(frozen=True)
class _Layer:
    """Weights [e, out, in] and a bias [e, out] of one layer of all experts."""

    weights: Value
    bias: Value | None

    def of(self, d: Draft, x: Value) -> Value:
        """Shapes: x [e or 1, t, in] -> [e, t, out]."""
        product = d.op("MatMul", x, d.transpose(self.weights, 0, 2, 1))
        if self.bias is None:
            return product
        return d.op("Add", product, d.op("Unsqueeze", self.bias, d.constant([1])))


@dataclass(frozen=True)
class _Unit:
    """What stands between the two layers."""

    activation: str
    fusion: int
    """1 and 2: the first layer holds the gate and the linear part, in turns or in halves."""
    limit: float | None
    alpha: float
    beta: float

    def of(self, d: Draft, x: Value, first: _Layer, third: _Layer | None) -> Value:
        """Shapes: x [1, t, h] -> [e, t, n]."""
        hidden, dtype = first.of(d, x), x.tensor.dtype
        if self.activation != "swiglu":
            if self.activation not in _ACTIVATIONS:
                d.refuse(f"activation_type {self.activation!r}")
            op, attributes = _ACTIVATIONS[self.activation]
            hidden = d.op(op, hidden, **attributes)
            return hidden if third is None else d.op("Mul", hidden, third.of(d, x))
        if self.fusion:
            gate, linear = _halves(d, hidden, self.fusion)
        elif third is not None:
            gate, linear = hidden, third.of(d, x)
        else:
            d.invalid("swiglu without fusion needs fc3_experts_weights")
        if self.limit is not None and np.isfinite(self.limit):
            low, high = (d.constant(sign * self.limit, dtype) for sign in (-1, 1))
            gate, linear = d.op("Min", gate, high), d.op("Clip", linear, low, high)
        shifted = d.op("Add", linear, d.constant(self.beta, dtype))
        return d.op("Mul", d.op("Swish", gate, alpha=self.alpha), shifted)


def _mixture(d: Draft, x: Value, shares: Value, first: _Layer, second: _Layer,
             third: _Layer | None, unit: _Unit) -> None:
    """The sum of what the experts make of each token; every expert works on all tokens.

    Shapes: x [t, h] or [b, s, h], shares [e, t, 1] -> y like x.
    """
    width = d.size(first.weights, 2)
    tokens = d.op("Reshape", x, d.constant([1, -1, width]))
    results = second.of(d, unit.of(d, tokens, first, third))
    total = d.op("ReduceSum", d.op("Mul", results, shares), d.constant([0]), keepdims=0)
    d.op("Reshape", total, d.op("Shape", x), name=d.outputs[0])


_PARTS = ("Reshape", "Unsqueeze", "MatMul", "Transpose", "Add", "Softmax", "TopK", "Mul",
          "ScatterElements", "Split", "Gather", "Min", "Clip", "Swish", "Relu", "Gelu",
          "Identity", "ReduceSum", "Shape")


@contrib("MoE", becomes=_PARTS)
def mixture(
    d: Draft, x: Value, router: Value, fc1: Value, fc1_bias: Value | None, fc2: Value,
    fc2_bias: Value | None, fc3: Value | None, fc3_bias: Value | None, *, k: int = 1,
    activation_type: str = "relu", normalize_routing_weights: int = 0, use_sparse_mixer: int = 0,
    swiglu_fusion: int = 0, swiglu_limit: float | None = None, activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
) -> None:
    """The k best experts of each token, by a router.

    Shapes: x [t, h] or [b, s, h], router [t, e], fc1 and fc3 [e, n, h] (fc1 [e, 2 * n, h] if both
    parts of a gated unit are in it), fc2 [e, h, n] -> y like x.
    """
    if use_sparse_mixer:
        d.refuse("use_sparse_mixer")
    shares = _shares(d, router, d.size(fc1, 0), k, bool(normalize_routing_weights))
    unit = _Unit(activation_type, swiglu_fusion, swiglu_limit, activation_alpha, activation_beta)
    third = None if fc3 is None else _Layer(fc3, fc3_bias)
    _mixture(d, x, shares, _Layer(fc1, fc1_bias), _Layer(fc2, fc2_bias), third, unit)


def _real(d: Draft, packed: Value, scales: Value | None, zeros: Value | None, bits: int,
          dtype: DType) -> Value:
    """Weights of few bits as floats: (element - zero point) * scale.

    Shapes: packed u8 [e, out, in * bits / 8], scales [e, out] or [e, out, blocks], zero points
    packed along the last axis of the scales -> [e, out, in].
    """
    if scales is None:
        d.invalid("weights of integers need scales")
    if bits not in (2, 4, 8):
        d.refuse(f"weights of {bits} bits")
    parts = d.size(scales, 2) if d.type(scales).rank == 3 else 1
    experts, out = d.size(packed, 0), d.size(packed, 1)
    blocks = [experts, out, parts, -1]
    elements = d.op("Reshape", d.op(_UNPACK, packed, bits=bits), d.constant(blocks))
    offset = d.constant(1 << (bits - 1), f32)
    if zeros is not None:
        count = parts if d.type(scales).rank == 3 else out
        flat = d.op("Slice", d.op(_UNPACK, zeros, bits=bits), d.constant([0]),
                    d.constant([count]), d.constant([-1]))
        offset = d.cast(d.op("Reshape", flat, d.constant([experts, out, parts, 1])), f32)
    centred = d.op("Sub", d.cast(elements, f32), offset)
    factor = d.op("Reshape", d.cast(scales, f32), d.constant([experts, out, parts, 1]))
    real = d.op("Reshape", d.op("Mul", centred, factor), d.constant([experts, out, -1]))
    return d.cast(real, dtype)


@contrib("QMoE", becomes=(*_PARTS, _UNPACK, "Slice", "Cast", "Sub"))
def quantized_mixture(
    d: Draft, x: Value, router: Value, fc1: Value, fc1_scales: Value | None,
    fc1_bias: Value | None, fc2: Value, fc2_scales: Value | None, fc2_bias: Value | None,
    fc3: Value | None, fc3_scales: Value | None, fc3_bias: Value | None, fc1_zeros: Value | None,
    fc2_zeros: Value | None, fc3_zeros: Value | None, *, k: int = 1,
    activation_type: str = "relu", normalize_routing_weights: int = 0, use_sparse_mixer: int = 0,
    swiglu_fusion: int = 0, swiglu_limit: float | None = None, activation_alpha: float = 1.0,
    activation_beta: float = 0.0, expert_weight_bits: int = 4, block_size: int = 0,
    fc1_expert_weight_bits: int | None = None, fc2_expert_weight_bits: int | None = None,
    fc3_expert_weight_bits: int | None = None, quant_type: str = "int", accuracy_level: int = 0,
    weights_prepacked: int = -1,
) -> None:
    """MoE with weights of 2, 4 or 8 bits, which become floats. The scales say how large blocks are.

    The layout that `weights_prepacked` -1 leaves open is the plain one, as on CPUs.
    """
    if use_sparse_mixer:
        d.refuse("use_sparse_mixer")
    if quant_type != "int":
        d.refuse(f"quant_type {quant_type!r}")
    if weights_prepacked == 1:
        d.refuse("weights_prepacked")
    dtype, usual = x.tensor.dtype, expert_weight_bits
    first, second = (
        _Layer(_real(d, packed, scales, zeros, bits or usual, dtype), bias)
        for packed, scales, zeros, bias, bits in (
            (fc1, fc1_scales, fc1_zeros, fc1_bias, fc1_expert_weight_bits),
            (fc2, fc2_scales, fc2_zeros, fc2_bias, fc2_expert_weight_bits)))
    third = None
    if fc3 is not None:
        weights = _real(d, fc3, fc3_scales, fc3_zeros, fc3_expert_weight_bits or usual, dtype)
        third = _Layer(weights, fc3_bias)
    shares = _shares(d, router, d.size(fc1, 0), k, bool(normalize_routing_weights))
    unit = _Unit(activation_type, swiglu_fusion, swiglu_limit, activation_alpha, activation_beta)
    _mixture(d, x, shares, first, second, third, unit)
