"""Damages to engine files: blind ones, and ones whose checksums are made right again."""

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from bessemer.core.formula import parse_formula
from bessemer.engine.checksum import digest

HEADER, ENTRY = 64, 64
_EDGES = (0, 1, 2, 3, 7, 63, 64, 255, 4095, 4096, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
          1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

# Overflow, negative sizes, division by zero, deep nesting, unknown symbols, no formulas at all.
_FORMULAS = (
    "*".join(["N"] * 200), "N*" * 8 + "9223372036854775807", "N-1000", "N//0", "N//(H-3)", "0-N",
    "(" * 40 + "N" + ")" * 40, "(" * 20 + "N" + ")" * 20, "9" * 30, "M", "n", "N", "H", "2*N+1",
    "N H", "N**9", "-" * 30 + "N", "\0", "N*" * 9000 + "N",
)

Mutation = Callable[[bytearray, random.Random], bytes]
"""Changes the content of a file, by a source of random numbers."""


# --- mutations that leave checksums alone --------------------------------------------------------

def flip_bits(content: bytearray, source: random.Random) -> bytes:
    """Flips one to eight bits anywhere."""
    for _ in range(source.randrange(1, 9)):
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    return bytes(content)


def truncate(content: bytearray, source: random.Random) -> bytes:
    """Cuts the end off."""
    return bytes(content[: source.randrange(len(content))])


def extend(content: bytearray, source: random.Random) -> bytes:
    """Adds bytes to the end."""
    return bytes(content) + source.randbytes(source.randrange(1, 5000))


def overwrite_block(content: bytearray, source: random.Random) -> bytes:
    """Overwrites a block with zeros, noise, or another part of the file."""
    size = source.randrange(1, min(5000, len(content)))
    at, other = (source.randrange(len(content) - size) for _ in range(2))
    blocks = (bytes(size), source.randbytes(size), bytes(content[other : other + size]))
    content[at : at + size] = source.choice(blocks)
    return bytes(content)


def remove_block(content: bytearray, source: random.Random) -> bytes:
    """Removes bytes from the middle."""
    at = source.randrange(len(content))
    del content[at : at + source.randrange(1, 5000)]
    return bytes(content)


# --- mutations that repair checksums, as somebody hostile would ----------------------------------

def rehash(content: bytearray) -> bytes:
    """Makes the header's checksum right again."""
    if len(content) >= HEADER:
        (count,) = struct.unpack_from("<I", content, 12)
        table = content[HEADER : HEADER + ENTRY * min(count, 10_000)]
        content[32:64] = digest(bytes(content[:32] + table))
    return bytes(content)


def number_field(content: bytearray, source: random.Random) -> bytes:
    """Sets a number of the header or the section table to an edge value."""
    (count,) = struct.unpack_from("<I", content, 12)
    places = [(8, 4), (12, 4), (16, 8), (24, 8)]
    for row in range(count):
        at = HEADER + ENTRY * row
        places += [(at, 4), (at + 4, 4), (at + 8, 8), (at + 16, 8), (at + 24, 8)]
    at, size = source.choice(places)
    near = int.from_bytes(content[at : at + size], "little") + source.choice((-64, -1, 1, 64))
    value = source.choice((*_EDGES, near)) % (1 << 8 * size)
    content[at : at + size] = value.to_bytes(size, "little")
    return rehash(content)


def _sections(content: bytearray) -> list[tuple[int, bytes]]:
    """Kind and content of each section of a good file."""
    (count,) = struct.unpack_from("<I", content, 12)
    found = []
    for row in range(count):
        kind, _, offset, size = struct.unpack_from("<IIQQ", content, HEADER + ENTRY * row)
        found.append((kind, bytes(content[offset : offset + size])))
    return found


def _rebuild(content: bytearray, number: int, packed: bytes, raw_size: int) -> bytes:
    """The file with one section replaced, sizes and checksums right."""
    (count,) = struct.unpack_from("<I", content, 12)
    sections = _sections(content)
    sections[number] = (sections[number][0], packed)
    body, table = b"", b""
    position = start = HEADER + ENTRY * count
    for index, (kind, part) in enumerate(sections):
        alignment = 4096 if kind == 3 else 64
        offset = -(-position // alignment) * alignment
        body += bytes(offset - position) + part
        position = offset + len(part)
        old = content[HEADER + ENTRY * index :][:ENTRY]
        check = digest(part) if kind != 3 else bytes(old[32:64])
        raw = raw_size if index == number else struct.unpack_from("<Q", old, 24)[0]
        table += struct.pack("<IIQQQ", kind, index, offset, len(part), raw) + check
    head = bytes(content[:16]) + struct.pack("<Q", start + len(body)) + bytes(content[24:32])
    return rehash(bytearray(head + bytes(32) + table + body))


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _leaves(item)


def manifest_value(content: bytearray, source: random.Random) -> bytes:
    """Changes, removes or doubles values of the manifest and makes the file right around it."""
    value = json.loads(zlib.decompress(_sections(content)[0][1]))
    for _ in range(source.randrange(1, 4)):
        places = list(_leaves(value))
        if not places:
            break
        container, key = source.choice(places)
        turn = source.randrange(4)
        if turn == 0:
            del container[key]
        elif turn == 1 and isinstance(container, list):
            container.append(container[key])
        elif isinstance(container[key], int) and turn == 2:
            container[key] += source.choice((-1, 1, 64, -64))
        else:
            container[key] = source.choice((*_EDGES, -1, 1.5, None, True, "", "x", [], {}, [1, 2]))
    text = json.dumps(value).encode()
    return _rebuild(content, 0, zlib.compress(text), len(text))


def formula(content: bytearray, source: random.Random) -> bytes:
    """Replaces formulas of the manifest by hostile ones and makes the file right around it."""
    value = json.loads(zlib.decompress(_sections(content)[0][1]))
    places = [place for place in _leaves(value["plan"]) if _is_formula(place[0][place[1]])]
    for _ in range(source.randrange(1, 4)):
        container, key = source.choice(places)
        container[key] = source.choice(_FORMULAS)
    text = json.dumps(value).encode()
    return _rebuild(content, 0, zlib.compress(text), len(text))


def _is_formula(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_formula(value))
    except ValueError:
        return False


def manifest_text(content: bytearray, source: random.Random) -> bytes:
    """Damages the manifest's text and makes the file right around it."""
    text = bytearray(zlib.decompress(_sections(content)[0][1]))
    damaged = source.choice((flip_bits, truncate, overwrite_block, remove_block))(text, source)
    return _rebuild(content, 0, zlib.compress(damaged), len(damaged))


def machine_code(content: bytearray, source: random.Random) -> bytes:
    """Damages an object and makes the file right around it."""
    code = bytearray(_sections(content)[1][1])
    if not code:
        return bytes(content)
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(code))
        code[at] = source.choice((0, 1, 255, source.randrange(256)))
    return _rebuild(content, 1, bytes(code), len(code))


BLIND: tuple[Mutation, ...] = (flip_bits, truncate, extend, overwrite_block, remove_block)
REPAIRED: tuple[Mutation, ...] = (
    number_field, manifest_value, manifest_text, formula, machine_code,
)
