"""Which nodes of a model can be imported, and how; found by looking, without importing."""

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from bessemer.core.errors import ModelFormatError, UnsupportedOperatorError
from bessemer.core.registry import OPERATORS
from bessemer.frontends.formats import Fallback
from bessemer.frontends.onnx.proto import (
    NEWEST_OPSET,
    FunctionKey,
    ModelSource,
    function_key,
    normal_domain,
    opsets_of,
)
from bessemer.frontends.onnx.structure import node_label
from bessemer.frontends.onnx.versions.table import adapted_types, replacements
from bessemer.ops.control import ControlOperator

COMPILED, OPAQUE, EXPANDED, UNSUPPORTED = "compiled", "opaque", "expanded", "unsupported"
OFFLOADED = "offloaded"
_MAX_DEPTH = 40
_LISTED = 50


@dataclass(frozen=True)
class NodeSupport:
    """How one node of the source model will be handled.

    `kind` is compiled (has a tensor expression, or bodies that are compiled), opaque (runs by its
    reference on the host), expanded (replaced by a function's body), offloaded (left to another
    runtime) or unsupported; `reason` explains the last.
    """

    path: str
    """Node name, behind the names of the nodes and bodies it lies in."""
    op_type: str
    domain: str
    opset: int
    kind: str
    reason: str = ""

    def __str__(self) -> str:
        return (f"{self.path!r}: {self.op_type} of {self.domain or 'ai.onnx'} "
                f"(opset {self.opset}): {self.reason or self.kind}")


def node_support(source: ModelSource) -> Iterator[NodeSupport]:
    """Every node of a model, those in bodies and in called functions included.

    Raises: ModelFormatError if a node has no opset, or attributes or arity its operator lacks.
    """
    proto = source.proto
    functions = {function_key(f, f.name): f for f in proto.functions}
    opsets = opsets_of(proto.opset_import, source.label, old=proto.ir_version < 3)
    scan = _Scan(source.label, functions)
    yield from scan.nodes(proto.graph.node, opsets, "", 0)
    for function in proto.functions:
        inner = opsets_of(function.opset_import, source.label) or opsets
        yield from scan.nodes(function.node, inner, f"function {function.name}", 0)


@dataclass(frozen=True)
class _Scan:
    label: str
    functions: Mapping[FunctionKey, Any]

    def nodes(
        self, nodes: Any, opsets: Mapping[str, int], path: str, depth: int
    ) -> Iterator[NodeSupport]:
        if depth > _MAX_DEPTH:
            raise ModelFormatError(f"{self.label}: {path}: graphs nest more than {_MAX_DEPTH} deep")
        for index, node in enumerate(nodes):
            here = "/".join(part for part in (path, node_label(node, index)) if part)
            yield self._node(node, opsets, here)
            for attribute in node.attribute:
                graphs = list(attribute.graphs)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                for graph in graphs:
                    yield from self.nodes(graph.node, opsets, f"{here}/{attribute.name}", depth + 1)

    def _node(self, node: Any, opsets: Mapping[str, int], path: str) -> NodeSupport:
        domain = normal_domain(node.domain)
        if not node.op_type:
            raise ModelFormatError(f"{self.label}: node {path!r} names no operator")
        opset = opsets.get(domain, 0)
        made = NodeSupport(path, node.op_type, domain, opset, EXPANDED)
        if function_key(node, node.op_type) in self.functions:
            return made
        if domain not in opsets:
            if domain == "":
                raise ModelFormatError(f"{self.label}: node {path!r} ({node.op_type}) is of the "
                                       "standard domain, but the model imports no opset for it")
            opset = 1
        _check_against_schema(node, domain, opset, f"{self.label}: node {path!r} ({node.op_type})")
        kind, reason = classify(domain, node.op_type, opset)
        return NodeSupport(path, node.op_type, domain, opset, kind, reason)


def classify(domain: str, op_type: str, opset: int) -> tuple[str, str]:
    """How an operator is handled (see NodeSupport), and why not if it is not."""
    if domain == "" and op_type == "Constant":
        return COMPILED, ""
    kinds = []
    for name in replacements(domain, op_type, opset):
        owner, _, plain = name.rpartition(".")
        kinds.append(_classify_newest(owner, plain))
    for order in (UNSUPPORTED, OPAQUE, EXPANDED):
        for kind, reason in kinds:
            if kind == order:
                return kind, reason
    return COMPILED, ""


