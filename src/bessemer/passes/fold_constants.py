"""Computes nodes whose inputs are all known while building."""

from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.ir.graph import Graph, Node
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_node
from bessemer.ir.types import TensorType
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value


@graph_pass("fold-constants")
class FoldConstants(GraphPass):
    """op(constants) -> constant; also what shape inference knows, as Shape of a static type."""

    largest_bytes: int = 64 << 20
    """Results above this stay computed, unless their inputs are as large (a transposed weight)."""
    largest_growth: int = 16
    """Results above 1 MiB that are this many times larger than their inputs stay computed."""

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in list(graph.nodes):
            results = self._fold(node)
            if results is None:
                continue
            for old, data in zip(node.outputs, results, strict=True):
                if old.users or graph.is_output(old):
                    made = graph.add_constant(old.name, np.ascontiguousarray(data))
                    # A numpy scalar shape () is lost by ascontiguousarray.
                    made.constant = np.asarray(made.constant).reshape(np.shape(data))
                    made.type = TensorType.of(made.constant, keep_value=False)
                    replace_value(graph, old, made, keep_name=True)
            self.note(f"{node.op} {label(node)}")
            remove_dead(graph, node)
            changed = True
        return changed

    def _fold(self, node: Node) -> list[Any] | None:
        if not node.op.deterministic or node.op.subgraphs():
            return None
        if not all(isinstance(value.type, TensorType) for value in node.outputs):
            return None
        contents = [value.tensor.value for value in node.outputs]
        if all(data is not None for data in contents):
            return contents
        if not all(value is None or value.is_constant for value in node.inputs):
            return None
        if self._is_too_large(node):
            self.no(node, "the result would be too large to keep as a constant")
            return None
        try:
            results = run_node(
                node, [value.constant if value is not None else None for value in node.inputs]
            )
        except (*REFERENCE_ERRORS, BessemerError) as error:
            self.no(node, f"its reference failed: {error}")
            return None
        if all(isinstance(item, np.ndarray) for item in results):
            return results
        return None

    def _is_too_large(self, node: Node) -> bool:
        sizes = [v.tensor.size_bytes for v in node.outputs if v.tensor.is_static]
        total = sum(sizes)
        given = sum(v.constant.nbytes for v in node.inputs if v and v.constant is not None)
        grown = total > 1 << 20 and total > self.largest_growth * max(given, 1)
        return (total > self.largest_bytes and total > given) or grown
