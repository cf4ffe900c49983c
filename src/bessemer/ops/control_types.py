"""Types of what control flow gives: of several paths, of iterations, as seen from outside."""

from collections.abc import Sequence
from dataclasses import replace

from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym
from bessemer.ir.inference import is_fresh
from bessemer.ir.operator import Operator
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType
from bessemer.ops.dims import fresh_dim, normalize_axis


def join_types(op: Operator, position: int, a: ValueType, b: ValueType) -> ValueType:
    """The narrowest type that holds both; extents that differ become new symbols.

    Raises: ShapeError if the kinds or dtypes differ.
    """
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype != b.dtype:
            raise ShapeError(f"output {position} is {a} on one path and {b} on the other")
        if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
            return a.with_shape(None)
        return a.with_shape(tuple(
            x if x == y else fresh_dim(op, 100 * position + axis)
            for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True))
        ))
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        if a.element is None or b.element is None:
            return SequenceType(a.element or b.element)
        return SequenceType(join_types(op, position, a.element, b.element))
    if isinstance(a, OptionalType) or isinstance(b, OptionalType):
        inner = [t.element if isinstance(t, OptionalType) else t for t in (a, b)]
        if inner[0] is None or inner[1] is None:
            return OptionalType(inner[0] or inner[1])
        return OptionalType(join_types(op, position, inner[0], inner[1]))
    raise ShapeError(f"output {position} is {a} on one path and {b} on the other")


def seen_outside(
    op: Operator, types: Sequence[ValueType], inputs: Sequence[ValueType | None]
) -> tuple[ValueType, ...]:
    """Types of results as the graph around sees them.

    Extents that only a body knows the symbols of become new symbols: elsewhere those names may
    stand for something else.
    """
    known = {name for type in inputs for name in _symbols(type)}

    def dim(x: Dim, position: int) -> Dim:
        foreign = isinstance(x, Sym) and any(
            name not in known and not is_fresh(name) for name in x.symbols())
        return fresh_dim(op, position) if foreign else x

    def widened(type: ValueType, position: int) -> ValueType:
        if isinstance(type, TensorType):
            if type.shape is None or type.is_static:
                return type
            return type.with_shape(tuple(dim(x, position + k) for k, x in enumerate(type.shape)))
        return type if type.element is None else replace(
            type, element=widened(type.element, position))

    return tuple(widened(type, 100 * k) for k, type in enumerate(types))


def _symbols(type: ValueType | None) -> set[str]:
    if type is None:
        return set()
    if not isinstance(type, TensorType):
        return _symbols(type.element)
    return {name for x in type.shape or () if isinstance(x, Sym) for name in x.symbols()}


def stacked_type(type: ValueType, axis: int, count: Dim) -> ValueType:
    """The type of `count` such tensors stacked along a new axis."""
    if not isinstance(type, TensorType):
        raise ShapeError(f"only tensors can be stacked over iterations, not {type}")
    if type.shape is None:
        return type
    at = normalize_axis(axis, type.rank + 1)
    return type.with_shape((*type.dims[:at], count, *type.dims[at:]))
