"""Reading a ModelProto: the file, the protobuf, versions, and what must be there at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.formats import read_head
from bessemer.frontends.onnx.texts import check_texts

NEWEST_OPSET: int = onnx.defs.onnx_opset_version()
"""The newest opset of the standard domain that can be read."""
NEWEST_IR: int = int(onnx.IR_VERSION)
"""The newest file format version that can be read."""
STANDARD_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training")


@dataclass(frozen=True)
class ModelSource:
    """A parsed model and where it came from (`folder` None: not from a file)."""

    proto: Any
    """The onnx.ModelProto; onnx has no types that mypy could check."""
    label: str
    folder: Path | None


def load_proto(model: Any) -> ModelSource:
    """The ModelProto of a path, bytes or a ModelProto itself, checked for being a model at all.

    Raises: ModelFormatError.
    """
    if isinstance(model, onnx.ModelProto):
        source = ModelSource(model, model.graph.name or "model", None)
    elif isinstance(model, (str, Path)):
        path = Path(model)
        read_head(path, 1)
        source = ModelSource(parse(path.read_bytes(), str(path)), str(path), path.parent)
    else:
        source = ModelSource(parse(bytes(model), "model bytes"), "model bytes", None)
    _check_model(source)
    return source


def parse(data: bytes, label: str) -> Any:
    """The ModelProto in `data`. Raises ModelFormatError."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError, RecursionError) as error:
        raise ModelFormatError(
            f"{label}: is not a valid ONNX file ({len(data)} bytes do not parse as a protobuf); "
            "it is damaged, cut short, or of another format"
        ) from error
    return proto


def _check_model(source: ModelSource) -> None:
    proto, label = source.proto, source.label
    check_texts(proto, label)
    if not proto.HasField("graph"):
        raise ModelFormatError(f"{label}: holds no graph; it is not an ONNX model, or is cut short")
    if proto.ir_version > NEWEST_IR:
        raise ModelFormatError(
            f"{label}: is of file format version (ir_version) {proto.ir_version}, the newest known "
            f"is {NEWEST_IR}; install a newer onnx, or export with an older format"
        )
    if proto.ir_version <= 0:
        raise ModelFormatError(f"{label}: has no file format version (ir_version); "
                               "it is not an ONNX model")


def opsets_of(imports: Any, label: str, *, old: bool = False) -> dict[str, int]:
    """Opset version by domain; the standard domain is "". `old`: a file that predates opsets.

    Raises: ModelFormatError if a version is unknown or the standard domain is missing.
    """
    opsets: dict[str, int] = {}
    for entry in imports:
        domain = normal_domain(entry.domain)
        if domain in opsets and opsets[domain] != entry.version:
            raise ModelFormatError(f"{label}: imports two opsets of domain "
                                   f"{domain or 'ai.onnx'!r}: {opsets[domain]} and {entry.version}")
        opsets[domain] = int(entry.version)
    if not opsets and old:
        opsets[""] = 1
    if "" in opsets and not 1 <= opsets[""] <= NEWEST_OPSET:
        raise ModelFormatError(f"{label}: uses opset {opsets['']}, known are 1 to {NEWEST_OPSET}; "
                               "install a newer onnx, or export with an older opset")
    return opsets


FunctionKey = tuple[str, str, str]
"""Domain, name and overload of a model's function."""


def function_key(proto: Any, name: str) -> FunctionKey:
    """The key of a FunctionProto, or of the function that a NodeProto calls; `name` is its name.

    onnx before 1.16 knows no overloads.
    """
    return normal_domain(proto.domain), name, getattr(proto, "overload", "")


def normal_domain(domain: str) -> str:
    """The domain, with both spellings of the standard one as ""."""
    return "" if domain == "ai.onnx" else domain
