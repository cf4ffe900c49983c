"""Small questions that patterns ask about nodes and values."""

import dataclasses
from typing import Any

import numpy as np

from bessemer.core.errors import PassError
from bessemer.core.shapes import Shape
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator, operator_class
from bessemer.ir.types import TensorType

Array = np.ndarray[Any, Any]


def is_op(node: Node | None, *names: str) -> bool:
    """True if the node is one of those operators."""
    return node is not None and node.op.op_name in names


def producer(value: Value | None, *names: str) -> Node | None:
    """The node that computes the value, if it is one of those operators."""
    made = value.producer if value is not None else None
    return made if made is not None and (not names or made.op.op_name in names) else None


def sole_producer(graph: Graph, value: Value | None, *names: str) -> Node | None:
    """As `producer`, but only if the value has one use and is no graph output."""
    made = producer(value, *names)
    return made if made is not None and value is not None and used_once(graph, value) else None


def used_once(graph: Graph, value: Value) -> bool:
    """True if exactly one node input uses the value and it is no graph output."""
    return len(value.users) == 1 and not graph.is_output(value)


def constant(value: Value | None) -> Array | None:
    """The data of a constant, else None."""
    return value.constant if value is not None else None


def scalar(value: Value | None) -> float | None:
    """The number in a constant of one element, else None."""
    data = constant(value)
    if data is None or data.size != 1 or data.dtype.kind in "OSUc":
        return None
    return float(data.reshape(()))


def is_number(value: Value | None, number: float, tolerance: float = 1e-6) -> bool:
    """True if the value is a one-element constant near that number."""
    found = scalar(value)
    return found is not None and abs(found - number) <= tolerance * max(1.0, abs(number))


def split_constant(node: Node) -> tuple[Value, Value] | None:
    """(computed operand, constant operand) of a binary node that has one of each."""
    if len(node.inputs) != 2:
        return None
    a, b = node.inputs
    if a is None or b is None or a.is_constant == b.is_constant:
        return None
    return (b, a) if a.is_constant else (a, b)


def other_operand(node: Node, value: Value) -> Value | None:
    """The operand of a binary node that is not `value`."""
    if len(node.inputs) != 2:
        return None
    a, b = node.inputs
    return b if a is value else (a if b is value else None)


def attribute(node: Node, name: str) -> Any:
    """An attribute of the node's operator."""
    # Operators are found by name here, so their attribute types are not known to the checker.
    return getattr(node.op, name)


def make(name: str, **attributes: Any) -> Operator:
    """An operator of that name. Raises: PassError if it lacks such an attribute."""
    cls = operator_class(name)
    try:
        return cls(**attributes)
    except TypeError as error:
        raise PassError(f"cannot make {name} with {attributes}: {error}") from error


def with_attributes(op: Operator, **changes: Any) -> Operator:
    """The operator with some attributes changed."""
    return dataclasses.replace(op, **changes)  # type: ignore[type-var]


def shape(value: Value | None) -> tuple[int, ...] | None:
    """The static shape of a tensor value, else None."""
    if value is None or not isinstance(value.type, TensorType) or not value.type.is_static:
        return None
    return value.type.static_shape


def dims(value: Value | None) -> Shape | None:
    """The shape of a tensor value, extents may be symbolic; None if its rank is unknown."""
    if value is None or not isinstance(value.type, TensorType):
        return None
    return value.type.shape


def rank(value: Value | None) -> int | None:
    """The rank of a tensor value, else None."""
    if value is None or not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    return value.type.rank


def same_type(a: Value, b: Value) -> bool:
    """True if two tensors surely have one dtype and one shape (equal symbols count as equal)."""
    return isinstance(a.type, TensorType) and a.type.shape is not None and a.type == b.type


def is_float(value: Value | None) -> bool:
    """True for a floating-point tensor."""
    return value is not None and isinstance(value.type, TensorType) and value.type.dtype.is_float


def ints(value: Value | None) -> tuple[int, ...] | None:
    """The content of a constant integer vector, else None."""
    data = constant(value)
    if data is None or data.dtype.kind not in "iu":
        return None
    return tuple(int(item) for item in data.ravel())


def sources_between(node: Node, *starts: Value) -> tuple[str, ...]:
    """The source names of the nodes that compute `node` from the values `starts`."""
    found: dict[int, Node] = {}

    def visit(item: Node) -> None:
        if id(item) in found:
            return
        for value in item.inputs:
            if value is not None and value.producer is not None and value not in starts:
                visit(value.producer)
        found[id(item)] = item

    visit(node)
    return merge_sources(*found.values())


def merge_sources(*nodes: Node) -> tuple[str, ...]:
    """The source names of several nodes, each once, in order."""
    names: dict[str, None] = {}
    for node in nodes:
        names.update(dict.fromkeys(node.sources))
    return tuple(names)


def slice_range(node: Node) -> tuple[int, int] | None:
    """(axis, start) of a constant Slice with step 1 that cuts along one axis."""
    extents = dims(node.inputs[0])
    starts = ints(node.inputs[1])
    if extents is None or starts is None or len(starts) != 1 or dims(node.output) is None:
        return None
    axes: tuple[int, ...] | None = (0,)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = ints(node.inputs[3])
    steps: tuple[int, ...] | None = (1,)
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = ints(node.inputs[4])
    if axes is None or steps != (1,) or len(axes) != 1:
        return None
    axis = axes[0] % len(extents)
    length = extents[axis]
    if not isinstance(length, int):
        return None
    start = starts[0] + length if starts[0] < 0 else starts[0]
    return axis, min(max(start, 0), length)
