"""Checksums: SHA-256 for small sections, a fast one at memory speed for constants."""

import importlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 16

# One core reads memory at half the speed that two or three together reach.
_MOST_THREADS = 4
# 16 MiB, which one core reads in about 2 ms.
_BLOCKS_PER_PIECE = 256


def _find_sha256() -> Callable[[bytes | memoryview], Any]:
    """SHA-256 of Python itself: `hashlib` loads OpenSSL, which takes 4 MB in every process.

    Its module is `_sha2` since Python 3.12 and `_sha256` before; a Python without either has
    `hashlib`.
    """
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            found: Callable[[bytes | memoryview], Any] = importlib.import_module(name).sha256
        except (ImportError, AttributeError):
            continue
        return found
    raise ImportError("this Python has no SHA-256")


_sha256 = _find_sha256()


def digest(content: bytes | memoryview) -> bytes:
    """SHA-256."""
    found: bytes = _sha256(content).digest()
    return found


def blob_digest(blob: np.ndarray[Any, Any]) -> bytes:
    """SHA-256 over the wrapping 64-bit sums of every 64 KiB block of a uint8 array.

    Any change of one word of a block changes its sum, so every bit flip is found; it does not
    protect against somebody who forges the content.
    """
    return BlobDigest(blob).result()


class BlobDigest:
    """The same digest of an array that does not change; of a large one it begins at once.

    Threads in the background take sums of pieces; whoever asks for the result helps them.
    """

    def __init__(self, blob: np.ndarray[Any, Any]) -> None:
        whole = len(blob) // BLOCK_BYTES
        self._size = len(blob)
        self._blocks = blob[: whole * BLOCK_BYTES].view(np.uint64).reshape(whole, BLOCK_BYTES // 8)
        self._tail = blob[whole * BLOCK_BYTES :]
        self._sums = np.empty(whole, np.uint64)
        starts = range(0, whole, _BLOCKS_PER_PIECE)
        self._waiting = deque(starts)
        self._missing = set(starts)
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self.in_background = len(starts) > 1
        self._helpers: list[threading.Thread] = []
        if self.in_background:
            self._start(max(1, threads - 1))

    def result(self) -> bytes:
        """The digest, once all sums are there."""
        self._add()
        for helper in self._helpers:
            helper.join()
        # Others who ask may still be at work, or were left behind by a fork.
        for start in sorted(self._missing):
            self._add_piece(start)
        tail = np.zeros(BLOCK_BYTES, np.uint8)
        tail[: len(self._tail)] = self._tail
        state = _sha256(self._size.to_bytes(8, "little"))
        state.update(self._sums.tobytes())
        state.update(tail.view(np.uint64).sum(dtype=np.uint64).tobytes())
        found: bytes = state.digest()
        return found

    def _start(self, threads: int) -> None:
        for _ in range(threads):
            helper = threading.Thread(target=self._add, name="bessemer-checksum", daemon=True)
            try:
                helper.start()
            except RuntimeError:
                return  # the system gives no more threads: who asks for the result does the work
            self._helpers.append(helper)

    def _add(self) -> None:
        while self._waiting:
            try:
                start = self._waiting.popleft()
            except IndexError:
                return  # another thread was quicker
            self._add_piece(start)

    def _add_piece(self, start: int) -> None:
        part = slice(start, start + _BLOCKS_PER_PIECE)
        # Two threads may add the same piece, so nothing but whole sums is written.
        self._sums[part] = self._blocks[part].sum(axis=1, dtype=np.uint64)
        self._missing.discard(start)
