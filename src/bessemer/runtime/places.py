"""Where a host step finds its values: references of a plan with every number known."""

from typing import Any, NamedTuple

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.engine.plan import BufferRef, TensorRef


class Place(NamedTuple):
    """A value of a host step, or the source of an output.

    `number` is the epoch of an "arena", the binding of an "input" or "output", the slot of "host".
    `shape` None means that the value is an object, or an array of any shape.
    """

    space: str
    number: int
    offset: int
    size_bytes: int
    dtype: str = ""
    shape: tuple[int, ...] | None = None


def static_place(ref: TensorRef | BufferRef) -> Place:
    """The place of a reference that holds no formulas."""
    if isinstance(ref, BufferRef):
        indexed = ref.space in ("input", "output", "host")
        number, offset = (ref.offset, ref.byte) if indexed else (0, ref.offset)
        return Place(ref.space, number, int(offset), int(ref.size_bytes))
    shape = None if ref.shape is None or ref.buffer.space == "host" else tuple(map(int, ref.shape))
    return static_place(ref.buffer)._replace(dtype=ref.dtype, shape=shape)


def typed_view(
    blob: np.ndarray[Any, Any], offset: int, size: int, dtype: str, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """Bytes of a uint8 array seen as a dense tensor."""
    return blob[offset : offset + size].view(DTYPES[dtype].numpy).reshape(shape)
