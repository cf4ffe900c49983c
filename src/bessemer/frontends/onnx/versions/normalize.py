"""Normalisations whose parameters changed: BatchNormalization and GroupNormalization."""

import numpy as np

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.table import until
from bessemer.ir.graph import Value


@until(8, "BatchNormalization")
def batch_norm_per_element(node: SourceNode, writer: Writer) -> SourceNode | None:
    """spatial=0 had statistics per element: it becomes plain arithmetic. is_test is dropped."""
    node.pop("is_test")
    spatial = node.pop("spatial", 1)
    if spatial:
        return node
    epsilon = np.array(node.pop("epsilon", 1e-5), np.float32)
    x, scale, bias, mean, var = (node.needed(i) for i in range(5))
    shifted = writer.add(node, "Add", [var, writer.constant(node, "epsilon", epsilon)])
    deviation = writer.add(node, "Sqrt", [shifted])
    centred = writer.add(node, "Sub", [x, mean])
    normal = writer.add(node, "Div", [centred, deviation])
    scaled = writer.add(node, "Mul", [normal, scale])
    writer.add(node, "Add", [scaled, bias], node.outputs[:1])
    return None


@until(13, "BatchNormalization")
def batch_norm_training(node: SourceNode, writer: Writer) -> SourceNode:
    """More than one output meant training; today that is an attribute, with three outputs."""
    used = [index for index, name in enumerate(node.outputs) if name]
    if max(used, default=0) > 2:
        raise ModelFormatError(f"{node.where}: the saved statistics of training (outputs 3 and 4) "
                               "no longer exist; export the model for inference")
    node.outputs = node.outputs[:max(used, default=0) + 1]
    if len(node.outputs) > 1:
        node.attributes["training_mode"] = 1
    return node


@until(20, "GroupNormalization")
def group_norm_per_channel(node: SourceNode, writer: Writer) -> SourceNode:
    """scale[G], bias[G] -> scale[C], bias[C], each entry repeated for the channels of its group."""
    groups = int(node.attributes.get("num_groups", 1))
    channels = node.tensor(0).dims[1]
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ModelFormatError(f"{node.where}: {channels} channels do not make {groups} groups")
    if groups != channels:
        for index in (1, 2):
            node.inputs[index] = _repeat(node, writer, index, channels // groups)
    return node


def _repeat(node: SourceNode, writer: Writer, index: int, times: int) -> Value:
    known = node.known(index)
    role = f"parameter{index}"
    if known is not None:
        return writer.constant(node, role, np.repeat(known.reshape(-1), times))
    column = writer.add(node, "Unsqueeze", [
        node.needed(index), writer.constant(node, f"{role}.axis", np.array([1], np.int64))])
    repeated = writer.add(node, "Tile", [
        column, writer.constant(node, f"{role}.repeats", np.array([1, times], np.int64))])
    return writer.add(node, "Reshape", [
        repeated, writer.constant(node, f"{role}.shape", np.array([-1], np.int64))])


@until(5, "Selu")
def selu_constants(node: SourceNode, writer: Writer) -> SourceNode:
    """Opset 1 had the two constants with fewer digits."""
    node.attributes.setdefault("alpha", float(np.float32(1.6732)))
    node.attributes.setdefault("gamma", float(np.float32(1.0507)))
    return node


@until(6, "LSTM", "GRU", "RNN")
def no_output_sequence(node: SourceNode, writer: Writer) -> SourceNode:
    """Whether the sequence is given follows from the outputs that are used."""
    node.pop("output_sequence")
    return node
