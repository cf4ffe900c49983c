"""Operators that are gone: renamed ones, and the experimental ones of the first opsets."""

import numpy as np

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.inputs import like
from bessemer.frontends.onnx.versions.table import until

EXPERIMENTAL = 9
"""The last opset in which exporters wrote experimental operators."""


@until(10, "Scatter", becomes=("ScatterElements",))
def scatter(node: SourceNode, writer: Writer) -> SourceNode:
    """Scatter was renamed to ScatterElements."""
    node.op_type = "ScatterElements"
    return node


@until(EXPERIMENTAL, "Affine", becomes=("Mul", "Add"))
def affine(node: SourceNode, writer: Writer) -> None:
    """Writes y = alpha * x + beta."""
    alpha = writer.constant(node, "alpha", like(node, node.pop("alpha", 1.0)))
    beta = writer.constant(node, "beta", like(node, node.pop("beta", 0.0)))
    scaled = writer.add(node, "Mul", [node.needed(0), alpha])
    writer.add(node, "Add", [scaled, beta], node.outputs)


@until(EXPERIMENTAL, "Scale", becomes=("Mul",))
def scale(node: SourceNode, writer: Writer) -> None:
    """Writes y = scale * x."""
    factor = writer.constant(node, "scale", like(node, node.pop("scale", 1.0)))
    writer.add(node, "Mul", [node.needed(0), factor], node.outputs)


@until(EXPERIMENTAL, "ImageScaler", becomes=("Mul", "Add"))
def image_scaler(node: SourceNode, writer: Writer) -> None:
    """y[n,c,h,w] = scale * x[n,c,h,w] + bias[c]."""
    factor = writer.constant(node, "scale", like(node, node.pop("scale", 1.0)))
    bias = np.array(node.pop("bias", (0.0,)), np.float32).reshape(-1, 1, 1)
    scaled = writer.add(node, "Mul", [node.needed(0), factor])
    writer.add(node, "Add", [scaled, writer.constant(node, "bias", bias)], node.outputs)


@until(EXPERIMENTAL, "ParametricSoftplus", becomes=("Mul", "Softplus"))
def parametric_softplus(node: SourceNode, writer: Writer) -> None:
    """Writes y = alpha * ln(1 + exp(beta * x))."""
    alpha = writer.constant(node, "alpha", like(node, node.pop("alpha", 1.0)))
    beta = writer.constant(node, "beta", like(node, node.pop("beta", 1.0)))
    inner = writer.add(node, "Softplus", [writer.add(node, "Mul", [node.needed(0), beta])])
    writer.add(node, "Mul", [inner, alpha], node.outputs)


@until(EXPERIMENTAL, "ScaledTanh", becomes=("Mul", "Tanh"))
def scaled_tanh(node: SourceNode, writer: Writer) -> None:
    """Writes y = alpha * tanh(beta * x)."""
    alpha = writer.constant(node, "alpha", like(node, node.pop("alpha", 1.0)))
    beta = writer.constant(node, "beta", like(node, node.pop("beta", 1.0)))
    inner = writer.add(node, "Tanh", [writer.add(node, "Mul", [node.needed(0), beta])])
    writer.add(node, "Mul", [inner, alpha], node.outputs)


@until(EXPERIMENTAL, "Crop", becomes=("Slice",))
def crop(node: SourceNode, writer: Writer) -> None:
    """Cuts a border (left, top, right, bottom) off height and width, or a size out of them."""
    border = node.pop("border", ())
    size = node.pop("scale", ())
    if len(border) != 4 or len(size) not in (0, 2):
        raise ModelFormatError(f"{node.where}: Crop needs a border of 4 numbers "
                               "and a scale of 2 or none")
    left, top, right, bottom = border
    ends = (top + size[0], left + size[1]) if size else (-bottom or 2**62, -right or 2**62)
    parts = {"starts": (top, left), "ends": ends, "axes": (2, 3)}
    inputs = [writer.constant(node, k, np.array(v, np.int64)) for k, v in parts.items()]
    writer.add(node, "Slice", [node.needed(0), *inputs], node.outputs)
