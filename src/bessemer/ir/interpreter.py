"""Runs a graph node by node with the operators' numpy references: the meaning of a graph.

Tensors are numpy arrays, sequences are lists, an absent optional is None.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import InputError, VerifyError
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import outputs_of
from bessemer.ir.types import TensorType

# What a numpy reference may raise on data that does not fit; a note then names the node.
REFERENCE_ERRORS = (
    ValueError, IndexError, TypeError, KeyError, ZeroDivisionError, OverflowError, AttributeError,
    AssertionError, ArithmeticError, NotImplementedError, MemoryError,
)


def run_graph(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a graph for inputs given in order.

    Raises: InputError if the number of inputs is wrong.
    """
    if len(inputs) != len(graph.inputs):
        raise InputError(
            f"graph {graph.name!r} takes {len(graph.inputs)} inputs, got {len(inputs)}"
        )
    return _execute(graph, list(inputs), ())[0]


def run_graph_values(
    graph: Graph, inputs: Mapping[str, Any], keep: Collection[str] | None = None
) -> dict[str, Any]:
    """Values by name: the graph outputs, and those named in `keep` (all node outputs if None).

    Raises: InputError if an input is missing.
    """
    missing = [value.name for value in graph.inputs if value.name not in inputs]
    if missing:
        raise InputError(f"graph {graph.name!r}: no data for input(s) {', '.join(missing)}")
    wanted = keep
    if wanted is None:
        wanted = {value.name for node in graph.nodes for value in node.outputs}
    outputs, kept = _execute(graph, [inputs[value.name] for value in graph.inputs], wanted)
    return kept | {value.name: data for value, data in zip(graph.outputs, outputs, strict=True)}


def run_node(node: Node, operands: Sequence[Any]) -> list[Any]:
    """The outputs of one node by its operator's reference.

    Raises: VerifyError if the reference gives fewer results than the node has, or another dtype.
    """
    try:
        with np.errstate(all="ignore"):
            results = outputs_of(node.op.reference(*operands))
    except REFERENCE_ERRORS as error:
        shown = ", ".join(_describe(operand) for operand in operands)
        error.add_note(f'in the reference of {node.op} "{node.name}" on ({shown})')
        raise
    if len(results) < len(node.outputs):
        raise VerifyError(
            f'{node.op} "{node.name}": the reference gives {len(results)} results, '
            f"the node has {len(node.outputs)} outputs"
        )
    return [_checked(node, v, r) for v, r in zip(node.outputs, results, strict=False)]


def _execute(
    graph: Graph, inputs: list[Any], keep: Collection[str]
) -> tuple[list[Any], dict[str, Any]]:
    data: dict[int, Any] = {}
    for value, item in zip(graph.inputs, inputs, strict=True):
        is_tensor = isinstance(value.type, TensorType) and item is not None
        data[id(value)] = np.asarray(item) if is_tensor and not isinstance(item, list) else item
    kept = {value.name: data[id(value)] for value in graph.inputs if value.name in keep}
    dying = _last_uses(graph)
    for node in graph.nodes:
        results = run_node(node, [_fetch(data, value, node) for value in node.inputs])
        for value, result in zip(node.outputs, results, strict=True):
            data[id(value)] = result
            if value.name in keep:
                kept[value.name] = result
        for key in dying.get(id(node), ()):
            data.pop(key, None)
    return [_fetch(data, value, None) for value in graph.outputs], kept


def _last_uses(graph: Graph) -> dict[int, list[int]]:
    """For each node, the values that nobody reads after it."""
    last: dict[int, int] = {}
    for node in graph.nodes:
        for value in (*node.inputs, *node.outputs):
            if value is not None:
                last[id(value)] = id(node)
    for value in graph.outputs:
        last.pop(id(value), None)
    dying: dict[int, list[int]] = {}
    for key, node_key in last.items():
        dying.setdefault(node_key, []).append(key)
    return dying


def _fetch(data: dict[int, Any], value: Value | None, node: Node | None) -> Any:
    if value is None:
        return None
    if value.constant is not None:
        return value.constant
    if id(value) not in data:
        place = f'{node.op} "{node.name}"' if node is not None else "the graph's outputs"
        raise VerifyError(f"{place}: value {value.name!r} is used before it is computed")
    return data[id(value)]


def _checked(node: Node, value: Value, result: Any) -> Any:
    if not isinstance(value.type, TensorType) or result is None or isinstance(result, list):
        return result
    array = np.asarray(result)
    found = dtype_from_numpy(array.dtype)
    if found != value.type.dtype:
        raise VerifyError(
            f'{node.op} "{node.name}": the reference gives {found} for {value.name!r}, '
            f"inferred was {value.type}"
        )
    return array


def _describe(operand: Any) -> str:
    if isinstance(operand, np.ndarray):
        return f"{operand.dtype}{list(operand.shape)}"
    return type(operand).__name__
