"""A content-addressed cache of compiled objects on disk, shared by all processes of a user.

An entry is one file named by the hash of everything that went into the object; it starts with the
SHA-256 of the object, so a damaged file is noticed, ignored and written anew.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bessemer.core.settings import settings
from bessemer.targets import Target

_LOG = logging.getLogger("bessemer.codegen")
_DIGEST_BYTES = 32
DEFAULT_LIMIT_BYTES = 512 << 20

# Bytes in each cache directory as of its last listing, and what this process wrote since. Others
# may write too, so a directory can grow beyond its limit until some process lists it.
_SIZES: dict[Path, int] = {}


def object_key(text: str, target: Target, passes: str, version: str) -> str:
    """The name under which the object of an IR text is kept.

    It depends on what code generation reads: the text, the target's triple, cpu and features, the
    passes, and `version`, the words of `emit.compiler_version`.
    """
    digest = hashlib.sha256()
    for part in (version, target.triple, target.cpu, target.features, passes, text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class ObjectCache:
    """Objects by key in a directory; `directory` None keeps nothing.

    Failing reads and writes are never errors: the object is then simply compiled again.
    """

    def __init__(self, directory: Path | None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._written = 0

    @staticmethod
    def from_settings() -> "ObjectCache":
        """The user's cache, or one that keeps nothing if the settings turn it off."""
        current = settings()
        return ObjectCache(current.cache_folder / "objects" if current.cache else None)

    def path(self, key: str) -> Path | None:
        """The file of a key; None if nothing is kept."""
        return None if self.directory is None else self.directory / key[:2] / f"{key}.o"

    def load(self, key: str) -> bytes | None:
        """The object of that key, or None if it is absent or damaged."""
        path = self.path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        body = data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
            _LOG.warning("ignoring the damaged cache entry %s", path)
            return None
        try:
            os.utime(path)  # the modification time orders entries by last use
        except OSError:
            _LOG.debug("cannot touch %s", path)
        return body

    def store(self, key: str, body: bytes) -> None:
        """Keeps an object; readers see all of it or nothing."""
        path = self.path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(body).digest() + body)
                os.replace(name, path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            _LOG.warning("the compile cache %s is off: %s", self.directory, error)
            self.directory = None
            return
        self._written += len(body)

    def prune(self) -> int:
        """Deletes the entries unused for longest while the cache is over its limit; bytes freed.

        Does nothing if this object stored nothing since the last call, or if the directory is known
        to be far from its limit: listing thousands of files would take longer than a small build.
        """
        if self.directory is None or not self._written:
            return 0
        known = _SIZES.get(self.directory)
        if known is not None and known + self._written <= self.limit_bytes:
            _SIZES[self.directory] = known + self._written
            self._written = 0
            return 0
        self._written = 0
        entries = list(_entries(self.directory))
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        freed = 0
        for _, size, path in sorted(entries):
            if freed >= excess:
                break
            path.unlink(missing_ok=True)
            freed += size
        _SIZES[self.directory] = excess + self.limit_bytes - freed
        return freed


def _entries(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, size and path of everything in the cache."""
    for shard in _listing(directory):
        if len(shard.name) == 2:
            for entry in _listing(shard.path):
                try:
                    status = entry.stat()
                except OSError:
                    continue
                yield status.st_mtime, status.st_size, Path(entry.path)


def _listing(directory: str | Path) -> "list[os.DirEntry[str]]":
    """What is in a directory; nothing if it is gone or a file."""
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []
