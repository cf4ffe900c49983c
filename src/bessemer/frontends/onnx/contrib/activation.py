"""Activations: the Gelu family, with biases; and the activations fused behind other operators."""

import numpy as np

from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

QUICK_ALPHA = float(np.float32(1.702))

_PARAMETERS: dict[str, tuple[tuple[str, float], ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softplus": (), "Softsign": (),
    "LeakyRelu": (("alpha", 0.01),), "Elu": (("alpha", 1.0),), "ThresholdedRelu": (("alpha", 1.0),),
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
}
ACTIVATIONS = (*_PARAMETERS, "Clip")
"""The operators that `activate` may write."""


def activate(
    d: Draft, x: Value, activation: str, parameters: tuple[float, ...], name: str = ""
) -> Value:
    """The activation of that name, "" for none, with parameters in the order of the standard."""
    if activation == "Clip":
        if len(parameters) != 2:
            d.invalid(f"the activation Clip has the parameters min and max, not {parameters}")
        bounds = [d.constant(bound, x.tensor.dtype) for bound in parameters]
        return d.op("Clip", x, *bounds, name=name)
    if not activation:
        return d.op("Identity", x, name=name) if name else x
    if activation not in _PARAMETERS:
        d.refuse(f"activation {activation!r} (known: {', '.join(ACTIVATIONS)})")
    names = _PARAMETERS[activation]
    if len(parameters) > len(names):
        d.invalid(f"the activation {activation} has {len(names)} parameters, not {parameters}")
    chosen = dict(names) | {n: value for (n, _), value in zip(names, parameters, strict=False)}
    return d.op(activation, x, name=name, **chosen)


@contrib("Gelu", becomes=("Gelu",))
def gelu(d: Draft, x: Value) -> None:
    """Gelu with the exact erf."""
    d.op("Gelu", x, name=d.outputs[0])


@contrib("FastGelu", becomes=("Add", "Gelu"))
def fast_gelu(d: Draft, x: Value, bias: Value | None) -> None:
    """Gelu(x + bias) with the tanh formula."""
    shifted = x if bias is None else d.op("Add", x, bias)
    d.op("Gelu", shifted, approximate="tanh", name=d.outputs[0])


@contrib("QuickGelu", becomes=("Swish",))
def quick_gelu(d: Draft, x: Value, *, alpha: float = QUICK_ALPHA) -> None:
    """Swish with another alpha: x * sigmoid(alpha * x)."""
    d.op("Swish", x, alpha=alpha, name=d.outputs[0])


@contrib("BiasGelu", becomes=("Add", "Gelu"))
def bias_gelu(d: Draft, x: Value, bias: Value) -> None:
    """Gelu(x + bias)."""
    d.op("Gelu", d.op("Add", x, bias), name=d.outputs[0])


@contrib("BiasAdd", becomes=("Add",))
def bias_add(d: Draft, x: Value, bias: Value, skip: Value) -> None:
    """X + bias + skip."""
    d.op("Add", d.op("Add", x, bias), skip, name=d.outputs[0])


@contrib("ScaledSiLU", becomes=("Mul", "Swish"))
def scaled_silu(d: Draft, x: Value, scale: Value | None, *, alpha: float = 1.0) -> None:
    """Swish of x * scale; alpha where there is no scale."""
    factor = d.constant(alpha, x.tensor.dtype) if scale is None else d.cast(scale, x.tensor.dtype)
    d.op("Swish", d.op("Mul", x, factor), name=d.outputs[0])


@contrib("GatedAdd", becomes=("Mul", "Add"))
def gated_add(d: Draft, x: Value, y: Value, gate: Value) -> None:
    """X + y * gate."""
    d.op("Add", x, d.op("Mul", y, gate), name=d.outputs[0])


@contrib("BiasDropout", outputs=2, becomes=("Add", "Dropout"))
def bias_dropout(
    d: Draft, x: Value, bias: Value, residual: Value | None, ratio: Value | None,
    training: Value | None, *, seed: int = 0
) -> None:
    """Dropout(x + bias) + residual."""
    total = d.op("Add", x, bias)
    names = (d.outputs[0] if residual is None else "", d.outputs[1])
    kept = d.ops("Dropout", total, ratio, training, names=names, seed=seed or None)[0]
    if residual is not None:
        d.op("Add", kept, residual, name=d.outputs[0])


@contrib("BiasSplitGelu", becomes=("Add", "Split", "Gelu", "Mul"))
def bias_split_gelu(d: Draft, x: Value, bias: Value) -> None:
    """The left half of x + bias times Gelu of the right half."""
    left, right = d.ops("Split", d.op("Add", x, bias), names=("", ""), axis=-1, num_outputs=2)
    d.op("Mul", left, d.op("Gelu", right), name=d.outputs[0])
