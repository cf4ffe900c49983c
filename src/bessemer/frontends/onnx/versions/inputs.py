"""Attributes that became inputs, so that they may be computed."""

from typing import Any

import numpy as np

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.types import dtype_of_text
from bessemer.frontends.onnx.versions.table import EVERY, until
from bessemer.ir.graph import Value


# The attribute is an integer or a tuple of them.
def move(node: SourceNode, writer: Writer, name: str, index: int, value: Any) -> None:
    """Puts integers at an input position as an i64 constant; None leaves the input out."""
    if value is not None:
        node.set_input(index, writer.constant(node, name, np.array(value, np.int64)))


@until(12, "Squeeze", "Unsqueeze", "ReduceSum")
@until(17, "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
       "ReduceMin", "ReduceProd", "ReduceSumSquare")
def axes_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute axes is input 1 today; none means all."""
    move(node, writer, "axes", 1, node.pop("axes"))
    return node


@until(4, "Reshape")
def reshape_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute shape is input 1 today."""
    move(node, writer, "shape", 1, node.pop("shape", ()))
    return node


@until(9, "Slice")
def slice_to_inputs(node: SourceNode, writer: Writer) -> SourceNode:
    """The attributes starts, ends and axes are inputs 1 to 3 today."""
    for index, name in enumerate(("starts", "ends", "axes"), 1):
        move(node, writer, name, index, node.pop(name))
    return node


@until(1, "Pad")
def paddings(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute was first called paddings."""
    node.attributes["pads"] = node.pop("paddings")
    return node


@until(10, "Pad")
def pads_to_inputs(node: SourceNode, writer: Writer) -> SourceNode:
    """The attributes pads and value are inputs 1 and 2 today."""
    move(node, writer, "pads", 1, node.pop("pads"))
    value = node.pop("value", 0.0)
    dtype = node.tensor(0).dtype.numpy
    node.set_input(2, writer.constant(node, "value", np.array(value, dtype)))
    return node


@until(10, "Clip")
def clip_to_inputs(node: SourceNode, writer: Writer) -> SourceNode:
    """The attributes min and max are inputs 1 and 2 today."""
    for index, name in enumerate(("min", "max"), 1):
        value = node.pop(name)
        if value is not None:
            node.set_input(index, writer.constant(node, name, like(node, value)))
    return node


def like(node: SourceNode, value: float) -> np.ndarray[Any, Any]:
    """A scalar of the element type of input 0; a bound beyond it becomes infinite."""
    with np.errstate(over="ignore"):
        first = node.needed(0).type
        dtype = getattr(first, "dtype", None)
        return np.array(value).astype(dtype.numpy if dtype is not None else np.float32)


@until(1, "Split")
def split_input_optional(node: SourceNode, writer: Writer) -> SourceNode:
    """Opset 1 took the lengths as an attribute or as an input, as today."""
    node.attributes.setdefault("axis", 0)
    return node


@until(12, "Split")
def split_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute split is input 1 today."""
    move(node, writer, "split", 1, node.pop("split") or None)
    return node


@until(EVERY, "Split")
def split_counted(node: SourceNode, writer: Writer) -> SourceNode:
    """The operator is always told how many parts there are, where no constant says it."""
    if node.known(1) is None:
        node.attributes.setdefault("num_outputs", len(node.outputs))
    return node


@until(9, "TopK")
def top_k_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute k of opset 1 is input 1 today."""
    k = node.pop("k")
    if k is not None:
        move(node, writer, "k", 1, (k,))
    return node


@until(6, "Dropout")
def dropout_for_inference(node: SourceNode, writer: Writer) -> SourceNode:
    """is_test said whether the node does anything; at inference it never does."""
    node.pop("is_test")
    return node


@until(11, "Dropout")
def dropout_ratio_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute ratio is input 1 today."""
    ratio = np.array(node.pop("ratio", 0.5), np.float32)
    node.set_input(1, writer.constant(node, "ratio", ratio))
    return node


@until(5, "Cast")
def cast_by_number(node: SourceNode, writer: Writer) -> SourceNode:
    """The element type was first written as text."""
    to = node.attributes.get("to")
    if isinstance(to, str):
        node.attributes["to"] = dtype_of_text(to, node.where)
    return node


@until(5, "Tile")
def tile_along_axis(node: SourceNode, writer: Writer) -> SourceNode:
    """Opset 1: Tile(x, tiles, axis) repeats along one axis; today there is one entry per axis."""
    if len(node.inputs) < 3:
        return node
    rank, tiles, axis = node.tensor(0).rank, node.known(1), node.known(2)
    if tiles is not None and axis is not None:
        known = np.ones(rank, np.int64)
        known[int(axis.reshape(-1)[0])] = int(tiles.reshape(-1)[0])
        repeats = writer.constant(node, "repeats", known)
    else:
        repeats = _computed_repeats(node, writer, rank)
    node.inputs = [node.inputs[0], repeats]
    return node


def _computed_repeats(node: SourceNode, writer: Writer, rank: int) -> Value:
    """Where([0, 1, .. rank - 1] == axis, tiles, 1)."""
    one = writer.constant(node, "one", np.array([1], np.int64))
    number = dtype_of_text("INT64", node.where)
    tiles, axis = (
        writer.add(node, "Reshape", [writer.add(node, "Cast", [node.inputs[i]], to=number), one])
        for i in (1, 2)
    )
    axes = writer.constant(node, "axes", np.arange(rank))
    return writer.add(node, "Where", [writer.add(node, "Equal", [axes, axis]), tiles, one])


@until(3, "Concat")
def concat_axis(node: SourceNode, writer: Writer) -> SourceNode:
    """The axis was optional at first."""
    node.attributes.setdefault("axis", 1)
    return node


@until(1, "LpPool", "GlobalLpPool")
def integer_norm(node: SourceNode, writer: Writer) -> SourceNode:
    """The order p of the norm was first a float."""
    p = node.pop("p", 2.0)
    if p != int(p):
        raise ModelFormatError(f"{node.where}: p must be a whole number, not {p}")
    node.attributes["p"] = int(p)
    return node


@until(19, "DFT")
def dft_axis_to_input(node: SourceNode, writer: Writer) -> SourceNode:
    """The attribute axis is input 2 today, with another default."""
    move(node, writer, "axis", 2, node.pop("axis", 1))
    return node
