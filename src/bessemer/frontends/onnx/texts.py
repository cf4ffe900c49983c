"""Texts of a protobuf message that are not valid UTF-8; protobuf hands them out as bytes."""

from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]

from bessemer.core.errors import ModelFormatError


# Messages of protobuf have no types that mypy could check.
def check_texts(message: Any, where: str) -> None:
    """Raises ModelFormatError if a text in the message, or in one inside it, is not UTF-8."""
    texts, messages = _fields(message.DESCRIPTOR)
    for name, repeated in texts:
        value = getattr(message, name)
        for item in value if repeated else (value,):
            if not isinstance(item, str):
                kind = message.DESCRIPTOR.name
                raise ModelFormatError(f"{where}: the field {name!r} of a {kind} is not "
                                       f"UTF-8 text ({item[:20]!r}); the file is damaged")
    for name, repeated in messages:
        if repeated:
            for inner in getattr(message, name):
                check_texts(inner, where)
        elif message.HasField(name):
            check_texts(getattr(message, name), where)


@cache
def _fields(descriptor: Any) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Names of the text fields and of the message fields, and whether they are repeated."""
    texts, messages = [], []
    for field in descriptor.fields:
        # The label went away in favour of is_repeated; both are met in the protobufs onnx allows.
        has_flag = hasattr(field, "is_repeated")
        repeated = field.is_repeated if has_flag else field.label == FieldDescriptor.LABEL_REPEATED
        if field.type == FieldDescriptor.TYPE_STRING:
            texts.append((field.name, repeated))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            messages.append((field.name, repeated))
    return texts, messages
