"""The conditions of a symbolic plan: what its nodes assume of extents that only a run knows."""

from collections.abc import Collection

from bessemer.compiler.symbols import formula
from bessemer.core.assumptions import Assumption, collecting, current_settling
from bessemer.core.bounds import at_most
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym
from bessemer.engine.plan import Condition, Plan
from bessemer.ir.graph import Graph
from bessemer.ir.inference import infer_node_types
from bessemer.ir.types import TensorType


def conditions_of(graph: Graph, known: Collection[str]) -> tuple[Condition, ...]:
    """What must hold for the steps of a graph to be right; `known` symbols get values in a run.

    That includes all that was taken for granted so far: a pass may have used it and removed the
    node.
    """
    found: dict[Assumption, str] = {}
    for node in graph.nodes:
        try:
            with collecting() as assumed:
                infer_node_types(node.op, node.inputs, node.name, graph.source, node.sources)
        except ShapeError:
            continue  # a branch that is never taken may not fit
        for each in assumed:
            found.setdefault(each, node.sources[0] if node.sources else node.name)
    names = set(known)
    settling = current_settling()
    for each in settling.taken if settling is not None else ():
        found.setdefault(each, "")
    return tuple(
        Condition(each.relation, formula(each.left), formula(each.right), source)
        for each, source in found.items()
        if symbols_in(each) <= names
        and not (each.relation == "at most" and at_most(each.left, each.right))
    )


def symbols_in(assumption: Assumption) -> set[str]:
    """The symbols in both sides."""
    return _symbols(assumption.left) | _symbols(assumption.right)


def _symbols(dim: Dim) -> set[str]:
    return dim.symbols() if isinstance(dim, Sym) else set()


def is_checked(assumption: Assumption, plan: Plan) -> bool:
    """True if a run of the plan, or of the bodies in it, checks it."""
    wanted = (assumption.relation, formula(assumption.left), formula(assumption.right))
    return any((each.relation, each.left, each.right) == wanted
               for part in (plan, *plan.inner_plans) for each in part.conditions)


def has_choices(graph: Graph) -> bool:
    """True if an extent in the graph, or in the bodies in it, is a function of others."""
    return any(isinstance(dim, Sym) and dim.functions()
               for value in graph.values() if isinstance(value.type, TensorType)
               for dim in (*(value.type.shape or ()), *(value.type.symbolic or ()))) or any(
        has_choices(body) for node in graph.nodes for body in node.op.subgraphs().values())
