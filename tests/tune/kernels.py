"""Small kernels that the tests of tuning share."""

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.ir.layout import Layout
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.ops.conv import Conv


def convolution(channels=32, filters=32, size=14, window=1, names=("x", "w"), seed=1, pad=None):
    """A convolution with ReLU on blocks of 16 channels."""
    pad = window // 2 if pad is None else pad
    rng = np.random.default_rng(seed)
    x = te.placeholder(f32, (1, channels, size, size), names[0])
    w = te.placeholder(f32, (filters, channels, window, window), names[1])
    total = Conv(pads=(pad,) * 4).lower(x, w)
    out = te.compute(f32, total.shape, lambda *i: te.maximum(total[i], 0.0))
    blocked = Layout.blocked(4, 1, 16)
    halo = blocked.with_halo(((0, 0), (0, 0), (pad, pad), (pad, pad)))
    weights = rng.standard_normal(w.shape).astype(np.float32)
    return inline_stages(Kernel("conv", [Operand.dense(x, halo), Operand.dense(w, None, weights)],
                                [Operand.dense(out, blocked)]))


def product(rows=32, columns=48, depth=24, seed=2):
    """A matrix product with constant weights."""
    a = te.placeholder(f32, (rows, depth), "a")
    b = te.placeholder(f32, (depth, columns), "b")
    k = te.reduce_axis(depth)
    out = te.compute(f32, (rows, columns), lambda i, j: te.sum_(a[i, k] * b[k, j], k))
    weights = np.random.default_rng(seed).standard_normal(b.shape).astype(np.float32)
    return inline_stages(Kernel("product", [Operand.dense(a), Operand.dense(b, None, weights)],
                                [Operand.dense(out)]))
