"""The engine file (`.plan`): sections with checksums, written atomically, read by mmap.

Layout, little-endian: a header of 64 bytes (magic, format version, section count, size of the
file, SHA-256 of the first 32 bytes and the section table), the section table, then the sections
in order of the table, each aligned, with zeros between: the manifest (JSON, zlib), one section of
machine code for each variant (its objects one after the other), the stored graph of a symbolic
engine if there is one (JSON, zlib), the constants (page-aligned).
Nothing in the file depends on time or place, so equal engines give equal bytes.
"""

import contextlib
import itertools
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from bessemer.core.errors import EngineFormatError
from bessemer.core.frozen import dataclass
from bessemer.engine.check import check_engine
from bessemer.engine.checksum import DIGEST_BYTES, BlobDigest, blob_digest, digest
from bessemer.engine.manifest import (
    Manifest,
    VariantEntry,
    decode_manifest,
    decode_source,
    encode_manifest,
    encode_source,
)
from bessemer.engine.plan import FORMAT_VERSION, EngineData, StoredGraph

MAGIC = b"\x89BSMR\r\n\x1a"
_HEADER = struct.Struct("<8sIIQQ32s")
_ENTRY = struct.Struct("<IIQQQ32s")
_HASHED_HEADER = 32

MANIFEST, CODE, CONSTANTS, SOURCE = 1, 2, 3, 4
_KIND_NAMES = {MANIFEST: "manifest", CODE: "code", CONSTANTS: "constants", SOURCE: "source"}
_ALIGNMENT = {MANIFEST: 64, CODE: 64, CONSTANTS: 4096, SOURCE: 64}

MAX_SECTIONS = 1024
MAX_MANIFEST_BYTES = 1 << 26
_HUGE_PAGE = 2 << 20
_ELF_MACHINE_AT = 18
_MACHINES = {62: "x86_64", 183: "aarch64"}
_counter = itertools.count()

Verify = Callable[[], None]
"""Waits for a check and raises EngineFormatError if it fails."""


@dataclass(frozen=True)
class SectionEntry:
    """One row of the section table. `raw_size` is the size after decompression."""

    kind: int
    index: int
    offset: int
    size: int
    raw_size: int
    digest: bytes

    @property
    def label(self) -> str:
        """The section in words."""
        return f"section {_KIND_NAMES.get(self.kind, self.kind)} {self.index}"


# --- writing -------------------------------------------------------------------------------------

def write_engine(path: str | os.PathLike[str], data: EngineData) -> None:
    """Writes the engine: into a new file beside `path`, which then takes its place.

    Raises: EngineFormatError for inconsistent data, OSError if the folder cannot be written.
    """
    check_engine(data)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{next(_counter)}.tmp")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "w+b") as file:
            _write(file, data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder or os.curdir)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest(data: EngineData) -> bytes:
    variants = tuple(
        VariantEntry(
            name, _machine(objects), tuple(data.requires.get(name, ())), tuple(map(len, objects))
        )
        for name, objects in data.objects.items()
    )
    return encode_manifest(Manifest(data.plan, variants, dict(data.plans)))


def _machine(objects: tuple[bytes, ...]) -> str:
    if not objects or len(objects[0]) < _ELF_MACHINE_AT + 2:
        return ""
    return _MACHINES.get(int.from_bytes(objects[0][_ELF_MACHINE_AT:][:2], "little"), "unknown")


def _write(file: IO[bytes], data: EngineData) -> None:
    manifest = _manifest(data)
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise EngineFormatError(
            f"the manifest of {data.plan.name!r} takes {len(manifest)} bytes, more than "
            f"{MAX_MANIFEST_BYTES}; large arrays belong into the constants"
        )
    packed = zlib.compress(manifest, 6)
    kinds: list[tuple[int, int, int]] = [(MANIFEST, len(packed), len(manifest))]
    codes = [b"".join(objects) for objects in data.objects.values()]
    kinds += [(CODE, len(code), len(code)) for code in codes]
    if data.source is not None:
        source = encode_source(data.source)
        codes.append(zlib.compress(source, 6))
        kinds.append((SOURCE, len(codes[-1]), len(source)))
    kinds.append((CONSTANTS, data.constant_bytes, data.constant_bytes))
    position = _HEADER.size + _ENTRY.size * len(kinds)
    places = []
    for kind, size, _ in kinds:
        position = -(-position // _ALIGNMENT[kind]) * _ALIGNMENT[kind]
        places.append(position)
        position += size
    file.truncate(position)
    for place, content in zip(places, [packed, *codes], strict=False):
        file.seek(place)
        file.write(content)
    constants_digest = _write_constants(file, places[-1], data)
    digests = [digest(packed), *map(digest, codes), constants_digest]
    entries = b"".join(
        _ENTRY.pack(kind, index, place, size, raw, check)
        for index, ((kind, size, raw), place, check) in enumerate(
            zip(kinds, places, digests, strict=True)
        )
    )
    head = _HEADER.pack(MAGIC, data.format_version, len(kinds), position, 0, bytes(DIGEST_BYTES))
    head = head[:_HASHED_HEADER]
    file.seek(0)
    file.write(head + digest(head + entries) + entries)


def _write_constants(file: IO[bytes], place: int, data: EngineData) -> bytes:
    """Writes the constants and returns their checksum, taken from the file's own pages."""
    for offset, array in data.constants:
        if array.dtype.hasobject:
            raise EngineFormatError(f"the constant at {offset} holds Python objects")
    size = data.constant_bytes
    if not size:
        return blob_digest(np.empty(0, np.uint8))
    for start, piece in _pieces(data, place):
        file.seek(start)
        file.write(piece)
    file.flush()
    with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ, offset=place) as mapped:
        blob = np.frombuffer(mapped, np.uint8)
        found = blob_digest(blob)
        del blob
    return found


