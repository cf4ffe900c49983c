"""What shape inference takes for granted of symbolic extents, collected for runs to check.

Some of it must hold of every valid input: the inner extents of a matrix product are equal. Other
things merely hold as a rule, and are taken for granted inside `settling` so that kernels and
shapes become simpler: a sequence is not longer than its table of positions. Inputs for which they
do not hold are run by an engine that was built without.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bessemer.core import frozen

if TYPE_CHECKING:
    from bessemer.core.shapes import Dim

RELATIONS = ("equal", "equal or 1", "broadcast", "at most", "usually equal", "usually at most")
"""`left` is equal to `right`; equal to it or 1; equal to it, or one of both is 1; at most `right`.
Those that usually hold are not needed of valid inputs."""


@frozen.dataclass(frozen=True)
class Assumption:
    """A relation of two extents, of `RELATIONS`."""

    relation: str
    left: "Dim"
    right: "Dim"


@dataclass
class Settling:
    """What is taken for granted without need: what holds for all `usual` values of the symbols."""

    usual: Sequence[Mapping[str, int]]
    taken: dict[Assumption, None] = field(default_factory=dict)


_COLLECTED: ContextVar[list[Assumption] | None] = ContextVar("assumptions", default=None)
_SETTLING: ContextVar[Settling | None] = ContextVar("settling", default=None)


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


def current_settling() -> Settling | None:
    """What the innermost `settling` takes for granted; None outside."""
    return _SETTLING.get()


@contextmanager
def settling(usual: Sequence[Mapping[str, int]]) -> Iterator[Settling]:
    """Takes for granted inside the block what holds for all usual values; nothing if none are."""
    made = Settling(usual)
    token = _SETTLING.set(made)
    try:
        yield made
    finally:
        _SETTLING.reset(token)
