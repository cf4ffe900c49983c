"""Recomputes all types from the inputs on; used after shapes were bound or constants found."""

from bessemer.ir.graph import Graph
from bessemer.ir.inference import infer_node_types
from bessemer.ir.types import TensorType, ValueType
from bessemer.passes.graph_pass import GraphPass, graph_pass


@graph_pass("infer-shapes")
class InferShapes(GraphPass):
    """Types of all node outputs, inferred again from the graph inputs."""

    def run(self, graph: Graph) -> bool:
        changed = 0
        for node in graph.nodes:
            types = infer_node_types(node.op, node.inputs, node.name, graph.source, node.sources)
            for value, known in zip(node.outputs, types, strict=False):
                better = _merge(value.type, known)
                changed += better != value.type
                # Also when they are equal: what is known of the content is not compared.
                value.type = better
        if changed:
            self.note(f"{changed} types changed")
        return changed > 0


def _merge(old: ValueType, new: ValueType) -> ValueType:
    """The new type, but what was declared where the operator cannot tell."""
    if not isinstance(old, TensorType) or not isinstance(new, TensorType):
        return new
    if new.shape is None:
        return new.with_shape(old.shape)
    if old.is_static and not new.is_static and old.rank == new.rank:
        return new.with_shape(old.shape)
    return new
