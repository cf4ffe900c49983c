"""Stacked LSTMs (Hochreiter and Schmidhuber 1997) of 256 units over 64 steps, one or both ways."""

import math

import numpy as np
from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model

_UNITS = 256
_STEPS = 64
_LAYERS = 2


@zoo_model("lstm")
def lstm(options: ZooOptions) -> ModelProto:
    """Two layers; input [t, n, 256], outputs [t, n, 256] and the last states [2, n, 256]."""
    return _network("lstm", options, 1)


@zoo_model("bilstm")
def bilstm(options: ZooOptions) -> ModelProto:
    """Two bidirectional layers; input [t, n, 256], outputs [t, n, 512] and states [4, n, 256]."""
    return _network("bilstm", options, 2)


def _network(name: str, options: ZooOptions, directions: int) -> ModelProto:
    builder = ModelBuilder(name, options.seed)
    size, length = options.channels(_UNITS), options.size or _STEPS
    layers = options.layers or _LAYERS
    x = builder.input("input", (length, options.batch, size))
    width = size
    hidden: list[str] = []
    cells: list[str] = []
    for layer in range(layers):
        with builder.scope(f"layer{layer}"):
            x, h, c = _layer(builder, x, width, size, directions)
        width, hidden, cells = directions * size, [*hidden, h], [*cells, c]
    builder.output(x, "output", (length, options.batch, width))
    for column, output in ((hidden, "last_hidden"), (cells, "last_cell")):
        joined = builder.node("Concat", column, name=output, axis=0)
        builder.output(joined, output, (layers * directions, options.batch, size))
    return builder.finish()


def _layer(
    builder: ModelBuilder, x: str, width: int, size: int, directions: int
) -> tuple[str, str, str]:
    """One layer as exporters write it, with the outputs of both directions side by side."""
    deviation = 1 / math.sqrt(size)
    shapes = {
        "W": (directions, 4 * size, width),
        "R": (directions, 4 * size, size),
        "B": (directions, 8 * size),
    }
    weights = [
        builder.weight(part, builder.normal(shape, deviation)) for part, shape in shapes.items()
    ]
    y, h, c = builder.nodes(
        "LSTM",
        [x, *weights],
        3,
        hidden_size=size,
        direction="bidirectional" if directions == 2 else "forward",
    )
    if directions == 1:
        return builder.node("Squeeze", [y, builder.constant([1], np.int64)]), h, c
    y = builder.node("Transpose", [y], perm=[0, 2, 1, 3])
    return builder.node("Reshape", [y, builder.constant([0, 0, -1], np.int64)]), h, c
