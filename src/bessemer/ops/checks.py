"""Checks that shape inference shares; that symbolic extents fit is left to the run to check."""

from collections.abc import Sequence

from bessemer.core.assumptions import assume
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape, function, product
from bessemer.ir.types import TensorType


def same_dim(what: str, a: Dim, b: Dim) -> None:
    """Raises ShapeError if two extents are known and differ."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ShapeError(f"{what}: {a} and {b} differ")
    assume(a, b)


def assume_elements(length: Dim, result: Shape) -> None:
    """An axis from which a result with elements is taken has elements itself."""
    assume(function("min", product(result), 1), length, "at most")


def check_extents(what: str, dims: Sequence[Dim], least: int = 0) -> None:
    """Raises ShapeError if a known extent is below `least`."""
    for dim in dims:
        if isinstance(dim, int) and dim < least:
            shown = ", ".join(map(str, dims))
            raise ShapeError(f"{what} [{shown}]: extents of {least} or more expected")


def check_broadcasts_to(name: str, given: TensorType | None, shape: Sequence[Dim]) -> None:
    """Raises ShapeError if `given` does not broadcast to exactly that shape."""
    if given is None or given.shape is None:
        return
    pairs = list(zip(reversed(given.dims), reversed(shape), strict=False))
    for a, b in pairs:
        if a != 1:
            assume(a, b, "equal or 1")
    fits = given.rank <= len(shape) and all(
        a == 1 or a == b or not isinstance(a, int) or not isinstance(b, int) for a, b in pairs
    )
    if not fits:
        raise ShapeError(f"{name} {given} does not broadcast to [{','.join(map(str, shape))}]")


def check_floats(*types: TensorType | None) -> None:
    """Raises ShapeError unless the given types share one float dtype."""
    given = [type for type in types if type is not None]
    if any(type.dtype != given[0].dtype or not type.dtype.is_float for type in given):
        raise ShapeError(f"one float dtype expected, got {', '.join(map(str, given))}")
