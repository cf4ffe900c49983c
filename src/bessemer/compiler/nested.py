"""Bodies of control flow as nested plans: each body graph goes the way of a whole model."""

import dataclasses
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Sym, symbol
from bessemer.ir.graph import Graph, Node
from bessemer.ir.operator import Operator, operator_class
from bessemer.ir.types import TensorType
from bessemer.ops.control import ControlOperator
from bessemer.passes.pipelines import run_pipeline

if TYPE_CHECKING:
    from bessemer.compiler.variant import Variant

LOGGER = logging.getLogger("bessemer.compiler")


def lower_bodies(
    node: Node, lower: Callable[[Graph], "Variant"], disable: Collection[str] = (),
    verify: Any = None,
) -> dict[str, "Variant"]:
    """The bodies of a control-flow node by attribute; none for any other node.

    `lower` makes a variant of an optimised graph. A branch of If need not fit the shapes that this
    engine is built for, as long as it is not taken; such a one is left out.
    """
    if not isinstance(node.op, ControlOperator):
        return {}
    made = {}
    for name, body in node.op.subgraphs().items():
        graph = body.clone()
        graph.name = f"{node.name}.{name}"
        _part_outputs(graph)
        _rename_symbols(graph)
        try:
            run_pipeline(graph, disable=disable, verify=verify)
            made[name] = lower(graph)
        except ShapeError as error:
            LOGGER.info("%s is left to the interpreter: %s", graph.name, error)
    return made


def without_bodies(op: Operator, names: Collection[str]) -> Operator:
    """The operator without those of its graphs that the engine holds compiled."""
    if not names:
        return op
    return dataclasses.replace(op, **dict.fromkeys(names))  # type: ignore[type-var]


def _rename_symbols(graph: Graph) -> None:
    """Keeps symbols of nodes outside apart from those of nodes of the same name in the body."""
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            names = {n for dim in value.type.shape if isinstance(dim, Sym) for n in dim.symbols()}
            value.type = value.type.subs(
                {name: symbol(f"?given.{name[1:]}") for name in names if name.startswith("?")})


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
