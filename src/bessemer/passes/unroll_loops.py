"""Puts the iterations of short loops, as many as are known to run, in the place of the loop."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError, ShapeError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_node
from bessemer.ir.types import TensorType
from bessemer.passes.graph_pass import GraphPass, graph_pass, label
from bessemer.passes.inlining import (
    copy_body,
    passes_absent,
    remove_nodes,
    replace_outputs,
    weight,
)
from bessemer.passes.match import Array, attribute, constant, is_op, make, shape
from bessemer.passes.resolve_sequences import known_items


@graph_pass("unroll-loops")
class UnrollLoops(GraphPass):
    """Loop, Scan, SequenceMap of a known number of iterations -> its body that many times.

    Scanned inputs are read by Gather of one index; stacked outputs become a Concat. What decides
    whether a Loop goes on is computed here, where it depends on constants and the iteration only.
    """

    largest_nodes: int = 2000
    """Loops that would become more nodes than this stay loops."""

    def run(self, graph: Graph) -> bool:
        changed = self.run_inside(graph)
        for node in list(graph.nodes):
            if not is_op(node, "Loop", "Scan", "SequenceMap"):
                continue
            before = {id(item) for item in graph.nodes}
            try:
                results = self._unrolled(graph, node)
            except ShapeError as error:
                remove_nodes(graph, [item for item in graph.nodes if id(item) not in before])
                self.no(node, f"its body does not fit what it is given: {error}")
                continue
            if results is None:
                continue
            self.note(f"{node.op} {label(node)} -> {len(graph.nodes) - len(before)} nodes")
            replace_outputs(graph, node, results)
            changed = True
        return changed

    def _unrolled(self, graph: Graph, node: Node) -> list[Value] | None:
        if is_op(node, "Loop"):
            return self._loop(graph, node)
        return self._scan(graph, node) if is_op(node, "Scan") else self._map(graph, node)

    def _is_affordable(self, node: Node, trips: int) -> bool:
        total = trips * max(weight(attribute(node, "body")), 1)
        if total > self.largest_nodes:
            self.no(node, f"{trips} iterations would be {total} nodes")
            return False
        return True

    # -- Loop -----------------------------------------------------------------------------------

    def _loop(self, graph: Graph, node: Node) -> list[Value] | None:
        body, captured = attribute(node, "body"), int(attribute(node, "captured"))
        operands = node.inputs[2:]
        count = len(operands) - captured
        trips = _trips_of_loop(node, self.largest_nodes // max(weight(body), 1) + 1)
        if trips is None or not self._is_affordable(node, trips):
            return None
        if passes_absent(body, (None, None, *operands)) and any(v is None for v in operands):
            self.no(node, "an absent value is carried")
            return None
        carried, outer = list(operands[:count]), operands[count:]
        stacks: list[list[Value]] = [[] for _ in body.outputs[1 + count :]]
        for iteration in range(trips):
            number = graph.add_constant(f"{node.name}.iteration", np.array(iteration, np.int64))
            going = graph.add_constant(f"{node.name}.condition", np.array(True))
            results = copy_body(graph, node, body, [number, going, *carried, *outer])
            carried = results[1 : 1 + count]
            for items, item in zip(stacks, results[1 + count :], strict=True):
                items.append(_present(item))
        return _all_present([
            *carried,
            *(self._stacked(graph, node, items, value.type, 0)
              for items, value in zip(stacks, body.outputs[1 + count :], strict=True)),
        ])

    # -- Scan -----------------------------------------------------------------------------------

    def _scan(self, graph: Graph, node: Node) -> list[Value] | None:
        body, captured = attribute(node, "body"), int(attribute(node, "captured"))
        scanned = int(attribute(node, "num_scan_inputs"))
        count = len(node.inputs) - scanned - captured
        lines, outer = node.inputs[count : count + scanned], node.inputs[count + scanned :]
        axes = tuple(attribute(node, "scan_input_axes")) or (0,) * scanned
        trips = _trips_of_scan(lines, axes)
        if trips is None or not self._is_affordable(node, trips):
            return None
        if passes_absent(body, node.inputs):
            self.no(node, "an absent value is carried")
            return None
        turned = tuple(attribute(node, "scan_input_directions")) or (0,) * scanned
        states = list(node.inputs[:count])
        stacks: list[list[Value]] = [[] for _ in body.outputs[count:]]
        for step in range(trips):
            pieces = [
                self._slice(graph, node, line, axis, trips - 1 - step if turn else step)
                for line, axis, turn in zip(lines, axes, turned, strict=True)
            ]
            results = copy_body(graph, node, body, [*states, *pieces, *outer])
            states = results[:count]
            for items, item in zip(stacks, results[count:], strict=True):
                items.append(_present(item))
        out_axes = tuple(attribute(node, "scan_output_axes")) or (0,) * len(stacks)
        turns = tuple(attribute(node, "scan_output_directions")) or (0,) * len(stacks)
        outs = [
            self._stacked(graph, node, items[::-1] if turn else items, value.type, axis)
            for items, value, axis, turn in zip(
                stacks, body.outputs[count:], out_axes, turns, strict=True)
        ]
        return _all_present([*states, *outs])

    def _slice(
        self, graph: Graph, node: Node, line: Value | None, axis: int, step: int
    ) -> Value:
        index = graph.add_constant(f"{node.name}.index", np.array(step, np.int64))
        return graph.add_node(
            make("Gather", axis=axis), [line, index], name=node.name, sources=node.sources,
            before=node,
        ).output

    def _stacked(
        self, graph: Graph, node: Node, items: Sequence[Value], type: Any, axis: int
    ) -> Value:
        """The items joined along a new axis. Raises: ShapeError if there is none of known shape."""
        if not isinstance(type, TensorType) or (not items and not type.is_static):
            raise ShapeError(f"no shape is known for a stack of {len(items)} values of {type}")
        if not items:
            extents = list(type.static_shape)
            extents.insert(axis % (len(extents) + 1), 0)
            return graph.add_constant(node.output.name, np.zeros(extents, type.dtype.numpy))
        return stack_values(graph, node, items, axis)

    # -- SequenceMap ----------------------------------------------------------------------------

    def _map(self, graph: Graph, node: Node) -> list[Value] | None:
        body, captured = attribute(node, "body"), int(attribute(node, "captured"))
        mapped = len(node.inputs) - captured
        given: list[list[Value] | Value | None] = []
        for position, value in enumerate(node.inputs):
            is_mapped = position < mapped and value is not None \
                and not isinstance(value.type, TensorType)
            items = known_items(value) if is_mapped else None
            if is_mapped and items is None:
                return None
            given.append(items if is_mapped else value)
        first = given[0]
        if not isinstance(first, list) or not self._is_affordable(node, len(first)):
            return None
        if any(isinstance(items, list) and len(items) < len(first) for items in given):
            self.no(node, "its sequences have different lengths")
            return None
        results: list[list[Value]] = [[] for _ in body.outputs]
        for position in range(len(first)):
            actuals = [each[position] if isinstance(each, list) else each for each in given]
            if passes_absent(body, actuals):
                raise ShapeError("it gives an absent value")
            for items, item in zip(results, copy_body(graph, node, body, actuals), strict=True):
                items.append(_present(item))
        return [
            self._sequence(graph, node, items, value.type)
            for items, value in zip(results, body.outputs, strict=True)
        ]

    def _sequence(self, graph: Graph, node: Node, items: list[Value], type: Any) -> Value:
        if not items and not isinstance(type, TensorType):
            raise ShapeError(f"no empty sequence of {type} can be written")
        op = make("SequenceConstruct") if items else make("SequenceEmpty", dtype=type.dtype.name)
        return graph.add_node(
            op, items, name=node.name, sources=node.sources, before=node
        ).output


def stack_values(graph: Graph, node: Node, items: Sequence[Value], axis: int) -> Value:
    """Tensors joined along a new axis, in front of `node` and on its behalf."""
    where = graph.add_constant(f"{node.name}.axis", np.array([axis], np.int64))
    pieces = [
        graph.add_node(
            make("Unsqueeze"), [item, where], name=node.name, sources=node.sources, before=node
        ).output
        for item in items
    ]
    if len(pieces) == 1:
        return pieces[0]
    return graph.add_node(
        make("Concat", axis=axis), pieces, name=node.name, sources=node.sources, before=node
    ).output


def _present(value: Value | None) -> Value:
    if value is None:
        raise ShapeError("an output of the body is absent")
    return value


def _all_present(values: Sequence[Value | None]) -> list[Value]:
    return [_present(value) for value in values]


def _trips_of_scan(lines: Sequence[Value | None], axes: Sequence[int]) -> int | None:
    for line, axis in zip(lines, axes, strict=True):
        extents = shape(line)
        if extents is not None and -len(extents) <= axis < len(extents):
            return extents[axis]
    return None


# -- how often a Loop runs --------------------------------------------------------------------


def _trips_of_loop(node: Node, most: int) -> int | None:
    """The number of iterations of a Loop; None if it is not known, or more than `most`."""
    trips, going = (*node.inputs, None, None)[:2]
    limit, start = constant(trips), constant(going)
    bound = max(int(limit.reshape(-1)[0]), 0) if limit is not None else None
    if bound == 0 or (start is not None and not start.reshape(-1)[0]):
        return 0
    if (going is not None and start is None) or (trips is not None and limit is None):
        return None
    body = attribute(node, "body")
    if body.outputs[0] is body.inputs[1]:
        return bound
    found = constant(body.outputs[0])
    if found is not None:
        return bound if found.reshape(-1)[0] else 1
    return _simulated_trips(node, body, bound, most)


def _simulated_trips(node: Node, body: Graph, bound: int | None, most: int) -> int | None:
    """Counts the iterations by running only what decides over the next one."""
    count = len(node.inputs) - 2 - int(attribute(node, "captured"))
    nodes, reads = _deciding(body, count)
    data: dict[int, Any] = {}
    for position, formal in enumerate(body.inputs[2:], 2):
        if id(formal) in reads:
            data[id(formal)] = constant(node.inputs[position])
    if not all(map(_is_cheap, nodes)) or any(known is None for known in data.values()):
        return None
    limit = most if bound is None else min(bound, most)
    for iteration in range(limit):
        data[id(body.inputs[0])] = np.array(iteration, np.int64)
        data[id(body.inputs[1])] = np.array(True)
        if not _run(nodes, data):
            return None
        if not _fetch(data, body.outputs[0]).reshape(-1)[0]:
            return iteration + 1
        later = {id(formal): _fetch(data, body.outputs[1 + k])
                 for k, formal in enumerate(body.inputs[2 : 2 + count]) if id(formal) in reads}
        data.update(later)
    return bound if bound == limit else None


def _deciding(body: Graph, count: int) -> tuple[list[Node], set[int]]:
    """The nodes that decide over the next iteration, in order, and the inputs that are read."""
    found: set[int] = set()
    reads: set[int] = set()
    carried = {id(formal): k for k, formal in enumerate(body.inputs[2 : 2 + count])}
    pending: list[Value] = [body.outputs[0]]
    while pending:
        value = pending.pop()
        if value.producer is None and value.constant is None and id(value) not in reads:
            reads.add(id(value))
            if id(value) in carried:
                pending.append(body.outputs[1 + carried[id(value)]])
        if value.producer is not None and id(value.producer) not in found:
            found.add(id(value.producer))
            pending += [each for each in value.producer.inputs if each is not None]
    return [node for node in body.nodes if id(node) in found], reads


def _is_cheap(node: Node) -> bool:
    if not node.op.deterministic or node.op.subgraphs():
        return False
    return all(
        isinstance(value.type, TensorType) and value.type.is_static
        and value.type.size_bytes <= 4096 for value in node.outputs
    )


def _run(nodes: Sequence[Node], data: dict[int, Any]) -> bool:
    """Runs the nodes by their references; False if one fails."""
    try:
        for node in nodes:
            results = run_node(node, [_fetch(data, v) if v is not None else None
                                      for v in node.inputs])
            for value, result in zip(node.outputs, results, strict=True):
                data[id(value)] = result
    except (*REFERENCE_ERRORS, BessemerError):
        return False
    return True


def _fetch(data: dict[int, Any], value: Value) -> Array:
    found: Array = value.constant if value.constant is not None else data[id(value)]
    return found