def _classify_newest(domain: str, op_type: str) -> tuple[str, str]:
    key = f"{domain}.{op_type}" if domain else op_type
    cls = OPERATORS.find(key)
    if cls is not None:
        compiled = cls.has_lowering() or issubclass(cls, ControlOperator)  # type: ignore[attr-defined]
        return (COMPILED if compiled else OPAQUE), ""
    try:
        schema = onnx.defs.get_schema(op_type, NEWEST_OPSET, domain)
    except onnx.defs.SchemaError:
        return UNSUPPORTED, _unknown(domain, op_type)
    if schema.has_context_dependent_function:
        return EXPANDED, ""
    if schema.has_function:
        nodes = schema.function_body.node
        inner = {f"{normal_domain(node.domain)}.{node.op_type}" for node in nodes}
        for name in sorted(inner - {".Constant", f"{domain}.{op_type}"}):
            part, _, inner_type = name.rpartition(".")
            kind, _ = _classify_newest(part, inner_type)
            if kind == UNSUPPORTED:
                return UNSUPPORTED, f"its meaning in ONNX uses {inner_type}, which is not supported"
        return EXPANDED, ""
    return UNSUPPORTED, "a standard operator that Bessemer does not have yet"


def _unknown(domain: str, op_type: str) -> str:
    if not domain:
        what = "no such operator in ONNX"
        names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    else:
        what = f"not one of the operators of {domain} that are known"
        inside = [name.rpartition(".") for name in OPERATORS.names()]
        names = {plain for owner, _, plain in inside if owner == domain}
        names.update(adapted_types(domain))
        if not names:
            return f"operators of the domain {domain!r} are not known"
    near = difflib.get_close_matches(op_type, sorted(names), n=1)
    return what + (f"; did the exporter mean {near[0]}?" if near else "")


def _check_against_schema(node: Any, domain: str, opset: int, where: str) -> None:
    """Raises ModelFormatError if the node's inputs, outputs or attributes are not as ONNX says."""
    try:
        schema = onnx.defs.get_schema(node.op_type, max(0, min(opset, 1 << 30)), domain)
    except onnx.defs.SchemaError:
        return
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            raise ModelFormatError(f"{where}: has {count} {what}, but opset {opset} allows "
                                   f"{least} to {most}")
    if schema.deprecated:
        return
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None:
            if attribute.name == "consumed_inputs" or attribute.name.startswith("__"):
                continue
            raise ModelFormatError(
                f"{where}: has no attribute {attribute.name!r} in opset {opset}; known are "
                f"{', '.join(sorted(schema.attributes)) or 'none'}"
            )
        if attribute.type and attribute.type != known.type.value and not attribute.ref_attr_name:
            raise ModelFormatError(
                f"{where}: attribute {attribute.name!r} must be {known.type.name}, not "
                f"{onnx.AttributeProto.AttributeType.Name(attribute.type)}"
            )
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            raise ModelFormatError(f"{where}: needs the attribute {name!r}")


def with_fallback(nodes: Iterable[NodeSupport], fallback: Fallback) -> Iterator[NodeSupport]:
    """The same nodes, with those that `fallback` leaves to another runtime marked so."""
    inside: tuple[str, ...] = ()
    for node in nodes:
        label = node.path.rpartition("/")[2]
        if node.path.startswith(inside) or (node.kind == UNSUPPORTED and fallback.runtimes) or any(
                fnmatch.fnmatchcase(name, pattern)
                for pattern in fallback.nodes for name in (label, node.path)):
            inside = (*inside, f"{node.path}/")
            node = replace(node, kind=OFFLOADED, reason="")
        yield node


def raise_if_unsupported(source: ModelSource) -> None:
    """Raises UnsupportedOperatorError that lists every node that cannot be imported."""
    bad = [found for found in node_support(source) if found.kind == UNSUPPORTED]
    if not bad:
        return
    lines = [f"  {found}" for found in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  and {len(bad) - _LISTED} more")
    raise UnsupportedOperatorError(
        f"{source.label}: {len(bad)} node{'s' * (len(bad) > 1)} cannot be compiled:\n"
        + "\n".join(lines)
        + "\nGive these operators as plugins, export the model without them, or leave them to ONNX "
        "Runtime: allow_fallback=['onnxruntime'] (--allow-fallback onnxruntime). "
        "'bessemer check MODEL' gives the whole report."
    )
