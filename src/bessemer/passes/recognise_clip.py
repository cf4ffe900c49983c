"""Finds Clip spelled out with Min, Max and Relu."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    is_float,
    is_op,
    merge_sources,
    same_type,
    scalar,
    sole_producer,
    split_constant,
)

Bounds = tuple[float, float]


@graph_pass("recognise-clip")
class RecogniseClip(RewritePass):
    """Min(x, b) and Max(x, a) -> Clip(x, a, b); Clip of Clip or Relu -> Clip.

    Before: y = Min(Relu(x), 6). After: y = Clip(x, 0, 6).
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Min", "Max", "Clip") or not is_float(node.output):
            return None
        found = _bounds(node)
        if found is None or not same_type(found[0], node.output):
            return None
        x, (low, high) = found
        inner = sole_producer(graph, x, "Min", "Max", "Clip", "Relu")
        below = _bounds(inner) if inner is not None else None
        sources = node.sources
        if inner is not None and below is not None and same_type(below[0], node.output):
            x, (first_low, first_high) = below
            # The outer bounds act last: they also cut the inner ones.
            low, high = max(low, min(first_low, high)), min(high, max(first_high, low))
            sources = merge_sources(inner, node)
        elif is_op(node, "Clip"):
            return None
        return self._clip(graph, node, x, (low, high), sources)

    def _clip(
        self, graph: Graph, node: Node, x: Value, bounds: Bounds, sources: tuple[str, ...]
    ) -> Value:
        dtype = node.output.tensor.dtype.numpy
        operands: list[Value | None] = [x]
        for name, limit in zip(("low", "high"), bounds, strict=True):
            data = np.array(limit).astype(dtype)
            known = None if np.isinf(limit) else graph.add_constant(f"{node.name}.{name}", data)
            operands.append(known)
        while operands[-1] is None:
            operands.pop()
        return self.build(graph, node, "Clip", operands, sources=sources).output


def _bounds(node: Node) -> tuple[Value, Bounds] | None:
    """(x, (low, high)) of a node that only limits x by numbers, else None."""
    x = node.inputs[0]
    if is_op(node, "Min", "Max"):
        operands = split_constant(node)
        number = scalar(operands[1]) if operands is not None else None
        if operands is None or number is None or np.isnan(number):
            return None
        limits = (-np.inf, number) if is_op(node, "Min") else (number, np.inf)
        return operands[0], limits
    if x is None:
        return None
    if is_op(node, "Relu"):
        return x, (0.0, np.inf)
    low, high = _limit(node, 1, -np.inf), _limit(node, 2, np.inf)
    if low is None or high is None or not low <= high:
        return None
    return x, (low, high)


def _limit(node: Node, position: int, default: float) -> float | None:
    """A bound of a Clip, None if it is computed."""
    value = node.inputs[position] if len(node.inputs) > position else None
    return default if value is None else scalar(value)
