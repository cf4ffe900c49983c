"""The engine file: deterministic, atomic, and refused when anything in it is wrong."""

import dataclasses
import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError
from bessemer.debug.tiny_engine import tiny_plan
from bessemer.engine.checksum import BLOCK_BYTES, blob_digest, digest
from bessemer.engine.file import read_engine, read_entries, write_engine
from bessemer.engine.plan import EngineData

HEADER, ENTRY = 64, 64


def make_data() -> EngineData:
    """Two variants of made-up code; the second constant leaves a gap."""
    constants = ((0, np.arange(16, dtype=np.float32)), (128, np.arange(5, dtype=np.uint8)))
    objects = {"a": (b"first object", b"second"), "b": (b"\0" * 100,)}
    return EngineData(
        tiny_plan(16), objects, {"a": ("avx2", "fma"), "b": ()}, constants,
        {"b": dataclasses.replace(tiny_plan(16), notes=("other",))},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_engine(tmp_path / "m.plan", make_data())
    return tmp_path / "m.plan"


def rehash(content: bytearray) -> bytes:
    """Makes the header's checksum right again, as somebody hostile would."""
    count = struct.unpack_from("<I", content, 12)[0]
    table = content[HEADER : HEADER + ENTRY * count]
    content[32:64] = digest(bytes(content[:32] + table))
    return bytes(content)


def test_round_trip(path: Path) -> None:
    data, read = make_data(), read_engine(path)
    assert (read.plan, read.objects, read.requires, read.plans) == (
        data.plan, data.objects, data.requires, data.plans)
    ((offset, blob),) = read.constants
    assert offset == 0
    assert bytes(blob[:64]) == data.constants[0][1].tobytes()
    assert list(blob[128:]) == [0, 1, 2, 3, 4]
    assert not blob.flags.writeable
    assert [entry.label for entry in read_entries(path)] == [
        "section manifest 0", "section code 1", "section code 2", "section constants 3"]


def test_same_bytes_again(path: Path) -> None:
    other = path.with_name("again.plan")
    write_engine(other, read_engine(path))
    assert other.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == ["again.plan", "m.plan"]


def test_constants_are_page_aligned(path: Path) -> None:
    assert [*read_entries(path)][-1].offset % 4096 == 0


def test_failed_write_keeps_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    bad = dataclasses.replace(make_data(), constants=((0, np.array([None] * 16)),), objects={},
                              requires={}, plans={})
    with pytest.raises(EngineFormatError, match="Python objects"):
        write_engine(path, bad)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["m.plan"]


def test_write_into_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_engine(tmp_path / "no" / "m.plan", make_data())


def test_every_flipped_bit_is_found(path: Path) -> None:
    content = path.read_bytes()
    constants = [*read_entries(path)][-1].offset
    places = [*range(0, 2000, 3), *range(constants - 5, len(content))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(EngineFormatError, match=r"m\.plan: byte \d+, "):
            read_engine(path)


def test_every_truncation_is_found(path: Path) -> None:
    content = path.read_bytes()
    for size in [*range(1, 600, 7), *range(len(content) - 200, len(content))]:
        path.write_bytes(content[:size])
        with pytest.raises(EngineFormatError):
            read_engine(path)


def test_trailing_garbage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(EngineFormatError, match="followed by something else"):
        read_engine(path)


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineFormatError, match="no such file"):
        read_engine(tmp_path / "none.plan")
    with pytest.raises(EngineFormatError, match="is a directory"):
        read_engine(tmp_path)
    (tmp_path / "e.plan").touch()
    with pytest.raises(EngineFormatError, match="is empty"):
        read_engine(tmp_path / "e.plan")


def test_wrong_magic(path: Path) -> None:
    path.write_bytes(b"ONNX" + path.read_bytes()[4:])
    with pytest.raises(EngineFormatError, match="not that of an engine file"):
        read_engine(path)


@pytest.mark.parametrize("offset, form, value, words", [
    (8, "<I", 3, "newer than 2, the newest that this release reads; use the release"),
    (8, "<I", 0, "impossible"), (12, "<I", 0, "impossible"), (12, "<I", 1 << 31, "impossible"),
    (12, "<I", 1000, "goes beyond the file"), (16, "<Q", 1 << 60, "truncated"),
    (24, "<Q", 1, "impossible"),
    (HEADER, "<I", 9, "not known here"), (HEADER + 4, "<I", 7, "not known here"),
    (HEADER, "<I", 2, "not an engine's"),
    (HEADER + 8, "<Q", 0, "offset of section manifest 0"),
    (HEADER + 8, "<Q", 1 << 63, "offset of section manifest 0"),
    (HEADER + ENTRY + 8, "<Q", 320, "offset of section code 1"),
    (HEADER + 16, "<Q", 1 << 63, "go beyond"), (HEADER + 16, "<Q", 3, "offset of section code"),
    (HEADER + 3 * ENTRY + 16, "<Q", 1, "end of the last section"),
    (HEADER + 24, "<Q", 1 << 40, "too many"), (HEADER + 24, "<Q", 10, "does not unpack to 10"),
])
def test_hostile_header(path: Path, offset: int, form: str, value: int, words: str) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, value)
    path.write_bytes(rehash(content))
    with pytest.raises(EngineFormatError, match=words):
        read_engine(path)


def test_no_constants(tmp_path: Path) -> None:
    data = EngineData(dataclasses.replace(tiny_plan(0), steps=(), arena_bytes=0))
    write_engine(tmp_path / "m.plan", data)
    assert read_engine(tmp_path / "m.plan").constants == ()


def test_blob_digest_finds_every_flip() -> None:
    blob = np.arange(BLOCK_BYTES * 2 + 13, dtype=np.uint64).view(np.uint8)[: BLOCK_BYTES * 2 + 13]
    before = blob_digest(blob)
    for place in (0, 7, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES, len(blob) - 1):
        blob[place] ^= 128
        assert blob_digest(blob) != before
        blob[place] ^= 128
    assert blob_digest(blob) == before
    assert blob_digest(np.append(blob, np.uint8(0))) != before


def test_digest_is_sha256() -> None:
    content = bytes(range(256)) * 100
    assert digest(content) == hashlib.sha256(content).digest()
    assert digest(memoryview(content)) == hashlib.sha256(content).digest()


@pytest.mark.parametrize("name", [
    "_hashlib", "pathlib", "logging", "concurrent.futures", "difflib", "ml_dtypes"])
def test_loading_does_without(name: str) -> None:
    """OpenSSL takes 4 MB of every process that runs an engine, the others a third of its start."""
    code = f"import sys, numpy; was = {name!r} in sys.modules; import bessemer.runtime.load; " \
           f"sys.exit({name!r} in sys.modules and not was)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
