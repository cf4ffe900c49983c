"""com.microsoft: operators on quantised tensors, and products with weights of few bits."""

from typing import Any

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.rules.fused import microsoft
from bessemer.debug.random_graphs.values import Reject, Value


def _scale(
    maker: Maker, shape: list[int] | None = None, low: float = 0.01, high: float = 0.1
) -> Value:
    return maker.fresh("f32", shape or [], low=low, high=high, constant=True)


def _zero(maker: Maker, kind: str, shape: list[int] | None = None) -> Value:
    low, high = (100, 150) if kind == "u8" else (-20, 20)
    return maker.fresh(kind, shape or [], low=low, high=high, constant=True)


def _values(maker: Maker, kind: str, shape: Any) -> Value:
    """Numbers of the whole range; at times a tensor of the graph."""
    fitting = [v for v in maker.values if v.dtype == kind and v.shape == tuple(shape)]
    if fitting and maker.chance(0.5):
        value: Value = maker.random.choice(fitting)
        return value
    return maker.fresh(kind, list(shape), low=-128, high=255)


def _kind(maker: Maker) -> str:
    kind: str = maker.choose("u8", "u8", "i8")
    return kind


def _parameters(maker: Maker, kind: str, least: float = 0.01) -> list[Value]:
    return [_scale(maker, low=least, high=10 * least), _zero(maker, kind)]


@rule("QLinearAdd", "QLinearMul", "QLinearWhere", weight=0.4)
def pairs(maker: Maker) -> None:
    """Two quantised tensors that broadcast."""
    kind = _kind(maker)
    shape = [maker.integer(1, 6) for _ in range(maker.integer(1, 4))]
    other = shape[maker.integer(0, len(shape) - 1) :] if maker.chance(0.4) else shape
    a, b = _values(maker, kind, shape), _values(maker, kind, other)
    form = maker.integer(0, 2)
    if form == 2:
        condition = maker.fresh("bool", shape)
        microsoft(
            maker,
            "QLinearWhere",
            condition,
            a,
            *_parameters(maker, kind),
            b,
            *_parameters(maker, kind),
            *_parameters(maker, kind, 0.02),
        )
        return
    microsoft(
        maker,
        ("QLinearAdd", "QLinearMul")[form],
        a,
        *_parameters(maker, kind),
        b,
        *_parameters(maker, kind),
        *_parameters(maker, kind, (0.02, 0.2)[form]),
    )


@rule("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", weight=0.3)
def functions(maker: Maker) -> None:
    """Functions of one quantised tensor."""
    kind = _kind(maker)
    shape = [maker.integer(1, 6) for _ in range(maker.integer(1, 4))]
    x = _values(maker, kind, shape)
    form = maker.integer(0, 2)
    if form == 0:
        microsoft(
            maker,
            "QLinearSigmoid",
            x,
            *_parameters(maker, kind),
            _scale(maker, low=0.003, high=0.006),
            _zero(maker, kind),
        )
    elif form == 1:
        microsoft(
            maker,
            "QLinearLeakyRelu",
            x,
            *_parameters(maker, kind),
            *_parameters(maker, kind),
            alpha=maker.choose(0.1, 0.01, 0.5),
        )
    else:
        microsoft(
            maker,
            "QLinearSoftmax",
            x,
            *_parameters(maker, kind),
            _scale(maker, low=0.003, high=0.006),
            _zero(maker, kind),
            opset=maker.choose(12, 13),
            axis=maker.axis(len(shape)),
        )


@rule("QLinearConcat", weight=0.4)
def concat(maker: Maker) -> None:
    """Parts that come with their own scales."""
    kind = _kind(maker)
    shape = [maker.integer(1, 5) for _ in range(maker.integer(1, 4))]
    axis = maker.axis(len(shape))
    parts: list[Value] = []
    for _ in range(maker.integer(1, 3)):
        extents = list(shape)
        extents[axis] = maker.integer(1, 4)
        parts += [_values(maker, kind, extents), *_parameters(maker, kind)]
    microsoft(maker, "QLinearConcat", *_parameters(maker, kind, 0.02), *parts, axis=axis)


