"""Mixtures of experts: MoE."""

from typing import Any

import numpy as np

from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}), "silu": ("Swish", {}), "identity": ("Identity", {}),
    # By tanh, as ONNX Runtime computes it.
    "gelu": ("Gelu", {"approximate": "tanh"}),
}


def _linear(d: Draft, x: Value, weights: Value, bias: Value | None) -> Value:
    """Shapes: x [e or 1, t, in], weights [e, out, in], bias [e, out] -> [e, t, out]."""
    product = d.op("MatMul", x, d.transpose(weights, 0, 2, 1))
    return product if bias is None else d.op("Add", product, d.op("Unsqueeze", bias,
                                                                  d.constant([1])))


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


@contrib(
    "MoE",
    becomes=("Reshape", "Unsqueeze", "MatMul", "Transpose", "Add", "Softmax", "TopK", "Mul",
             "ScatterElements", "Split", "Gather", "Min", "Clip", "Swish", "Relu", "Gelu",
             "Identity", "ReduceSum", "Shape"),
)
def mixture(
    d: Draft, x: Value, router: Value, fc1: Value, fc1_bias: Value | None, fc2: Value,
    fc2_bias: Value | None, fc3: Value | None, fc3_bias: Value | None, *, k: int = 1,
    activation_type: str = "relu", normalize_routing_weights: int = 0, use_sparse_mixer: int = 0,
    swiglu_fusion: int = 0, swiglu_limit: float | None = None, activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
) -> None:
    """The sum of what the k best experts make of each token; every expert works on all tokens.

    Shapes: x [t, h] or [b, s, h], router [t, e], fc1 and fc3 [e, n, h] (fc1 [e, 2 * n, h] if both
    parts of a gated unit are in it), fc2 [e, h, n] -> y like x.
    """
    if use_sparse_mixer:
        d.refuse("use_sparse_mixer")
    experts, _, width = (d.size(fc1, axis) for axis in range(3))
    tokens = d.op("Reshape", x, d.constant([1, -1, width]))
    hidden = _linear(d, tokens, fc1, fc1_bias)
    if activation_type == "swiglu":
        if swiglu_fusion:
            gate, linear = _halves(d, hidden, swiglu_fusion)
        elif fc3 is not None:
            gate, linear = hidden, _linear(d, tokens, fc3, fc3_bias)
        else:
            d.invalid("swiglu without fusion needs fc3_experts_weights")
        if swiglu_limit is not None and np.isfinite(swiglu_limit):
            low, high = (d.constant(s * swiglu_limit, x.tensor.dtype) for s in (-1, 1))
            gate, linear = d.op("Min", gate, high), d.op("Clip", linear, low, high)
        shifted = d.op("Add", linear, d.constant(activation_beta, x.tensor.dtype))
        hidden = d.op("Mul", d.op("Swish", gate, alpha=activation_alpha), shifted)
    elif activation_type in _ACTIVATIONS:
        op, attributes = _ACTIVATIONS[activation_type]
        hidden = d.op(op, hidden, **attributes)
        if fc3 is not None:
            hidden = d.op("Mul", hidden, _linear(d, tokens, fc3, fc3_bias))
    else:
        d.refuse(f"activation_type {activation_type!r}")
    results = _linear(d, hidden, fc2, fc2_bias)
    shares = _shares(d, router, experts, k, bool(normalize_routing_weights))
    total = d.op("ReduceSum", d.op("Mul", results, shares), d.constant([0]), keepdims=0)
    d.op("Reshape", total, d.op("Shape", x), name=d.outputs[0])
