"""What shape inference takes for granted of symbolic extents, collected for runs to check."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bessemer.core.shapes import Dim

RELATIONS = ("equal", "equal or 1", "at most")


@dataclass(frozen=True)
class Assumption:
    """`left` is equal to `right`, is equal to it or 1, or is at most `right`."""

    relation: str
    left: "Dim"
    right: "Dim"


_COLLECTED: ContextVar[list[Assumption] | None] = ContextVar("assumptions", default=None)


def assume(left: "Dim", right: "Dim", relation: str = "equal") -> None:
    """Notes that something holds of two extents, one of them symbolic; known ones are checked."""
    collected = _COLLECTED.get()
    if collected is not None and left != right and not (
            isinstance(left, int) and isinstance(right, int)):
        collected.append(Assumption(relation, left, right))


@contextmanager
def collecting() -> Iterator[list[Assumption]]:
    """Collects what is assumed inside the block."""
    found: list[Assumption] = []
    token = _COLLECTED.set(found)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)
