"""Checks that a graph is consistent; collects every fault before it raises."""

from bessemer.core.bounds import at_most
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import BessemerError, VerifyError
from bessemer.core.shapes import is_static
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.inference import infer_node_types
from bessemer.ir.types import TensorType, ValueType


def verify(graph: Graph, *, types: bool = True) -> None:
    """Checks names, order, users, producers, constants and (unless told not to) inferred types.

    Raises: VerifyError listing every fault found.
    """
    faults = find_faults(graph, types=types)
    if faults:
        place = f" ({graph.source})" if graph.source else ""
        lines = "".join(f"\n  - {fault}" for fault in faults)
        raise VerifyError(f"graph {graph.name!r}{place} has {len(faults)} fault(s):{lines}")


def find_faults(graph: Graph, *, types: bool = True) -> list[str]:
    """All faults of a graph and of the graphs inside its operators, as sentences."""
    faults = _find_name_faults(graph) + _find_order_faults(graph) + _find_user_faults(graph)
    for value in graph.values():
        faults += _find_constant_faults(value) + _find_placement_faults(value)
    if types and not faults:
        for node in graph.nodes:
            faults += _find_type_faults(node, graph.source)
    for node in graph.nodes:
        for name, inner in node.op.subgraphs().items():
            found = find_faults(inner, types=types)
            faults += [f'{node.op} "{node.name}", {name}: {fault}' for fault in found]
    return faults


def _find_name_faults(graph: Graph) -> list[str]:
    faults = []
    owners: dict[str, Value] = {}
    for value in graph.values():
        other = owners.setdefault(value.name, value)
        if other is not value:
            faults.append(f"two values are named {value.name!r}")
    nodes: set[str] = set()
    for node in graph.nodes:
        if node.name in nodes:
            faults.append(f"two nodes are named {node.name!r}")
        nodes.add(node.name)
    return faults


def _find_order_faults(graph: Graph) -> list[str]:
    faults = []
    defined = {id(value) for value in graph.inputs}
    for value in graph.inputs:
        if value.producer is not None or value.constant is not None:
            faults.append(f"input {value.name!r} is a constant or has a producer")
    for node in graph.nodes:
        for used in node.inputs:
            if used is not None and not used.is_constant and id(used) not in defined:
                faults.append(f'{node.op} "{node.name}" uses {used.name!r} before it is computed')
        for value in node.outputs:
            if value.producer is not node:
                faults.append(f'{value.name!r} does not name {node.op} "{node.name}" as producer')
            defined.add(id(value))
    for value in graph.outputs:
        if not value.is_constant and id(value) not in defined:
            faults.append(f"output {value.name!r} is not computed by any node")
    return faults


def _find_user_faults(graph: Graph) -> list[str]:
    faults = []
    present = {id(node) for node in graph.nodes}
    for value in graph.values():
        for user, index in value.users:
            if id(user) not in present:
                faults.append(f'{value.name!r} has a user "{user.name}" that is not in the graph')
            elif index >= len(user.inputs) or user.inputs[index] is not value:
                faults.append(f'{value.name!r} is not input {index} of its user "{user.name}"')
    for node in graph.nodes:
        for index, used in enumerate(node.inputs):
            if used is not None and not any(u is node and i == index for u, i in used.users):
                faults.append(f'{used.name!r} does not know its user "{node.name}"')
    return faults


def _find_constant_faults(value: Value) -> list[str]:
    if value.constant is None:
        return []
    known = value.type
    if not isinstance(known, TensorType):
        return [f"constant {value.name!r} has type {known}, not a tensor"]
    data = value.constant
    if known.shape != tuple(data.shape) or known.dtype != dtype_from_numpy(data.dtype):
        return [f"constant {value.name!r} is {known}, its data is {TensorType.of(data, False)}"]
    return []


def _find_placement_faults(value: Value) -> list[str]:
    place = value.placement
    if place is None:
        return []
    piece, whole = value.type, place.root.type
    head = f"{value.name!r} {piece} cannot lie in {place.root.name!r} {whole}"
    if not isinstance(piece, TensorType) or not isinstance(whole, TensorType):
        return [head]
    if piece.shape is None or whole.shape is None or piece.dtype != whole.dtype:
        return [f"{head}: both need one dtype and known shapes"]
    a, b, axis = piece.dims, whole.dims, place.axis
    if len(a) != len(b) or not 0 <= axis < len(b):
        return [f"{head} along axis {axis}"]
    others = all(m == n for k, (m, n) in enumerate(zip(a, b, strict=True)) if k != axis)
    if not others or not at_most(0, place.start) or not at_most(place.start + a[axis], b[axis]):
        return [f"{head} at {place.start} along axis {axis}"]
    return []


def _find_type_faults(node: Node, source: str) -> list[str]:
    try:
        inferred = infer_node_types(node.op, node.inputs, node.name, source, node.sources)
    except BessemerError as error:
        return [str(error)]
    if len(inferred) < len(node.outputs):
        return [f'{node.op} "{node.name}" has {len(node.outputs)} outputs, its operator gives '
                f"{len(inferred)}"]
    return [
        f'{node.op} "{node.name}": {value.name!r} is {value.type}, inferred is {known}'
        for value, known in zip(node.outputs, inferred, strict=False)
        if not agrees(value.type, known)
    ]


def agrees(found: ValueType, inferred: ValueType) -> bool:
    """True if two types do not contradict each other; unknown and symbolic parts fit anything."""
    if isinstance(found, TensorType) and isinstance(inferred, TensorType):
        if found.dtype != inferred.dtype:
            return False
        if found.shape is None or inferred.shape is None:
            return True
        if len(found.shape) != len(inferred.shape):
            return False
        return all(
            a == b or not is_static((a, b))
            for a, b in zip(found.shape, inferred.shape, strict=True)
        )
    return type(found) is type(inferred)
