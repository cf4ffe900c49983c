"""VGG-16 (Simonyan and Zisserman 2014, configuration D)."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import (
    AFTER_LINEAR,
    AFTER_RELU,
    activate,
    conv,
    fully_connected,
    max_pool,
)

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


@zoo_model("vgg16")
def vgg16(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224] (side a multiple of 32), output [n, 1000]."""
    size = options.size or 224
    builder = ModelBuilder("vgg16", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    index = 0
    for channels, repeats in _STAGES:
        for _ in range(repeats):
            gain = AFTER_RELU if index else AFTER_LINEAR
            x = conv(builder, x, options.channels(channels), 3, name=f"features.{index}",
                     bias=True, gain=gain)  # fmt: skip
            x = activate(builder, x, "relu")
            index += 2
        x = max_pool(builder, x, 2, 2)
        index += 1
    count = builder.channels(x) * (size // 32) ** 2
    hidden = options.channels(4096)
    x = builder.node("Flatten", [x], axis=1)
    x = fully_connected(builder, x, count, hidden, name="classifier.0", gain=AFTER_RELU)
    x = builder.node("Relu", [x])
    x = fully_connected(builder, x, hidden, hidden, name="classifier.3", gain=AFTER_RELU)
    x = builder.node("Relu", [x])
    x = fully_connected(builder, x, hidden, 1000, name="classifier.6", gain=AFTER_RELU)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
