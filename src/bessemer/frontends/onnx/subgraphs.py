"""Body graphs of If, Loop, Scan and others: imported with their captured values made explicit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx

from bessemer.core.dtypes import boolean, i64
from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode
from bessemer.frontends.onnx.structure import check_names
from bessemer.frontends.onnx.types import value_type
from bessemer.ir.graph import Graph, Value
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType

if TYPE_CHECKING:
    from bessemer.frontends.onnx.importer import Frame

Captures = dict[int, tuple[Value, Value]]
"""By id of the outer value: the outer value and the body's input that stands for it."""

_COUNTED = ("Loop", "Scan", "SequenceMap")
"""Operators with any number of own inputs: they must be told how many captures follow."""


def close(frame: "Frame", node: SourceNode, counts_captures: bool) -> None:
    """Replaces the GraphProtos among a node's attributes by Graphs.

    Values that the bodies take from outside become inputs of the node after its own ones, and
    inputs of every body after its own ones, in the same order. `counts_captures` says that the
    operator has an attribute `captured` for their number.
    Raises: ModelFormatError.
    """
    protos = {
        name: value for name, value in node.attributes.items() if isinstance(value, onnx.GraphProto)
    }
    if not protos:
        return
    bodies: dict[str, tuple[Graph, Captures]] = {}
    for name, proto in protos.items():
        if node.op_type == "Loop":
            bodies[name] = _import_loop(frame, node, name, proto)
        else:
            bodies[name] = import_body(frame, node, name, proto, _formals(frame, node, proto))
    outers: dict[int, Value] = {}
    for _, captures in bodies.values():
        outers.update({key: outer for key, (outer, _) in captures.items()})
    for name, (graph, captures) in bodies.items():
        own = len(graph.inputs) - len(captures)
        inputs = graph.inputs[:own]
        for key, outer in outers.items():
            if key in captures:
                inputs.append(captures[key][1])
            else:
                inputs.append(Value(graph.unique_name(outer.name), outer.type))
        graph.inputs = inputs
        node.attributes[name] = graph
    if outers:
        _pad_optional_inputs(node)
        node.inputs.extend(outers.values())
    if counts_captures:
        node.attributes["captured"] = len(outers)
        if node.op_type in _COUNTED:
            node.attributes["captured"] = len(outers)


def _pad_optional_inputs(node: SourceNode) -> None:
    """Keeps the two optional formal inputs of Loop in place before captures are appended."""
    while node.op_type == "Loop" and len(node.inputs) < 2:
        node.inputs.append(None)


def import_body(
    frame: "Frame", node: SourceNode, name: str, proto: Any, formals: Sequence[ValueType | None]
) -> tuple[Graph, Captures]:
    """One body graph and what it captures; `formals` are the types of its inputs, where known.

    Raises: ModelFormatError if names, arity or types do not fit.
    """
    where = f"{node.where}: {name}"
    if frame.depth >= type(frame).depth_limit():
        raise ModelFormatError(f"{where}: graphs nest more than {type(frame).depth_limit()} deep")
    check_names(proto, where)
    initial = {t.name for t in proto.initializer} | {
        t.values.name for t in proto.sparse_initializer
    }
    inputs = [value for value in proto.input if value.name not in initial]
    if len(inputs) != len(formals):
        raise ModelFormatError(f"{where}: the body has {len(inputs)} inputs, "
                               f"but {node.op_type} feeds it {len(formals)}")
    graph = Graph(proto.name or name, source=frame.model.label)
    _reserve_names(frame, graph)
    inner = type(frame)(
        model=frame.model, graph=graph, opsets=frame.opsets, outer=frame,
        path=f"{frame.path}/{node.name}/{name}" if frame.path else f"{node.name}/{name}",
        depth=frame.depth + 1, bindings=frame.bindings,
        optional=frame.optional or node.op_type == "If",
    )
    declared = _declared_types(frame, inputs, where)
    for value, formal, hint in zip(inputs, formals, declared, strict=True):
        known = formal if formal is not None else hint
        if known is None:
            raise ModelFormatError(f"{where}: the type of input {value.name!r} is not known; "
                                   "declare it in the model")
        inner.bind(value.name, graph.add_input(value.name, known))
    inner.fill(proto)
    return graph, inner.captures


def _reserve_names(frame: "Frame", graph: Graph) -> None:
    """Keeps names of nodes around the body from its nodes: symbols are named after nodes."""
    around: Frame | None = frame
    while around is not None:
        for node in around.graph.nodes:
            graph.reserve(node.name)
        around = around.outer


