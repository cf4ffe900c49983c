"""A perceptron 784-512-512-10, the smallest network of the zoo."""

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_RELU, fully_connected


@zoo_model("mlp")
def mlp(options: ZooOptions) -> ModelProto:
    """The network; input [n, 784], output [n, 10]."""
    builder = ModelBuilder("mlp", options.seed)
    x = builder.input("input", (options.batch, 784))
    hidden = options.channels(512)
    x = builder.node("Relu", [fully_connected(builder, x, 784, hidden, name="0")])
    x = fully_connected(builder, x, hidden, hidden, name="2", gain=AFTER_RELU)
    x = builder.node("Relu", [x])
    x = fully_connected(builder, x, hidden, 10, name="4", gain=AFTER_RELU)
    builder.output(x, "output", (options.batch, 10))
    return builder.finish()