@rule("QLinearGlobalAveragePool", "QLinearAveragePool", weight=0.3)
def pools(maker: Maker) -> None:
    """Means of channels or windows, with the channels second or last."""
    kind, last = _kind(maker), maker.integer(0, 1)
    n, c, h, w = maker.integer(1, 2), maker.integer(1, 5), maker.integer(3, 7), maker.integer(3, 7)
    x = _values(maker, kind, [n, h, w, c] if last else [n, c, h, w])
    if maker.chance(0.5):
        microsoft(
            maker,
            "QLinearGlobalAveragePool",
            x,
            *_parameters(maker, kind),
            *_parameters(maker, kind),
            channels_last=last,
        )
        return
    pad = maker.integer(0, 1)
    microsoft(
        maker,
        "QLinearAveragePool",
        x,
        *_parameters(maker, kind),
        *_parameters(maker, kind),
        channels_last=last,
        kernel_shape=[2, 3],
        strides=[maker.integer(1, 2)] * 2,
        pads=[pad] * 4,
        count_include_pad=maker.integer(0, 1),
        ceil_mode=maker.integer(0, 1),
    )


@rule("com.microsoft.QLinearConv", weight=0.3)
def convolution(maker: Maker) -> None:
    """A quantised convolution with the channels second or last."""
    last, group = maker.integer(0, 1), maker.choose(1, 1, 2)
    c, filters = group * maker.integer(1, 4), group * maker.integer(1, 4)
    kernel, pad = maker.integer(1, 3), maker.integer(0, 1)
    x = _values(maker, "u8", [1, 6, 7, c] if last else [1, c, 6, 7])
    kind = maker.choose("i8", "u8")
    weight = maker.fresh(
        kind, [filters, c // group, kernel, kernel], low=-127, high=127, constant=True
    )
    shape = [filters] if maker.chance(0.4) and kind == "i8" else []
    zero = maker.fresh(kind, shape, low=0, high=0 if shape else 5, constant=True)
    bias = maker.fresh("i32", [filters], low=-500, high=500, constant=True)
    microsoft(
        maker,
        "QLinearConv",
        x,
        *_parameters(maker, "u8"),
        weight,
        _scale(maker, shape, 0.005, 0.05),
        zero,
        *_parameters(maker, "u8", 0.1),
        bias if maker.chance(0.6) else None,
        channels_last=last,
        group=group,
        kernel_shape=[kernel, kernel],
        pads=[pad] * 4,
        strides=[maker.integer(1, 2)] * 2,
    )


@rule("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm", weight=0.35)
def products(maker: Maker) -> None:
    """Products of integers that become floats."""
    m, k, n = (maker.integer(1, 9) for _ in range(3))
    kind = maker.choose("i8", "u8")
    b = maker.fresh(kind, [k, n], low=-127, high=127, constant=maker.chance(0.7))
    shape = [n] if maker.chance(0.4) else []
    scale = _scale(maker, shape)
    zero = maker.fresh(kind, shape, low=0, high=9, constant=True) if maker.chance(0.6) else None
    bias = maker.fresh("f32", [n], constant=True) if maker.chance(0.5) else None
    form = maker.integer(0, 2)
    if form == 0:
        a = maker.pick("f32", (2, 3), lambda v: v.data.size > 0 and v.shape[-1] == k, new=0.3)
        microsoft(maker, "DynamicQuantizeMatMul", a, b, scale, zero, bias)
        return
    a = _values(maker, "u8", [m, k])
    if form == 1:
        offset = _zero(maker, "u8") if maker.chance(0.7) else None
        microsoft(maker, "MatMulIntegerToFloat", a, b, _scale(maker), scale, offset, zero, bias)
        return
    if zero is None:
        raise Reject
    c = maker.fresh("i32", [n], low=-99, high=99, constant=True) if maker.chance(0.5) else None
    out = _parameters(maker, "u8", 0.1) if maker.chance(0.5) else []
    microsoft(
        maker,
        "QGemm",
        a,
        *_parameters(maker, "u8"),
        b,
        scale,
        zero,
        c,
        *out,
        alpha=maker.choose(1.0, 0.5),
    )


@rule("MatMulNBits", weight=0.6)
def few_bits(maker: Maker) -> None:
    """Weights of 2, 4 or 8 bits in blocks."""
    bits, size = maker.choose(2, 4, 4, 8), maker.choose(16, 32)
    blocks, n = maker.integer(1, 3), maker.integer(1, 9)
    depth = blocks * size - (maker.integer(0, size - 1) if maker.chance(0.3) else 0)
    a = maker.fresh("f32", [*maker.choose([], [2]), maker.integer(1, 5), depth])
    weights = maker.fresh("u8", [n, blocks, size * bits // 8], low=0, high=255, constant=True)
    scales = maker.fresh("f32", [n, blocks], low=0.01, high=0.1, constant=True)
    zeros = None
    if maker.chance(0.5):
        zeros = maker.fresh("u8", [n, -(-blocks * bits // 8)], low=0, high=255, constant=True)
    bias = maker.fresh("f32", [n], constant=True) if maker.chance(0.3) else None
    microsoft(
        maker,
        "MatMulNBits",
        a,
        weights,
        scales,
        zeros,
        None,
        bias,
        K=depth,
        N=n,
        bits=bits,
        block_size=size,
    )


@rule("MatMulBnb4", weight=0.3)
def four_bit_floats(maker: Maker) -> None:
    """Weights of 4-bit floats."""
    depth, n, size = 2 * maker.integer(1, 20), maker.integer(1, 9), maker.choose(16, 32)
    a = maker.fresh("f32", [maker.integer(1, 5), depth], fixed=1)
    weights = maker.fresh("u8", [n * depth // 2], low=0, high=255, constant=True)
    largest = maker.fresh("f32", [-(-n * depth // size)], low=0.1, high=1.0, constant=True)
    microsoft(maker, "MatMulBnb4", a, weights, largest, K=depth, N=n, block_size=size,
              quant_type=maker.integer(0, 1))


@rule("GatherBlockQuantized", weight=0.3)
def few_bits_rows(maker: Maker) -> None:
    """Rows of a table of few bits."""
    bits, rows, blocks = maker.choose(2, 4, 8), maker.integer(2, 6), maker.integer(1, 3)
    table = maker.fresh("u8", [rows, blocks * 16 * bits // 8], low=0, high=255, constant=True)
    places = maker.fresh(
        maker.choose("i32", "i64"), maker.choose([], [3], [2, 2]), low=-rows, high=rows - 1
    )
    scales = maker.fresh("f32", [rows, blocks], low=0.01, high=0.1, constant=True)
    zeros = None
    if maker.chance(0.5):
        zeros = maker.fresh("u8", [rows, -(-blocks * bits // 8)], low=0, high=255, constant=True)
    microsoft(maker, "GatherBlockQuantized", table, places, scales, zeros, block_size=16, bits=bits)


@rule("QMoE", weight=0.2)
def experts(maker: Maker) -> None:
    """Experts with weights of few bits; the shares of the chosen ones add up to 1."""
    count, width, bits = maker.integer(2, 3), 32, maker.choose(4, 4, 8)
    block = 16 if bits == 4 and maker.chance(0.5) else 0
    kind = maker.choose("relu", "silu", "identity")
    rows = maker.integer(1, 4)
    layers: list[Value | None] = []
    for _ in range(2):
        packed = maker.fresh("u8", [count, width, width * bits // 8], low=0, high=255,
                             constant=True)
        shape = [count, width, width // block] if block else [count, width]
        layers += [packed, _scale(maker, shape), None]
    x = maker.fresh("f32", [rows, width], low=-2.0, high=2.0, fixed=1)
    router = maker.fresh("f32", [rows, count], low=-2.0, high=2.0, fixed=1)
    given = {"block_size": block} if block else {}
    microsoft(maker, "QMoE", x, router, *layers, k=maker.integer(1, count), activation_type=kind,
              expert_weight_bits=bits, normalize_routing_weights=1, weights_prepacked=0, **given)
