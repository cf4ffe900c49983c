"""Puts the branch that is taken in the place of an If whose condition is known."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value
from bessemer.passes.match import attribute, constant, is_op


@graph_pass("inline-branches")
class InlineBranches(GraphPass):
    """If(True, then_branch, else_branch) -> the nodes of then_branch."""

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in list(graph.nodes):
            condition = constant(node.inputs[0]) if is_op(node, "If") else None
            if condition is None:
                continue
            taken = bool(np.asarray(condition).reshape(-1)[0])
            body = attribute(node, "then_branch" if taken else "else_branch")
            results = self._copy(graph, node, body)
            for old, new in zip(node.outputs, results, strict=True):
                replace_value(graph, old, new, keep_name=new.producer is not None)
            remove_dead(graph, node)
            self.note(f"If {label(node)} always takes the {'then' if taken else 'else'} branch")
            changed = True
        return changed

    def _copy(self, graph: Graph, node: Node, body: Graph) -> list[Value]:
        """The body's outputs, computed before `node` from the captured values it is given."""
        known: dict[int, Value] = {}
        for formal, actual in zip(body.inputs, node.inputs[1:], strict=True):
            if actual is not None:
                known[id(formal)] = actual

        def look_up(value: Value | None) -> Value | None:
            if value is None:
                return None
            if value.constant is not None and id(value) not in known:
                known[id(value)] = graph.add_constant(value.name, value.constant)
            return known.get(id(value))

        for inner in body.nodes:
            made = graph.add_node(
                inner.op, [look_up(value) for value in inner.inputs], name=inner.name,
                outputs=[value.name for value in inner.outputs], sources=inner.sources,
                before=node,
            )
            pairs = zip(inner.outputs, made.outputs, strict=True)
            known.update({id(old): new for old, new in pairs})
        return [found for value in body.outputs if (found := look_up(value)) is not None]
