"""Computes equal things once."""

from typing import Any

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.printer import hash_of, print_attribute
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value


@graph_pass("merge-common-subexpressions")
class MergeCommonSubexpressions(GraphPass):
    """Nodes of one operator with equal attributes and inputs -> one node; equal constants too."""

    def run(self, graph: Graph) -> bool:
        changed = self._merge_constants(graph)
        first: dict[tuple[object, ...], Node] = {}
        for node in list(graph.nodes):
            key = _key(node)
            if key is None:
                continue
            kept = first.setdefault(key, node)
            if kept is node or len(kept.outputs) < len(node.outputs):
                continue
            for old, new in zip(node.outputs, kept.outputs, strict=False):
                if old.users or graph.is_output(old):
                    replace_value(graph, old, new)
            kept.sources = tuple(dict.fromkeys((*kept.sources, *node.sources)))
            remove_dead(graph, node)
            self.note(f"{node.op} {label(node)} equals {label(kept)}")
            changed = True
        return changed

    def _merge_constants(self, graph: Graph) -> bool:
        groups: dict[object, list[Value]] = {}
        for value in graph.constants():
            assert value.constant is not None
            key = (value.tensor.dtype, value.tensor.shape, _glimpse(value.constant))
            groups.setdefault(key, []).append(value)
        changed = False
        for group in groups.values():
            kept: dict[str, Value] = {}
            # A hash is only worth its time where another constant looks the same.
            for value in group if len(group) > 1 else ():
                assert value.constant is not None
                first = kept.setdefault(hash_of(value.constant), value)
                if first is not value and not graph.is_output(value):
                    graph.replace_uses(value, first)
                    changed = True
        return changed


def _glimpse(array: np.ndarray[Any, Any]) -> bytes:
    """A few elements; different glimpses mean different content, without reading all of it."""
    if array.dtype == object:
        return b""
    return bytes(array.flat[:: max(1, array.size // 16)].tobytes())


def _key(node: Node) -> tuple[object, ...] | None:
    if not node.op.deterministic or node.op.subgraphs() or node.op.op_name == "Identity":
        return None
    try:
        attributes = tuple(
            (name, print_attribute(item)) for name, item in node.op.attributes().items()
        )
    except TypeError:
        return None  # an attribute of a plugin that has no text form
    inputs = tuple(id(value) if value is not None else 0 for value in node.inputs)
    return (type(node.op), attributes, inputs)
