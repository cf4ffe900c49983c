"""Scan of opset 8, which ran over a batch."""

import onnx
from onnx import helper

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.structure import free_names
from bessemer.frontends.onnx.versions.table import until


@until(8, "Scan")
def scan_over_batch(node: SourceNode, writer: Writer) -> SourceNode:
    """Scan-8 over x[batch, time, ...] -> Scan over the batch of a Scan over the time.

    The outer body holds the inner Scan, whose states and sequences are its inputs and whose final
    states and outputs it stacks along the batch again.
    """
    body = node.attributes.get("body")
    if body is None or len(body.input) == len(node.inputs):
        # The inner Scan written below comes here too; it has no sequence_lens before its inputs.
        return node
    if node.input(0) is not None:
        raise ModelFormatError(f"{node.where}: sequence_lens of Scan in opset 8 is not supported; "
                               "export the model with opset 9 or newer")
    node.inputs = node.inputs[1:]
    scanned = node.pop("num_scan_inputs", 0)
    directions = node.pop("directions", (0,) * scanned)
    names = [f"batch.{i}" for i in range(len(node.inputs))]
    results = [f"batch.out.{i}" for i in range(len(body.output))]
    taken = set(free_names(body)) & {*names, *results}
    if taken:
        raise ModelFormatError(f"{node.where}: the body may not use the name {min(taken)!r}")
    inner = helper.make_node("Scan", names, results, name="inner", num_scan_inputs=scanned,
                             scan_input_directions=directions)
    inner.attribute.append(helper.make_attribute("body", body))
    outer = onnx.GraphProto(name="scan_over_batch")
    outer.node.append(inner)
    outer.input.extend(onnx.ValueInfoProto(name=name) for name in names)
    outer.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    node.attributes.update(body=outer, num_scan_inputs=len(names))
    return node
