"""Copies of body graphs among the nodes of the graph around them: what inlining passes share."""

from collections.abc import Sequence

from bessemer.core.errors import ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import remove_dead, replace_value

BODY_WEIGHT = 50
"""A node that holds graphs counts as this many nodes, besides those in it."""


def copy_body(
    graph: Graph, before: Node, body: Graph, actuals: Sequence[Value | None]
) -> list[Value | None]:
    """The body's outputs, computed by copies of its nodes in front of `before`.

    `actuals` are what the body's inputs stand for, None for an absent one. Types are inferred anew.
    Raises: ShapeError if they do not fit; the graph is then as it was.
    """
    known: dict[int, Value] = {}
    for formal, actual in zip(body.inputs, actuals, strict=True):
        if actual is not None:
            known[id(formal)] = actual

    def look_up(value: Value | None) -> Value | None:
        if value is None:
            return None
        if value.constant is not None and id(value) not in known:
            known[id(value)] = graph.add_constant(value.name, value.constant)
        return known.get(id(value))

    made: list[Node] = []
    try:
        for inner in body.nodes:
            made.append(graph.add_node(
                inner.op, [look_up(value) for value in inner.inputs], name=inner.name,
                outputs=[value.name for value in inner.outputs], sources=inner.sources,
                before=before,
            ))
            pairs = zip(inner.outputs, made[-1].outputs, strict=True)
            known.update({id(old): new for old, new in pairs})
    except ShapeError:
        remove_nodes(graph, made)
        raise
    return [look_up(value) for value in body.outputs]


def remove_nodes(graph: Graph, nodes: Sequence[Node]) -> None:
    """Takes back nodes that nothing but each other uses."""
    for node in reversed(nodes):
        graph.remove_node(node)


def replace_outputs(graph: Graph, node: Node, results: Sequence[Value]) -> None:
    """Makes users of the node's outputs use `results`, and removes the node."""
    for old, new in zip(node.outputs, results, strict=True):
        replace_value(graph, old, new, keep_name=new.producer is not None)
    remove_dead(graph, node)


def passes_absent(body: Graph, actuals: Sequence[Value | None]) -> bool:
    """True if an output of the body would be an input that is absent."""
    absent = {id(f) for f, a in zip(body.inputs, actuals, strict=True) if a is None}
    return any(id(value) in absent for value in body.outputs)


def weight(body: Graph) -> int:
    """Nodes of a body, those of the bodies in it and a charge for each of them included."""
    total = len(body.nodes)
    for node in body.nodes:
        for inner in node.op.subgraphs().values():
            total += BODY_WEIGHT + weight(inner)
    return total
