"""The constants of an engine in memory."""

from typing import Any

import numpy as np

from bessemer.core.errors import EngineFormatError
from bessemer.engine.plan import EngineData
from bessemer.runtime.memory import Region


class Constants:
    """The constant blob in memory: read-only bytes and their address."""

    def __init__(self, blob: np.ndarray[Any, Any], owner: Any = None) -> None:
        self.blob = blob
        self.owner = owner
        self.address = int(blob.__array_interface__["data"][0])

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

    def address_of(self, offset: int, size_bytes: int) -> int:
        """The address of a constant."""
        return self.address + offset

    def bytes_of(self, offset: int, size_bytes: int) -> np.ndarray[Any, Any]:
        """The bytes of a constant as a uint8 array."""
        return self.blob[offset : offset + size_bytes]
