"""Anonymous memory with an address: for machine code, arenas and the structures of the driver."""

import ctypes
import mmap
import weakref
from typing import Any

import numpy as np

from bessemer.core.errors import InternalError, TargetError

PAGE = mmap.PAGESIZE
HUGE_PAGE = 2 << 20

READ, WRITE, EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_MAP_FAILED = ctypes.c_void_p(-1).value


def round_up(value: int, unit: int) -> int:
    """The least multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


def _unmap(address: int, size: int) -> None:
    _libc.munmap(address, size)


class Region:
    """Zeroed anonymous pages; freed by `close` or when no longer referenced.

    Arrays made by `array` keep the region alive. Raises: TargetError if the system refuses.
    """

    def __init__(self, size_bytes: int, huge: bool = False) -> None:
        self.size_bytes = round_up(max(size_bytes, 1), PAGE)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = _libc.mmap(None, self.size_bytes, READ | WRITE, flags, -1, 0)
        if address is None or address == _MAP_FAILED:
            raise TargetError(f"the system refused {self.size_bytes} bytes of memory")
        self.address: int = address
        if huge and self.size_bytes >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            # A kernel without huge pages refuses this; the memory works all the same.
            _libc.madvise(self.address, self.size_bytes, mmap.MADV_HUGEPAGE)
        self._free = weakref.finalize(self, _unmap, self.address, self.size_bytes)
        # Workers may still run in it while the interpreter exits; the system frees it then.
        self._free.atexit = False

    def protect(self, offset: int, size_bytes: int, protection: int) -> None:
        """Sets the protection of whole pages."""
        if _libc.mprotect(self.address + offset, size_bytes, protection) != 0:
            raise InternalError(
                f"mprotect of {size_bytes} bytes failed: errno {ctypes.get_errno()}; the system "
                "may forbid executable memory"
            )

    def array(self, offset: int = 0, size_bytes: int | None = None) -> np.ndarray[Any, Any]:
        """A writable uint8 view of the region; using it after `close` is a fault."""
        size = self.size_bytes - offset if size_bytes is None else size_bytes
        if offset < 0 or size < 0 or offset + size > self.size_bytes:
            raise InternalError(f"bytes {offset}..{offset + size} outside {self.size_bytes}")
        return np.asarray(_Exported(self, offset, size))

    def close(self) -> None:
        """Frees the pages now."""
        self._free()


class _Exported:
    """Gives numpy the address and keeps the region alive as the base of the array."""

    def __init__(self, region: Region, offset: int, size_bytes: int) -> None:
        self.region = region
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": (size_bytes,), "strides": None,
            "data": (region.address + offset, False),
        }
