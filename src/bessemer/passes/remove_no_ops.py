"""Removes nodes that give back their input."""

import numpy as np

from bessemer.core.dtypes import string
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    constant,
    ints,
    merge_sources,
    producer,
    rank,
    same_type,
)

# (operator, what its second operand is when it does nothing, either side)
_NEUTRAL = {"Add": (0.0, True), "Sub": (0.0, False), "Mul": (1.0, True), "Div": (1.0, False),
            "Pow": (1.0, False)}


@graph_pass("remove-no-ops")
class RemoveNoOps(RewritePass):
    """Identity, x*1, x+0, x/1, x-0, x**1, empty Pad, same-shape Reshape ... -> x.

    Also Dropout at inference, same-dtype Cast, identity Transpose, full Slice, Concat or Split of
    one, Expand and Tile that repeat nothing, and reductions over no axis. Chains of Reshape or of
    widening Cast become one; a Concat that undoes a Split goes away.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        match node.op.op_name:
            case "Identity":
                return None if _carries_name(node, graph) else node.inputs[0]
            case "Dropout":
                return self._dropout(node, graph)
            case "Add" | "Sub" | "Mul" | "Div" | "Pow":
                return _neutral(node)
            case "Reshape":
                return self._reshape(node, graph)
            case "Cast":
                return self._cast(node, graph)
            case "Sum" | "Max" | "Min" | "Mean" | "Concat" if len(node.inputs) == 1:
                return node.inputs[0]
            case "Concat":
                return _undoes_split(node)
            case "Split":
                return node.inputs[0] if len(node.outputs) == 1 and _same(node) else None
            case "Expand" | "Flatten" | "Squeeze" | "Unsqueeze":
                return node.inputs[0] if _same(node) else None
            case "Tile":
                repeats = ints(node.inputs[1])
                return node.inputs[0] if repeats is not None and set(repeats) <= {1} else None
            case "Pad":
                pads = ints(node.inputs[1])
                return node.inputs[0] if pads is not None and not any(pads) else None
            case "Transpose":
                return node.inputs[0] if _is_identity_transpose(node) else None
            case "Slice":
                return node.inputs[0] if _is_full_slice(node) else None
            case "Clip":
                unbounded = all(value is None for value in node.inputs[1:])
                return node.inputs[0] if unbounded else None
        return None

    def _dropout(self, node: Node, graph: Graph) -> Value | None:
        if len(node.outputs) > 1:
            return self.no(node, "its mask is used")
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if training is not None and (training.constant is None or training.constant.any()):
            return self.no(node, "it is in training mode")
        return node.inputs[0]

    def _reshape(self, node: Node, graph: Graph) -> Value | None:
        x = node.inputs[0]
        if _same(node):
            return x
        inner = producer(x, "Reshape")
        target = ints(node.inputs[1])
        if inner is None or target is None:
            return None
        # A 0 copies an extent of the value that goes away.
        if 0 in target and not attribute(node, "allowzero"):
            return self.no(node, "its shape copies an extent of the inner Reshape")
        return self.build(
            graph, node, node.op, [inner.inputs[0], node.inputs[1]],
            sources=merge_sources(inner, node),
        ).output

    def _cast(self, node: Node, graph: Graph) -> Value | None:
        x = node.inputs[0]
        if _same(node):
            return x
        inner = producer(x, "Cast")
        if inner is None or inner.inputs[0] is None or x is None:
            return None
        source, middle = inner.inputs[0].tensor.dtype, x.tensor.dtype
        if string in (middle, node.output.tensor.dtype):
            return self.no(node, "the text of a number depends on its type")
        if not middle.holds(source):
            return self.no(node, f"the inner Cast from {source} to {middle} loses digits")
        if source == node.output.tensor.dtype:
            return inner.inputs[0]
        return self.build(
            graph, node, node.op, [inner.inputs[0]], sources=merge_sources(inner, node)
        ).output


def _undoes_split(node: Node) -> Value | None:
    """The input of a Split of which the Concat joins all results in order."""
    split = producer(node.inputs[0], "Split")
    if split is None or len(split.outputs) != len(node.inputs):
        return None
    if any(a is not b for a, b in zip(split.outputs, node.inputs, strict=True)):
        return None
    x = split.inputs[0]
    dims = rank(x)
    if dims is None or (attribute(split, "axis") - attribute(node, "axis")) % dims:
        return None
    return x


def _carries_name(node: Node, graph: Graph) -> bool:
    """True for an Identity from a graph input or another output to an output."""
    x = node.inputs[0]
    if x is None or x.is_constant or not graph.is_output(node.output):
        return False
    return x.producer is None or graph.is_output(x)


def _same(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and same_type(x, node.output)


def _neutral(node: Node) -> Value | None:
    element, either = _NEUTRAL[node.op.op_name]
    for x, other in ((0, 1), (1, 0)) if either else ((0, 1),):
        data, value = constant(node.inputs[other]), node.inputs[x]
        if data is None or value is None or data.dtype.kind in "OSU":
            continue
        if np.all(data == element) and same_type(value, node.output):
            return value
    return None


def _is_identity_transpose(node: Node) -> bool:
    count = rank(node.inputs[0])
    perm = tuple(attribute(node, "perm")) or tuple(reversed(range(count or 0)))
    return count is not None and perm == tuple(range(count))


def _is_full_slice(node: Node) -> bool:
    starts, steps = ints(node.inputs[1]), None
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = ints(node.inputs[4])
        if steps is None or set(steps) - {1}:
            return False
    return starts is not None and not any(starts) and _same(node)
