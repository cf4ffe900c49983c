"""ResNet-18 and ResNet-50 v1.5 (He et al. 2015; v1.5 puts the stride on the 3x3)."""

from collections.abc import Sequence

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, activate, add, classifier, conv_norm, max_pool

# The scale of a branch's last BatchNorm; keeps the sum from growing with depth.
_BRANCH_STRENGTH = 0.4


def _block(builder: ModelBuilder, x: str, width: int, stride: int, bottleneck: bool) -> str:
    if bottleneck:
        y = conv_norm(builder, x, width, name="conv1")
        y = conv_norm(builder, y, width, 3, name="conv2", stride=stride)
        channels, kernel = 4 * width, 1
    else:
        y = conv_norm(builder, x, width, 3, name="conv1", stride=stride)
        channels, kernel = width, 3
    y = conv_norm(builder, y, channels, kernel, name="conv_last", act="none",
                  strength=_BRANCH_STRENGTH)  # fmt: skip
    skip = x
    if stride != 1 or builder.channels(x) != channels:
        skip = conv_norm(builder, x, channels, name="downsample", stride=stride, act="none")
    return activate(builder, add(builder, y, skip), "relu")


def _resnet(name: str, options: ZooOptions, blocks: Sequence[int], bottleneck: bool) -> ModelProto:
    size = options.size or 224
    builder = ModelBuilder(name, options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv_norm(builder, x, options.channels(64), 7, name="stem", stride=2, gain=AFTER_LINEAR)
    x = max_pool(builder, x, 3, 2, 1)
    for stage, repeats in enumerate(blocks):
        for repeat in range(repeats):
            with builder.scope(f"layer{stage + 1}.{repeat}"):
                stride = 2 if stage and repeat == 0 else 1
                x = _block(builder, x, options.channels(64 << stage), stride, bottleneck)
    x = classifier(builder, x, 1000)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()


@zoo_model("resnet18")
def resnet18(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    return _resnet("resnet18", options, (2, 2, 2, 2), bottleneck=False)


@zoo_model("resnet50")
def resnet50(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    return _resnet("resnet50", options, (3, 4, 6, 3), bottleneck=True)
