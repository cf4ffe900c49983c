"""Functions: those of the model and those that ONNX gives as the meaning of its own operators."""

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.attributes import default_attributes, read_attribute
from bessemer.frontends.onnx.proto import NEWEST_OPSET, normal_domain, opsets_of
from bessemer.frontends.onnx.source import SourceNode
from bessemer.frontends.onnx.tensors import TensorReader
from bessemer.frontends.onnx.types import type_proto

if TYPE_CHECKING:
    from bessemer.frontends.onnx.importer import Frame


def inline(frame: "Frame", node: SourceNode, function: Any) -> None:
    """Imports a function's body in place of a node that calls it.

    Raises: ModelFormatError if the call does not fit the function, or functions nest without end.
    """
    limit = type(frame).depth_limit()
    if frame.depth >= limit:
        raise ModelFormatError(f"{node.where}: functions call each other more than {limit} deep; "
                               "a function must not call itself")
    if len(node.inputs) > len(function.input) or len(node.outputs) > len(function.output):
        raise ModelFormatError(
            f"{node.where}: is called with {len(node.inputs)} inputs and {len(node.outputs)} "
            f"outputs, but the function has {len(function.input)} and {len(function.output)}"
        )
    inner = type(frame)(
        model=frame.model, graph=frame.graph,
        opsets=opsets_of(function.opset_import, node.where) or frame.opsets,
        prefix=f"{node.name}/", path=f"{frame.path}/{node.name}" if frame.path else node.name,
        depth=frame.depth + 1, bindings=_bindings(frame, node, function),
        value_names=frame.value_names, optional=frame.optional,
    )
    for name, value in zip(function.input, node.inputs, strict=False):
        if value is not None:
            inner.bind(name, value)
    body = _without_absent(function, {n for n in function.input if n not in inner.values})
    inner.add_nodes(body, function.output)
    for name, source in zip(function.output, node.outputs, strict=False):
        if source:
            value = inner.lookup(name, node.where)
            frame.bind(source, value)
            if name not in function.input:
                # The caller knows the result by its own name.
                frame.graph.rename_value(value, frame.graph.unique_name(frame.prefix + source))


def _without_absent(function: Any, absent: set[str]) -> list[Any]:
    """The body with references to inputs that the call leaves out made empty."""
    nodes = []
    for node in function.node:
        if any(name in absent for name in node.input):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for index, name in enumerate(node.input):
                if name in absent:
                    copy.input[index] = ""
            node = copy
        nodes.append(node)
    return nodes


def _bindings(frame: "Frame", node: SourceNode, function: Any) -> dict[str, Any]:
    bindings = {
        a.name: read_attribute(a, node.where, frame.model.tensors) for a in function.attribute_proto
    }
    known = set(bindings) | set(function.attribute)
    for name, value in node.attributes.items():
        if name not in known:
            raise ModelFormatError(f"{node.where}: the function {function.name!r} has no attribute "
                                   f"{name!r}; known are {', '.join(sorted(known)) or 'none'}")
        bindings[name] = value
    return bindings


def standard_function(node: SourceNode) -> Any | None:
    """The FunctionProto that ONNX defines for an operator we have no class for, or None."""
    try:
        schema = onnx.defs.get_schema(node.op_type, NEWEST_OPSET, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        made = onnx.FunctionProto()
        made.CopyFrom(schema.function_body)
    elif schema.has_context_dependent_function:
        made = _context_function(schema, node)
    else:
        return None
    reader = TensorReader(node.where, None)
    for name, value in default_attributes(schema, node.where, reader).items():
        node.attributes.setdefault(name, value)
    if not any(normal_domain(entry.domain) == "" for entry in made.opset_import):
        # A body of another domain may use standard operators without saying of which opset.
        made.opset_import.append(helper.make_opsetid("", NEWEST_OPSET))
    listed = set(made.attribute) | {a.name for a in made.attribute_proto}
    made.attribute.extend(name for name in schema.attributes if name not in listed)
    return made


def _context_function(schema: Any, node: SourceNode) -> Any:
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
    proto = helper.make_node(node.op_type, names, node.outputs, domain=node.domain or None)
    for name, value in node.attributes.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        proto.attribute.append(helper.make_attribute(name, value))
    types = [type_proto(v.type if v is not None else None).SerializeToString() for v in node.inputs]
    version = max(v for v in schema.context_dependent_function_opset_versions if v <= NEWEST_OPSET)
    text = schema.get_context_dependent_function_with_opset_version(
        version, proto.SerializeToString(), types
    )
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function


def unsupported_message(node: SourceNode) -> str:
    """What to say of a node whose operator is unknown."""
    return (
        f"{node.where}: operator {node.op_type!r} of domain {node.domain or 'ai.onnx'!r} (opset "
        f"{node.opset}) is not known; give it as a plugin, or run 'bessemer check MODEL' for all"
    )
