"""Computes only the rows that are used: moves a Slice in front of what computes its input."""

import math

import numpy as np

from bessemer.core.shapes import Shape
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.cancel_transposes import BINARY, UNARY, perm_of
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value
from bessemer.passes.match import (
    attribute,
    dims,
    is_op,
    make,
    rank,
    shape,
    slice_range,
    used_once,
)

_COSTLY = frozenset(("MatMul", "Gemm", "LayerNormalization", "Softmax", "LogSoftmax"))

Axes = tuple[int | None, ...]
"""For each input the axis to cut, None for an input that stays whole."""
Cut = tuple[int, int, int]
"""Axis, start and end of a Slice."""


@graph_pass("hoist-slices")
class HoistSlices(GraphPass):
    """Slice(MatMul(x, w), rows) -> MatMul(Slice(x, rows), w), likewise for what lies between.

    It happens where all users of a value are the same Slice along one axis, with step 1, and a
    product, LayerNormalization or Softmax computes the value, perhaps followed by element-wise
    nodes, Transpose and Reshape. A classifier that reads one token leaves little of the last layer.
    """

    def run(self, graph: Graph) -> bool:
        changed = False
        # Producers come first, so a cut that moved up is met again.
        for node in reversed(list(graph.nodes)):
            if node.outputs and node.outputs[0].users:
                changed |= self._hoist(graph, node)
        return changed

    def _hoist(self, graph: Graph, node: Node) -> bool:
        """Moves the one Slice behind a node in front of it."""
        value = node.outputs[0]
        cuts = [user for user, _ in value.users]
        found = _cut_of(cuts[0])
        if found is None or any(_cut_of(cut) != found for cut in cuts) or graph.is_output(value):
            return False
        axes = _axes(node, found[0])
        if axes is None or not _pays(graph, node, axes):
            return False
        inputs = [self._sliced(graph, node, operand, axis, found)
                  for operand, axis in zip(node.inputs, axes, strict=True)]
        if is_op(node, "Reshape"):
            target = np.array(shape(value), np.int64)
            target[found[0]] = found[2] - found[1]
            inputs[1] = graph.add_constant(f"{node.name}.shape", target)
        made = graph.add_node(node.op, inputs, name=node.name, sources=node.sources, before=node)
        for cut in cuts:
            replace_value(graph, cut.output, made.outputs[0])
            remove_dead(graph, cut)
        self.note(f"moved Slice {label(cuts[0])} before {label(node)}")
        return True

    def _sliced(self, graph: Graph, node: Node, value: Value | None, axis: int | None, cut: Cut
                ) -> Value | None:
        if value is None or axis is None:
            return value
        bounds = [
            graph.add_constant(f"{node.name}.{what}", np.array([number], np.int64))
            for what, number in (("start", cut[1]), ("end", cut[2]), ("axis", axis))
        ]
        return graph.add_node(
            make("Slice"), [value, *bounds], name=f"{node.name}.rows", sources=node.sources,
            before=node).output


def _cut_of(node: Node) -> Cut | None:
    """What a Slice along one axis cuts out, if it leaves something and leaves something out."""
    found = slice_range(node) if is_op(node, "Slice") else None
    before, after = dims(node.inputs[0]) if found is not None else None, dims(node.output)
    if found is None or before is None or after is None:
        return None
    axis, start = found
    length = after[axis]
    if not isinstance(length, int) or length < 1 or length == before[axis]:
        return None
    return axis, start, start + length


def _pays(graph: Graph, node: Node, axes: Axes) -> bool:
    """True if the node is costly, or cheap and behind a costly one that only it uses."""
    waiting = [(node, axes)]
    while waiting:
        node, axes = waiting.pop()
        if node.op.op_name in _COSTLY:
            return True
        for value, axis in zip(node.inputs, axes, strict=True):
            made = value.producer if value is not None else None
            if value is None or made is None or axis is None or not used_once(graph, value):
                continue
            behind = _axes(made, axis)
            if behind is not None:
                waiting.append((made, behind))
    return False


def _axes(node: Node, axis: int) -> Axes | None:
    """Which axes of the inputs give that axis of the first output; None if no cut can pass."""
    name, count, known = node.op.op_name, len(node.inputs), dims(node.outputs[0])
    if known is None or any(value.users for value in node.outputs[1:]):
        return None
    if name in UNARY:
        return (axis, *(None,) * (count - 1))
    if name in BINARY or name == "Where":
        return _broadcast(node, known, axis)
    if name in ("LayerNormalization", "Softmax", "LogSoftmax"):
        normed = int(attribute(node, "axis")) % len(known)
        free = axis < normed if name == "LayerNormalization" else axis != normed
        small = all((rank(value) or 0) <= len(known) - normed for value in node.inputs[1:] if value)
        return (axis, *(None,) * (count - 1)) if free and small else None
    if name == "Transpose":
        perm = perm_of(node)
        return (perm[axis],) if perm is not None else None
    if name == "Reshape":
        return _reshaped(node, axis)
    if name == "MatMul":
        left, right = rank(node.inputs[0]), rank(node.inputs[1])
        return (left - 2, None) if axis == len(known) - 2 and left and right and min(
            left, right) >= 2 and left == len(known) else None
    if name == "Gemm" and axis == 0:
        bias = dims(node.inputs[2]) if count > 2 else None
        tall = bias is not None and len(bias) == 2 and bias[0] != 1
        return (int(attribute(node, "transA")), None, 0 if tall else None)[:count]
    return None


def _broadcast(node: Node, known: Shape, axis: int) -> Axes | None:
    axes: list[int | None] = []
    for value in node.inputs:
        extents = dims(value)
        if extents is None:
            return None
        own = axis - (len(known) - len(extents))
        whole = own < 0 or extents[own] == 1
        if not whole and extents[own] != known[axis]:
            return None
        axes.append(None if whole else own)
    return tuple(axes)


def _reshaped(node: Node, axis: int) -> Axes | None:
    """The axis of the input that is as long and has as much before it."""
    before, after = shape(node.inputs[0]), shape(node.output)
    if before is None or after is None or 0 in after:
        return None
    places = [(math.prod(before[:k]), before[k]) for k in range(len(before))]
    place = (math.prod(after[:axis]), after[axis])
    return (places.index(place), None) if place in places else None
