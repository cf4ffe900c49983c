"""A U-Net with BatchNorm (Ronneberger et al. 2015), 32 to 512 channels, 256 x 256."""

import math

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, AFTER_RELU, concat, conv, conv_norm, max_pool

_WIDTHS = (32, 64, 128, 256, 512)
_CLASSES = 2


def _double(builder: ModelBuilder, x: str, channels: int, gain: float = AFTER_RELU) -> str:
    x = conv_norm(builder, x, channels, 3, name="0", gain=gain)
    return conv_norm(builder, x, channels, 3, name="1")


def _up(builder: ModelBuilder, x: str, channels: int) -> str:
    inputs = builder.channels(x)
    weight = builder.normal((inputs, channels, 2, 2), math.sqrt(AFTER_RELU / inputs))
    weight -= weight.mean(axis=0, keepdims=True)
    operands = [
        x,
        builder.weight("weight", weight),
        builder.weight("bias", builder.normal((channels,), 0.05)),
    ]
    y = builder.node("ConvTranspose", operands, kernel_shape=[2, 2], strides=[2, 2])
    return builder.mark_channels(y, channels)


@zoo_model("unet")
def unet(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 256, 256] (side a multiple of 16), output [n, 2, 256, 256]."""
    size = options.size or 256
    widths = [options.channels(width) for width in _WIDTHS]
    builder = ModelBuilder("unet", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    skips: list[str] = []
    for level, width in enumerate(widths):
        if level:
            x = max_pool(builder, x, 2, 2)
        with builder.scope(f"down.{level}"):
            x = _double(builder, x, width, AFTER_RELU if level else AFTER_LINEAR)
        skips.append(x)
    for level in range(len(widths) - 2, -1, -1):
        with builder.scope(f"up.{level}"):
            raised = _up(builder, x, widths[level])
            x = _double(builder, concat(builder, [skips[level], raised]), widths[level])
    x = conv(builder, x, _CLASSES, 1, name="head", bias=True)
    builder.output(x, "output", (options.batch, _CLASSES, size, size))
    return builder.finish()
