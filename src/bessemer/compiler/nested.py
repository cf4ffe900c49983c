"""Bodies of control flow as nested plans: each body graph goes the way of a whole model."""

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from bessemer.ir.graph import Graph, Node
from bessemer.ir.operator import Operator, operator_class
from bessemer.ops.control import ControlOperator
from bessemer.passes.pipelines import run_pipeline

if TYPE_CHECKING:
    from bessemer.compiler.variant import Variant


def lower_bodies(
    node: Node, lower: Callable[[Graph], "Variant"], disable: Collection[str] = (),
    verify: Any = None,
) -> dict[str, "Variant"]:
    """The bodies of a control-flow node by attribute; none for any other node.

    `lower` makes a variant of an optimised graph.
    """
    if not isinstance(node.op, ControlOperator):
        return {}
    made = {}
    for name, body in node.op.subgraphs().items():
        graph = body.clone()
        graph.name = f"{node.name}.{name}"
        _part_outputs(graph)
        run_pipeline(graph, disable=disable, verify=verify)
        made[name] = lower(graph)
    return made


def without_bodies(op: Operator) -> Operator:
    """The operator without the graphs that the engine holds compiled."""
    if not isinstance(op, ControlOperator):
        return op
    return dataclasses.replace(op, **dict.fromkeys(op.subgraphs()))  # type: ignore[type-var]


def _part_outputs(graph: Graph) -> None:
    """Gives every output a name of its own: a plan writes each output once."""
    outputs = []
    seen: set[int] = set()
    for value in graph.outputs:
        if id(value) in seen:
            value = graph.add_node(operator_class("Identity")(), [value]).output
        seen.add(id(value))
        outputs.append(value)
    graph.outputs = outputs
