"""Checksums: SHA-256 for small sections, a fast one at memory speed for constants."""

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 16

# One core reads memory at half the speed that two or three together reach.
_MOST_THREADS = 4
_BLOCKS_PER_THREAD = 256


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
    whole = len(blob) // BLOCK_BYTES * BLOCK_BYTES
    blocks = blob[:whole].view(np.uint64).reshape(-1, BLOCK_BYTES // 8)
    tail = np.zeros(BLOCK_BYTES, np.uint8)
    tail[: len(blob) - whole] = blob[whole:]
    state = _sha256(len(blob).to_bytes(8, "little"))
    state.update(_sums(blocks).tobytes())
    state.update(tail.view(np.uint64).sum(dtype=np.uint64).tobytes())
    found: bytes = state.digest()
    return found


def _sums(blocks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sum of each row, by several threads if there are many."""
    sums = np.empty(len(blocks), np.uint64)
    threads = min(_MOST_THREADS, os.cpu_count() or 1, 1 + len(blocks) // _BLOCKS_PER_THREAD)
    edges = [len(blocks) * k // threads for k in range(threads + 1)]

    def add(k: int) -> None:
        part = slice(edges[k], edges[k + 1])
        blocks[part].sum(axis=1, dtype=np.uint64, out=sums[part])

    helpers = [threading.Thread(target=add, args=(k,)) for k in range(1, threads)]
    for helper in helpers:
        helper.start()
    add(0)
    for helper in helpers:
        helper.join()
    return sums
