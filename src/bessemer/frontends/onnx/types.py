"""ONNX element types and TypeProtos as ours, and back."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from onnx import TensorProto, TypeProto, helper

from bessemer.core.dtypes import DTYPES, DType
from bessemer.core.errors import ModelFormatError
from bessemer.core.shapes import Dim, symbol
from bessemer.ir.types import MapType, OptionalType, SequenceType, TensorType, ValueType

_NAMES = {
    "FLOAT": "f32", "UINT8": "u8", "INT8": "i8", "UINT16": "u16", "INT16": "i16",
    "INT32": "i32", "INT64": "i64", "STRING": "string", "BOOL": "bool", "FLOAT16": "f16",
    "DOUBLE": "f64", "UINT32": "u32", "UINT64": "u64", "COMPLEX64": "c64", "COMPLEX128": "c128",
    "BFLOAT16": "bf16", "FLOAT8E4M3FN": "f8e4m3fn", "FLOAT8E4M3FNUZ": "f8e4m3fnuz",
    "FLOAT8E5M2": "f8e5m2", "FLOAT8E5M2FNUZ": "f8e5m2fnuz", "UINT4": "u4", "INT4": "i4",
    "FLOAT4E2M1": "f4e2m1", "FLOAT8E8M0": "f8e8m0", "UINT2": "u2", "INT2": "i2",
}
_BY_NUMBER: dict[int, DType] = {
    number: DTYPES[_NAMES[text]]
    for text, number in TensorProto.DataType.items()
    if text in _NAMES
}
_NUMBERS = {dtype.name: number for number, dtype in _BY_NUMBER.items()}
_NUMBER_BY_TEXT = {text: number for text, number in TensorProto.DataType.items() if text in _NAMES}

TEXT_BY_DTYPE = {
    ours: f"tensor({text.lower()})" for text, ours in _NAMES.items()
}
"""How ONNX's schemas write a tensor of each of our dtypes."""

MAX_RANK = 64
"""The most dimensions a tensor may have: what numpy can hold."""
MAX_ELEMENTS = 1 << 48
"""No tensor of a model has more elements; larger extents come from damaged files."""


def dtype_of(number: int, where: str) -> DType:
    """Our dtype of a TensorProto.DataType. Raises ModelFormatError naming `where`."""
    if number not in _BY_NUMBER:
        raise ModelFormatError(f"{where}: element type {number} is not an ONNX tensor type")
    return _BY_NUMBER[number]


def dtype_of_text(text: str, where: str) -> int:
    """The TensorProto.DataType of a name such as FLOAT (opset 1 Cast). Raises ModelFormatError."""
    if text.upper() not in _NUMBER_BY_TEXT:
        raise ModelFormatError(f"{where}: {text!r} is not the name of an ONNX tensor type")
    return int(_NUMBER_BY_TEXT[text.upper()])


def number_of(dtype: DType) -> int:
    """The TensorProto.DataType of our dtype."""
    return int(_NUMBERS[dtype.name])


class Symbols:
    """Gives each dimension name of the source model a symbol that is safe in text forms."""

    def __init__(self, fixed: Mapping[str, int | Sequence[int]] | None = None) -> None:
        self._fixed = dict(fixed or {})
        self._by_source: dict[str, str] = {}

    def named(self, source: str) -> Dim:
        """The symbol of a dim_param, or the extent the user fixed it to."""
        if source not in self._by_source:
            stem = re.sub(r"[^A-Za-z0-9_.?]", "_", source)
            name, number = stem, 1
            while name in self._by_source.values():
                name, number = f"{stem}.{number}", number + 1
            self._by_source[source] = name
        name = self._by_source[source]
        for key in (source, name):
            fixed = self._fixed.get(key)
            if isinstance(fixed, int):
                return fixed
        return symbol(name)

    def unnamed(self, value: str, axis: int) -> Dim:
        """The symbol of dimension `axis` of a value that the model leaves open."""
        return self.named(f"?{value}.{axis}")


def value_type(proto: Any, name: str, symbols: Symbols, where: str) -> ValueType | None:
    """Our type of a TypeProto; None if it says nothing.

    Raises: ModelFormatError on types that have no counterpart (sparse tensors).
    """
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    if kind == "tensor_type":
        if proto.tensor_type.elem_type == 0:
            return None
        dtype = dtype_of(proto.tensor_type.elem_type, f"{where}: {name!r}")
        return TensorType(dtype, _shape(proto.tensor_type, name, symbols, where))
    if kind == "sequence_type":
        return SequenceType(value_type(proto.sequence_type.elem_type, name, symbols, where))
    if kind == "optional_type":
        return OptionalType(value_type(proto.optional_type.elem_type, name, symbols, where))
    if kind == "map_type":
        key = dtype_of(proto.map_type.key_type, f"{where}: {name!r}")
        return MapType(key, value_type(proto.map_type.value_type, name, symbols, where))
    raise ModelFormatError(
        f"{where}: {name!r} is declared as {kind.removesuffix('_type')}, which Bessemer does not "
        "have; feed a tensor, sequence, optional or map instead"
    )


def _shape(proto: Any, name: str, symbols: Symbols, where: str) -> tuple[Dim, ...] | None:
    if not proto.HasField("shape"):
        return None
    if len(proto.shape.dim) > MAX_RANK:
        raise ModelFormatError(f"{where}: {name!r} has {len(proto.shape.dim)} dimensions; "
                               f"at most {MAX_RANK} are possible")
    dims: list[Dim] = []
    elements = 1
    for axis, dim in enumerate(proto.shape.dim):
        if dim.WhichOneof("value") == "dim_value" and dim.dim_value != -1:
            elements *= max(dim.dim_value, 1)
            if dim.dim_value < 0 or elements > MAX_ELEMENTS:
                raise ModelFormatError(f"{where}: {name!r} has extent {dim.dim_value} in dimension "
                                       f"{axis}, which is not a possible size")
            dims.append(int(dim.dim_value))
        elif dim.dim_param:
            dims.append(symbols.named(dim.dim_param))
        else:
            dims.append(symbols.unnamed(name, axis))
    return tuple(dims)


def type_proto(known: ValueType | None) -> Any:
    """The TypeProto of our type, for function bodies that depend on types."""
    if known is None:
        return TypeProto()
    if isinstance(known, SequenceType):
        return helper.make_sequence_type_proto(type_proto(known.element))
    if isinstance(known, OptionalType):
        return helper.make_optional_type_proto(type_proto(known.element))
    if isinstance(known, MapType):
        proto = TypeProto()
        proto.map_type.key_type = number_of(known.key)
        proto.map_type.value_type.CopyFrom(type_proto(known.element))
        return proto
    shape = None if known.shape is None else [
        dim if isinstance(dim, int) else str(dim) for dim in known.shape
    ]
    return helper.make_tensor_type_proto(number_of(known.dtype), shape)
