"""Infers the result types of a node and words its errors with names, shapes and file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, outputs_of
from bessemer.ir.types import ValueType

if TYPE_CHECKING:
    from bessemer.ir.graph import Node, Value


def infer_node_types(
    op: Operator, inputs: Sequence["Value | None"], name: str, source: str = "",
    sources: tuple[str, ...] = (),
) -> list[ValueType]:
    """Result types of `op` on those values.

    Raises: ShapeError naming the node, its inputs' types and the file.
    """
    types = [value.known_type() if value is not None else None for value in inputs]
    try:
        return list(outputs_of(op.infer(*types)))
    except (ShapeError, ValueError, IndexError, AssertionError, TypeError, KeyError,
            ZeroDivisionError, OverflowError, MemoryError, AttributeError) as error:
        where = f" ({source})" if source else ""
        shown = ", ".join(repr(v) if v is not None else "none" for v in inputs)
        label = sources[0] if sources else name
        raise ShapeError(f'{op} "{label}"{where}: {error}; inputs: {shown}') from error


def infer_again(node: "Node", source: str = "") -> bool:
    """Recomputes the types of a node's outputs; True if one changed."""
    types = infer_node_types(node.op, node.inputs, node.name, source, node.sources)
    changed = False
    for value, known in zip(node.outputs, types, strict=False):
        if value.type != known:
            value.type = known
            changed = True
    return changed
