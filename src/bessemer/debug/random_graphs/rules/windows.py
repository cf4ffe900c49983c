"""Sliding windows: convolutions and pooling with all their attributes."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import FLOATS, Maker, rule
from bessemer.debug.random_graphs.values import Reject, Value


def spatial(maker: Maker, x: Value, ceil: bool = False) -> dict[str, Any]:
    """Kernel, strides, dilations and pads that fit the spatial extents of x."""
    extents = x.shape[2:]
    if not all(x.shape):
        raise Reject
    kernel = [maker.integer(1, min(4, max(1, dim))) for dim in extents]
    result: dict[str, Any] = {"kernel_shape": kernel}
    if maker.chance(0.5):
        result["strides"] = [maker.choose(1, 2, 3) for _ in extents]
    dilations = [1] * len(extents)
    if maker.chance(0.3):
        dilations = [maker.integer(1, 3) for _ in extents]
        result["dilations"] = dilations
    form = maker.random.random()
    pads = [0] * (2 * len(extents))
    if form < 0.2:
        result["auto_pad"] = maker.choose("SAME_UPPER", "SAME_LOWER", "VALID")
        if result["auto_pad"] != "VALID":
            return result
    elif form < 0.75:
        pads = [maker.integer(0, k - 1) for k in kernel + kernel]
        result["pads"] = pads
    rank = len(extents)
    for i, dim in enumerate(extents):
        if dim + pads[i] + pads[i + rank] < dilations[i] * (kernel[i] - 1) + 1:
            raise Reject
    return result


def image(maker: Maker, dtypes: tuple[str, ...] | str = FLOATS) -> Value:
    """A tensor [n, c, *spatial] with one to three spatial axes."""
    if maker.chance(0.55):
        return maker.pick(dtypes, (3, 5))
    spatial_rank = maker.choose(1, 2, 2, 2, 3)
    most = {1: 20, 2: 9, 3: 5}[spatial_rank]
    shape = [maker.integer(1, 2), maker.choose(1, 2, 3, 4, 6, 8, 16),
             *(maker.integer(1, most) for _ in range(spatial_rank))]
    return maker.fresh(dtypes, shape)


def grouped(maker: Maker, x: Value) -> tuple[int, int, int]:
    """Groups, input channels per group, output channels per group."""
    channels = x.shape[1]
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    if not divisors:
        raise Reject
    group = maker.random.choice([1, 1, *divisors, channels])
    return group, channels // group, maker.integer(1, 4)


@rule("Conv", weight=7)
def conv(maker: Maker) -> None:
    """Convolution over one to three axes, with groups."""
    x = image(maker)
    attributes = spatial(maker, x)
    group, inner, outer = grouped(maker, x)
    kernel = attributes["kernel_shape"]
    w = maker.fresh(x.dtype, [group * outer, inner, *kernel], fixed=8)
    b = maker.fresh(x.dtype, [group * outer]) if maker.chance(0.6) else None
    if maker.chance(0.3):
        del attributes["kernel_shape"]
    if group > 1:
        attributes["group"] = group
    work = x.data.size * int(np.prod(kernel)) * outer
    maker.emit("Conv", [x, w, b], work=work, **attributes)


@rule("ConvTranspose", weight=3)
def conv_transpose(maker: Maker) -> None:
    """The transposed convolution."""
    x = image(maker)
    attributes = spatial(maker, x)
    group, inner, outer = grouped(maker, x)
    kernel = attributes["kernel_shape"]
    w = maker.fresh(x.dtype, [group * inner, outer, *kernel], fixed=8)
    b = maker.fresh(x.dtype, [group * outer]) if maker.chance(0.5) else None
    strides = attributes.get("strides", [1] * len(kernel))
    if maker.chance(0.25):
        attributes["output_padding"] = [maker.integer(0, s - 1) for s in strides]
    if group > 1:
        attributes["group"] = group
    maker.emit("ConvTranspose", [x, w, b], work=x.data.size * int(np.prod(kernel)) * outer,
               **attributes)


@rule("MaxPool", "AveragePool", "LpPool", weight=2)
def pool(maker: Maker) -> None:
    """Pooling with every attribute; MaxPool gives places too."""
    op = maker.choose("MaxPool", "AveragePool", "AveragePool", "LpPool")
    x = image(maker, (*FLOATS, "i8", "u8") if op == "MaxPool" else FLOATS)
    attributes = spatial(maker, x)
    if "auto_pad" not in attributes and maker.chance(0.3):
        attributes["ceil_mode"] = 1
    outputs = 1
    if op == "AveragePool":
        attributes["count_include_pad"] = maker.integer(0, 1)
        if maker.opset < 19:
            attributes.pop("dilations", None)
    elif op == "MaxPool":
        outputs = maker.choose(1, 1, 2)
        if outputs == 2:
            attributes["storage_order"] = maker.choose(0, 0, 1)
    else:
        attributes["p"] = maker.choose(1, 2, 3)
    maker.emit(op, [x], outputs=outputs, **attributes)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", weight=0.6)
def global_pool(maker: Maker) -> None:
    """Pooling over all spatial axes."""
    op = maker.choose("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    x = image(maker)
    if not x.data.size:
        raise Reject
    maker.emit(op, [x], **({"p": maker.integer(1, 3)} if op == "GlobalLpPool" else {}))


@rule("MaxUnpool", weight=0.3)
def unpool(maker: Maker) -> None:
    """Values back to where MaxPool found them."""
    x = maker.fresh("f32", [1, 2, 4, 6])
    y, places = maker.emit("MaxPool", [x], outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    maker.emit("MaxUnpool", [y, places], kernel_shape=[2, 2], strides=[2, 2])


@rule("ConvInteger", "QLinearConv", weight=0.7)
def quantized_conv(maker: Maker) -> None:
    """Convolutions of quantised tensors."""
    kind = maker.choose("u8", "i8")
    x = maker.fresh(kind, [1, maker.choose(1, 2, 4), maker.integer(3, 7), maker.integer(3, 7)],
                    low=-128, high=255)
    attributes = spatial(maker, x)
    group, inner, outer = grouped(maker, x)
    if group > 1:
        attributes["group"] = group
    kind_w = maker.choose(kind, "i8") if kind == "u8" else "i8"
    out = group * outer
    w = maker.fresh(kind_w, [out, inner, *attributes["kernel_shape"]], low=-128, high=255,
                    fixed=8)
    zero_x = maker.fresh(kind, [], low=0, high=100, constant=True)
    if maker.chance(0.5):
        zero_w = maker.fresh(kind_w, [], low=0, high=50, constant=True)
        maker.emit("ConvInteger", [x, w, zero_x, maker.choose(None, zero_w)], **attributes)
        return

    def scale(shape: list[int]) -> Value:
        return maker.fresh("f32", shape, low=0.01, high=0.3, constant=True)

    per_channel = [out] if maker.chance(0.4) else []
    zero_w = maker.given(np.zeros(per_channel, w.data.dtype), True)
    zero_y = maker.fresh(kind, [], low=0, high=100, constant=True)
    bias = maker.fresh("i32", [out], low=-500, high=500) if maker.chance(0.5) else None
    maker.emit("QLinearConv", [x, scale([]), zero_x, w, scale(per_channel), zero_w, scale([]),
                               zero_y, bias], **attributes)


@rule("DeformConv", weight=0.4)
def deform(maker: Maker) -> None:
    """Convolution at learned offsets."""
    h, w = maker.integer(3, 5), maker.integer(3, 5)
    x = maker.fresh("f32", [1, 2, h, w], low=-2, high=2)
    weight = maker.fresh("f32", [3, 2, 2, 2], low=-2, high=2, fixed=8)
    offset = maker.fresh("f32", [1, 8, h - 1, w - 1], low=-1.5, high=1.5)
    bias = maker.fresh("f32", [3]) if maker.chance(0.5) else None
    mask = maker.fresh("f32", [1, 4, h - 1, w - 1], low=0, high=1) if maker.chance(0.5) else None
    maker.emit("DeformConv", [x, weight, offset, bias, mask], kernel_shape=[2, 2])


@rule("Col2Im", weight=0.4)
def col2im(maker: Maker) -> None:
    """Columns summed back into an image."""
    (h, w), (kh, kw) = ((maker.integer(n, n + 3 - n // 3), maker.integer(n, n + 3 - n // 3))
                        for n in (3, 1))
    sh, sw = maker.integer(1, 2), maker.integer(1, 2)
    count = ((h - kh) // sh + 1) * ((w - kw) // sw + 1)
    x = maker.fresh(maker.dtype(("f32", "f64")), [maker.integer(1, 2), 2 * kh * kw, count])
    maker.emit("Col2Im", [x, maker.ints([h, w]), maker.ints([kh, kw])], strides=[sh, sw])


@rule("RoiAlign", "MaxRoiPool", weight=0.3)
def regions(maker: Maker) -> None:
    """Pooling of regions."""
    x = maker.fresh("f32", [2, 2, 6, 6])
    count = maker.integer(1, 3)
    rng = np.random.default_rng(maker.random.getrandbits(32))
    corner = rng.uniform(0, 3, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.5, 3, (count, 2))], 1)
    batch = rng.integers(0, 2, (count, 1))
    if maker.chance(0.7):
        rois, which = maker.given(boxes.astype(np.float32)), maker.given(batch[:, 0])
        maker.emit("RoiAlign", [x, rois, which], mode=maker.choose("avg", "max"),
                   output_height=2, output_width=3, sampling_ratio=maker.integer(0, 2),
                   coordinate_transformation_mode=maker.choose("half_pixel",
                                                               "output_half_pixel"))
    else:
        rois = maker.given(np.concatenate([batch, boxes], 1).astype(np.float32))
        maker.emit("MaxRoiPool", [x, rois], pooled_shape=[2, 2])
