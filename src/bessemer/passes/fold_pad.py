"""Turns explicit padding into the pads of the window that reads it."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    ints,
    is_op,
    merge_sources,
    producer,
    rank,
    scalar,
    sole_producer,
    with_attributes,
)


@graph_pass("fold-pad")
class FoldPad(RewritePass):
    """Conv|AveragePool|MaxPool(Pad(x)) -> the same with larger pads.

    Zeros before a Conv; zeros before an AveragePool that counts them; minus infinity before a
    MaxPool, or zeros if x cannot be negative.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Conv", "AveragePool", "MaxPool"):
            return None
        pad = sole_producer(graph, node.inputs[0], "Pad")
        if pad is None:
            return None
        added = _spatial_pads(pad)
        if added is None:
            return self.no(node, "the Pad is not a constant, non-negative one of spatial axes")
        if attribute(node, "auto_pad") not in ("NOTSET", "", "VALID"):
            return self.no(node, "its own pads depend on the input's extents")
        changes = self._changes(node, pad, added)
        if changes is None:
            return None
        op = with_attributes(node.op, auto_pad="NOTSET", **changes)
        made = self.build(
            graph, node, op, [pad.inputs[0], *node.inputs[1:]],
            sources=merge_sources(pad, node), outputs=len(node.outputs),
        )
        return made.output

    def _changes(
        self, node: Node, pad: Node, added: tuple[int, ...]
    ) -> dict[str, object] | None:
        own = tuple(attribute(node, "pads")) or (0,) * len(added)
        if attribute(node, "auto_pad") == "VALID":
            own = (0,) * len(added)
        pads = tuple(a + b for a, b in zip(own, added, strict=True))
        value = _fill(pad)
        if is_op(node, "Conv"):
            return {"pads": pads} if value == 0.0 else self._refuse(node, value)
        kernel = tuple(attribute(node, "kernel_shape"))
        if any(p >= k for p, k in zip(pads, kernel * 2, strict=True)) or len(node.outputs) > 1:
            self.no(node, "a window could lie wholly in the padding, or indices are used")
            return None
        if attribute(node, "ceil_mode"):
            self.no(node, "ceil_mode")
            return None
        if is_op(node, "AveragePool"):
            counted = attribute(node, "count_include_pad") or not any(own)
            counts = value == 0.0 and counted
            return {"pads": pads, "count_include_pad": 1} if counts else self._refuse(node, value)
        positive = producer(pad.inputs[0], "Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs")
        neutral = value == -np.inf or (value == 0.0 and positive is not None)
        return {"pads": pads} if neutral else self._refuse(node, value)

    def _refuse(self, node: Node, value: float | None) -> dict[str, object] | None:
        self.no(node, f"a padding of {value} is not what its own pads mean")
        return None


def _fill(pad: Node) -> float | None:
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    return 0.0 if value is None else scalar(value)


def _spatial_pads(pad: Node) -> tuple[int, ...] | None:
    """The pads of the spatial axes, lows then highs; None if they are not such pads."""
    dims, pads = rank(pad.inputs[0]), ints(pad.inputs[1])
    if attribute(pad, "mode") != "constant" or dims is None or pads is None:
        return None
    axes: tuple[int, ...] | None = tuple(range(dims))
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        axes = ints(pad.inputs[3])
    if axes is None or len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        return None
    low, high = [0] * dims, [0] * dims
    for position, axis in enumerate(axes):
        low[axis] += pads[position]
        high[axis] += pads[position + len(axes)]
    if dims < 3 or any((*low[:2], *high[:2])):
        return None
    return (*low[2:], *high[2:])
