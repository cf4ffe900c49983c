"""GroupNorm and SkipGroupNorm, GatedRMSNorm, BiasSoftmax: normalisations with something around."""

import numpy as np

from bessemer.core.dtypes import f32
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

_EPSILON = float(np.float32(1e-5))
_GROUPS = ("GroupNormalization", "Transpose", "Swish", "Cast", "Add", "Reshape", "Identity")


def _group_norm(
    d: Draft, x: Value, gamma: Value, beta: Value, epsilon: float, groups: int, activation: int,
    channels_last: int, name: str,
) -> None:
    """GroupNormalization with the channels last, and Swish behind it."""
    rank = len(d.dims(x, 3, 4, 5))
    if activation not in (0, 1):
        d.refuse(f"activation {activation}")
    there = (0, rank - 1, *range(1, rank - 1))
    back = (0, *range(2, rank), 1)
    scale, shift = (d.cast(value, x.tensor.dtype) for value in (gamma, beta))
    y = d.transpose(x, *there) if channels_last else x
    y = d.op("GroupNormalization", y, scale, shift, epsilon=epsilon, num_groups=groups)
    y = d.op("Swish", y) if activation else y
    y = d.transpose(y, *back) if channels_last else y
    d.op("Identity", y, name=name)


@contrib("GroupNorm", becomes=_GROUPS)
def group_norm(
    d: Draft, x: Value, gamma: Value, beta: Value, *, groups: int, activation: int,
    epsilon: float = _EPSILON, channels_last: int = 1,
) -> None:
    """Each group of channels normalised, then scaled and shifted by channel; Swish if asked for."""
    _group_norm(d, x, gamma, beta, epsilon, groups, activation, channels_last, d.outputs[0])


@contrib("SkipGroupNorm", becomes=_GROUPS, outputs=2)
def skip_group_norm(
    d: Draft, x: Value, gamma: Value, beta: Value, skip: Value, bias: Value | None, *, groups: int,
    activation: int, epsilon: float = _EPSILON, channels_last: int = 1,
) -> None:
    """GroupNorm of x + skip + bias, and that sum.

    Shapes: x [n, h, w, c], skip [n, h, w, c], [n, 1, 1, c] or [n, c], bias [c].
    """
    ones = [1] * (len(d.dims(x, 3, 4, 5)) - 2)
    if d.type(skip).rank == 2:
        spread = [0, *ones, -1] if channels_last else [0, -1, *ones]
        skip = d.op("Reshape", skip, d.constant(spread))
    total = d.op("Add", x, skip, name="" if bias is not None else d.outputs[1])
    if bias is not None:
        shift = bias if channels_last else d.op("Reshape", bias, d.constant([-1, *ones]))
        total = d.op("Add", total, shift, name=d.outputs[1])
    _group_norm(d, total, gamma, beta, epsilon, groups, activation, channels_last, d.outputs[0])


@contrib("GatedRMSNorm",
         becomes=("Cast", "RMSNormalization", "Reshape", "Shape", "Swish", "Sigmoid", "Mul"))
def gated_rms_norm(
    d: Draft, x: Value, scale: Value, gate: Value, *, activation: str = "silu",
    epsilon: float = _EPSILON,
) -> None:
    """RMSNormalization of groups of the last axis, times Swish or Sigmoid of a gate; in f32.

    Shapes: x and gate [*, h * c], scale [c] -> y [*, h * c].
    """
    if activation not in ("silu", "swish", "sigmoid"):
        d.refuse(f"activation {activation!r}")
    dtype, channels = x.tensor.dtype, d.size(scale, 0)
    rows = d.op("Reshape", d.cast(x, f32), d.constant([-1, channels]))
    normal = d.op("RMSNormalization", rows, d.cast(scale, f32), axis=-1, epsilon=epsilon)
    wide = d.cast(gate, f32)
    opened = d.op("Sigmoid" if activation == "sigmoid" else "Swish", wide)
    product = d.op("Mul", d.op("Reshape", normal, d.op("Shape", x)), opened)
    d.result(d.cast(product, dtype))


@contrib("BiasSoftmax", becomes=("Add", "Softmax", "Reshape", "Shape", "Flatten"))
def bias_softmax(
    d: Draft, x: Value, bias: Value, *, axis: int = 1, is_inner_broadcast: int
) -> None:
    """Softmax of x + bias, which broadcasts, over all axes from `axis` on.

    `is_inner_broadcast` says where the bias has extents of 1, which its shape says too.
    """
    rank = d.type(x).rank
    axis %= rank
    total = d.op("Add", x, bias)
    if axis == rank - 1:
        d.op("Softmax", total, axis=-1, name=d.outputs[0])
        return
    flat = d.op("Softmax", d.op("Flatten", total, axis=axis), axis=-1)
    d.op("Reshape", flat, d.op("Shape", x), name=d.outputs[0])
