"""Scan of opset 8, which ran over a batch."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.structure import free_names
from bessemer.frontends.onnx.versions.table import until
from bessemer.ir.graph import Value


@until(8, "Scan")
def scan_over_batch(node: SourceNode, writer: Writer) -> SourceNode | None:
    """Scan-8 over x[batch, time, ...] -> Scan over the batch of a Scan over the time.

    The outer body holds the inner Scan, whose states and sequences are its inputs and whose final
    states and outputs it stacks along the batch again. With sequence_lens there is a Scan for each
    entry of the batch, as all have other lengths.
    """
    body = node.attributes.get("body")
    if body is None or len(body.input) == len(node.inputs):
        # The inner Scan written below comes here too; it has no sequence_lens before its inputs.
        return node
    scanned = node.pop("num_scan_inputs", 0)
    directions = node.pop("directions", (0,) * scanned)
    if node.input(0) is not None:
        _scan_each(node, writer, scanned, directions)
        return None
    node.inputs = node.inputs[1:]
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


def _scan_each(
    node: SourceNode, writer: Writer, scanned: int, directions: Sequence[int]
) -> None:
    """Writes a Scan over the first `length` steps of each entry; outputs behind them are zero."""
    lengths, *values = (node.needed(k) for k in range(len(node.inputs)))
    states = len(values) - scanned
    batch = node.tensor(1).dims[0]
    if not isinstance(batch, int) or scanned < 1 or states < 0:
        raise ModelFormatError(f"{node.where}: Scan of opset 8 with sequence_lens needs a batch of "
                               "known size; fix it with the option 'shapes'")

    def constant(*numbers: int) -> Value:
        return writer.constant(node, "constant", np.array(numbers, np.int64))

    zero = constant(0)
    steps = writer.add(node, "Shape", [values[-1]], start=1, end=2)
    rows: list[list[Value]] = [[] for _ in node.outputs]
    for entry in range(batch):
        first, behind = constant(entry), constant(entry + 1)
        length = writer.add(node, "Slice", [lengths, first, behind, zero])
        taken = []
        for k, value in enumerate(values):
            part = writer.add(node, "Slice", [value, first, behind, zero])
            item = writer.add(node, "Squeeze", [part, zero])
            if k >= states:
                item = writer.add(node, "Slice", [item, zero, length, zero])
            taken.append(item)
        made = writer.add_all(node, "Scan", taken, [""] * len(rows), num_scan_inputs=scanned,
                              scan_input_directions=tuple(directions),
                              body=node.attributes["body"])
        rest = writer.add(node, "Concat", [zero, writer.add(node, "Sub", [steps, length])], axis=0)
        for k, value in enumerate(made):
            if k >= states:
                value = writer.add(node, "Pad", [value, rest, None, zero])
            rows[k].append(writer.add(node, "Unsqueeze", [value, zero]))
    for name, row in zip(node.outputs, rows, strict=True):
        if name:
            writer.add(node, "Concat", row, (name,), axis=0)