def _pieces(data: EngineData, place: int) -> Iterator[tuple[int, memoryview]]:
    """The constants as pieces of a file in which they begin at `place`.

    File systems that know huge pages keep what is written with one call in one page, if it lies
    so; then whoever maps the file gets huge pages without a copy.
    """
    buffer, low = np.zeros(_HUGE_PAGE, np.uint8), place
    for offset, array in sorted(data.constants, key=lambda pair: pair[0]):
        flat, at = np.ascontiguousarray(array).reshape(-1).view(np.uint8), place + offset
        while len(flat):
            high = low - low % _HUGE_PAGE + _HUGE_PAGE
            if at >= high:
                yield low, buffer[: high - low].data
                buffer[:] = 0
                low = high
                continue
            part = flat[: high - at]
            buffer[at - low :][: len(part)] = part
            flat, at = flat[len(part) :], at + len(part)
    yield low, buffer[: place + data.constant_bytes - low].data


# --- reading -------------------------------------------------------------------------------------

class _File:
    """One open engine file; every failure names path, byte offset and field."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.content = _map(self.path)
        self.view = memoryview(self.content)
        self.size = len(self.view)

    def fail(self, offset: int, name: str, text: str) -> EngineFormatError:
        return EngineFormatError(f"{self.path}: byte {offset}, {name}: {text}")

    def entries(self) -> list[SectionEntry]:
        """The section table, every number checked against the file."""
        if self.size < _HEADER.size:
            raise self.fail(0, "header", f"the file has {self.size} bytes, too few for an engine")
        magic, version, count, size, reserved, table_digest = _HEADER.unpack_from(self.view)
        if magic != MAGIC:
            raise self.fail(0, "magic", f"{magic!r} is not that of an engine file")
        if version > FORMAT_VERSION:
            raise self.fail(
                8, "format version", f"{version} is newer than {FORMAT_VERSION}, the newest that "
                "this release reads; use the release of bessemer that built it, or a newer one"
            )
        if not 1 <= count <= MAX_SECTIONS or version < 1 or reserved:
            raise self.fail(8, "header", f"version {version} with {count} sections is impossible")
        if size != self.size:
            what = "truncated" if size > self.size else "followed by something else"
            raise self.fail(16, "file size", f"{size} expected, {self.size} found; it is {what}")
        end = _HEADER.size + count * _ENTRY.size
        if end > self.size:
            raise self.fail(12, "section count", f"the table of {count} goes beyond the file")
        table = self.view[_HEADER.size : end]
        if digest(bytes(self.view[:_HASHED_HEADER]) + table) != table_digest:
            raise self.fail(32, "header checksum", "it differs; the file is damaged")
        found = [SectionEntry(*row) for row in _ENTRY.iter_unpack(table)]
        self.check_places(found, end)
        return found

    def check_places(self, entries: list[SectionEntry], position: int) -> None:
        """Sections follow each other in order, aligned, and fill the file."""
        for number, entry in enumerate(entries):
            at = _HEADER.size + number * _ENTRY.size
            alignment = _ALIGNMENT.get(entry.kind)
            if alignment is None or entry.index != number:
                raise self.fail(at, "section kind", f"{entry.label} is not known here")
            if entry.offset != -(-position // alignment) * alignment:
                raise self.fail(at + 8, f"offset of {entry.label}", f"{entry.offset} is wrong")
            if entry.size > self.size - entry.offset:
                raise self.fail(
                    at + 16, f"size of {entry.label}",
                    f"{entry.size} bytes go beyond the {self.size} of the file; it is truncated"
                )
            if any(self.view[position : entry.offset]):
                raise self.fail(position, f"padding before {entry.label}", "it is not zero")
            position = entry.offset + entry.size
        if position != self.size:
            raise self.fail(position, "end of the last section", f"the file has {self.size} bytes")
        kinds = [entry.kind for entry in entries]
        stored = [SOURCE] * kinds.count(SOURCE)
        codes = [CODE] * kinds.count(CODE)
        if kinds != [MANIFEST, *codes, *stored, CONSTANTS] or len(stored) > 1:
            raise self.fail(_HEADER.size, "section table", f"the kinds {kinds} are not an engine's")

    def section(self, entry: SectionEntry) -> memoryview:
        """The bytes of a section, after its checksum was found right."""
        content = self.view[entry.offset : entry.offset + entry.size]
        if digest(content) != entry.digest:
            raise self.fail(entry.offset, entry.label, "the checksum differs; the file is damaged")
        return content

    def unpacked(self, entry: SectionEntry) -> bytes:
        """The text of a packed section."""
        content = self.section(entry)
        if entry.raw_size > MAX_MANIFEST_BYTES:
            raise self.fail(entry.offset, entry.label, f"{entry.raw_size} bytes are too many")
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(content, entry.raw_size + 1)
        except zlib.error as error:
            raise self.fail(entry.offset, entry.label, f"it cannot be unpacked: {error}") from error
        if len(text) != entry.raw_size or not unpacker.eof or unpacker.unused_data:
            text_of = f"it does not unpack to {entry.raw_size} bytes"
            raise self.fail(entry.offset, entry.label, text_of)
        return text

    def manifest(self, entry: SectionEntry) -> Manifest:
        text = self.unpacked(entry)
        try:
            return decode_manifest(text)
        except EngineFormatError as error:
            raise self.fail(entry.offset, entry.label, str(error)) from error

    def source(self, entry: SectionEntry) -> StoredGraph:
        text = self.unpacked(entry)
        try:
            return decode_source(text)
        except EngineFormatError as error:
            raise self.fail(entry.offset, entry.label, str(error)) from error

    def objects(self, entry: SectionEntry, variant: VariantEntry) -> tuple[bytes, ...]:
        content = self.section(entry)
        if sum(variant.objects) != entry.size:
            raise self.fail(
                entry.offset, entry.label, f"objects of {sum(variant.objects)} bytes do not fill it"
            )
        parts, position = [], 0
        for size in variant.objects:
            parts.append(bytes(content[position : position + size]))
            position += size
        return tuple(parts)

    def constants(self, entry: SectionEntry) -> tuple[np.ndarray[Any, Any], Verify]:
        """The constants and their check, which is done already where there are few of them."""
        blob = np.frombuffer(self.content, np.uint8, entry.size, entry.offset)
        found = BlobDigest(blob)

        def verify() -> None:
            if found.result() != entry.digest:
                text = "the checksum differs; the file is damaged"
                raise self.fail(entry.offset, entry.label, text)

        if not found.in_background:
            verify()
        return blob, verify


def _map(path: str) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise EngineFormatError(f"{path}: byte 0, header: the file is empty")
            # Not populated: the threads that take the checksum map the pages side by side.
            found = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    except FileNotFoundError:
        raise EngineFormatError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise EngineFormatError(f"{path}: is a directory, not an engine file") from None
    except OSError as error:
        raise EngineFormatError(f"{path}: cannot be read: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Files that are read now then lie in huge pages, where the file system has such pages.
        with contextlib.suppress(OSError):
            found.madvise(mmap.MADV_HUGEPAGE)
    return found


def read_engine(path: str | os.PathLike[str]) -> EngineData:
    """Reads and checks an engine file; constants stay mapped, shared with other processes.

    Raises: EngineFormatError naming path, byte offset and field.
    """
    data, verify = open_engine(path)
    verify()
    return data


def open_engine(path: str | os.PathLike[str]) -> tuple[EngineData, Verify]:
    """Reads and checks an engine file, all but its constants if they are large.

    Their checksum is taken in the background. The function returned waits for it and raises if it
    is wrong: call it before the constants are used.

    Raises: EngineFormatError naming path, byte offset and field.
    """
    file = _File(path)
    entries = file.entries()
    manifest = file.manifest(entries[0])
    codes = [entry for entry in entries if entry.kind == CODE]
    names = [variant.name for variant in manifest.variants]
    if len(codes) != len(names) or len(set(names)) != len(names):
        raise file.fail(
            entries[0].offset, "manifest variants", f"{len(codes)} code sections for {names}"
        )
    objects = {
        variant.name: file.objects(entry, variant)
        for entry, variant in zip(codes, manifest.variants, strict=True)
    }
    blob, verify = file.constants(entries[-1])
    data = EngineData(
        manifest.plan, objects, {v.name: v.requires for v in manifest.variants},
        ((0, blob),) if len(blob) else (), manifest.plans,
        next((file.source(entry) for entry in entries if entry.kind == SOURCE), None),
    )
    try:
        check_engine(data)
    except EngineFormatError as error:
        raise file.fail(entries[0].offset, "manifest", str(error)) from error
    return data, verify


def read_entries(path: str | os.PathLike[str]) -> Iterator[SectionEntry]:
    """The section table of a file, for tools that look into it. Raises: EngineFormatError."""
    return iter(_File(path).entries())
