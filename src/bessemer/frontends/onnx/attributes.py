"""AttributeProtos as plain Python values, and operators built from them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import AttributeProto

from bessemer.core.errors import BessemerError, ModelFormatError
from bessemer.frontends.onnx.tensors import TensorReader
from bessemer.frontends.onnx.types import Symbols, dtype_of, value_type
from bessemer.ir.operator import Operator

_FIELDS = {
    AttributeProto.FLOAT: "f", AttributeProto.INT: "i", AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g", AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints", AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors", AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor", AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.TYPE_PROTOS: "type_protos", AttributeProto.SPARSE_TENSORS: "sparse_tensors",
}


def read_attributes(
    node: Any, where: str, tensors: TensorReader, bindings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The attributes of a NodeProto by name; graphs stay GraphProtos.

    `bindings` are the attribute values of the function that the node stands in (None outside of
    functions); a reference to one that is not given leaves the attribute out.
    Raises: ModelFormatError.
    """
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        name = attribute.name
        if not name or name in result:
            raise ModelFormatError(f"{where}: attribute {name!r} is unnamed or given twice")
        if attribute.ref_attr_name:
            if bindings is None:
                raise ModelFormatError(f"{where}: attribute {name!r} refers to a function's "
                                       "attribute, but the node is in no function")
            if attribute.ref_attr_name in bindings:
                result[name] = bindings[attribute.ref_attr_name]
            continue
        result[name] = read_attribute(attribute, where, tensors)
    return result


def read_attribute(attribute: Any, where: str, tensors: TensorReader) -> Any:
    """The Python value of one AttributeProto. Raises ModelFormatError."""
    kind = _kind(attribute, where)
    value = getattr(attribute, _FIELDS[kind])
    label = f"{where}: attribute {attribute.name!r}"
    what = label.removeprefix(f"{tensors.source}: ")
    if kind == AttributeProto.TENSOR:
        return tensors.read(value, what)
    if kind == AttributeProto.SPARSE_TENSOR:
        return tensors.read_sparse(value, what)
    if kind == AttributeProto.TENSORS:
        return tuple(tensors.read(item, what) for item in value)
    if kind == AttributeProto.SPARSE_TENSORS:
        return tuple(tensors.read_sparse(item, what) for item in value)
    if kind == AttributeProto.STRING:
        return value.decode("utf-8", "surrogateescape")
    if kind == AttributeProto.STRINGS:
        return tuple(item.decode("utf-8", "surrogateescape") for item in value)
    if kind == AttributeProto.TYPE_PROTO:
        return value_type(value, attribute.name, Symbols(), label)
    if kind == AttributeProto.TYPE_PROTOS:
        return tuple(value_type(item, attribute.name, Symbols(), label) for item in value)
    if kind in (AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.GRAPHS):
        return tuple(value)
    return value


def _kind(attribute: Any, where: str) -> int:
    """The attribute's kind; files of format version 1 do not say it, so it is what is filled in."""
    if attribute.type in _FIELDS:
        return int(attribute.type)
    if attribute.type == AttributeProto.UNDEFINED:
        for kind, name in _FIELDS.items():
            value = getattr(attribute, name)
            is_list = hasattr(value, "append")
            if (is_list and len(value)) or (not is_list and attribute.HasField(name)):
                return int(kind)
    raise ModelFormatError(f"{where}: attribute {attribute.name!r} has no known type "
                           f"({attribute.type})")


# Attribute values are of every kind that operators have.
def build_operator(cls: type[Operator], attributes: Mapping[str, Any], where: str) -> Operator:
    """The operator with those attributes; element types become dtype names.

    Raises: ModelFormatError if an attribute is unknown, missing or of the wrong kind.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    dtypes = getattr(cls, "dtype_attributes", ())
    given: dict[str, Any] = {}
    for name, value in attributes.items():
        if name not in fields:
            raise ModelFormatError(
                f"{where}: {cls.op_name} has no attribute {name!r}; known are "
                f"{', '.join(fields) or 'none'}"
            )
        if name in dtypes and isinstance(value, int):
            # 0 is UNDEFINED, which operators use to say "not given".
            if value == 0:
                continue
            value = dtype_of(value, f"{where}: attribute {name!r}").name
        given[name] = value
    missing = [
        name for name, f in fields.items()
        if name not in given
        and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ModelFormatError(f"{where}: {cls.op_name} needs the attribute {missing[0]!r}")
    try:
        return cls(**given)
    except BessemerError:
        raise
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{where}: {cls.op_name}: {error}") from error


def default_attributes(schema: Any, where: str, tensors: TensorReader) -> dict[str, Any]:
    """The default values that an operator's schema gives to its attributes."""
    result = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            result[name] = read_attribute(attribute.default_value, where, tensors)
    return result


def is_empty(array: np.ndarray[Any, Any] | None) -> bool:
    """True for a constant that is there but holds nothing: an older way to leave an input out."""
    return array is not None and array.size == 0
