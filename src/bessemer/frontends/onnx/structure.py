"""The wiring of a GraphProto: names defined once, all names known, nodes in a runnable order."""

import heapq
from collections.abc import Container
from typing import Any

from bessemer.core.errors import ModelFormatError


def node_label(node: Any, index: int) -> str:
    """The node's name, or a stable one for a node without."""
    return str(node.name) or f"{node.op_type}_{index}"


def used_names(node: Any) -> list[str]:
    """Names a NodeProto reads, those that its subgraphs take from outside included, each once."""
    names = dict.fromkeys(name for name in node.input if name)
    for attribute in node.attribute:
        for graph in _graphs_of(attribute):
            names.update(dict.fromkeys(free_names(graph)))
    return list(names)


def free_names(graph: Any) -> list[str]:
    """Names that a GraphProto uses and does not define."""
    own = defined_names(graph)
    names: dict[str, None] = {}
    for node in graph.node:
        names.update(dict.fromkeys(name for name in used_names(node) if name not in own))
    names.update(dict.fromkeys(v.name for v in graph.output if v.name and v.name not in own))
    return list(names)


def defined_names(graph: Any) -> set[str]:
    """Names of inputs, initializers and node outputs."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {t.values.name for t in graph.sparse_initializer}
    for node in graph.node:
        own.update(name for name in node.output if name)
    return own


def _graphs_of(attribute: Any) -> list[Any]:
    found = list(attribute.graphs)
    if attribute.HasField("g"):
        found.append(attribute.g)
    return found


def check_names(graph: Any, where: str) -> None:
    """Raises ModelFormatError if a name is defined twice, or an input or output has none."""
    seen: dict[str, str] = {}

    def define(name: str, what: str) -> None:
        if name in seen:
            raise ModelFormatError(f"{where}: {name!r} is defined twice: by {seen[name]} and by "
                                   f"{what}; each tensor must have one origin")
        seen[name] = what

    for value in graph.input:
        if not value.name:
            raise ModelFormatError(f"{where}: a graph input has no name")
        define(value.name, "a graph input")
    initializers: set[str] = set()
    for name in [t.name for t in graph.initializer] + [
        t.values.name for t in graph.sparse_initializer
    ]:
        if not name or name in initializers:
            raise ModelFormatError(f"{where}: initializer {name!r} is unnamed or defined twice")
        initializers.add(name)
        seen.setdefault(name, "an initializer")
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name:
                define(name, f"node {node_label(node, index)!r}")
    outputs: set[str] = set()
    for value in graph.output:
        if not value.name:
            raise ModelFormatError(f"{where}: a graph output has no name")
        if value.name in outputs:
            raise ModelFormatError(f"{where}: output {value.name!r} is listed twice; "
                                   "give the second one its own name with an Identity node")
        outputs.add(value.name)


def sorted_nodes(nodes: Any, outer: Container[str], where: str) -> list[tuple[int, Any]]:
    """(index in the file, NodeProto) in an order where every name is defined before its use.

    A file that is in order already stays as it is. `outer` are the names known from outside.
    Raises: ModelFormatError naming an undefined input or the nodes of a cycle.
    """
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waiting: list[int] = []
    followers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        needs = {producer[name] for name in used_names(node) if name in producer}
        for name in used_names(node):
            if name not in producer and name not in outer:
                raise ModelFormatError(
                    f"{where}: node {node_label(node, index)!r} ({node.op_type}) uses {name!r}, "
                    "which no input, initializer or node defines"
                )
        waiting.append(len(needs))
        for need in needs:
            followers.setdefault(need, []).append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[tuple[int, Any]] = []
    while ready:
        index = heapq.heappop(ready)
        order.append((index, nodes[index]))
        for follower in followers.get(index, []):
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        stuck = [node_label(nodes[i], i) for i, count in enumerate(waiting) if count]
        raise ModelFormatError(f"{where}: the nodes {', '.join(map(repr, stuck[:8]))} depend on "
                               "each other in a cycle (or follow one); a graph must be acyclic")
    return order
