"""`read_onnx`: a path, bytes or ModelProto as a Graph; and ONNX's entry in the table of formats."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import onnx

from bessemer.core.errors import ModelFormatError, SettingsError
from bessemer.core.shapes import Dim, Sym
from bessemer.frontends.formats import (
    NO_FALLBACK,
    Fallback,
    ModelFormat,
    Shapes,
    model_format,
)
from bessemer.frontends.onnx.importer import Frame, ModelContext
from bessemer.frontends.onnx.offload import Offloading
from bessemer.frontends.onnx.proto import (
    FunctionKey,
    ModelSource,
    function_key,
    load_proto,
    opsets_of,
)
from bessemer.frontends.onnx.structure import check_names
from bessemer.frontends.onnx.support import raise_if_unsupported
from bessemer.frontends.onnx.tensors import TensorReader, check_dims
from bessemer.frontends.onnx.types import Symbols, dtype_of, value_type
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType, ValueType


@model_format("onnx", suffixes=(".onnx",))
class OnnxFormat(ModelFormat):
    """The Open Neural Network Exchange format."""

    def detect(self, head: bytes) -> bool:
        """A ModelProto begins with its field 1, ir_version, a small number."""
        return len(head) >= 2 and head[0] == 0x08 and 1 <= head[1] < 0x80

    def accepts(self, model: object) -> bool:
        """True for an onnx.ModelProto."""
        return isinstance(model, onnx.ModelProto)

    # The path, bytes or ModelProto; onnx has no types that mypy could check.
    def read(self, model: Any, shapes: Shapes | None = None,
             fallback: Fallback = NO_FALLBACK, keep_inputs: Collection[str] = ()) -> Graph:
        """The graph of a path, bytes or ModelProto."""
        return read_onnx(model, shapes=shapes, fallback=fallback, keep_inputs=keep_inputs)


def read_onnx(model: Any, *, shapes: Shapes | None = None,
              fallback: Fallback = NO_FALLBACK, keep_inputs: Collection[str] = ()) -> Graph:
    """The graph of an ONNX model: a path, the bytes of a file, or an onnx.ModelProto.

    `shapes` fixes dimensions: `{"N": 4}` a symbol, `{"x": (4, 3)}` a whole input. Names of nodes
    and tensors are kept. Initializers are constants, also those that are listed as inputs; those
    named in `keep_inputs` are inputs. What `fallback` covers becomes Offload operators.
    Raises: ModelFormatError, UnsupportedOperatorError (listing all such nodes), ShapeError.
    """
    source = load_proto(model)
    return read_source(source, shapes or {}, fallback, keep_inputs)


def read_source(source: ModelSource, shapes: Shapes, fallback: Fallback = NO_FALLBACK,
                keep_inputs: Collection[str] = ()) -> Graph:
    """The graph of a parsed model."""
    proto, label = source.proto, source.label
    opsets = opsets_of(proto.opset_import, label, old=proto.ir_version < 3)
    _check_structure(proto, label)
    if not fallback.runtimes:
        raise_if_unsupported(source)
    symbols = Symbols({**_extents_of_symbols(proto, shapes), **shapes})
    context = ModelContext(label, TensorReader(label, source.folder), symbols,
                           functions_of(proto, label), Offloading(fallback, proto.ir_version))
    graph = Graph(proto.graph.name or "main", source=label, metadata=_metadata(proto))
    frame = Frame(context, graph, opsets)
    initial = _initial_types(proto, label)
    for name in keep_inputs:
        if name not in initial:
            near = difflib.get_close_matches(name, initial, n=1)
            raise SettingsError(f"keep_inputs: {label} has no initializer {name!r}"
                                f"{f'; did you mean {near[0]!r}?' if near else ''}")
    for value in proto.graph.input:
        if value.name in initial and value.name not in keep_inputs:
            continue
        known = value_type(value.type, value.name, context.symbols, label)
        if known is None:
            raise ModelFormatError(f"{label}: input {value.name!r} has no element type; "
                                   "the model must declare it")
        known = _fixed(known, value.name, shapes, label)
        frame.bind(value.name, graph.add_input(value.name, known))
    for name in keep_inputs:
        if name not in frame:
            frame.bind(name, graph.add_input(name, initial[name]))
    frame.fill(proto.graph)
    if context.offloading.unmet:
        raise SettingsError(f"{label}: no node has a name like "
                            f"{', '.join(map(repr, sorted(context.offloading.unmet)))}; write "
                            "a node's name, with * and ? for what may differ")
    return graph


def _initial_types(proto: Any, label: str) -> dict[str, TensorType]:
    """The types of the initializers by name."""
    tensors = [(t.name, t.data_type, t.dims) for t in proto.graph.initializer]
    tensors += [
        (t.values.name, t.values.data_type, t.dims) for t in proto.graph.sparse_initializer
    ]
    return {
        name: TensorType(dtype_of(kind, f"{label}: initializer {name!r}"),
                         check_dims(dims, f"{label}: initializer {name!r}"))
        for name, kind, dims in tensors
    }


def functions_of(proto: Any, label: str) -> Mapping[FunctionKey, Any]:
    """The model's functions by domain, name and overload. Raises ModelFormatError on doubles."""
    functions: dict[FunctionKey, Any] = {}
    for function in proto.functions:
        key = function_key(function, function.name)
        if key in functions:
            raise ModelFormatError(f"{label}: function {function.name!r} of domain "
                                   f"{function.domain!r} is defined twice")
        functions[key] = function
    return functions


def _check_structure(proto: Any, label: str) -> None:
    check_names(proto.graph, label)
    if not proto.graph.output:
        raise ModelFormatError(f"{label}: the graph has no outputs, so there is nothing to compute")


def _fixed(known: ValueType, name: str, shapes: Shapes, label: str) -> ValueType:
    """The input's type with the shape that the user gave for it."""
    given = shapes.get(name)
    if given is None or isinstance(given, int) or not isinstance(known, TensorType):
        return known
    shape: tuple[Dim, ...] = tuple(int(extent) for extent in given)
    fits = known.shape is None or (
        len(known.shape) == len(shape)
        and all(isinstance(a, Sym) or a == b for a, b in zip(known.shape, shape, strict=True))
    )
    if not fits:
        raise ModelFormatError(f"{label}: input {name!r} is {known}, but shapes gives it {shape}; "
                               "only symbolic dimensions can be fixed")
    return known.with_shape(shape)


def _extents_of_symbols(proto: Any, shapes: Shapes) -> dict[str, int]:
    """What the whole shapes given for inputs say about the symbols in them."""
    extents = {}
    for value in proto.graph.input:
        given = shapes.get(value.name)
        if given is not None and not isinstance(given, int):
            for dim, extent in zip(value.type.tensor_type.shape.dim, given, strict=False):
                if dim.dim_param:
                    extents[dim.dim_param] = int(extent)
    return extents


def _metadata(proto: Any) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    for name in ("producer_name", "producer_version", "doc_string"):
        if getattr(proto, name):
            entries[name] = getattr(proto, name)
    return entries