def _declared_types(frame: "Frame", inputs: Sequence[Any], where: str) -> list[ValueType | None]:
    return [value_type(v.type, v.name, frame.model.symbols, where) for v in inputs]


def _formals(frame: "Frame", node: SourceNode, proto: Any) -> list[ValueType | None]:
    """Types that a node feeds to its body's inputs (Loop apart)."""
    types = [_any_content(value.type) if value is not None else None for value in node.inputs]
    if node.op_type == "Scan":
        return _scan_formals(node, types)
    if node.op_type == "SequenceMap":
        return [
            _any_element(frame, f"{frame.prefix}{node.name}.{k}", t.element)
            if isinstance(t, SequenceType) else t for k, t in enumerate(types)
        ]
    return [None] * len(proto.input)


def _any_content(known: ValueType) -> ValueType:
    """The type without the first iteration's content, which may be a constant."""
    return known.without_value() if isinstance(known, TensorType) else known


def _any_element(frame: "Frame", name: str, known: ValueType | None) -> ValueType | None:
    """The type of every element of a sequence: a symbol may stand for another extent in each."""
    if not isinstance(known, TensorType) or known.shape is None:
        return known
    return known.with_shape(tuple(
        dim if isinstance(dim, int) else frame.model.symbols.unnamed(name, axis)
        for axis, dim in enumerate(known.shape)
    ))


def _scan_formals(node: SourceNode, types: list[ValueType | None]) -> list[ValueType | None]:
    scanned = node.attributes.get("num_scan_inputs", 0)
    if not isinstance(scanned, int) or not 1 <= scanned <= len(types):
        raise ModelFormatError(f"{node.where}: num_scan_inputs is {scanned!r}, "
                               f"but the node has {len(types)} inputs")
    states = len(types) - scanned
    axes = node.attributes.get("scan_input_axes") or (0,) * scanned
    if len(axes) != scanned:
        raise ModelFormatError(f"{node.where}: scan_input_axes has {len(axes)} entries "
                               f"for {scanned} scanned inputs")
    result = types[:states]
    for known, axis in zip(types[states:], axes, strict=True):
        if isinstance(known, TensorType) and known.shape is not None:
            if not -known.rank <= axis < known.rank:
                raise ModelFormatError(f"{node.where}: scan axis {axis} does not exist in {known}")
            at = axis % known.rank
            known = known.with_shape(known.dims[:at] + known.dims[at + 1:])
        result.append(known)
    return result


def _import_loop(
    frame: "Frame", node: SourceNode, name: str, proto: Any
) -> tuple[Graph, Captures]:
    """Imports a Loop's body with carried types that hold for every iteration.

    The types of the initial values are widened (extents to symbols, then to unknown rank) until
    the body gives back what it was given.
    """
    carried = [_any_content(v.type) if v is not None else None for v in node.inputs[2:]]
    for attempt in range(4):
        formals = [TensorType(i64, ()), TensorType(boolean, ()), *carried]
        graph, captures = import_body(frame, node, name, proto, formals)
        if len(graph.outputs) < 1 + len(carried):
            raise ModelFormatError(
                f"{node.where}: the loop's body has {len(graph.outputs)} outputs, but needs the "
                f"condition and {len(carried)} carried values"
            )
        results = [_any_content(v.type) for v in graph.outputs[1:1 + len(carried)]]
        wider = [
            _join(a, b, f"{frame.prefix}{node.name}.{i}", frame, attempt)
            for i, (a, b) in enumerate(zip(carried, results, strict=True))
        ]
        if wider == carried:
            break
        carried = wider
    return graph, captures


def _join(
    a: ValueType | None, b: ValueType, name: str, frame: "Frame", attempt: int
) -> ValueType | None:
    """The narrowest type that holds both; different extents become symbols, later the rank goes."""
    if a is None or a == b:
        return b if a is None else a
    if isinstance(a, TensorType) and isinstance(b, TensorType) and a.dtype == b.dtype:
        if a.shape is None:
            return a
        if b.shape is None or len(a.shape) != len(b.shape) or attempt >= 2:
            return a.with_shape(None)
        return a.with_shape(tuple(
            x if x == y else frame.model.symbols.unnamed(name, axis)
            for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True))
        ))
    if isinstance(a, (SequenceType, OptionalType)) and type(a) is type(b):
        element = b.element if isinstance(b, (SequenceType, OptionalType)) else None
        if element is None:
            return a
        return replace(a, element=_join(a.element, element, name, frame, attempt))
    return a
