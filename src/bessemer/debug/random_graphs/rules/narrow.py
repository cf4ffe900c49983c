"""Floats of eight and four bits, integers of four and two: to them, and back to wider numbers.

Values of such types stay between the nodes that a rule makes: few other operators take them.
"""

from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value

_FIRST_OPSET = {
    **dict.fromkeys(["f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"], 19),
    **dict.fromkeys(["i4", "u4"], 21), "f4e2m1": 23, "f8e8m0": 24,
    **dict.fromkeys(["i2", "u2"], 25),
}
_WIDE = ("f32", "f32", "f16", "bf16", "f64")


def _kind(maker: Maker, *excluded: str) -> str:
    kinds = [kind for kind, first in _FIRST_OPSET.items()
             if first <= maker.opset and kind not in excluded]
    if not kinds:
        raise Reject
    return str(maker.choose(*kinds))


def _limits(kind: str) -> tuple[int, int]:
    """The least and the largest integer of a type; numbers that fit any float."""
    bits = DTYPES[kind].bits
    return {"int": (-(1 << bits - 1), (1 << bits - 1) - 1), "uint": (0, (1 << bits) - 1)}.get(
        DTYPES[kind].kind, (-6, 6))


def _rounding(maker: Maker, kind: str) -> dict[str, Any]:
    """Attributes that say what becomes of numbers beyond the range."""
    if kind == "f8e8m0":
        return {"round_mode": maker.choose("up", "down", "nearest"),
                "saturate": maker.integer(0, 1)}
    return {"saturate": maker.integer(0, 1)} if kind.startswith("f8") else {}


def _constant(maker: Maker, kind: str, shape: list[int]) -> Value:
    low, high = _limits(kind)
    numbers = [maker.integer(low, high) for _ in range(int(np.prod(shape)))]
    return maker.given(np.array(numbers, np.float32).reshape(shape).astype(DTYPES[kind].numpy),
                       True)


def _turned(maker: Maker, x: Value) -> Value:
    """The same elements elsewhere, at times."""
    if maker.chance(0.6):
        return x
    if maker.chance(0.5):
        order = maker.random.sample(range(x.rank), x.rank)
        y = maker.emit("Transpose", [x], perm=order)[0]
    else:
        y = maker.emit("Flatten", [x], axis=maker.integer(0, x.rank))[0]
    maker.hide(x)
    return y


@rule("NarrowCast", weight=1.5)
def narrow_cast(maker: Maker) -> None:
    """To a narrow type and back."""
    kind = _kind(maker)
    x = maker.pick((*_WIDE, "i32", "i64", "u8", "i8", "bool"), (0, 4))
    if not DTYPES[kind].is_float and DTYPES[x.dtype].is_float:
        low, high = _limits(kind)
        wide = x.data.astype(np.float64)
        if not ((wide > low - 1) & (wide < high + 1)).all():
            x = maker.fresh(x.dtype, low=low, high=high)
    elif kind == "f8e8m0":
        # What becomes of 0 and of negative numbers is not defined.
        x = maker.fresh(_WIDE, low=0.01, high=20.0)
    y = maker.emit("Cast", [x], to=onnx_dtype(kind), **_rounding(maker, kind))[0]
    y = _turned(maker, y)
    maker.emit("Cast", [y], to=onnx_dtype(maker.dtype(_WIDE)))
    maker.hide(y)


@rule("NarrowQuantize", weight=1.5)
def narrow_quantize(maker: Maker) -> None:
    """To quantised numbers of a narrow type and back."""
    kind = _kind(maker, "f8e8m0")
    x = maker.pick(("f32", "f32", "f16", "bf16"), (0, 4))
    shape, attributes = _form(maker, x)
    scale = maker.fresh(x.dtype, shape, low=0.05, high=0.8)
    zero, chosen = _zero(maker, kind, shape)
    saturates = {"saturate": maker.integer(0, 1)} if kind.startswith("f8") else {}
    y = maker.emit("QuantizeLinear", [x, scale, zero], **attributes, **chosen, **saturates)[0]
    maker.emit("DequantizeLinear", [y, scale, zero], **attributes)
    maker.hide(y, *([zero] if zero is not None else []))


def _zero(maker: Maker, kind: str, shape: list[int]) -> tuple[Value | None, dict[str, Any]]:
    """A zero point of the type, or the attribute that names the type."""
    if maker.opset >= 21 and maker.chance(0.4):
        return None, {"output_dtype": onnx_dtype(kind)}
    if DTYPES[kind].is_float:
        return maker.given(np.zeros(shape, DTYPES[kind].numpy), True), {}
    return _constant(maker, kind, shape), {}


def _form(maker: Maker, x: Value) -> tuple[list[int], dict[str, Any]]:
    """The shape of a scale, and its attributes: per tensor, per axis or per block."""
    if x.rank == 0 or maker.chance(0.4):
        return [], {}
    axis = maker.axis(x.rank)
    extent = x.shape[axis]
    if maker.opset < 21 or not extent or maker.chance(0.6):
        return [extent], {"axis": axis}
    block = maker.choose(*[d for d in range(1, extent + 1) if extent % d == 0])
    shape = list(x.shape)
    shape[axis] = extent // block
    return shape, {"axis": axis, "block_size": block}


@rule("NarrowWeights", weight=1.5)
def narrow_weights(maker: Maker) -> None:
    """Weights in blocks of a narrow type, and a product with them."""
    if maker.opset < 21:
        raise Reject
    kind = _kind(maker, "f8e8m0")
    block = maker.choose(1, 2, 4, 8)
    k, n = block * maker.integer(1, 3), maker.integer(1, 9)
    weights = _constant(maker, kind, [k, n])
    dtype = maker.dtype(("f32", "f32", "f16"))
    shape = [k // block, n]
    output: dict[str, Any] = {}
    if maker.opset >= 24 and maker.chance(0.3):
        powers = [2.0 ** maker.integer(-4, 1) for _ in range(shape[0] * n)]
        scale = maker.given(np.array(powers, np.float32).reshape(shape).astype(
            DTYPES["f8e8m0"].numpy), True)
        output["output_dtype"] = onnx_dtype(dtype)
    else:
        scale = maker.fresh(dtype, shape, low=0.02, high=0.5, constant=True)
    zero = None
    if not DTYPES[kind].is_float and maker.chance(0.6):
        zero = _constant(maker, kind, shape)
    wide = maker.emit("DequantizeLinear", [weights, scale, zero], axis=0, block_size=block,
                      **output)[0]
    maker.hide(weights, *([zero] if zero is not None else []), *([scale] if output else []))
    maker.emit("MatMul", [maker.fresh(dtype, [maker.integer(1, 5), k]), wide])
