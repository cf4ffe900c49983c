"""Computes both branches of a small If and selects, where that costs less than to decide."""

from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Unlowerable
from bessemer.ir.types import TensorType
from bessemer.ops.expression import expression_of
from bessemer.passes.graph_pass import GraphPass, graph_pass, label
from bessemer.passes.inlining import copy_body, passes_absent, remove_nodes, replace_outputs
from bessemer.passes.match import attribute, is_op, make, shape
from bessemer.te.expr import Binary, Const, Load
from bessemer.te.tensor import stages
from bessemer.te.walk import walk

_DIVISIONS = ("/", "//", "%", "rem", "fmod")


@graph_pass("select-branches")
class SelectBranches(GraphPass):
    """If(c, f(x), g(x)) -> Where(c, f(x), g(x)), for few and cheap nodes that cannot fail."""

    most_nodes: int = 6
    """Branches with more nodes than this stay branches."""
    most_elements: int = 1 << 14
    """Also those in which a node gives, or computes from, more elements than this."""

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in list(graph.nodes):
            if not is_op(node, "If") or node.inputs[0] is None:
                continue
            reason = self._refusal(node)
            if reason:
                self.no(node, reason)
                continue
            before = {id(item) for item in graph.nodes}
            try:
                results = _selected(graph, node)
            except ShapeError as error:
                remove_nodes(graph, [item for item in graph.nodes if id(item) not in before])
                self.no(node, f"its branches do not fit what they are given: {error}")
                continue
            replace_outputs(graph, node, results)
            self.note(f"If {label(node)} -> Where")
            changed = True
        return changed

    def _refusal(self, node: Node) -> str:
        """Why both branches may not be computed; empty if they may."""
        condition = shape(node.inputs[0])
        if condition is None or any(extent != 1 for extent in condition):
            return "its condition has no known shape"
        yes, no = attribute(node, "then_branch"), attribute(node, "else_branch")
        for a, b in zip(yes.outputs, no.outputs, strict=True):
            if not isinstance(a.type, TensorType) or not a.type.is_static or a.type != b.type:
                return f"its branches give {a.type} and {b.type}"
        for body in (yes, no):
            if passes_absent(body, node.inputs[1:]):
                return "a branch gives an absent value"
            if len(body.nodes) > self.most_nodes:
                return f"a branch has {len(body.nodes)} nodes"
            for inner in body.nodes:
                reason = self._objection(inner)
                if reason:
                    return f"{inner.op} {label(inner)} {reason}"
        return ""

    def _objection(self, node: Node) -> str:
        """Why a node may not be computed where its result is not wanted."""
        if not node.op.deterministic or node.op.subgraphs():
            return "is no plain computation"
        for value in (*node.inputs, *node.outputs):
            extents = shape(value)
            if value is not None and extents is not None:
                elements = 1
                for extent in extents:
                    elements *= extent
                if elements > self.most_elements:
                    return f"works on {elements} elements"
        try:
            expression = expression_of(node)
        except Unlowerable as error:
            return f"has no tensor expression: {error}"
        for stage in stages(expression.outputs):
            assert stage.body is not None
            for part in walk(stage.body):
                if isinstance(part, Load) and any(
                    isinstance(inner, Load) for index in part.indices for inner in walk(index)
                ):
                    return "reads at computed places"
                if isinstance(part, Binary) and part.op in _DIVISIONS \
                        and not part.dtype.is_float and not isinstance(part.b, Const):
                    return "divides integers"
        return ""


def _selected(graph: Graph, node: Node) -> list[Value]:
    """Where nodes over copies of both branches. Raises: ShapeError."""
    actuals = node.inputs[1:]
    sides = [copy_body(graph, node, attribute(node, name), actuals)
             for name in ("then_branch", "else_branch")]
    condition = node.inputs[0]
    assert condition is not None
    if shape(condition):
        made = graph.add_node(make("Squeeze"), [condition], name=node.name, sources=node.sources,
                              before=node)
        condition = made.output
    return [
        graph.add_node(make("Where"), [condition, yes, no], name=node.name, sources=node.sources,
                       before=node).output
        for yes, no in zip(*sides, strict=True)
    ]
