"""The constants of an engine in memory."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bessemer.core.errors import EngineFormatError
from bessemer.engine.plan import EngineData, HostStep, KernelStep, Plan
from bessemer.runtime.memory import Region, round_up


class Constants:
    """The constant blob in memory: read-only bytes and their address.

    `own_bytes` is what a variant needs besides the constants of its engine. `check` raises if the
    content is wrong; it may take a while.
    """

    def __init__(
        self, blob: np.ndarray[Any, Any], owner: Any = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._check = check
        self.blob = blob
        self.owner = owner
        self.address = int(blob.__array_interface__["data"][0])
        self.own_bytes = 0

    @staticmethod
    def gather(data: EngineData) -> "Constants":
        """Copies constants that were built in memory into one aligned blob."""
        size = data.constant_bytes
        region = Region(size, huge=True)
        blob = region.array(0, size)
        for offset, array in data.constants:
            if array.dtype.hasobject:
                raise EngineFormatError(
                    f"plan {data.plan.name!r}: the constant at {offset} holds Python objects"
                )
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            blob[offset : offset + flat.nbytes] = flat
        blob.flags.writeable = False
        return Constants(blob, region)

    def verify(self) -> None:
        """Waits until the content was checked. Raises: EngineFormatError if it is wrong."""
        check = self._check  # another thread may take it away
        if check is not None:
            check()
            self._check = None

    def address_of(self, offset: int, size_bytes: int) -> int:
        """The address of a constant."""
        return self.address + offset

    def bytes_of(self, offset: int, size_bytes: int) -> np.ndarray[Any, Any]:
        """The bytes of a constant as a uint8 array."""
        return self.blob[offset : offset + size_bytes]


class SharedConstants(Constants):
    """Constants of a variant: those that its engine has as well are the engine's own bytes."""

    def __init__(
        self, base: Constants, known: Mapping[bytes, int], plan: Plan, built: Constants
    ) -> None:
        """`known` is the index of the base; `built` holds all constants of the variant's plan."""
        super().__init__(base.blob, base)
        self._base = base
        self._own: dict[tuple[int, int], int] = {}
        self._shared: dict[tuple[int, int], int] = {}
        for offset, size in sorted(constant_refs(plan)):
            place = known.get(_digest(built.bytes_of(offset, size)))
            if place is not None:
                self._shared[offset, size] = place
            else:
                self._own[offset, size] = self.own_bytes
                self.own_bytes += round_up(size, 64)
        self._region = Region(self.own_bytes, huge=True)
        self._bytes = self._region.array()
        for (offset, size), place in self._own.items():
            self._bytes[place : place + size] = built.bytes_of(offset, size)

    def address_of(self, offset: int, size_bytes: int) -> int:
        """The address of a constant."""
        place = self._shared.get((offset, size_bytes))
        if place is not None:
            return self._base.address_of(place, size_bytes)
        return self._region.address + self._own[offset, size_bytes]

    def bytes_of(self, offset: int, size_bytes: int) -> np.ndarray[Any, Any]:
        """The bytes of a constant as a uint8 array."""
        place = self._shared.get((offset, size_bytes))
        if place is not None:
            return self._base.bytes_of(place, size_bytes)
        place = self._own[offset, size_bytes]
        return self._bytes[place : place + size_bytes]


def constant_refs(plan: Plan) -> set[tuple[int, int]]:
    """Offset and size of each constant that a plan or a body in it uses."""
    found: set[tuple[int, int]] = set()
    for each in (plan, *plan.inner_plans):
        refs = [binding.source for binding in each.outputs]
        for step in each.steps:
            if isinstance(step, KernelStep):
                refs += step.args
            elif isinstance(step, HostStep):
                refs += [ref.buffer for ref in step.inputs if ref is not None]
        found |= {(ref.offset, int(ref.size_bytes)) for ref in refs
                  if ref is not None and ref.space == "constant"}
    return found


def constant_index(plan: Plan, constants: Constants) -> dict[bytes, int]:
    """The offset of each constant of a plan by a digest of its content."""
    return {_digest(constants.bytes_of(offset, size)): offset
            for offset, size in constant_refs(plan)}


def _digest(content: np.ndarray[Any, Any]) -> bytes:
    import hashlib  # only for variants: it loads OpenSSL

    return hashlib.blake2b(content.data, digest_size=20).digest() \
        + len(content).to_bytes(8, "little")
