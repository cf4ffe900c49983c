"""Random operators: graphs look at the shape, range and mean of what they give, never at numbers.

What follows is the same for every run: comparisons with bounds that chance passes practically
always (eight deviations of the mean). The random tensors themselves stay hidden.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value

_FLOATS = ("f32", "f64", "f16")
_DEVIATIONS = 8.0


def _real(maker: Maker, x: Value) -> Value:
    return maker.emit("Cast", [x], to=onnx_dtype("f32"))[0]


def _scalar(maker: Maker, number: float) -> Value:
    return maker.given(np.asarray(number, np.float32), True)


def _mean_is(maker: Maker, x: Value, mean: float, deviation: float) -> list[Value]:
    """Whether the mean of many numbers lies where it must; the values on the way are returned."""
    real = _real(maker, x)
    average = maker.emit("ReduceMean", [real], keepdims=0)[0]
    apart = maker.emit("Sub", [average, _scalar(maker, mean)])[0]
    size = maker.emit("Abs", [apart])[0]
    bound = _DEVIATIONS * deviation / math.sqrt(x.data.size) + 1e-3 * max(1.0, abs(mean))
    maker.emit("Less", [size, _scalar(maker, bound)])
    return [x, real, average, apart, size]


def _lies_in(maker: Maker, x: Value, low: float, high: float) -> list[Value]:
    """Whether all numbers lie in [low, high]."""
    real = _real(maker, x)
    least = maker.emit("ReduceMin", [real], keepdims=0)[0]
    most = maker.emit("ReduceMax", [real], keepdims=0)[0]
    for op, value, bound in (("Less", least, low), ("Greater", most, high)):
        outside = maker.emit(op, [value, _scalar(maker, bound)])[0]
        maker.emit("Not", [outside])
    return [x, real, least, most]


def _look(
    maker: Maker,
    x: Value,
    mean: float,
    deviation: float,
    low: float | None = None,
    high: float | None = None,
    beside: Sequence[Value] = (),
) -> None:
    """Compares the shape and the range or the mean, and hides the numbers."""
    hidden = [x, *beside]
    if maker.chance(0.5):
        maker.emit("Shape", [x])
    if low is not None and high is not None and x.data.size and maker.chance(0.6):
        hidden += _lies_in(maker, x, low, high)
    if x.data.size >= 256:
        hidden += _mean_is(maker, x, mean, deviation)
    if not x.uses:
        maker.emit("Shape", [x])
    maker.hide(*hidden)


def _shape(maker: Maker) -> list[int]:
    return list(maker.choose([1500], [40, 50], [3, 20, 20], [2, 3], [1], [0, 4]))


def _seed(maker: Maker) -> float | None:
    return 3.0 if maker.chance(0.5) else None


@rule("RandomNormal", "RandomNormalLike", weight=0.25)
def normal(maker: Maker) -> None:
    """Numbers about a mean."""
    mean, scale = maker.choose(0.0, 3.5), maker.choose(1.0, 0.25)
    given: dict[str, Any] = {"mean": mean, "scale": scale, "seed": _seed(maker)}
    kind = maker.choose(*_FLOATS)
    if maker.chance(0.5):
        x = maker.emit("RandomNormal", [], shape=_shape(maker), dtype=onnx_dtype(kind), **given)[0]
    else:
        like = maker.fresh(_FLOATS, _shape(maker))
        named = {"dtype": onnx_dtype(kind)} if maker.chance(0.6) else {}
        x = maker.emit("RandomNormalLike", [like], **named, **given)[0]
    _look(maker, x, mean, scale)


@rule("RandomUniform", "RandomUniformLike", weight=0.25)
def uniform(maker: Maker) -> None:
    """Numbers between two bounds."""
    low, high = maker.choose((0.0, 1.0), (-2.0, 5.0), (1.5, 1.75))
    given: dict[str, Any] = {"low": low, "high": high, "seed": _seed(maker)}
    kind = maker.choose(*_FLOATS)
    if maker.chance(0.5):
        x = maker.emit("RandomUniform", [], shape=_shape(maker), dtype=onnx_dtype(kind), **given)[0]
    else:
        like = maker.fresh(_FLOATS, _shape(maker))
        named = {"dtype": onnx_dtype(kind)} if maker.chance(0.6) else {}
        x = maker.emit("RandomUniformLike", [like], **named, **given)[0]
    _look(maker, x, (low + high) / 2, (high - low) / math.sqrt(12), low, high)


@rule("Bernoulli", weight=0.3)
def bernoulli(maker: Maker) -> None:
    """Ones with given probabilities."""
    p = maker.choose(0.0, 0.25, 0.5, 1.0)
    shape = _shape(maker)
    x = maker.given(np.full(shape, p, maker.choose(np.float32, np.float64)))
    kind = maker.choose(None, "f32", "i32", "u8", "bool", "f64", "i64")
    given = {} if kind is None else {"dtype": onnx_dtype(kind)}
    y = maker.emit("Bernoulli", [x], seed=_seed(maker), **given)[0]
    _look(maker, y, p, math.sqrt(p * (1 - p)), 0.0, 1.0)


@rule("Multinomial", weight=0.3)
def multinomial(maker: Maker) -> None:
    """Classes by the logarithms of their probabilities; one class is impossible."""
    rows, drawn = maker.choose((1, 600), (4, 300), (3, 2))
    shares = np.array([0.1, 0.0, 0.6, 0.3])
    logs = np.log(np.maximum(shares, 1e-30)).astype(np.float32)
    x = maker.given(np.tile(logs, (rows, 1)) + np.float32(maker.choose(0.0, 1.5)))
    y = maker.emit(
        "Multinomial",
        [x],
        sample_size=drawn,
        seed=_seed(maker),
        dtype=onnx_dtype(maker.choose("i32", "i64")),
    )[0]
    impossible = maker.emit("Cast", [y], to=onnx_dtype("i64"))[0]
    one = maker.given(np.asarray(1), True)
    hits = maker.emit("Equal", [impossible, one])[0]
    ones = maker.emit("Cast", [hits], to=onnx_dtype("i32"))[0]
    maker.emit("ReduceMax", [ones], keepdims=0)
    maker.hide(impossible, hits, ones)
    numbers = np.arange(4)
    mean = float((numbers * shares).sum())
    deviation = math.sqrt(float(((numbers - mean) ** 2 * shares).sum()))
    _look(maker, y, mean, deviation, 0.0, 3.0)


@rule("Dropout-training", weight=0.4)
def dropout(maker: Maker) -> None:
    """What the mask leaves is scaled, the rest is zero."""
    ratio = maker.choose(0.0, 0.25, 0.5)
    x = maker.fresh(("f32", "f64"), _shape(maker))
    y, mask = maker.emit(
        "Dropout",
        [
            x,
            maker.given(np.asarray(ratio, np.float32), True),
            maker.given(np.asarray(True), maker.chance(0.5)),
        ],
        outputs=2,
        seed=None if _seed(maker) is None else 3,
    )
    scaled = maker.emit("Div", [x, maker.given(np.asarray(1 - ratio, x.data.dtype), True)])[0]
    zero = maker.given(np.asarray(0, x.data.dtype), True)
    wanted = maker.emit("Where", [mask, scaled, zero])[0]
    apart = maker.emit("Sub", [y, wanted])[0]
    size = maker.emit("Abs", [apart])[0]
    # The scale may be rounded before the product.
    maker.emit("Less", [size, maker.given(np.asarray(1e-4, x.data.dtype), True)])
    if maker.hard:
        raise Reject
    maker.hide(y, wanted, apart, size)
    _look(maker, mask, 1 - ratio, math.sqrt(ratio * (1 - ratio)), 0.0, 1.0)
