"""Removes what nothing uses: nodes, and trailing outputs of nodes with several."""

from bessemer.ir.graph import Graph
from bessemer.passes.graph_pass import GraphPass, graph_pass, label


@graph_pass("remove-dead-nodes")
class RemoveDeadNodes(GraphPass):
    """Nodes that no graph output needs, and unused last outputs, are removed."""

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in reversed(list(graph.nodes)):
            if not any(value.users or graph.is_output(value) for value in node.outputs):
                graph.remove_node(node)
                self.note(f"{node.op} {label(node)} is used by nothing")
                changed = True
                continue
            if node.op.op_name == "Split" or node.op.subgraphs():
                continue  # the number of outputs is part of what these compute
            while len(node.outputs) > 1:
                last = node.outputs[-1]
                if last.users or graph.is_output(last):
                    break
                node.outputs.pop()
                self.note(f"output {last.name} of {label(node)} is used by nothing")
                changed = True
        return changed
