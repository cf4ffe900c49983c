"""Prints graphs as text that `parser` reads back to an equal graph.

`%` marks a computed value, `@` a constant. Constants are declared at the top: small ones with
their content, large ones with a hash that the side table of `constant_table` resolves.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, dtype_from_numpy
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.layout import Layout
from bessemer.ir.operator import Operator
from bessemer.ir.types import MapType, OptionalType, SequenceType, TensorType

SMALL_CONSTANT = 16
"""Largest number of elements that is printed in full."""

_BARE = re.compile(r"[A-Za-z0-9_./$]+([:-][A-Za-z0-9_./$]+)*\Z")

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def print_graph(graph: Graph, *, hashes: bool = True, indent: str = "") -> str:
    """The text of a graph; without `hashes` large constants show only their type."""
    heads = [f"{name_of(value)}: {value.type}{_notes(value)}" for value in graph.inputs]
    results = ", ".join(name_of(value) for value in graph.outputs)
    title = graph.name if _WORD.match(graph.name) else json.dumps(graph.name)
    lines = [f"graph {title}({', '.join(heads)}) -> ({results}) {{"]
    if graph.source:
        lines.append(f"{indent}  source {json.dumps(graph.source)}")
    for key, text in graph.metadata.items():
        lines.append(f"{indent}  metadata {json.dumps(key)} = {json.dumps(text)}")
    for value in graph.constants():
        lines.append(f"{indent}  {_declaration(value, hashes)}")
    for value in storages(graph):
        lines.append(f"{indent}  storage {name_of(value)} : {value.type}{_notes(value)}")
    for node in graph.nodes:
        lines.append(f"{indent}  {print_node(node, hashes=hashes, indent=indent + '  ')}")
    return "\n".join([*lines, indent + "}"])


def storages(graph: Graph) -> list[Value]:
    """The values that others are placed in and that no node computes."""
    present = {id(value) for value in graph.values()}
    found: dict[int, Value] = {}
    for value in graph.values():
        place = value.placement
        while place is not None:
            if id(place.root) not in present:
                found[id(place.root)] = place.root
            place = place.root.placement
    return list(found.values())


def print_node(node: Node, *, hashes: bool = True, indent: str = "") -> str:
    """One node: outputs = operator(inputs, attributes) : types from sources."""
    operands = [name_of(value) if value is not None else "none" for value in node.inputs]
    operands += [
        f"{name}={print_attribute(item, hashes=hashes, indent=indent)}"
        for name, item in node.op.non_default_attributes().items()
    ]
    outputs = ", ".join(name_of(value) for value in node.outputs)
    types = ", ".join(f"{value.type}{_notes(value)}" for value in node.outputs)
    text = f"{outputs} = {node.op.op_name}({', '.join(operands)}) : {types}"
    text += " from " + ", ".join(json.dumps(source) for source in node.sources)
    return text if node.sources == (node.name,) else f"{text} named {json.dumps(node.name)}"


def name_of(value: Value) -> str:
    """`%name` or `@name`, quoted where the name has odd characters."""
    return ("@" if value.is_constant else "%") + _bare(value.name)


def print_attribute(item: Any, *, hashes: bool = True, indent: str = "") -> str:
    """The text of an attribute value.

    Raises: TypeError for a value that has no text form.
    """
    match item:
        case None | bool():
            return "none" if item is None else str(item)
        case int() | np.integer():
            return str(int(item))
        case float() | np.floating():
            return repr(float(item)) if math.isfinite(item) else _odd_float(float(item))
        case str():
            return json.dumps(item)
        case bytes():
            return f"bytes({json.dumps(item.hex())})"
        case tuple() | list():
            inner = [print_attribute(part, hashes=hashes, indent=indent) for part in item]
            brackets = "[]" if isinstance(item, list) else "()"
            comma = "," if len(inner) == 1 and isinstance(item, tuple) else ""
            return f"{brackets[0]}{', '.join(inner)}{comma}{brackets[1]}"
        case DType():
            return item.name
        case TensorType() | SequenceType() | OptionalType() | MapType():
            return f"type({item})"
        case np.ndarray():
            return f"array({TensorType.of(item, False)} = {_content(item, hashes)})"
        case Graph():
            return print_graph(item, hashes=hashes, indent=indent)
    raise TypeError(f"attribute value {item!r} has no text form")


def hash_of(array: np.ndarray[Any, Any]) -> str:
    """A short content hash of an array: dtype, shape and elements."""
    data = repr(array.tolist()).encode() if array.dtype == object else _bytes(array)
    head = f"{dtype_from_numpy(array.dtype)}{array.shape}".encode()
    return hashlib.sha256(head + data).hexdigest()[:16]


def constant_table(graph: Graph) -> dict[str, np.ndarray[Any, Any]]:
    """The large arrays of a graph, its operators' attributes and its subgraphs, by hash."""
    table: dict[str, np.ndarray[Any, Any]] = {}
    for value in graph.constants():
        assert value.constant is not None
        _collect(value.constant, table)
    for node in graph.nodes:
        collect_arrays(node.op, table)
    return table


