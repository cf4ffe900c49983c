"""SqueezeNet 1.1 (Iandola et al. 2016, the authors' release 1.1)."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, activate, concat, conv, max_pool

# Squeeze and expand channels of each fire module; None is a 3x3 max pool of stride 2.
_FIRES = ((16, 64), (16, 64), None, (32, 128), (32, 128), None,
          (48, 192), (48, 192), (64, 256), (64, 256))  # fmt: skip


def _fire(builder: ModelBuilder, x: str, squeeze: int, expand: int) -> str:
    x = activate(builder, conv(builder, x, squeeze, name="squeeze", bias=True), "relu")
    left = activate(builder, conv(builder, x, expand, name="expand1x1", bias=True), "relu")
    right = activate(builder, conv(builder, x, expand, 3, name="expand3x3", bias=True), "relu")
    return concat(builder, [left, right])


@zoo_model("squeezenet1_1")
def squeezenet1_1(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    size = options.size or 224
    builder = ModelBuilder("squeezenet1_1", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv(builder, x, options.channels(64), 3, name="features.0", stride=2, padding=0,
             bias=True, gain=AFTER_LINEAR)  # fmt: skip
    x = max_pool(builder, activate(builder, x, "relu"), 3, 2, ceil=True)
    for index, fire in enumerate(_FIRES):
        if fire is None:
            x = max_pool(builder, x, 3, 2, ceil=True)
            continue
        with builder.scope(f"features.{index + 3}"):
            x = _fire(builder, x, options.channels(fire[0]), options.channels(fire[1]))
    x = conv(builder, x, 1000, 1, name="classifier.1", bias=True)
    x = builder.node("GlobalAveragePool", [activate(builder, x, "relu")])
    x = builder.node("Flatten", [x], axis=1)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
