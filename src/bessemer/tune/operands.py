"""Memory for the operands of a kernel that is timed: values to check with, cold weights to time."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.loops import static
from bessemer.runtime.memory import PAGE, Region, round_up
from bessemer.schedule.rule import Scheduled

Array = np.ndarray[Any, Any]

COLD_BYTES = 64 << 20
"""Weights are read from memory of this size in turn, as in a network whose weights fill caches."""

_SEED = 20
_PATTERN = 1 << 18


class ColdWeights:
    """Memory that constants of f32 are timed in: each run reads another part of it."""

    def __init__(self) -> None:
        self._next = 0
        self._grow(COLD_BYTES)

    def _grow(self, size_bytes: int) -> None:
        self._region = Region(size_bytes, huge=True)
        # Random: zeros might be one shared page, and results must stay finite.
        pattern = np.random.default_rng(_SEED).normal(0, 0.1, _PATTERN).astype(np.float32)
        memory = self._region.array().view(np.float32)
        for start in range(0, memory.size, _PATTERN):
            part = memory[start: start + _PATTERN]
            part[:] = pattern[: part.size]

    def reserve(self, size_bytes: int) -> None:
        """Makes room for an operand of that size; addresses taken before are no longer valid."""
        if size_bytes > self._region.size_bytes:
            self._grow(round_up(size_bytes, PAGE))

    def take(self, size_bytes: int) -> int:
        """The address of the next part, for which there must be room."""
        size = round_up(size_bytes, PAGE)
        if self._next + size > self._region.size_bytes:
            self._next = 0
        at, self._next = self._next, self._next + size
        return self._region.address + at


class Workspace:
    """The inputs and outputs of one kernel in memory, shared by all schedules of it.

    Inputs hold random numbers (integers are zero, which every table has an entry for).
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._regions: dict[int, Region] = {}
        self._packed: dict[int, list[Region]] = {}
        rng = np.random.default_rng(_SEED)
        for operand in kernel.inputs:
            if operand.constant is None:
                self._physical(operand)[...] = operand.layout.pack(random_array(operand, rng))

    def addresses(self, scheduled: Scheduled, left_out: Callable[[Operand], bool] | None = None
                  ) -> list[int]:
        """Addresses of the operands of a schedule, constants with their real content.

        0 for those left out.
        """
        return [self._address(o) if left_out is None or not left_out(o) else 0
                for o in scheduled.operands]

    def _address(self, operand: Operand) -> int:
        if operand.constant is not None:
            return self._constant(operand)
        return self._region(operand).address

    def spoil(self) -> None:
        """Fills the outputs, so that what a kernel does not write is noticed."""
        for operand in self.kernel.outputs:
            self._region(operand).array()[:] = 0x7B

    def results(self) -> list[Array]:
        """Copies of the outputs by their physical dimensions."""
        return [np.array(self._physical(operand)) for operand in self.kernel.outputs]

    def logical(self, operand: Operand) -> Array:
        """A copy of what an operand holds, as a logical array."""
        physical = np.array(self._physical(operand))
        return np.array(operand.layout.unpack(physical, static(operand.shape)))

    def close(self) -> None:
        """Frees the memory."""
        for region in (*self._regions.values(), *(r for rs in self._packed.values() for r in rs)):
            region.close()

    def release(self, scheduled: Scheduled) -> None:
        """Frees what only `addresses` of one schedule needed."""
        for operand in scheduled.operands:
            for region in self._packed.pop(id(operand), []):
                region.close()

    def _constant(self, operand: Operand) -> int:
        assert operand.constant is not None
        region = packed_region(operand)
        self._packed.setdefault(id(operand), []).append(region)
        return region.address

    def _region(self, operand: Operand) -> Region:
        key = id(operand.tensor)
        if key not in self._regions:
            self._regions[key] = Region(operand_bytes(operand) + 64, huge=True)
        return self._regions[key]

    def _physical(self, operand: Operand) -> Array:
        """A view of an operand's memory by its physical dimensions."""
        dtype = np.dtype(operand.dtype.numpy)
        shape = static(operand.layout.physical_shape(operand.shape))
        flat = self._region(operand).array(0, operand_bytes(operand)).view(dtype)
        flat = flat[static((operand.offset,))[0]:]
        strides = [stride * dtype.itemsize for stride in static(operand.strides)]
        return np.lib.stride_tricks.as_strided(flat, shape, strides)


def packed_region(operand: Operand) -> Region:
    """Memory with the content of a constant operand in its layout."""
    assert operand.constant is not None
    packed = np.ascontiguousarray(operand.layout.pack(operand.constant))
    region = Region(packed.nbytes, huge=True)
    region.array(0, packed.nbytes)[:] = packed.reshape(-1).view(np.uint8)
    return region


def operand_bytes(operand: Operand) -> int:
    """Bytes from the start of an operand's memory to its last element."""
    shape = static(operand.layout.physical_shape(operand.shape))
    if 0 in shape:
        return 0
    last = sum((n - 1) * stride for n, stride in zip(shape, static(operand.strides), strict=True))
    return (static((operand.offset,))[0] + last + 1) * operand.dtype.size_bytes


def random_array(operand: Operand, rng: np.random.Generator
                 ) -> Array:
    """A logical array of an operand's type."""
    shape = static(operand.shape)
    dtype = np.dtype(operand.dtype.numpy)
    if operand.dtype.is_float:
        return rng.normal(0, 1, shape).astype(dtype)
    return np.zeros(shape, dtype)


def is_cold(operand: Operand) -> bool:
    """True if the operand is timed with any numbers instead of its own."""
    return operand.constant is not None and operand.dtype is f32
