"""com.microsoft: products, convolutions, activations and normalisations with something fused in."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import MICROSOFT
from bessemer.debug.random_graphs.values import Reject, Value

_ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "": (),
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": (0.2,),
    "HardSigmoid": (0.3, 0.4),
    "Clip": (-0.5, 0.75),
}


def microsoft(maker: Maker, op: str, *inputs: Value | None, outputs: Any = 1, **attributes: Any
              ) -> list[Value]:
    """A node of com.microsoft."""
    return maker.emit(f"{MICROSOFT}.{op}", inputs, outputs, **attributes)


def _rows(maker: Maker) -> Value:
    return maker.pick("f32", (1, 4), lambda v: bool(v.data.size), reshape=False)


@rule("com.microsoft.Gelu", "FastGelu", "BiasGelu", "QuickGelu", weight=0.4)
def activation(maker: Maker) -> None:
    """The Gelu family, with and without a bias."""
    x = _rows(maker)
    bias = maker.fresh("f32", [x.shape[-1]])
    op = maker.choose("Gelu", "FastGelu", "BiasGelu", "QuickGelu")
    if op == "BiasGelu":
        microsoft(maker, op, x, bias)
    elif op == "FastGelu":
        microsoft(maker, op, x, bias if maker.chance(0.5) else None)
    else:
        alpha = {"alpha": 0.75} if op == "QuickGelu" and maker.chance(0.4) else {}
        microsoft(maker, op, x, **alpha)


@rule("FusedMatMul", "TransposeMatMul", weight=0.5)
def product(maker: Maker) -> None:
    """Both transpositions, those of the batch, and a factor."""
    op = maker.choose("FusedMatMul", "FusedMatMul", "TransposeMatMul")
    m, k, n = (maker.integer(1, 8) for _ in range(3))
    left, right = maker.integer(0, 1), maker.integer(0, 1)
    batch = [maker.integer(1, 3) for _ in range(maker.integer(0, 2))]
    a, b = [k, m] if left else [m, k], [n, k] if right else [k, n]
    given: dict[str, Any] = {"transA": left, "transB": right}
    if maker.chance(0.5):
        given["alpha"] = maker.choose(0.5, -1.25)
    shape_a, shape_b = [*batch, *a], [*batch, *b]
    if op == "FusedMatMul" and len(batch) > 0 and maker.chance(0.4):
        # The rows come in front of the batch.
        which = maker.choose("A", "B")
        given[f"transBatch{which}"] = 1
        if which == "A":
            shape_a = [a[0], *batch, a[1]]
        else:
            shape_b = [b[0], *batch, b[1]]
    elif batch and maker.chance(0.3):
        shape_b = b
    microsoft(maker, op, maker.fresh("f32", shape_a), maker.fresh("f32", shape_b), **given)


@rule("FusedGemm", weight=0.4)
def gemm(maker: Maker) -> None:
    """Gemm with an activation behind it."""
    m, k, n = (maker.integer(1, 8) for _ in range(3))
    left, right = maker.integer(0, 1), maker.integer(0, 1)
    name = maker.choose("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid")
    names = ("activation_alpha", "activation_beta")
    given = dict(zip(names, _ACTIVATIONS[name], strict=False))
    c = maker.fresh("f32", maker.choose([n], [1, n], [m, n], [])) if maker.chance(0.7) else None
    microsoft(
        maker,
        "FusedGemm",
        maker.fresh("f32", [k, m] if left else [m, k]),
        maker.fresh("f32", [n, k] if right else [k, n]),
        c,
        activation=name,
        transA=left,
        transB=right,
        alpha=maker.choose(1.0, 0.5),
        beta=maker.choose(1.0, -2.0),
        **given,
    )


@rule("FusedConv", weight=0.6)
def convolution(maker: Maker) -> None:
    """Conv, another tensor added, and an activation."""
    group, n = maker.choose(1, 1, 2), maker.integer(1, 2)
    channels, filters = group * maker.integer(1, 3), group * maker.integer(1, 3)
    kernel, extent = maker.integer(1, 3), maker.integer(4, 8)
    stride, pad = maker.integer(1, 2), maker.integer(0, 1)
    out = (extent + 2 * pad - kernel) // stride + 1
    x = maker.fresh("f32", [n, channels, extent, extent])
    weight = maker.fresh("f32", [filters, channels // group, kernel, kernel], constant=True)
    bias = maker.fresh("f32", [filters], constant=True) if maker.chance(0.7) else None
    addend = None
    if bias is not None and maker.chance(0.4):
        addend = maker.fresh("f32", [n, filters, out, out])
    name = maker.random.choice(sorted(_ACTIVATIONS)) or "Relu"
    given = {"activation_params": list(_ACTIVATIONS[name])} if _ACTIVATIONS[name] else {}
    microsoft(
        maker,
        "FusedConv",
        x,
        weight,
        bias,
        addend,
        activation=name,
        group=group,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
        **given,
    )


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", weight=0.5)
def skip_norm(maker: Maker) -> None:
    """Normalised sums, and the sums themselves."""
    x = maker.pick("f32", (3, 3), lambda v: v.data.size > 0 and v.shape[-1] > 1, new=0.5)
    size = [x.shape[-1]]
    skip = maker.fresh("f32", maker.choose(x.shape, x.shape, (1, *x.shape[1:]), x.shape[1:]))
    gamma = maker.fresh("f32", size)
    bias = maker.fresh("f32", size) if maker.chance(0.5) else None
    outputs = (0, 3) if maker.chance(0.5) else 1
    if maker.chance(0.5):
        beta = maker.fresh("f32", size) if maker.chance(0.7) else None
        microsoft(
            maker,
            "SkipLayerNormalization",
            x,
            skip,
            gamma,
            beta,
            bias,
            outputs=outputs,
            epsilon=1e-5,
        )
    else:
        microsoft(
            maker,
            "SkipSimplifiedLayerNormalization",
            x,
            skip,
            gamma,
            bias,
            outputs=outputs,
            epsilon=1e-5,
        )


@rule("EmbedLayerNormalization", weight=0.4)
def embeddings(maker: Maker) -> None:
    """Rows of two or three tables added and normalised, and the lengths of the sequences."""
    batch, length, size = maker.integer(1, 3), maker.integer(1, 5), maker.choose(4, 8)
    ids = maker.fresh("i32", [batch, length], low=0, high=9)
    segments = maker.chance(0.6)
    tables = [maker.fresh("f32", [rows, size], fixed=1) for rows in (10, 6)]
    kinds = maker.fresh("i32", [batch, length], low=0, high=1) if segments else None
    third = maker.fresh("f32", [2, size], fixed=1) if segments else None
    mask = maker.fresh("i32", [batch, length], low=0, high=1) if maker.chance(0.5) else None
    places = None
    if maker.chance(0.3):
        places = maker.fresh("i32", [batch, length], low=0, high=5)
    gamma, beta = (maker.fresh("f32", [size], fixed=1) for _ in range(2))
    microsoft(
        maker,
        "EmbedLayerNormalization",
        ids,
        kinds,
        *tables,
        third,
        gamma,
        beta,
        mask,
        places,
        outputs=2,
        epsilon=1e-5,
    )


@rule("com.microsoft.RotaryEmbedding", weight=0.4)
def rotary(maker: Maker) -> None:
    """Pairs of numbers turned by angles of their positions."""
    batch, length, heads, half = (
        maker.integer(1, 2),
        maker.integer(1, 4),
        maker.integer(1, 3),
        maker.choose(2, 4),
    )
    shape = maker.choose([batch, length, heads * half * 2], [batch, heads, length, half * 2])
    places = maker.fresh("i64", [batch, length], low=0, high=8)
    if maker.chance(0.3):
        places = maker.fresh("i64", [1], low=0, high=4)
    tables = [maker.fresh("f32", [9, half], low=-1.0, high=1.0, fixed=8) for _ in range(2)]
    microsoft(
        maker,
        "RotaryEmbedding",
        maker.fresh("f32", shape, fixed=1),
        places,
        *tables,
        interleaved=maker.integer(0, 1),
    )


@rule(
    "CDist",
    "com.microsoft.Trilu",
    "ExpandDims",
    "com.microsoft.Unique",
    "com.microsoft.Range",
    "com.microsoft.Pad",
    "com.microsoft.GatherND",
    "com.microsoft.GridSample",
    weight=0.1,
)
def moved(maker: Maker) -> None:
    """The first forms of operators that the standard has now."""
    form = maker.integer(0, 6)
    if form == 0:
        kind, k = maker.choose("f32", "f64"), maker.integer(1, 6)
        tables = [maker.fresh(kind, [maker.integer(1, 5), k]) for _ in range(2)]
        microsoft(maker, "CDist", *tables, metric=maker.choose("euclidean", "sqeuclidean"))
    elif form == 1:
        diagonal = maker.given(np.asarray(maker.integer(-2, 2)))
        microsoft(
            maker, "Trilu", maker.pick(("f32", "i64", "f64"), (2, 4)), diagonal,
            upper=maker.integer(0, 1)
        )
    elif form == 2:
        x = maker.pick(("f32", "i64", "f64"), (0, 4))
        axis = np.asarray(maker.integer(-x.rank - 1, x.rank), np.int32)
        microsoft(maker, "ExpandDims", x, maker.given(axis, True))
    elif form == 3:
        x = maker.pick("f32", (1, 1), lambda v: bool(v.data.size))
        microsoft(maker, "Unique", x, outputs=3)
    elif form == 4:
        kind = maker.choose(np.float32, np.int64, np.int32)
        numbers = [maker.integer(0, 3), maker.integer(4, 9), maker.integer(1, 3)]
        microsoft(maker, "Range", *(maker.given(np.asarray(n, kind)) for n in numbers))
    elif form == 5:
        x = maker.pick("f32", (1, 3), lambda v: bool(v.data.size))
        pads = np.array([[maker.integer(0, 2) for _ in range(2 * x.rank)]])
        value = maker.fresh("f32", [1]) if maker.chance(0.5) else None
        microsoft(maker, "Pad", x, maker.given(pads if maker.chance(0.5) else pads[0]), value)
    else:
        x = maker.fresh("f32", [1, 2, 4, 5])
        grid = maker.fresh("f32", [1, 3, 3, 2], low=-1.2, high=1.2)
        microsoft(
            maker,
            "GridSample",
            x,
            grid,
            align_corners=maker.integer(0, 1),
            mode=maker.choose("bilinear", "nearest", "bicubic"),
            padding_mode=maker.choose("zeros", "border", "reflection"),
        )


@rule("GatedRMSNorm", "ScaledSiLU", "GatedAdd", weight=0.2)
def gated(maker: Maker) -> None:
    """Numbers times a gate, or a function of one."""
    x = maker.pick("f32", (2, 4), lambda v: bool(v.data.size), reshape=False)
    form = maker.integer(0, 2)
    if form == 0:
        parts = [d for d in range(1, x.shape[-1] + 1) if x.shape[-1] % d == 0]
        scale = maker.fresh("f32", [maker.random.choice(parts)], fixed=1)
        microsoft(maker, "GatedRMSNorm", x, scale, maker.fresh("f32", x.shape), epsilon=1e-3,
                  activation=maker.choose("silu", "sigmoid"))
    elif form == 1:
        factor = maker.fresh("f32", []) if maker.chance(0.4) else None
        microsoft(maker, "ScaledSiLU", x, factor, alpha=maker.choose(0.5, 2.0))
    else:
        gate = maker.fresh("f32", [*x.shape[:-1], 1])
        microsoft(maker, "GatedAdd", x, maker.fresh("f32", x.shape), gate)


@rule("ConvTransposeWithDynamicPads", "NhwcMaxPool", "MatMulInteger16", weight=0.2)
def others(maker: Maker) -> None:
    """Windows with pads as an input, or with the channels last; products of 16-bit integers."""
    form = maker.integer(0, 2)
    if form == 0:
        x, w = maker.fresh("f32", [1, 2, 4, 4]), maker.fresh("f32", [2, 3, 3, 3], constant=True)
        pads = maker.ints([maker.integer(0, 1) for _ in range(4)], open_=0.0)
        microsoft(
            maker,
            "ConvTransposeWithDynamicPads",
            x,
            w,
            pads,
            kernel_shape=[3, 3],
            strides=[maker.integer(1, 2)] * 2,
        )
    elif form == 1:
        x = maker.fresh(maker.choose("u8", "i8"), [1, 6, 7, maker.integer(1, 5)])
        microsoft(
            maker,
            "NhwcMaxPool",
            x,
            kernel_shape=[2, 3],
            strides=[maker.integer(1, 2)] * 2,
            pads=[maker.integer(0, 1)] * 4,
        )
    else:
        if maker.hard:
            raise Reject
        m, k, n = (maker.integer(1, 6) for _ in range(3))
        microsoft(maker, "MatMulInteger16", maker.fresh("i16", [m, k]), maker.fresh("i16", [k, n]))
