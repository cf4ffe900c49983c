"""Reads the graph text form back to a graph; `printer` writes it.

Types after a node may be left out: they are inferred. A constant may also be declared as
`random(seed)` or `random(seed, low, high)`, which tests use.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, DType
from bessemer.core.errors import BessemerError, ModelFormatError
from bessemer.core.shapes import Dim, function, symbol
from bessemer.ir.graph import Graph, Node, Placement, Value
from bessemer.ir.inference import infer_node_types
from bessemer.ir.layout import Layout, Part
from bessemer.ir.lexer import TokenReader, unquote
from bessemer.ir.operator import operator_class
from bessemer.ir.types import MapType, OptionalType, SequenceType, TensorType, ValueType

Arrays = Mapping[str, np.ndarray[Any, Any]]


def parse_graph(text: str, constants: Arrays | None = None) -> Graph:
    """The graph of a text; `constants` holds the large arrays by hash (`constant_table`).

    Raises: ModelFormatError with the line, ShapeError if an inferred type does not fit.
    """
    reader = TokenReader(text)
    graph = _GraphParser(reader, constants or {}).graph()
    if reader.next.kind != "end":
        raise reader.error("expected the end of the text")
    return graph


def parse_type(text: str) -> ValueType:
    """The type of a text such as `f32[N,3,2*N+1]` or `seq<i64[]>`."""
    return read_type(TokenReader(text))


def parse_attribute(text: str, constants: Arrays | None = None) -> Any:
    """The attribute value of a text that `print_attribute` wrote."""
    return _GraphParser(TokenReader(text), constants or {}).attribute()


def read_type(reader: TokenReader) -> ValueType:
    """Reads a type."""
    for word, made in (("seq", SequenceType), ("optional", OptionalType)):
        if reader.accept(word):
            reader.expect("<")
            element = None if reader.accept("?") else read_type(reader)
            reader.expect(">")
            return made(element)
    if reader.accept("map"):
        reader.expect("<")
        key = _read_dtype(reader)
        reader.expect(",")
        element = None if reader.accept("?") else read_type(reader)
        reader.expect(">")
        return MapType(key, element)
    dtype = _read_dtype(reader)
    reader.expect("[")
    if reader.accept("..."):
        reader.expect("]")
        return TensorType(dtype, None)
    dims: list[Dim] = []
    while not reader.accept("]"):
        dims.append(_read_sum(reader))
        if reader.next.text != "]":
            reader.expect(",")
    return TensorType(dtype, tuple(dims))


def _read_dtype(reader: TokenReader) -> DType:
    if reader.next.text not in DTYPES:
        raise reader.error("expected an element type")
    return DTYPES[reader.kind("name")]


def _read_sum(reader: TokenReader) -> Dim:
    total = _read_product(reader)
    while reader.next.text in ("+", "-"):
        sign = 1 if reader.take().text == "+" else -1
        total = total + sign * _read_product(reader)
    return total


def _read_product(reader: TokenReader) -> Dim:
    total = _read_atom(reader)
    while reader.next.text in ("*", "//"):
        if reader.take().text == "*":
            total = total * _read_atom(reader)
        else:
            bottom = _read_atom(reader)
            if bottom == 0:
                raise reader.error("division by zero in a dimension")
            total = total // bottom
    return total


def _read_atom(reader: TokenReader) -> Dim:
    if reader.accept("("):
        inner = _read_sum(reader)
        reader.expect(")")
        return inner
    if reader.next.kind == "name":
        name = reader.take().text
        return _read_function(reader, name) if reader.accept("(") else symbol(name)
    return reader.integer()


def _read_function(reader: TokenReader, name: str) -> Dim:
    arguments = [_read_sum(reader)]
    while reader.accept(","):
        arguments.append(_read_sum(reader))
    reader.expect(")")
    try:
        return function(name, *arguments)
    except ValueError as error:
        raise reader.error(str(error)) from None


class _GraphParser:
    def __init__(self, reader: TokenReader, constants: Arrays) -> None:
        self.reader = reader
        self.arrays = constants
        self.values: dict[str, Value] = {}
        self.places: list[tuple[Value, str, int, int]] = []

    def graph(self) -> Graph:
        reader = self.reader
        reader.expect("graph")
        graph = Graph(reader.string() if reader.next.kind == "string" else reader.take().text)
        reader.expect("(")
        while not reader.accept(")"):
            name = self._name(reader.kind("value"))
            reader.expect(":")
            graph.inputs.append(self._declare(graph, name, read_type(reader)))
            self._notes(graph.inputs[-1])
            reader.accept(",")
        reader.expect("->")
        reader.expect("(")
        outputs: list[str] = []
        while not reader.accept(")"):
            outputs.append(self._name(reader.kind("value")))
            reader.accept(",")
        reader.expect("{")
        while not reader.accept("}"):
            self._line(graph)
        graph.outputs = [self._find(name) for name in outputs]
        for value, root, axis, start in self.places:
            value.placement = Placement(self._find(root), axis, start)
        return graph

    def _line(self, graph: Graph) -> None:
        reader = self.reader
        if reader.accept("source"):
            graph.source = reader.string()
        elif reader.accept("metadata"):
            key = reader.string()
            reader.expect("=")
            graph.metadata[key] = reader.string()
        elif reader.accept("storage"):
            name = self._name(reader.kind("value"))
            reader.expect(":")
            self._notes(self._declare(graph, name, read_type(reader)))
        elif reader.next.text.startswith("@"):
            self._constant(graph)
        else:
            self._node(graph)

    def _constant(self, graph: Graph) -> None:
        reader = self.reader
        name = self._name(reader.kind("value"))
        reader.expect(":")
        value = self._declare(graph, name, read_type(reader))
        self._notes(value)
        reader.expect("=")
        value.constant = self._content(value.tensor)

    def _node(self, graph: Graph) -> None:
        reader = self.reader
        outputs = [self._name(reader.kind("value"))]
        while reader.accept(","):
            outputs.append(self._name(reader.kind("value")))
        reader.expect("=")
        place = reader.next
        op_name = reader.kind("name")
        operands, attributes = self._arguments()
        try:
            op = operator_class(op_name)(**attributes)
        except (TypeError, ValueError, BessemerError) as error:
            raise reader.error(f"{op_name}: {error}", place) from error
        types, notes = self._result_types()
        sources: list[str] = []
        if reader.accept("from"):
            sources.append(reader.string())
            while reader.accept(","):
                sources.append(reader.string())
        name = reader.string() if reader.accept("named") else (sources or [outputs[0]])[0]
        if types and len(types) != len(outputs):
            raise reader.error(f"{len(outputs)} outputs but {len(types)} types")
        taken = [text for text in outputs if text in self.values]
        if taken:
            raise reader.error(f"value {taken[0]!r} is defined twice")
        node = self._add(graph, name, op, operands, outputs, types, tuple(sources))
        for value, note in zip(node.outputs, notes, strict=False):
            value.layout = note.layout
            self.places = [(value if p[0] is note else p[0], *p[1:]) for p in self.places]
        self.values.update({value.name: value for value in node.outputs})

    def _add(
        self, graph: Graph, name: str, op: Any, operands: list[Value | None], outputs: list[str],
        types: list[ValueType], sources: tuple[str, ...],
    ) -> Node:
        known = types or infer_node_types(op, operands, name, graph.source, sources)
        if len(known) < len(outputs):
            raise self.reader.error(f"{op} gives {len(known)} results, not {len(outputs)}")
        for text in (name, *outputs):
            graph.reserve(text)
        made = [Value(text, type) for text, type in zip(outputs, known, strict=False)]
        node = Node(name, op, operands, made, sources)
        graph.nodes.append(node)
        return node

    def _arguments(self) -> tuple[list[Value | None], dict[str, Any]]:
        reader = self.reader
        operands: list[Value | None] = []
        attributes: dict[str, Any] = {}
        reader.expect("(")
        while not reader.accept(")"):
            if reader.next.kind == "value":
                operands.append(self._find(self._name(reader.take().text)))
            elif reader.accept("none"):
                operands.append(None)
            else:
                name = reader.kind("name")
                reader.expect("=")
                attributes[name] = self.attribute()
            if reader.next.text != ")":
                reader.expect(",")
        return operands, attributes

    def _result_types(self) -> tuple[list[ValueType], list[Value]]:
        types: list[ValueType] = []
        notes: list[Value] = []
        if self.reader.accept(":"):
            types.append(read_type(self.reader))
            notes.append(self._notes(Value("", types[0])))
            while self.reader.accept(","):
                types.append(read_type(self.reader))
                notes.append(self._notes(Value("", types[-1])))
        return types, notes

    def _notes(self, value: Value) -> Value:
        reader = self.reader
        if reader.accept("layout"):
            value.layout = parse_layout(reader.string())
        if reader.accept("in"):
            root = self._name(reader.kind("value"))
            reader.expect("axis")
            axis = reader.integer()
            reader.expect("start")
            self.places.append((value, root, axis, reader.integer()))
        return value

    def attribute(self) -> Any:
        """Reads an attribute value."""
        reader = self.reader
        token = reader.next
        if token.kind == "string":
            return reader.string()
        if token.text in ("(", "["):
            return self._items()
        if token.kind == "number" or token.text in ("-", "inf", "nan"):
            return self._number()
        if token.text == "graph":
            return _GraphParser(reader, self.arrays).graph()
        reader.take()
        match token.text:
            case "True" | "False":
                return token.text == "True"
            case "none":
                return None
            case "bytes" | "type" | "array":
                reader.expect("(")
                item = self._wrapped(token.text)
                reader.expect(")")
                return item
        if token.text in DTYPES:
            return DTYPES[token.text]
        raise reader.error(f"{token.text!r} is no attribute value")

    def _wrapped(self, kind: str) -> Any:
        if kind == "bytes":
            return bytes.fromhex(self.reader.string())
        known = read_type(self.reader)
        if kind == "type":
            return known
        self.reader.expect("=")
        if not isinstance(known, TensorType):
            raise self.reader.error("an array needs a tensor type")
        return self._content(known)

    def _items(self) -> tuple[Any, ...] | list[Any]:
        reader = self.reader
        opening = reader.take().text
        closing = ")" if opening == "(" else "]"
        items: list[Any] = []
        while not reader.accept(closing):
            items.append(self.attribute())
            if reader.next.text != closing:
                reader.expect(",")
        return tuple(items) if opening == "(" else items

    def _number(self) -> int | float:
        reader = self.reader
        sign = -1 if reader.accept("-") else 1
        if reader.next.text in ("inf", "nan"):
            return sign * float(reader.take().text)
        text = reader.kind("number")
        return sign * (int(text) if text.isdigit() else float(text))

    def _content(self, known: TensorType) -> np.ndarray[Any, Any]:
        reader = self.reader
        if not known.is_static:
            raise reader.error(f"a constant needs a static shape, not {known}")
        if reader.next.kind == "hash":
            key = reader.take().text[1:]
            if key not in self.arrays:
                raise reader.error(f"constant #{key} is not in the side table")
            return self.arrays[key]
        if reader.accept("random"):
            return self._random(known)
        items = self._items() if reader.next.text in ("(", "[") else [self.attribute()]
        try:
            wide = np.array(items, object if known.dtype.kind == "string" else None)
            return wide.astype(known.dtype.numpy).reshape(known.static_shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise reader.error(f"bad content for {known}: {error}") from error

    def _random(self, known: TensorType) -> np.ndarray[Any, Any]:
        arguments = self._items()
        seed, low, high = (*arguments, -1.0, 1.0)[:3] if len(arguments) < 3 else arguments
        drawn = np.random.default_rng(seed).uniform(low, high, known.static_shape)
        return np.asarray(drawn).astype(known.dtype.numpy)

    def _declare(self, graph: Graph, name: str, known: ValueType) -> Value:
        if name in self.values:
            raise self.reader.error(f"value {name!r} is defined twice")
        graph.reserve(name)
        self.values[name] = Value(name, known)
        return self.values[name]

    def _find(self, name: str) -> Value:
        if name not in self.values:
            raise self.reader.error(f"value {name!r} is not defined")
        return self.values[name]

    def _name(self, text: str) -> str:
        return unquote(text[1:], self.reader) if text[1:2] == '"' else text[1:]


def parse_layout(text: str) -> Layout:
    """The layout that `print_layout` wrote. Raises: ModelFormatError on another text."""
    try:
        dims, _, halo = text.partition(";")
        parts = []
        for word in dims.split():
            head, _, mod = word.partition("%")
            axis, _, div = head.partition("/")
            parts.append(Part(int(axis), int(div or 1), int(mod or 0)))
        pairs = [word.partition(":") for word in halo.split()]
        return Layout(tuple(parts), tuple((int(low), int(high)) for low, _, high in pairs))
    except ValueError as error:
        raise ModelFormatError(f"bad layout text {text!r}: {error}") from error
