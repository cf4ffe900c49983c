"""Checksums: SHA-256 for small sections, a fast one at memory speed for constants."""

import hashlib
from typing import Any

import numpy as np

DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 16


def digest(content: bytes | memoryview) -> bytes:
    """SHA-256."""
    return hashlib.sha256(content).digest()


def blob_digest(blob: np.ndarray[Any, Any]) -> bytes:
    """SHA-256 over the wrapping 64-bit sums of every 64 KiB block of a uint8 array.

    Any change of one word of a block changes its sum, so every bit flip is found; it does not
    protect against somebody who forges the content.
    """
    whole = len(blob) // BLOCK_BYTES * BLOCK_BYTES
    blocks = blob[:whole].view(np.uint64).reshape(-1, BLOCK_BYTES // 8)
    tail = np.zeros(BLOCK_BYTES, np.uint8)
    tail[: len(blob) - whole] = blob[whole:]
    state = hashlib.sha256(len(blob).to_bytes(8, "little"))
    state.update(blocks.sum(axis=1, dtype=np.uint64).tobytes())
    state.update(tail.view(np.uint64).sum(dtype=np.uint64).tobytes())
    return state.digest()
