"""MobileNet V2 (Sandler et al. 2018, table 2)."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, add, classifier, conv_norm

# Expansion, output channels, repeats, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
           (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
_DEPTHWISE_GAIN = 2.0


def _inverted_residual(
    builder: ModelBuilder, x: str, channels: int, stride: int, expansion: int
) -> str:
    inputs = builder.channels(x)
    hidden = inputs * expansion
    same = stride == 1 and inputs == channels
    y = x
    if expansion != 1:
        y = conv_norm(builder, y, hidden, name="expand", act="relu6", gain=2 * AFTER_LINEAR)
    y = conv_norm(builder, y, hidden, 3, name="depthwise", stride=stride, groups=hidden,
                  act="relu6", gain=_DEPTHWISE_GAIN)  # fmt: skip
    y = conv_norm(builder, y, channels, name="project", act="none", strength=0.5 if same else 1.0)
    return add(builder, x, y) if same else y


@zoo_model("mobilenet_v2")
def mobilenet_v2(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    size = options.size or 224
    builder = ModelBuilder("mobilenet_v2", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv_norm(builder, x, options.channels(32), 3, name="features.0", stride=2, act="relu6",
                  gain=AFTER_LINEAR)  # fmt: skip
    index = 1
    for expansion, channels, repeats, stride in _STAGES:
        for repeat in range(repeats):
            with builder.scope(f"features.{index}"):
                step = stride if repeat == 0 else 1
                x = _inverted_residual(builder, x, options.channels(channels), step, expansion)
            index += 1
    x = conv_norm(builder, x, options.channels(1280), name=f"features.{index}", act="relu6")
    x = classifier(builder, x, 1000, name="classifier.1")
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
