"""Damages ONNX files: bits, cuts, length fields, and fields changed to other legal values."""

from collections.abc import Callable
from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

Mutation = Callable[[bytes, Random], bytes]

_EXTREMES = (0, 1, 2, 127, 128, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1,
             (1 << 64) - 1)
_INTEGERS = (-(1 << 63), -(1 << 31), -7, -2, -1, 0, 1, 2, 3, 5, 64, 1000, 1 << 20, (1 << 31) - 1,
             1 << 40, (1 << 63) - 1)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))


def mutate(data: bytes, random: Random) -> bytes:
    """A damaged copy of a file; the same for the same state of `random`.

    Two in three files stay valid protobuf, because others rarely get past the parser.
    """
    if random.random() < 2 / 3:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            data = change_field(data, random)
        return data
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_MUTATIONS)(data, random)
    return data


def flip_bits(data: bytes, random: Random) -> bytes:
    """Turns one to eight bits over."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, random: Random) -> bytes:
    """Writes up to 16 random bytes over others."""
    at = random.randrange(len(data) + 1)
    piece = random.randbytes(random.randint(1, 16))
    return data[:at] + piece + data[at + len(piece):]


def truncate(data: bytes, random: Random) -> bytes:
    """Cuts the end off."""
    return data[:random.randrange(len(data) + 1)]


def move_piece(data: bytes, random: Random) -> bytes:
    """Removes a piece, or copies it to another place."""
    start = random.randrange(len(data) + 1)
    piece = data[start:start + random.randint(1, 64)]
    if random.random() < 0.5:
        return data[:start] + data[start + len(piece):]
    at = random.randrange(len(data) + 1)
    return data[:at] + piece + data[at:]


def change_varint(data: bytes, random: Random) -> bytes:
    """Gives a length, a tag or a number of the encoding an extreme value."""
    places = list(_varints(data, 0, len(data), 0))
    if not places:
        return data
    start, end = random.choice(places)
    return data[:start] + _encode(random.choice(_EXTREMES)) + data[end:]


def change_field(data: bytes, random: Random) -> bytes:
    """Changes one field of the parsed model to something that is legal protobuf."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError):
        return flip_bits(data, random)
    fields = list(_fields(proto, 0))
    if not fields:
        return data
    message, field = random.choice(fields)
    try:
        _change(message, field, proto, random)
        return bytes(proto.SerializeToString())
    except (ValueError, TypeError):
        # An enumerator or a 32-bit number that protobuf itself refuses to hold.
        return flip_bits(data, random)


_MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, overwrite, truncate, move_piece, change_varint, change_varint, change_field,
)


# Messages and field descriptors of protobuf have no types that mypy could check.
def _fields(message: Any, depth: int) -> list[tuple[Any, Any]]:
    """All filled-in fields of a message and of those inside it, with their message."""
    found = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is not None and depth < 12:
            inner = value if _is_list(value) else [value]
            for item in list(inner)[:50]:
                found += _fields(item, depth + 1)
    return found


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))


def _change(message: Any, field: Any, proto: Any, random: Random) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None:
        _change_messages(message, field, value, random)
    elif _is_list(value):
        action = random.randrange(3)
        if action == 0 and len(value):
            del value[random.randrange(len(value))]
        elif action == 1 and len(value):
            value[random.randrange(len(value))] = _other(value[0], proto, random)
        else:
            value.append(_other(value[0] if len(value) else 0, proto, random))
    elif random.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _other(value, proto, random))


def _change_messages(message: Any, field: Any, value: Any, random: Random) -> None:
    if not _is_list(value):
        message.ClearField(field.name)
        return
    at = random.randrange(len(value))
    action = random.randrange(3)
    if action == 0:
        del value[at]
    elif action == 1:
        value.append(value[at])
    else:
        value[at].CopyFrom(value[random.randrange(len(value))])


def _other(value: Any, proto: Any, random: Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice(_INTEGERS[2:12] if random.random() < 0.7 else (value + 1, value - 1))
    if isinstance(value, float):
        return random.choice(_FLOATS)
    if isinstance(value, bytes):
        return flip_bits(value, random) if random.random() < 0.5 else value[:-1]
    names = [name for node in proto.graph.node for name in (*node.input, *node.output)]
    operators = [node.op_type for node in proto.graph.node]
    return random.choice([*names, *operators, "", "nowhere", "x" * 300])


def _varints(data: bytes, start: int, end: int, depth: int) -> list[tuple[int, int]]:
    """Places of the varints in protobuf-encoded data, those in nested messages included."""
    found: list[tuple[int, int]] = []
    at = start
    while at < end:
        tag, after = _decode(data, at, end)
        if after < 0:
            break
        found.append((at, after))
        kind, at = tag & 7, after
        if kind == 0:
            _, after = _decode(data, at, end)
            if after < 0:
                break
            found.append((at, after))
            at = after
        elif kind == 2:
            length, after = _decode(data, at, end)
            if after < 0 or after + length > end:
                break
            found.append((at, after))
            if depth < 8 and length:
                found += _varints(data, after, after + length, depth + 1)
            at = after + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            break
    return found


def _decode(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The varint at a place and the place after it (-1: none)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            return 0, -1
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    return 0, -1


def _encode(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
