"""YOLOv8n, the detector (Jocher et al. 2023): CSP backbone, two-way pyramid, decoupled heads.

Boxes are distributions over 16 distances to each side (Li et al. 2020, "Generalized Focal Loss");
the network ends with boxes in pixels and scores, before any suppression of overlaps.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from bessemer.core.errors import SettingsError
from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, add, concat, conv, conv_norm, max_pool

_WIDTHS = (16, 32, 64, 128, 256)
_DEPTHS = (1, 2, 2, 1)
_CLASSES = 80
_BINS = 16
_STRIDES = (8, 16, 32)

# The mean square of silu(z), z standard normal, is 0.356.
_AFTER_SILU = 2.8


def _unit(builder: ModelBuilder, x: str, channels: int, kernel: int, name: str,
          stride: int = 1, gain: float = _AFTER_SILU) -> str:  # fmt: skip
    return conv_norm(builder, x, channels, kernel, name=name, stride=stride, act="silu", gain=gain)


def _halves(builder: ModelBuilder, x: str) -> list[str]:
    """Both halves of the channels, as two slices."""
    half = builder.channels(x) // 2
    parts = []
    for start in (0, half):
        begin, end, axis = (builder.constant([n], np.int64) for n in (start, start + half, 1))
        part = builder.node("Slice", [x, begin, end, axis])
        parts.append(builder.mark_channels(part, half))
    return parts


def _c2f(builder: ModelBuilder, x: str, channels: int, depth: int, name: str,
         shortcut: bool) -> str:  # fmt: skip
    """A stage whose bottlenecks all reach the last convolution."""
    half = channels // 2
    with builder.scope(name):
        parts = _halves(builder, _unit(builder, x, channels, 1, "cv1"))
        for number in range(depth):
            y = _unit(builder, parts[-1], half, 3, f"m.{number}.cv1")
            y = _unit(builder, y, half, 3, f"m.{number}.cv2")
            parts.append(add(builder, parts[-1], y) if shortcut else y)
        return _unit(builder, concat(builder, parts), channels, 1, "cv2")


def _pyramid_pool(builder: ModelBuilder, x: str, name: str) -> str:
    """Three 5x5 max pools in a row, all of them joined."""
    channels = builder.channels(x)
    with builder.scope(name):
        parts = [_unit(builder, x, channels // 2, 1, "cv1")]
        for _ in range(3):
            parts.append(max_pool(builder, parts[-1], 5, 1, 2))
        return _unit(builder, concat(builder, parts), channels, 1, "cv2")


def _doubled(builder: ModelBuilder, x: str) -> str:
    scales = builder.constant([1.0, 1.0, 2.0, 2.0])
    y = builder.node("Resize", [x, "", scales], mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")
    return builder.mark_channels(y, builder.channels(x))


def _backbone(builder: ModelBuilder, x: str, widths: Sequence[int]) -> list[str]:
    """Feature maps at strides 8, 16 and 32."""
    x = _unit(builder, x, widths[0], 3, "model.0", 2, AFTER_LINEAR)
    maps = []
    for level, (width, depth) in enumerate(zip(widths[1:], _DEPTHS, strict=True)):
        x = _unit(builder, x, width, 3, f"model.{2 * level + 1}", 2)
        x = _c2f(builder, x, width, depth, f"model.{2 * level + 2}", True)
        maps.append(x)
    maps[-1] = _pyramid_pool(builder, x, "model.9")
    return maps[1:]


def _neck(builder: ModelBuilder, maps: list[str], widths: Sequence[int]) -> list[str]:
    """Down the pyramid and up again."""
    fine, middle, coarse = maps
    x = concat(builder, [_doubled(builder, coarse), middle])
    middle = _c2f(builder, x, widths[3], 1, "model.12", False)
    x = concat(builder, [_doubled(builder, middle), fine])
    fine = _c2f(builder, x, widths[2], 1, "model.15", False)
    x = concat(builder, [_unit(builder, fine, widths[2], 3, "model.16", 2), middle])
    middle = _c2f(builder, x, widths[3], 1, "model.18", False)
    x = concat(builder, [_unit(builder, middle, widths[3], 3, "model.19", 2), coarse])
    return [fine, middle, _c2f(builder, x, widths[4], 1, "model.21", False)]


def _head(builder: ModelBuilder, x: str, name: str, widths: tuple[int, int]) -> str:
    """[n, 64 + 80, h, w]: side distributions and class scores of one level."""
    parts = []
    for branch, width, outputs in (("cv2", widths[0], 4 * _BINS), ("cv3", widths[1], _CLASSES)):
        with builder.scope(f"{name}.{branch}"):
            y = _unit(builder, x, width, 3, "0")
            y = _unit(builder, y, width, 3, "1")
            parts.append(conv(builder, y, outputs, 1, name="2", bias=True, gain=10.0))
    return concat(builder, parts)


def _part(builder: ModelBuilder, x: str, start: int, end: int) -> str:
    begin, stop, axis = (builder.constant([n], np.int64) for n in (start, end, 1))
    return builder.node("Slice", [x, begin, stop, axis])


def _boxes(builder: ModelBuilder, sides: str, batch: int, size: int) -> str:
    """[n, 64, a] of side distributions -> [n, 4, a]: centres and extents in pixels."""
    split = builder.constant([batch, 4, _BINS, -1], np.int64)
    x = builder.node("Transpose", [builder.node("Reshape", [sides, split])], perm=[0, 2, 1, 3])
    x = builder.mark_channels(builder.node("Softmax", [x], axis=1), _BINS)
    bins = builder.weight("dfl.conv.weight",
                          np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    x = builder.node("Conv", [x, bins], kernel_shape=[1, 1])
    x = builder.node("Reshape", [x, builder.constant([batch, 4, -1], np.int64)])
    first, second = _part(builder, x, 0, 2), _part(builder, x, 2, 4)
    anchors, strides = _anchors(size)
    places = builder.constant(anchors)
    low = builder.node("Sub", [places, first])
    high = builder.node("Add", [places, second])
    middle = builder.node("Div", [builder.node("Add", [low, high]), builder.constant(2.0)])
    extent = builder.node("Sub", [high, low])
    both = builder.node("Concat", [middle, extent], axis=1)
    return builder.node("Mul", [both, builder.constant(strides)])


def _anchors(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of all cells [1, 2, a] in cells of their level, and the strides [1, a]."""
    centres, strides = [], []
    for stride in _STRIDES:
        line = np.arange(size // stride, dtype=np.float32) + np.float32(0.5)
        y, x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.stack([x.reshape(-1), y.reshape(-1)]))
        strides.append(np.full(x.size, stride, np.float32))
    return np.concatenate(centres, 1)[None], np.concatenate(strides)[None]


