"""ONNX models from values and nodes, in the form of an opset, and what schemas allow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from bessemer.core.dtypes import DTYPES
from bessemer.debug.random_graphs.values import Reject, Value

ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"


def assemble(nodes: Sequence[Any], inputs: Sequence[Value], initializers: Sequence[Value],
             outputs: Sequence[Value], opset: int) -> Any:
    """A ModelProto of nodes and values."""
    infos = [
        helper.make_tensor_value_info(
            v.name, onnx_dtype(v.dtype),
            [s or d for s, d in zip(v.symbols or (None,) * v.rank, v.shape, strict=True)])
        for v in inputs
    ]
    # The outputs' extents are not declared: with symbols they would be wrong.
    results = [helper.make_tensor_value_info(v.name, onnx_dtype(v.dtype), [None] * v.rank)
               for v in outputs]
    tensors = [numpy_helper.from_array(v.data, v.name) for v in initializers]
    graph = helper.make_graph(list(nodes), "random", infos, results, tensors)
    return model_of(graph, opset)


def model_of(graph: Any, opset: int) -> Any:
    """A ModelProto of a graph: it imports the domains that the graph's nodes are of."""
    used = {node.domain for node in graph.node}
    versions = {"": opset, ML: ml_opset(opset), MICROSOFT: 1}
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()
               if not domain or domain in used]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 10 if opset <= 24 else 11
    return model


def ml_opset(opset: int) -> int:
    """The opset of ai.onnx.ml that belongs to one of ai.onnx here."""
    return 5 if opset >= 22 else 4 if opset >= 20 else 3


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str,
              attributes: dict[str, Any], opset: int, values: Sequence[Value | None],
              domain: str = "") -> Any:
    """A NodeProto in the form of an opset: before 18, reductions have their axes as attribute."""
    given = {key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
             for key, value in attributes.items() if value is not None}
    names = list(inputs)
    if not domain and _has_axes_attribute(op, opset):
        if len(values) > 1 and values[1] is not None:
            given["axes"] = [int(axis) for axis in values[1].data]
        names = names[:1]
        given.pop("noop_with_empty_axes", None)
    node = helper.make_node(op, names, list(outputs), name, domain=domain or None)
    for key, value in given.items():
        kind = AttributeProto.INTS if isinstance(value, list) and not value else None
        node.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    return node


def _has_axes_attribute(op: str, opset: int) -> bool:
    return op.startswith("Reduce") and op != "ReduceSum" and (
        opset < 18 and "axes" in schema_of(op, opset).attributes)


def onnx_dtype(name: str) -> int:
    """ONNX's number of a dtype name."""
    return int(helper.np_dtype_to_tensor_dtype(DTYPES[name].numpy))


_SCHEMAS: dict[tuple[str, int, str], Any] = {}


def schema_of(op: str, opset: int, domain: str = "") -> Any:
    """The schema of an operator at an opset. Raises: Reject if there is none."""
    key = op, opset, domain
    if key not in _SCHEMAS:
        try:
            _SCHEMAS[key] = onnx.defs.get_schema(op, opset, domain)
        except onnx.defs.SchemaError:
            _SCHEMAS[key] = None
    if _SCHEMAS[key] is None:
        raise Reject
    return _SCHEMAS[key]


_TEXTS = {"f64": "double", "f32": "float", "f16": "float16", "bf16": "bfloat16", "bool": "bool",
          "f8e4m3fn": "float8e4m3fn", "f8e4m3fnuz": "float8e4m3fnuz", "f8e5m2": "float8e5m2",
          "f8e5m2fnuz": "float8e5m2fnuz", "f8e8m0": "float8e8m0", "f4e2m1": "float4e2m1",
          "string": "string"}


def _type_text(dtype: str) -> str:
    if dtype.endswith(")"):
        kind, element = dtype[:-1].split("(", 1)
        return f"{'seq' if kind == 'sequence' else kind}({_type_text(element)})"
    if dtype in _TEXTS:
        return f"tensor({_TEXTS[dtype]})"
    return f"tensor({'uint' if dtype[0] == 'u' else 'int'}{dtype[1:]})"


def schema_check(op: str, opset: int, dtypes: Sequence[str | None],
                 attributes: dict[str, Any], domain: str = "") -> None:
    """Raises Reject if the operator does not take these types or attributes at that opset.

    The onnx package knows no schemas of com.microsoft: those rules must know what is valid.
    """
    if domain == MICROSOFT:
        return
    schema = schema_of(op, ml_opset(opset) if domain == ML else opset, domain)
    old_axes = not domain and _has_axes_attribute(op, opset)
    if schema.deprecated:
        raise Reject
    for name, value in attributes.items():
        known = name in schema.attributes or (old_axes and name == "noop_with_empty_axes")
        if value is not None and not known:
            raise Reject
    if old_axes and attributes.get("noop_with_empty_axes"):
        raise Reject
    if len(dtypes) > schema.max_input and not old_axes:
        raise Reject
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    bound: dict[str, str] = {}
    for position, dtype in enumerate(dtypes[: 1 if old_axes else None]):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        if dtype is None:
            continue
        text = _type_text(dtype)
        if text not in allowed.get(formal.type_str, {formal.type_str}):
            raise Reject
        if formal.type_str in allowed and formal.is_homogeneous and (
                bound.setdefault(formal.type_str, text) != text):
            raise Reject
