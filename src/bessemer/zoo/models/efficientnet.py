"""EfficientNet-B0 (Tan and Le 2019, table 1), SiLU as x times Sigmoid(x), squeeze-and-excite."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, activate, add, classifier, conv, conv_norm

# Expansion, kernel, stride of the first, output channels, repeats.
_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
           (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip
_AFTER_SILU = 3.0
# A gate of about one half multiplies the branch; the projection makes up for it.
_AFTER_GATE = 9.0


def _squeeze_excite(builder: ModelBuilder, x: str, reduced: int) -> str:
    count = builder.channels(x)
    gate = builder.mark_channels(builder.node("GlobalAveragePool", [x]), count)
    gate = activate(builder, conv(builder, gate, reduced, name="fc1", bias=True), "silu")
    gate = builder.node("Sigmoid", [conv(builder, gate, count, name="fc2", bias=True)])
    return builder.mark_channels(builder.node("Mul", [x, gate]), count)


def _mobile_block(
    builder: ModelBuilder, x: str, channels: int, kernel: int, stride: int, expansion: int
) -> str:
    inputs = builder.channels(x)
    hidden = inputs * expansion
    same = stride == 1 and inputs == channels
    y = x
    if expansion != 1:
        y = conv_norm(builder, y, hidden, name="expand", act="silu", gain=AFTER_LINEAR)
    y = conv_norm(builder, y, hidden, kernel, name="depthwise", stride=stride, groups=hidden,
                  act="silu", gain=_AFTER_SILU)  # fmt: skip
    with builder.scope("se"):
        y = _squeeze_excite(builder, y, max(1, inputs // 4))
    y = conv_norm(builder, y, channels, name="project", act="none", gain=_AFTER_GATE,
                  strength=0.5 if same else 1.0)  # fmt: skip
    return add(builder, x, y) if same else y


@zoo_model("efficientnet_b0")
def efficientnet_b0(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    size = options.size or 224
    builder = ModelBuilder("efficientnet_b0", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv_norm(builder, x, options.channels(32), 3, name="features.0", stride=2, act="silu",
                  gain=AFTER_LINEAR)  # fmt: skip
    for stage, (expansion, kernel, stride, channels, repeats) in enumerate(_STAGES):
        for repeat in range(repeats):
            with builder.scope(f"features.{stage + 1}.{repeat}"):
                step = stride if repeat == 0 else 1
                width = options.channels(channels)
                x = _mobile_block(builder, x, width, kernel, step, expansion)
    x = conv_norm(builder, x, options.channels(1280), name="features.8", act="silu",
                  gain=AFTER_LINEAR)  # fmt: skip
    x = classifier(builder, x, 1000, name="classifier.1")
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
