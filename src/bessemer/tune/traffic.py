"""Bytes that a kernel's loops fetch from beyond a cache.

A cache holds what is used within a loop if it fits as a whole.
"""

import math
from dataclasses import dataclass, field

from bessemer.core.shapes import usual
from bessemer.lower.loops import Buffer

_LINE_BYTES = 64

Touched = dict[int, dict[int, float]]
"""Bytes of each buffer touched within a loop, both by id."""


@dataclass(eq=False)
class Loop:
    """A loop around some accesses; `extent` is that of one thread."""

    var: str
    extent: float
    kind: str
    children: "list[Loop]" = field(default_factory=list)
    accesses: "list[Access]" = field(default_factory=list)

    @property
    def is_loop(self) -> bool:
        """True if it is a loop in the machine code."""
        return self.kind in ("serial", "parallel") and self.extent > 1


@dataclass(eq=False)
class Access:
    """A load or store of memory: which loops move its address."""

    buffer: Buffer
    moving: frozenset[str]
    steps: dict[str, int]
    most: float
    """Bytes of the whole buffer."""

    def bytes_within(self, loops: list[Loop]) -> float:
        """Bytes that the access touches while these loops run."""
        size = self.buffer.dtype.size_bytes
        count, dense = 1.0, 1.0
        for loop in loops:
            if loop.var in self.moving:
                count *= loop.extent
                if abs(self.steps[loop.var]) * size < _LINE_BYTES:
                    dense *= loop.extent
        lines = max(1.0, dense * size / _LINE_BYTES) * _LINE_BYTES
        return min(count / dense * lines, self.most)


def buffer_bytes(buffer: Buffer) -> float:
    """Bytes of a buffer; symbolic extents count as the usual ones."""
    return math.prod(usual(dim, {}) for dim in buffer.shape) * buffer.dtype.size_bytes


def _within(loop: Loop, above: list[Loop]) -> dict[int, float]:
    """Bytes of each buffer that are touched while a loop runs once through."""
    found: dict[int, float] = {}
    chain = [*above, loop]
    for access in loop.accesses:
        key = id(access.buffer)
        found[key] = max(found.get(key, 0.0), access.bytes_within(chain))
    for child in loop.children:
        for key, size in _within(child, chain).items():
            found[key] = max(found.get(key, 0.0), size)
    return found


def missed(loop: Loop, capacity: int, touched: Touched) -> dict[int, float]:
    """Bytes of each buffer fetched while a loop runs once through, its accesses inside.

    `touched` is filled with what does not depend on the capacity, by loop.
    """
    whole = touched.get(id(loop))
    if whole is None:
        whole = touched[id(loop)] = _within(loop, [])
    if sum(whole.values()) <= capacity:
        return whole
    inner: dict[int, float] = {}
    for access in loop.accesses:
        key = id(access.buffer)
        inner[key] = max(inner.get(key, 0.0), access.bytes_within([]))
    for child in loop.children:
        for key, size in missed(child, capacity, touched).items():
            inner[key] = inner.get(key, 0.0) + size
    stays = sum(inner.values()) <= capacity
    moving = _moved_by(loop)
    return {key: size * (loop.extent if key in moving or not stays else 1)
            for key, size in inner.items()}


def _moved_by(loop: Loop) -> set[int]:
    found: set[int] = set()
    todo = [loop]
    while todo:
        at = todo.pop()
        found |= {id(access.buffer) for access in at.accesses if loop.var in access.moving}
        todo += at.children
    return found
