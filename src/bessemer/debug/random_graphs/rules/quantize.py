"""Quantisation: pairs of QuantizeLinear and DequantizeLinear in their forms."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.values import Reject, Value


def _parameters(maker: Maker, x: Value, kind: str, dtype: str) -> tuple[Value, Value | None,
                                                                      dict[str, Any]]:
    """Scale, zero point and attributes: per tensor, per axis or per block."""
    form = maker.random.random()
    attributes: dict[str, Any] = {}
    shape: list[int] = []
    if form > 0.5 and x.rank:
        axis = maker.axis(x.rank)
        attributes["axis"] = axis
        shape = [x.shape[axis]]
        if form > 0.85 and maker.opset >= 21:
            extent = x.shape[axis]
            block = maker.choose(*[d for d in range(1, extent + 1) if extent % d == 0] or [0])
            if not block:
                raise Reject
            attributes["block_size"] = block
            shape = list(x.shape)
            shape[axis] = extent // block
    scale = maker.fresh(dtype, shape, low=0.02, high=0.5)
    zero = None
    if maker.chance(0.7) or kind != "u8":
        if kind == "i32":
            zero = maker.given(np.zeros(shape, np.int32), True)
        else:
            zero = maker.fresh(kind, shape, low=-20, high=60)
    return scale, zero, attributes


@rule("QuantizeLinear", weight=1.5)
def quantize(maker: Maker) -> None:
    """Floats to integers, often followed by the way back."""
    x = maker.pick("f32" if maker.opset < 19 else ("f32", "f32", "f16"), (0, 4))
    kind = maker.choose("u8", "i8", "i8", *(("i16", "u16") if maker.opset >= 21 else ()))
    scale, zero, attributes = _parameters(maker, x, kind, x.dtype)
    y = maker.emit("QuantizeLinear", [x, scale, zero], **attributes)[0]
    if maker.chance(0.7):
        maker.emit("DequantizeLinear", [y, scale, zero], **attributes)


@rule("DequantizeLinear", weight=1)
def dequantize(maker: Maker) -> None:
    """Integers to floats."""
    kind = maker.choose("u8", "i8", "i32")
    x = maker.pick(kind, (0, 4))
    scale, zero, attributes = _parameters(maker, x, kind, "f32")
    maker.emit("DequantizeLinear", [x, scale, zero], **attributes)


@rule("DynamicQuantizeLinear", weight=0.5)
def dynamic(maker: Maker) -> None:
    """The scale and zero point of the data's own range."""
    x = maker.pick("f32")
    if not x.data.size:
        raise Reject
    maker.emit("DynamicQuantizeLinear", [x], outputs=3)


@rule("QDQMatMul", weight=0.8)
def quantized_product(maker: Maker) -> None:
    """A matrix product between pairs, as quantisers write it."""
    k = maker.integer(1, 8)
    a = maker.fresh("f32", [maker.integer(1, 5), k])
    b = maker.fresh("i8", [k, maker.integer(1, 6)], low=-127, high=127, constant=True)
    scale, weight_scale = (maker.fresh("f32", [], low=0.01, high=0.1, constant=True)
                           for _ in range(2))
    zero = maker.fresh("u8", [], low=100, high=140, constant=True)
    zero_b = maker.given(np.asarray(0, np.int8), True)
    q = maker.emit("QuantizeLinear", [a, scale, zero])[0]
    left = maker.emit("DequantizeLinear", [q, scale, zero])[0]
    right = maker.emit("DequantizeLinear", [b, weight_scale, zero_b])[0]
    y = maker.emit("MatMul", [left, right])[0]
    maker.emit("QuantizeLinear", [y, scale, zero])
