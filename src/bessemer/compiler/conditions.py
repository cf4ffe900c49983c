"""The conditions of a symbolic plan: what its nodes assume of extents that only a run knows."""

from collections.abc import Collection

from bessemer.compiler.symbols import formula
from bessemer.core.assumptions import Assumption, collecting
from bessemer.core.bounds import at_most
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym
from bessemer.engine.plan import Condition
from bessemer.ir.graph import Graph
from bessemer.ir.inference import infer_node_types


def conditions_of(graph: Graph, known: Collection[str]) -> tuple[Condition, ...]:
    """What must hold for the steps of a graph to be right; `known` symbols get values in a run."""
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
    return tuple(
        Condition(each.relation, formula(each.left), formula(each.right), source)
        for each, source in found.items()
        if _symbols(each.left) | _symbols(each.right) <= names
        and not (each.relation == "at most" and at_most(each.left, each.right))
    )


def _symbols(dim: Dim) -> set[str]:
    return dim.symbols() if isinstance(dim, Sym) else set()
