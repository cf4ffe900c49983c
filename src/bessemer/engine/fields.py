"""Strict JSON codecs: every value is checked for type and range, and errors name the field."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from bessemer.core.errors import EngineFormatError
from bessemer.core.frozen import dataclass

T = TypeVar("T")

MAX_BYTES = 1 << 46
MAX_TEXT = 1 << 20
MAX_ITEMS = 1 << 22
MAX_VALUES = 1 << 22


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Turns a value into JSON and back; `decode` takes the JSON and the path of the field."""

    encode: Callable[[T], Any]
    decode: Callable[[Any, str], T]


def wrong(where: str, expected: str, found: Any) -> EngineFormatError:
    """An error that names the field."""
    shown = repr(found)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return EngineFormatError(f"manifest field {where}: expected {expected}, found {shown}")


def integer(low: int, high: int) -> Codec[int]:
    """An integer between the two, both included."""

    def decode(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise wrong(where, f"an integer from {low} to {high}", value)
        return value

    return Codec(lambda value: value, decode)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise wrong(where, "a text", value)
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)
    return value


TEXT: Codec[str] = Codec(lambda value: value, _text)
FLAG: Codec[bool] = Codec(lambda value: value, _flag)
COUNT = integer(0, MAX_BYTES)
LARGE_COUNT = integer(0, 1 << 63)


def choice(*allowed: str) -> Codec[str]:
    """One of those texts."""

    def decode(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise wrong(where, "one of " + ", ".join(map(repr, allowed)), value)
        return value

    return Codec(lambda value: value, decode)


def optional(inner: Codec[T]) -> Codec[T | None]:
    """The value or null."""
    return Codec(
        lambda value: None if value is None else inner.encode(value),
        lambda value, where: None if value is None else inner.decode(value, where),
    )


def tuple_of(inner: Codec[T], most: int = MAX_ITEMS) -> Codec[tuple[T, ...]]:
    """A list of values of one kind."""

    def decode(value: Any, where: str) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise wrong(where, f"a list of at most {most}", value)
        return tuple(inner.decode(item, f"{where}[{i}]") for i, item in enumerate(value))

    return Codec(lambda value: [inner.encode(item) for item in value], decode)


def map_of(inner: Codec[T]) -> Codec[dict[str, T]]:
    """A mapping from texts to values of one kind."""

    def decode(value: Any, where: str) -> dict[str, T]:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise wrong(where, "an object", value)
        return {_text(k, where): inner.decode(v, f"{where}.{k}") for k, v in value.items()}

    return Codec(lambda value: {k: inner.encode(v) for k, v in value.items()}, decode)


def record(cls: type[T], codecs: Mapping[str, Codec[Any]]) -> Codec[T]:
    """A dataclass as an object; a field equal to its default is left out."""
    defaults = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
    }
    assert set(defaults) == set(codecs), f"{cls.__name__}: {set(defaults) ^ set(codecs)}"
    required = {name for name, value in defaults.items() if value is dataclasses.MISSING}

    def encode(value: T) -> dict[str, Any]:
        return {
            name: codec.encode(getattr(value, name)) for name, codec in codecs.items()
            if name in required or getattr(value, name) != defaults[name]
        }

    def decode(value: Any, where: str) -> T:
        if not isinstance(value, dict):
            raise wrong(where, "an object", value)
        unknown, missing = value.keys() - codecs.keys(), required - value.keys()
        if unknown or missing:
            raise wrong(where, f"the fields {', '.join(codecs)}", sorted(value))
        return cls(**{k: codecs[k].decode(v, f"{where}.{k}") for k, v in value.items()})

    return Codec(encode, decode)


def row(cls: type[T], codecs: Mapping[str, Codec[Any]]) -> Codec[T]:
    """A small dataclass as a list of all its fields, for records of which there are many."""
    names = list(codecs)
    assert names == [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def decode(value: Any, where: str) -> T:
        if not isinstance(value, list) or len(value) != len(names):
            raise wrong(where, f"a list of {len(names)}: {', '.join(names)}", value)
        return cls(*(
            codecs[k].decode(v, f"{where}.{k}") for k, v in zip(names, value, strict=True)
        ))

    return Codec(lambda value: [codecs[k].encode(getattr(value, k)) for k in names], decode)


def _json(value: Any, where: str) -> Any:
    return value


def _json_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(where, "an object", value)
    return value


JSON: Codec[Any] = Codec(lambda value: value, _json)
JSON_OBJECT: Codec[dict[str, Any]] = Codec(lambda value: value, _json_object)


def dump_json(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, so that equal values give equal bytes.

    Raises: EngineFormatError for a value that is not JSON.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise EngineFormatError(f"the plan holds a value that is not JSON: {error}") from error
    return text.encode()


def load_json(text: bytes) -> Any:
    """Parses JSON. Raises: EngineFormatError for anything malformed, too large or too deep."""
    # Parsed values take up to fifty times the memory of their text, so they are counted first.
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise EngineFormatError(f"the manifest holds more than {MAX_VALUES} values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError, OverflowError) as error:
        raise EngineFormatError(f"the manifest is not JSON: {error}") from error