def collect_arrays(op: Operator, table: dict[str, np.ndarray[Any, Any]]) -> None:
    """Adds the large arrays in an operator's attributes to a table by hash."""
    for item in op.attributes().values():
        _collect(item, table)


def _collect(item: Any, table: dict[str, np.ndarray[Any, Any]]) -> None:
    if isinstance(item, np.ndarray):
        if not is_small(item):
            table[hash_of(item)] = item
    elif isinstance(item, tuple | list):
        for part in item:
            _collect(part, table)
    elif isinstance(item, Graph):
        table.update(constant_table(item))


def is_small(array: np.ndarray[Any, Any]) -> bool:
    """True if the array's content is printed in full."""
    return array.size <= SMALL_CONSTANT and array.dtype.kind != "c"


def _declaration(value: Value, hashes: bool) -> str:
    assert value.constant is not None
    head = f"{name_of(value)} : {value.type}{_notes(value)}"
    if not hashes and not is_small(value.constant):
        return head
    return f"{head} = {_content(value.constant, hashes)}"


def _content(array: np.ndarray[Any, Any], hashes: bool) -> str:
    if not is_small(array):
        return f"#{hash_of(array)}" if hashes else "#"
    wide = array.astype(np.float64) if array.dtype.kind == "V" else array
    # A f32 prints with the digits a f32 needs: short, and it reads back to the same bits.
    single = wide.dtype == np.float32 or wide.dtype == np.float16
    items = [float(str(x)) for x in wide.ravel()] if single else wide.ravel().tolist()
    return print_attribute(items)


def _bytes(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _odd_float(number: float) -> str:
    return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def _bare(name: str) -> str:
    return name if _BARE.match(name) else json.dumps(name)


def _notes(value: Value) -> str:
    text = "" if value.layout is None else f" layout {json.dumps(print_layout(value.layout))}"
    place = value.placement
    if place is not None:
        text += f" in {name_of(place.root)} axis {place.axis} start {place.start}"
    return text


def print_layout(layout: Layout) -> str:
    """`axis/div%mod` per physical dimension, then the halo: `0 1/16 2 3 1%16; 0:0 0:0 1:1 1:1`."""
    parts = []
    for part in layout.parts:
        text = str(part.axis) + (f"/{part.div}" if part.div != 1 else "")
        parts.append(text + (f"%{part.mod}" if part.mod else ""))
    return " ".join(parts) + "; " + " ".join(f"{low}:{high}" for low, high in layout.halo)


def join_names(values: Iterable[Value | None]) -> str:
    """The names of some values, for messages."""
    return ", ".join(name_of(value) if value is not None else "none" for value in values)
