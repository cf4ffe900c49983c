"""Tells the bodies of control flow the types that they are really given."""

import dataclasses
from collections.abc import Mapping

from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node
from bessemer.ir.types import SequenceType, TensorType, ValueType
from bessemer.passes.graph_pass import GraphPass, graph_pass, label
from bessemer.passes.infer_shapes import InferShapes
from bessemer.passes.match import attribute, is_op


@graph_pass("refine-bodies")
class RefineBodies(GraphPass):
    """Types of the inputs of bodies, from the inputs of If, Loop, Scan, SequenceMap.

    A carried value has its first type in all iterations where the body gives that type back.
    """

    def run(self, graph: Graph) -> bool:
        changed = False
        for node in graph.nodes:
            given, states = _given(node)
            if given is None:
                continue
            for name, body in node.op.subgraphs().items():
                made = _refined(body, given, states)
                if made is not None:
                    node.op = dataclasses.replace(node.op, **{name: made})  # type: ignore[type-var]
                    self.note(f"{node.op} {label(node)}: {name}")
                    changed = True
        return self.run_inside(graph) or changed


def _given(node: Node) -> tuple[list[ValueType | None] | None, dict[int, int]]:
    """Types for the inputs of the node's bodies, and which body outputs return as which inputs."""
    types: list[ValueType | None] = [v.type if v is not None else None for v in node.inputs]
    if is_op(node, "If"):
        return types[1:], {}
    if is_op(node, "Loop"):
        count = len(types) - 2 - int(attribute(node, "captured"))
        return [None, None, *types[2:]], {2 + k: 1 + k for k in range(count)}
    if is_op(node, "Scan"):
        scanned = int(attribute(node, "num_scan_inputs"))
        count = len(types) - scanned - int(attribute(node, "captured"))
        axes = tuple(attribute(node, "scan_input_axes")) or (0,) * scanned
        for position, axis in enumerate(axes, count):
            known = types[position]
            if isinstance(known, TensorType) and known.shape is not None:
                dims = list(known.dims)
                del dims[axis]
                types[position] = known.with_shape(tuple(dims))
        return types, {k: k for k in range(count)}
    if is_op(node, "SequenceMap"):
        mapped = len(types) - int(attribute(node, "captured"))
        return [
            _every_element(known) if position < mapped else known
            for position, known in enumerate(types)
        ], {}
    return None, {}


def _every_element(known: ValueType | None) -> ValueType | None:
    """What is true of each element of a sequence; a symbol may differ from one to the next."""
    if not isinstance(known, SequenceType):
        return known
    element = known.element
    return element if isinstance(element, TensorType) and element.is_static else None


def _refined(
    body: Graph, given: list[ValueType | None], states: Mapping[int, int]
) -> Graph | None:
    """A copy of the body with narrower input types, or None if there are none."""
    wanted = {
        k: known for k, known in enumerate(given)
        if isinstance(known, TensorType) and _is_narrower(known, body.inputs[k].type)
    }
    while wanted:
        copy = body.clone()
        for k, known in wanted.items():
            copy.inputs[k].type = known.without_value()
        try:
            InferShapes().run(copy)
        except ShapeError:
            return None
        wrong = [k for k in wanted if k in states and copy.outputs[states[k]].type != wanted[k]]
        if not wrong:
            return copy
        for k in wrong:
            del wanted[k]
    return None


def _is_narrower(new: TensorType, old: ValueType) -> bool:
    """True if `new` says more of the shape than `old` and contradicts nothing."""
    if not isinstance(old, TensorType) or new.dtype != old.dtype or new.shape is None:
        return False
    if old.shape is None:
        return True
    if len(old.shape) != len(new.shape):
        return False
    pairs = [(a, b) for a, b in zip(new.shape, old.shape, strict=True) if a != b]
    return bool(pairs) and all(isinstance(a, int) and not isinstance(b, int) for a, b in pairs)
