"""Frames: one per graph or inlined function; they turn NodeProtos into graph nodes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bessemer.core.errors import ModelFormatError, ShapeError, UnsupportedOperatorError
from bessemer.core.registry import OPERATORS
from bessemer.frontends.onnx import expansion, subgraphs
from bessemer.frontends.onnx.accepts import check_attribute_kinds, check_input_types
from bessemer.frontends.onnx.attributes import build_operator, read_attributes
from bessemer.frontends.onnx.fallback import types_without_inference
from bessemer.frontends.onnx.offload import Offloading, add_offload, units_of
from bessemer.frontends.onnx.proto import FunctionKey, function_key, normal_domain
from bessemer.frontends.onnx.source import SourceNode
from bessemer.frontends.onnx.structure import (
    defined_names,
    node_label,
    sorted_nodes,
    used_names,
)
from bessemer.frontends.onnx.tensors import TensorReader, warn_about_nan
from bessemer.frontends.onnx.types import Symbols, value_type
from bessemer.frontends.onnx.versions.table import adapt
from bessemer.ir.graph import Graph, Value
from bessemer.ir.inference import infer_node_types
from bessemer.ir.types import TensorType, ValueType

log = logging.getLogger("bessemer.frontends")

MAX_DEPTH = 24
"""Functions in functions and graphs in graphs may nest this deep."""
MAX_NODES = 1_000_000
"""A model with more nodes (after inlining its functions) is refused."""


@dataclass
class ModelContext:
    """What all frames of one import share."""

    label: str
    tensors: TensorReader
    symbols: Symbols
    functions: Mapping[FunctionKey, Any]
    offloading: Offloading = field(default_factory=Offloading)
    nodes_left: int = MAX_NODES

    def count_node(self) -> None:
        """Counts one node. Raises ModelFormatError when there are absurdly many."""
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise ModelFormatError(f"{self.label}: has more than {MAX_NODES} nodes after inlining "
                                   "its functions; it is damaged or hostile")


@dataclass
class Frame:
    """The values known by name while one graph, or one call of a function, is imported.

    A body graph's frame has an `outer` frame; a value found there becomes an additional input of
    the body (`captures`), or a constant of its own if it is one. A function's frame has no outer
    frame and writes into its caller's graph, its names prefixed with the call's.
    """

    model: ModelContext
    graph: Graph
    opsets: Mapping[str, int]
    outer: "Frame | None" = None
    prefix: str = ""
    path: str = ""
    depth: int = 0
    bindings: Mapping[str, Any] | None = None
    optional: bool = False
    """True in a branch of If: it may be written for other shapes than those it never runs with."""
    hints: Mapping[str, ValueType] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    captures: dict[int, tuple[Value, Value]] = field(default_factory=dict)
    value_names: set[str] = field(default_factory=set)

    @staticmethod
    def depth_limit() -> int:
        """How deep functions and graphs may nest."""
        return MAX_DEPTH

    # -- graphs -----------------------------------------------------------------------------

    def fill(self, proto: Any) -> None:
        """Imports initializers, nodes and outputs of a GraphProto whose inputs are bound already.

        Raises: ModelFormatError, UnsupportedOperatorError, ShapeError.
        """
        self.value_names = defined_names(proto)
        self.hints = self._declared(proto)
        for tensor in proto.initializer:
            what = f"initializer {tensor.name!r}"
            self._add_initializer(tensor.name, self.model.tensors.read(tensor, what))
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            what = f"sparse initializer {name!r}"
            self._add_initializer(name, self.model.tensors.read_sparse(sparse, what))
        self.add_nodes(proto.node, [value.name for value in proto.output])
        self.graph.outputs = [
            self.lookup(value.name, f"{self.where()}: output {value.name!r}")
            for value in proto.output
        ]

    def _add_initializer(self, name: str, array: np.ndarray[Any, Any]) -> None:
        if name in self.values:
            return
        warn_about_nan(array, f"initializer {name!r}", self.model.label)
        self.bind(name, self.graph.add_constant(name, array))

    def _declared(self, proto: Any) -> dict[str, ValueType]:
        hints = {}
        for value in (*proto.value_info, *proto.output):
            if value.type.WhichOneof("value") in ("tensor_type", "sequence_type", "optional_type"):
                known = value_type(value.type, value.name, self.model.symbols, self.where())
                if known is not None:
                    hints[value.name] = known
        return hints

    # -- names ------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self.values or (self.outer is not None and name in self.outer)

    def lookup(self, name: str, where: str) -> Value:
        """The value of that name, captured from outside if need be. Raises ModelFormatError."""
        if name in self.values:
            return self.values[name]
        if self.outer is None or name not in self.outer:
            raise ModelFormatError(f"{where}: {name!r} is not defined by any input, initializer "
                                   "or node")
        found = self.outer.lookup(name, where)
        if found.constant is not None:
            value = Value(self.graph.unique_name(name), found.type, found.constant)
        elif id(found) in self.captures:
            value = self.captures[id(found)][1]
        else:
            value = self.graph.add_input(name, found.type)
            self.captures[id(found)] = (found, value)
        self.values[name] = value
        return value

    def bind(self, name: str, value: Value) -> None:
        """Makes `name` of the source model mean that value."""
        self.values[name] = value

    # -- nodes ------------------------------------------------------------------------------

    def add_nodes(self, nodes: Sequence[Any], results: Sequence[str]) -> None:
        """Imports NodeProtos, putting them in order first; `results` are the names to be given.

        Raises: ModelFormatError, UnsupportedOperatorError, ShapeError.
        """
        for is_foreign, unit in units_of(self, sorted_nodes(nodes, self, self.where())):
            for index, proto in unit:
                self.model.count_node()
                if not is_foreign:
                    self.add_proto(proto, node_label(proto, index))
            if is_foreign:
                inside = {index for index, _ in unit}
                read = {name for k, other in enumerate(nodes) if k not in inside
                        for name in used_names(other)}
                add_offload(self, unit, read | set(results))

    def where(self, name: str = "") -> str:
        """File, path inside it and node, for messages."""
        inside = "/".join(part for part in (self.path, name) if part)
        return f"{self.model.label}: {inside}" if inside else self.model.label

    def add_proto(self, proto: Any, label: str) -> None:
        """Imports one NodeProto, which may become several nodes or none."""
        where = f"{self.where(label)} ({proto.op_type})"
        domain = normal_domain(proto.domain)
        inputs = [self.lookup(name, where) if name else None for name in proto.input]
        node = SourceNode(
            name=self.prefix + label, op_type=proto.op_type, domain=domain,
            opset=self.opsets.get(domain, 1), inputs=inputs, outputs=list(proto.output),
            attributes=read_attributes(proto, where, self.model.tensors, self.bindings),
            where=where,
        )
        function = self.model.functions.get(function_key(proto, proto.op_type))
        if function is not None:
            expansion.inline(self, node, function)
        elif node.domain == "" and node.op_type == "Constant":
            self.bind(node.outputs[0] if node.outputs else "", self._constant_node(node))
        else:
            self.translate(node)

    def translate(self, node: SourceNode) -> None:
        """Brings a node to the newest opset and adds it to the graph."""
        changed = adapt(node, self)
        if changed is not None:
            self.emit(changed)

    def emit(self, node: SourceNode) -> list[Value]:
        """Adds a node of the newest opset, expanding it if only its function body is known."""
        key = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        cls = OPERATORS.find(key)
        if cls is None:
            return self._expand(node)
        while node.inputs and node.inputs[-1] is None:
            node.inputs.pop()
        check_input_types(node)
        check_attribute_kinds(node)
        subgraphs.close(self, node, "captured" in cls.__dataclass_fields__)  # type: ignore[attr-defined]
        op = build_operator(cls, node.attributes, node.where)
        names = self._output_names(node)
        label = self.graph.free_name(self.node_name(node.name))
        types = self._infer(op, node, names, label)
        if len(types) < len(names):
            raise ModelFormatError(f"{node.where}: has {len(names)} outputs, but {node.op_type} "
                                   f"gives {len(types)}")
        made = self.graph.add_node(op, node.inputs, name=label, outputs=names,
                                   sources=(node.name,), types=types)
        for source, value in zip(node.outputs, made.outputs, strict=False):
            if source:
                self.bind(source, value)
        return made.outputs

    # -- the Writer that adapters see ---------------------------------------------------------

    def constant(self, node: SourceNode, role: str, array: np.ndarray[Any, Any]) -> Value:
        """A new constant named after the node and its role."""
        return self.graph.add_constant(f"{node.name}.{role}", array)

    def add(
        self, node: SourceNode, op_type: str, inputs: Sequence[Value | None],
        outputs: Iterable[str] = ("",), **attributes: Any,
    ) -> Value:
        """A node of the newest opset on behalf of `node`; returns its first output."""
        wished = list(outputs)
        domain, _, plain = op_type.rpartition(".")
        name = node.name if any(wished) else f"{node.name}.{plain}"
        return self.emit(SourceNode(name, plain, domain, node.opset, list(inputs), wished,
                                    attributes, node.where))[0]

    def add_all(
        self, node: SourceNode, op_type: str, inputs: Sequence[Value | None],
        outputs: Sequence[str], **attributes: Any,
    ) -> list[Value]:
        """Like `add`, for as many outputs as there are names, empty ones included."""
        names = [name or f"{node.name}.{op_type}.{i}" for i, name in enumerate(outputs)]
        domain, _, plain = op_type.rpartition(".")
        return self.emit(SourceNode(node.name, plain, domain, node.opset, list(inputs), names,
                                    attributes, node.where))

    # -- parts ------------------------------------------------------------------------------

    def _constant_node(self, node: SourceNode) -> Value:
        if len(node.attributes) != 1 or len(node.outputs) != 1:
            raise ModelFormatError(f"{node.where}: a Constant has one output and one attribute, "
                                   f"not {len(node.outputs)} and {len(node.attributes)}")
        ((kind, content),) = node.attributes.items()
        if kind in ("value", "sparse_value"):
            array = content
        elif kind in ("value_float", "value_floats"):
            array = np.array(content, np.float32)
        elif kind in ("value_int", "value_ints"):
            array = np.array(content, np.int64)
        elif kind in ("value_string", "value_strings"):
            array = np.array(content, object)
        else:
            raise ModelFormatError(f"{node.where}: a Constant has no attribute {kind!r}")
        if not isinstance(array, np.ndarray):
            raise ModelFormatError(f"{node.where}: attribute {kind!r} is not a tensor")
        warn_about_nan(array, f"constant {node.name!r}", self.model.label)
        return self.graph.add_constant(self.prefix + node.outputs[0], array)

    def _expand(self, node: SourceNode) -> list[Value]:
        function = expansion.standard_function(node)
        if function is None:
            raise UnsupportedOperatorError(expansion.unsupported_message(node))
        if node.outputs and not node.outputs[0]:
            node.outputs[0] = f"{node.name}.out"
        expansion.inline(self, node, function)
        return [self.values[name] for name in node.outputs if name]

    def _output_names(self, node: SourceNode) -> list[str]:
        while len(node.outputs) > 1 and not node.outputs[-1]:
            node.outputs.pop()
        return [
            self.prefix + name if name else f"{node.name}.{'out' if i == 0 else f'unused{i}'}"
            for i, name in enumerate(node.outputs)
        ]

    def node_name(self, name: str) -> str:
        """The name of a node in the graph."""
        # Names of nodes and values share one space in a graph; values keep theirs, because users
        # bind and compare tensors by name.
        return f"{name}.node" if name in self.value_names else name

    def _infer(
        self, op: Any, node: SourceNode, names: list[str], label: str
    ) -> list[ValueType]:
        try:
            types = infer_node_types(op, node.inputs, label, self.model.label, (node.name,))
        except ShapeError as error:
            if not self.optional and not any(_is_vague(value) for value in node.inputs):
                raise
            log.debug("%s: types unknown: %s", node.where, error)
            types = types_without_inference(node, len(names))
        return [
            self._with_hint(known, node.outputs[i]) if i < len(names) else known
            for i, known in enumerate(types)
        ]

    def _with_hint(self, known: ValueType, name: str) -> ValueType:
        """Takes the declared rank where none is known; declared extents are not trusted."""
        hint = self.hints.get(name)
        if (
            isinstance(known, TensorType) and known.shape is None
            and isinstance(hint, TensorType) and hint.shape is not None
        ):
            shape = tuple(self.model.symbols.unnamed(name, i) for i in range(len(hint.shape)))
            return known.with_shape(shape)
        return known


def _is_vague(value: Value | None) -> bool:
    if value is None:
        return False
    return not isinstance(value.type, TensorType) or value.type.shape is None
