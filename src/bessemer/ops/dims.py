"""What shape inference shares: axes, known integers, symbolic contents, data-dependent extents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bessemer.core.assumptions import assume
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.inference import fresh_symbol
from bessemer.ir.operator import Operator, Unlowerable
from bessemer.ir.types import TensorType

Array = np.ndarray[Any, Any]
Known = Sequence[Array | None]
"""Parallel to an operator's inputs: the constant array, or None."""

_MOST_KNOWN = 4096


def normalize_axis(axis: int, rank: int) -> int:
    """The axis counted from the front. Raises: ShapeError if it is outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is out of range for rank {rank}")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """The axes counted from the front. Raises: ShapeError if one is out of range or repeated."""
    result = tuple(normalize_axis(int(axis), rank) for axis in axes)
    if len(set(result)) != len(result):
        raise ShapeError(f"axes {tuple(axes)} name one axis twice")
    return result


def known_ints(type: TensorType | None) -> tuple[int, ...] | None:
    """The elements of an integer tensor whose content is known, else None.

    Large ones count as unknown: they are data such as tables, never shapes or axes.
    """
    if type is None or type.value is None:
        return None
    if type.value.dtype.kind not in "iub" or type.value.size > _MOST_KNOWN:
        return None
    return tuple(int(element) for element in type.value.reshape(-1))


def known_dims(type: TensorType | None) -> Shape | None:
    """The elements as dimensions (integers or symbols) where they are known, else None."""
    if type is None:
        return None
    ints = known_ints(type)
    return ints if ints is not None else type.symbolic


def known_dim(type: TensorType | None) -> Dim | None:
    """The first element as a dimension if it is known: of tensors that have only one."""
    known = known_dims(type)
    return known[0] if known else None


def constant_ints(known: Known, position: int, op: Operator) -> tuple[int, ...]:
    """The constant integers of one input, for `lower`. Raises: Unlowerable if they are computed."""
    array = known[position] if position < len(known) else None
    if array is None:
        raise Unlowerable(f"{op.op_name} with input {position} computed at run time")
    return tuple(int(element) for element in array.reshape(-1))


def content_of(options: Mapping[str, Any], position: int, op: Operator) -> Shape:
    """The integers or dimensions in one input, for `lower`. Raises: Unlowerable if computed."""
    contents = options.get("contents") or ()
    found: Shape | None = contents[position] if position < len(contents) else None
    if found is None:
        return constant_ints(options.get("known") or (), position, op)
    return found


def length_of(type: TensorType) -> int | None:
    """The extent of a rank-1 tensor if it is a known integer."""
    if type.shape is None or len(type.shape) != 1 or isinstance(type.shape[0], Sym):
        return None
    return type.shape[0]


def fresh_dim(op: Operator, position: int = 0) -> Dim:
    """The symbol of an extent that depends on data; inference names it after the node."""
    return fresh_symbol(op.op_name, position)


def check_same_dtype(op: Operator, *types: TensorType | None) -> None:
    """Raises ShapeError if the given types differ in dtype."""
    names = [type.dtype.name for type in types if type is not None]
    if len(set(names)) > 1:
        raise ShapeError(f"{op.op_name} needs inputs of one dtype, got {' and '.join(names)}")


def check_kind(op: Operator, type: TensorType, *kinds: str) -> None:
    """Raises ShapeError unless the dtype is of one of the kinds (float, int, uint, bool ...)."""
    if type.dtype.kind not in kinds:
        raise ShapeError(
            f"{op.op_name} is not defined for {type.dtype}, only for {', '.join(kinds)}"
        )


def check_extent(op: Operator, what: str, found: Dim, expected: Dim) -> None:
    """Raises ShapeError if two extents are known and differ."""
    if isinstance(found, int) and isinstance(expected, int) and found != expected:
        raise ShapeError(f"{op.op_name}: {what} is {found}, it must be {expected}")
    assume(found, expected)


_HALF = 1 << 63


def check_choice(op: Operator, name: str, value: str, *choices: str) -> None:
    """Raises ShapeError unless the attribute has one of the legal values."""
    if value not in choices:
        raise ShapeError(f"{op.op_name}: {name} is {value!r}, it must be {' or '.join(choices)}")


def check_extents(op: Operator, dims: Sequence[Dim]) -> None:
    """Raises ShapeError if an extent is negative."""
    if any(isinstance(dim, int) and dim < 0 for dim in dims):
        raise ShapeError(f"{op.op_name} of the negative shape {list(dims)}")


def check_single(op: Operator, what: str, type: TensorType | None) -> None:
    """Raises ShapeError unless a tensor is left out, of unknown extent, or has one element."""
    if type is not None and type.is_static and type.count != 1:
        raise ShapeError(f"{op.op_name} needs one {what}, got {type}")


def shape_tensor(dims: Sequence[Dim]) -> TensorType:
    """The type of an i64 vector whose content is those dimensions."""
    return with_content(np.dtype(np.int64), (len(dims),), tuple(dims))


def with_content(dtype: np.dtype[Any], shape: Shape, dims: Shape) -> TensorType:
    """A type of static shape with the content `dims`, as value if all are integers."""
    from_numpy = TensorType.of(np.zeros(0, dtype)).dtype
    ints = [dim for dim in dims if not isinstance(dim, Sym)]
    if len(ints) == len(dims):
        extents = [dim for dim in shape if not isinstance(dim, Sym)]
        # Arithmetic that overflows wraps, as numpy's does.
        wrapped = [(dim + _HALF) % (2 * _HALF) - _HALF for dim in ints]
        value = np.asarray(wrapped, np.int64).astype(dtype).reshape(extents)
        return TensorType(from_numpy, shape, value)
    return TensorType(from_numpy, shape, None, symbolic=dims)


def extent(dim: Dim) -> int:
    """The extent as an integer, for `lower`. Raises: Unlowerable if it is symbolic."""
    if isinstance(dim, Sym):
        raise Unlowerable(f"an extent {dim} that is not known at build time")
    return dim
