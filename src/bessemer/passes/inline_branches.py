"""Puts the branch that is taken in the place of an If whose condition is known."""

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import GraphPass, graph_pass, label
from bessemer.passes.inlining import copy_body, passes_absent, replace_outputs
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
            results = self._copy(graph, node, "then_branch" if taken else "else_branch")
            if results is None:
                continue
            replace_outputs(graph, node, results)
            self.note(f"If {label(node)} always takes the {'then' if taken else 'else'} branch")
            changed = True
        return changed

    def _copy(self, graph: Graph, node: Node, branch: str) -> list[Value] | None:
        body, actuals = attribute(node, branch), node.inputs[1:]
        if passes_absent(body, actuals):
            self.no(node, f"its {branch} gives an absent value")
            return None
        try:
            results = copy_body(graph, node, body, actuals)
        except ShapeError as error:
            self.no(node, f"its {branch} does not fit what it is given: {error}")
            return None
        return [value for value in results if value is not None]
