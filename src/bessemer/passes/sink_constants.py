"""Tells bodies what they need not be told each time: constants, and values that never change."""

import dataclasses
from typing import Any

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, replace_value
from bessemer.passes.match import attribute, is_op, with_attributes

_OWN_BODY_INPUTS = {"If": 1, "Loop": 0, "Scan": 0, "SequenceMap": 0}
"""How many inputs of the node its bodies do not see."""


@graph_pass("sink-constants")
class SinkConstants(GraphPass):
    """A captured constant -> a constant of the body; captures that no body reads are dropped.

    A carried value of a Loop that no iteration changes becomes a captured one.
    """

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in graph.nodes:
            if node.op.op_name not in _OWN_BODY_INPUTS:
                continue
            if is_op(node, "Loop"):
                changed |= self._capture_invariants(graph, node)
            changed |= self._sink(node)
        return changed

    def _sink(self, node: Node) -> bool:
        hidden = _OWN_BODY_INPUTS[node.op.op_name]
        first = hidden if is_op(node, "If") else len(node.inputs) - int(attribute(node, "captured"))
        bodies: dict[str, Graph] = node.op.subgraphs()
        read = {
            id(node.inputs[position]) for position in range(first, len(node.inputs))
            for body in bodies.values() if _is_read(body, body.inputs[position - hidden])
        }
        dropped = [
            position for position in range(first, len(node.inputs))
            if _is_superfluous(node, first, position) or id(node.inputs[position]) not in read
        ]
        if not dropped:
            return False
        copies = {name: body.clone() for name, body in bodies.items()}
        for position in reversed(dropped):
            for body in copies.values():
                self._drop(node, body, position, first, hidden)
        changes: dict[str, Any] = dict(copies)
        if not is_op(node, "If"):
            changes["captured"] = int(attribute(node, "captured")) - len(dropped)
        names = [value.name for p in dropped if (value := node.inputs[p]) is not None]
        node.op = with_attributes(node.op, **changes)
        node.set_inputs([v for p, v in enumerate(node.inputs) if p not in dropped])
        self.note(f"{node.op} {label(node)} is no longer given {', '.join(names)}")
        return True

    def _drop(self, node: Node, body: Graph, position: int, first: int, hidden: int) -> None:
        """Replaces one captured input of a body by a constant or by an equal input."""
        value, formal = node.inputs[position], body.inputs[position - hidden]
        if _is_read(body, formal):
            assert value is not None
            if value.constant is not None:
                new = Value(body.unique_name(formal.name), value.type, value.constant)
            else:
                new = body.inputs[node.inputs.index(value, first) - hidden]
            body.replace_uses(formal, new)
        del body.inputs[position - hidden]

    def _capture_invariants(self, graph: Graph, node: Node) -> bool:
        """Carried values that the body gives back as they were -> captured values."""
        body = attribute(node, "body")
        captured = int(attribute(node, "captured"))
        count = len(node.inputs) - 2 - captured
        fixed = [
            k for k in range(count)
            if body.outputs[1 + k] is body.inputs[2 + k] and node.inputs[2 + k] is not None
        ]
        if not fixed:
            return False
        copy = body.clone()
        copy.inputs = _moved_back(copy.inputs, [2 + k for k in fixed])
        copy.outputs = [v for k, v in enumerate(copy.outputs) if k - 1 not in fixed]
        initial = [node.inputs[2 + k] for k in fixed]
        gone = [node.outputs[k] for k in fixed]
        for old, new in zip(gone, initial, strict=True):
            assert new is not None
            replace_value(graph, old, new)
        node.set_inputs(_moved_back(list(node.inputs), [2 + k for k in fixed]))
        node.outputs = [value for k, value in enumerate(node.outputs) if k not in fixed]
        node.op = dataclasses.replace(node.op, body=copy, captured=captured + len(fixed))  # type: ignore[type-var]
        self.note(f"Loop {label(node)} never changes {', '.join(value.name for value in gone)}")
        return True


def _moved_back(items: list[Any], positions: list[int]) -> list[Any]:
    kept = [item for k, item in enumerate(items) if k not in positions]
    return [*kept, *(items[k] for k in positions)]


def _is_read(body: Graph, formal: Value) -> bool:
    return bool(formal.users) or body.is_output(formal)


def _is_superfluous(node: Node, first: int, position: int) -> bool:
    """True for a captured constant, and for a value that is captured before."""
    value = node.inputs[position]
    if value is None:
        return False
    return value.is_constant or any(value is other for other in node.inputs[first:position])