@zoo_model("yolov8n")
def yolov8n(options: ZooOptions) -> ModelProto:
    """The detector; input [n, 3, 640, 640] (side a multiple of 32), output [n, 84, 8400].

    Of the 84 four are the box and the others scores from 0 to 1.
    """
    size = options.size or 640
    if size % _STRIDES[-1]:
        raise SettingsError(f"zoo option size is {size}; yolov8n needs a multiple of 32")
    widths = [options.channels(width) for width in _WIDTHS]
    builder = ModelBuilder("yolov8n", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    levels = _neck(builder, _backbone(builder, x, widths), widths)
    inner = (options.channels(64), options.channels(80))
    joined = builder.constant([options.batch, 4 * _BINS + _CLASSES, -1], np.int64)
    flat = [
        builder.node("Reshape", [_head(builder, level, f"model.22.{number}", inner), joined])
        for number, level in enumerate(levels)
    ]
    x = builder.node("Concat", flat, axis=2)
    boxes = _boxes(builder, _part(builder, x, 0, 4 * _BINS), options.batch, size)
    scores = builder.node("Sigmoid", [_part(builder, x, 4 * _BINS, 4 * _BINS + _CLASSES)])
    x = builder.node("Concat", [boxes, scores], axis=1)
    anchors = sum((size // stride) ** 2 for stride in _STRIDES)
    builder.output(x, "output", (options.batch, 4 + _CLASSES, anchors))
    return builder.finish()
