"""DenseNet-121 (Huang et al. 2016, table 1, growth rate 32)."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import (
    AFTER_LINEAR,
    activate,
    batch_norm,
    classifier,
    concat,
    conv,
    conv_norm,
    max_pool,
)

_BLOCKS = (6, 12, 24, 16)
_GROWTH = 32


def _dense_layer(builder: ModelBuilder, x: str, growth: int) -> str:
    y = activate(builder, batch_norm(builder, x, name="norm1"), "relu")
    y = conv(builder, y, 4 * growth, name="conv1")
    y = activate(builder, batch_norm(builder, y, name="norm2"), "relu")
    return conv(builder, y, growth, 3, name="conv2")


def _transition(builder: ModelBuilder, x: str) -> str:
    count = builder.channels(x) // 2
    y = activate(builder, batch_norm(builder, x, name="norm"), "relu")
    y = conv(builder, y, count, name="conv")
    pooled = builder.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])
    return builder.mark_channels(pooled, count)


@zoo_model("densenet121")
def densenet121(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 224, 224], output [n, 1000]."""
    size = options.size or 224
    growth = options.channels(_GROWTH)
    builder = ModelBuilder("densenet121", options.seed)
    x = builder.input("input", (options.batch, 3, size, size))
    x = conv_norm(builder, x, 2 * growth, 7, name="stem", stride=2, gain=AFTER_LINEAR)
    x = max_pool(builder, x, 3, 2, 1)
    for block, layers in enumerate(_BLOCKS):
        features = [x]
        for layer in range(layers):
            with builder.scope(f"denseblock{block + 1}.denselayer{layer + 1}"):
                joined = concat(builder, features) if layer else x
                features.append(_dense_layer(builder, joined, growth))
        x = concat(builder, features)
        if block < len(_BLOCKS) - 1:
            with builder.scope(f"transition{block + 1}"):
                x = _transition(builder, x)
    x = activate(builder, batch_norm(builder, x, name="norm5"), "relu")
    x = classifier(builder, x, 1000)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
