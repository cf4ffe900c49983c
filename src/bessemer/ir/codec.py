"""Operators and graphs as JSON-able data and back; arrays are base64, nested graphs are text.

Decoding trusts nothing: every misfit is an EngineFormatError.
"""

import base64
import binascii
import math
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, DType, dtype_from_numpy
from bessemer.core.errors import BessemerError, EngineFormatError
from bessemer.ir.graph import Graph
from bessemer.ir.operator import Operator, operator_class
from bessemer.ir.parser import parse_graph, parse_type
from bessemer.ir.printer import constant_table, print_graph
from bessemer.ir.types import MapType, OptionalType, SequenceType, TensorType


def encode_operator(op: Operator) -> dict[str, Any]:
    """`{"op": name, "attributes": {...}}` with the attributes that differ from their defaults."""
    attributes = {name: _encode(item) for name, item in op.non_default_attributes().items()}
    return {"op": op.op_name, "attributes": attributes}


def decode_operator(data: dict[str, Any]) -> Operator:
    """The operator that `encode_operator` wrote.

    Raises: EngineFormatError if the data is malformed or the operator unknown.
    """
    name, attributes = data.get("op"), data.get("attributes", {})
    if not isinstance(name, str) or not isinstance(attributes, dict):
        raise EngineFormatError(f"an encoded operator needs op and attributes, found {list(data)}")
    try:
        return operator_class(name)(**{str(key): _decode(x) for key, x in attributes.items()})
    except EngineFormatError:
        raise
    except (TypeError, ValueError, RecursionError, BessemerError) as error:
        raise EngineFormatError(f"operator {name!r} cannot be decoded: {error}") from error


def encode_graph(graph: Graph) -> dict[str, Any]:
    """The graph's text and its large constants by hash."""
    table = {key: encode_array(array) for key, array in constant_table(graph).items()}
    return {"text": print_graph(graph), "constants": table}


def decode_graph(data: dict[str, Any]) -> Graph:
    """The graph that `encode_graph` wrote. Raises: EngineFormatError."""
    text, table = data.get("text"), data.get("constants", {})
    if not isinstance(text, str) or not isinstance(table, dict):
        raise EngineFormatError(f"an encoded graph needs text and constants, found {list(data)}")
    try:
        return parse_graph(text, {key: decode_array(item) for key, item in table.items()})
    except EngineFormatError:
        raise
    except (TypeError, ValueError, RecursionError, BessemerError) as error:
        raise EngineFormatError(f"a nested graph cannot be decoded: {error}") from error


def encode_array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """dtype, shape and base64 of the elements; strings as a list."""
    known = TensorType.of(array, keep_value=False)
    head: dict[str, Any] = {"dtype": known.dtype.name, "shape": list(array.shape)}
    if known.dtype.kind == "string":
        return head | {"items": [_encode(_plain(item)) for item in array.ravel().tolist()]}
    data = np.ascontiguousarray(array).tobytes()
    return head | {"data": base64.b64encode(data).decode("ascii")}


def decode_array(data: Any) -> np.ndarray[Any, Any]:
    """The array that `encode_array` wrote. Raises: EngineFormatError."""
    try:
        dtype = DTYPES[data["dtype"]]
        shape = tuple(int(extent) for extent in data["shape"])
        if any(extent < 0 for extent in shape):
            raise ValueError(f"negative extent in {shape}")
        if dtype.kind == "string":
            items = np.array([None, *(_decode(item) for item in data["items"])], object)[1:]
            return items.reshape(shape)
        content = base64.b64decode(data["data"], validate=True)
        return np.frombuffer(content, dtype.numpy).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise EngineFormatError(f"an encoded array is malformed: {error}") from error


def _plain(item: Any) -> Any:
    return str(item) if isinstance(item, np.str_) else item


def _encode(item: Any) -> Any:
    match item:
        case None | bool() | str():
            return item
        case np.generic() if dtype_from_numpy(item.dtype).kind != "string":
            return {"$scalar": encode_array(np.asarray(item))}
        case int():
            return item
        case float():
            return item if math.isfinite(item) else {"$float": repr(item)}
        case bytes():
            return {"$bytes": base64.b64encode(item).decode("ascii")}
        case tuple():
            return {"$tuple": [_encode(part) for part in item]}
        case list():
            return [_encode(part) for part in item]
        case dict():
            return {"$dict": [[_encode(key), _encode(part)] for key, part in item.items()]}
        case DType():
            return {"$dtype": item.name}
        case TensorType() | SequenceType() | OptionalType() | MapType():
            return {"$type": str(item)}
        case np.ndarray():
            return {"$array": encode_array(item)}
        case Graph():
            return {"$graph": encode_graph(item)}
        case Operator():
            return {"$operator": encode_operator(item)}
    raise TypeError(f"attribute value {item!r} cannot be encoded")


def _decode(item: Any) -> Any:
    if isinstance(item, list):
        return [_decode(part) for part in item]
    if not isinstance(item, dict):
        return item
    if len(item) != 1:
        raise EngineFormatError(f"expected one tagged value, found keys {list(item)}")
    ((tag, content),) = item.items()
    match tag, content:
        case "$tuple", list():
            return tuple(_decode(part) for part in content)
        case "$dict", list():
            return {_decode(key): _decode(part) for key, part in content}
        case "$float", "inf" | "-inf" | "nan":
            return float(content)
        case "$bytes", str():
            return base64.b64decode(content, validate=True)
        case "$dtype", str() if content in DTYPES:
            return DTYPES[content]
        case "$type", str():
            return parse_type(content)
        case "$array", dict():
            return decode_array(content)
        case "$scalar", dict():
            return decode_array(content)[()]
        case "$graph", dict():
            return decode_graph(content)
        case "$operator", dict():
            return decode_operator(content)
    raise EngineFormatError(f"unknown or malformed tag {tag!r}")
