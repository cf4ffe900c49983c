"""com.microsoft: operators that ONNX Runtime has on GPUs only, by our references and engines."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.rules.fused import microsoft
from bessemer.debug.random_graphs.values import Value


def _finite(maker: Maker, *shape: int) -> Value:
    return maker.fresh("f32", shape, low=-2.0, high=2.0, fixed=1)


@rule("BiasAdd", "BiasSplitGelu", "GemmFastGelu", "BiasDropout", "BiasSoftmax", weight=0.12)
def biased(maker: Maker) -> None:
    """Something added in front of a function."""
    op = maker.choose("BiasAdd", "BiasSplitGelu", "GemmFastGelu", "BiasDropout", "BiasSoftmax")
    batch, rows, width = maker.integer(1, 3), maker.integer(1, 4), 2 * maker.integer(1, 5)
    x, bias = _finite(maker, batch, rows, width), _finite(maker, width)
    match op:
        case "BiasAdd":
            microsoft(maker, op, x, bias, _finite(maker, batch, rows, width))
        case "BiasSplitGelu":
            microsoft(maker, op, x, bias)
        case "GemmFastGelu":
            columns = maker.integer(1, 6)
            shift = _finite(maker, columns) if maker.chance(0.5) else None
            microsoft(maker, op, x, _finite(maker, width, columns), shift)
        case "BiasDropout":
            rest = _finite(maker, batch, rows, width) if maker.chance(0.5) else None
            microsoft(maker, op, x, bias, rest)
        case _:
            axis = maker.integer(1, 2)
            mask = maker.choose((batch, 1, width), (rows, width)) if axis == 2 else (rows, width)
            microsoft(maker, op, x, _finite(maker, *mask), axis=axis,
                      is_inner_broadcast=int(len(mask) == 3))


@rule("GroupNorm", "SkipGroupNorm", weight=0.2)
def groups(maker: Maker) -> None:
    """Normalised groups of channels."""
    group, n = maker.integer(1, 3), maker.integer(1, 2)
    channels, last = group * maker.integer(1, 3), maker.integer(0, 1)
    h, w = maker.integer(2, 4), maker.integer(1, 4)
    shape = (n, h, w, channels) if last else (n, channels, h, w)
    x = maker.fresh("f32", shape, low=-2.0, high=2.0, fixed=3)
    gamma, beta = _finite(maker, channels), _finite(maker, channels)
    given: dict[str, Any] = {"groups": group, "channels_last": last, "epsilon": 1e-3,
                             "activation": maker.integer(0, 1)}
    if maker.chance(0.5):
        microsoft(maker, "GroupNorm", x, gamma, beta, **given)
        return
    skip = maker.fresh("f32", maker.choose(shape, (n, channels)), low=-2.0, high=2.0, fixed=3)
    bias = _finite(maker, channels) if maker.chance(0.5) else None
    microsoft(maker, "SkipGroupNorm", x, gamma, beta, skip, bias, outputs=2, **given)


@rule("NhwcConv", "Inverse", weight=0.12)
def others(maker: Maker) -> None:
    """A convolution with the channels last; inverse matrices."""
    if maker.chance(0.5):
        n = maker.integer(1, 4)
        shifted = np.eye(n) * 3 + np.random.default_rng(maker.counter).uniform(-1, 1, (2, n, n))
        microsoft(maker, "Inverse", maker.given(shifted.astype(maker.choose(np.float32,
                                                                            np.float64))))
        return
    c, filters, kernel = maker.integer(1, 4), maker.integer(1, 4), maker.integer(1, 3)
    x = maker.fresh("f32", [1, 5, 6, c], low=-2.0, high=2.0, fixed=3)
    # The filters have the channels second, as those of Conv.
    weight = maker.fresh("f32", [filters, c, kernel, kernel], low=-2.0, high=2.0, constant=True)
    microsoft(maker, "NhwcConv", x, weight, _finite(maker, filters), pads=[1, 1, 1, 1],
              kernel_shape=[kernel, kernel], strides=[maker.integer(1, 2)] * 2)
