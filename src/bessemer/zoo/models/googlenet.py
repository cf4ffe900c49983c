"""GoogLeNet, Inception v1 with BatchNorm (Szegedy et al. 2014, table 1)."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, classifier, concat, conv_norm, max_pool

# Channels: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection. None is a max pool.
_BLOCKS: tuple[tuple[str, tuple[int, int, int, int, int, int] | None], ...] = (
    ("inception3a", (64, 96, 128, 16, 32, 32)),
    ("inception3b", (128, 128, 192, 32, 96, 64)),
    ("maxpool3", None),
    ("inception4a", (192, 96, 208, 16, 48, 64)),
    ("inception4b", (160, 112, 224, 24, 64, 64)),
    ("inception4c", (128, 128, 256, 24, 64, 64)),
    ("inception4d", (112, 144, 288, 32, 64, 64)),
    ("inception4e", (256, 160, 320, 32, 128, 128)),
    ("maxpool4", None),
    ("inception5a", (256, 160, 320, 32, 128, 128)),
    ("inception5b", (384, 192, 384, 48, 128, 128)),
)


def _inception(builder: ModelBuilder, x: str, channels: list[int]) -> str:
    one, reduce3, three, reduce5, five, projection = channels
    branch1 = conv_norm(builder, x, one, name="branch1")
    branch2 = conv_norm(builder, x, reduce3, name="branch2.0")
    branch2 = conv_norm(builder, branch2, three, 3, name="branch2.1")
    branch3 = conv_norm(builder, x, reduce5, name="branch3.0")
    branch3 = conv_norm(builder, branch3, five, 5, name="branch3.1")
    branch4 = max_pool(builder, x, 3, 1, 1, ceil=True)
    branch4 = conv_norm(builder, branch4, projection, name="branch4.1")
    return concat(builder, [branch1, branch2, branch3, branch4])


@zoo_model("googlenet")
def googlenet(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    size = options.size or 224
    builder = ModelBuilder("googlenet", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv_norm(builder, x, options.channels(64), 7, name="conv1", stride=2, gain=AFTER_LINEAR)
    x = max_pool(builder, x, 3, 2, ceil=True)
    x = conv_norm(builder, x, options.channels(64), name="conv2")
    x = conv_norm(builder, x, options.channels(192), 3, name="conv3")
    x = max_pool(builder, x, 3, 2, ceil=True)
    for name, channels in _BLOCKS:
        if channels is None:
            x = max_pool(builder, x, 3, 2, ceil=True)
            continue
        with builder.scope(name):
            x = _inception(builder, x, [options.channels(count) for count in channels])
    x = classifier(builder, x, 1000)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
