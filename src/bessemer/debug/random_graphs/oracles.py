"""Runs an ONNX model three ways: our numpy reference, our engine, and ONNX Runtime."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.frontends import import_model
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph_values

Values = Mapping[str, Array]


def reference_values(model: Any, inputs: Values) -> tuple[Graph, dict[str, Any]]:
    """The imported graph and all its values by our numpy references."""
    graph = import_model(model)
    with np.errstate(all="ignore"):
        return graph, run_graph_values(graph, inputs)


def extents_of_symbols(model: Any, inputs: Values) -> dict[str, int]:
    """The extents that the inputs' data gives to the symbols of the model."""
    return {
        dim.dim_param: int(inputs[info.name].shape[position])
        for info in model.graph.input
        for position, dim in enumerate(info.type.tensor_type.shape.dim) if dim.dim_param
    }


def run_engine(model: Any, inputs: Values, shapes: Mapping[str, int] | None = None,
               threads: int | None = None) -> dict[str, Array]:
    """The outputs by a compiled engine."""
    from bessemer.compiler.build import build

    engine = build(model, shapes=shapes or None, strict=False, tune="none",
                   logger=logging.getLogger("bessemer.quiet"))
    with engine.create_context(threads=threads) as context:
        return {name: np.array(data) for name, data in context.run(dict(inputs)).items()}


# -- ONNX Runtime -------------------------------------------------------------------------------

_NODE = re.compile(r"node with name '(n\d+)|node \((n\d+)[\w)]|node:(n\d+)|Name:'(n\d+)|"
                   r"[Nn]ode: ?'?(n\d+)|name: (n\d+)|Node \((n\d+)")


@dataclass
class Rival:
    """ONNX Runtime; nodes that it does not run are left out and their results given to it.

    `refusals` counts the kinds of nodes left out with the first words of the reason.
    """

    refusals: Counter[str] = field(default_factory=Counter)
    unknown: set[tuple[Any, ...]] = field(default_factory=set)

    def run(self, model: Any, inputs: Values, values: Mapping[str, Any],
            trusted: Collection[str] = ()) -> dict[str, Array]:
        """The outputs that it can compute; `values` are the reference's, by name.

        The results of `trusted` nodes are taken from there.
        """
        kinds = {name: str(data.dtype) for name, data in (*inputs.items(), *values.items())
                 if isinstance(data, np.ndarray)}
        kinds |= {t.name: str(t.data_type) for t in model.graph.initializer}
        left = [n.name for n in model.graph.node
                if n.name in trusted or self._kind(n, kinds) in self.unknown]
        if left:
            model, inputs = without_nodes(model, left, inputs, values)
        model, inputs = strings_as_constants(model, inputs)
        for _ in range(len(model.graph.node)):
            if not model.graph.output:
                return {}
            try:
                return self._once(model, inputs)
            except RuntimeError as error:
                name = self._guilty(str(error))
                node = next((n for n in model.graph.node if n.name == name), None)
                if node is None:
                    self.refusals[f"graph: {_short(error)}"] += 1
                    return {}
                self.refusals[f"{node.op_type}: {_short(error)}"] += 1
                if "NOT_IMPLEMENTED" in str(error):
                    self.unknown.add(self._kind(node, kinds))
                model, inputs = without_nodes(model, [node.name], inputs, values)
        return {}

    def _once(self, model: Any, inputs: Values) -> dict[str, Array]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        errors = ort.capi.onnxruntime_pybind11_state
        known = (errors.Fail, errors.NotImplemented, errors.InvalidGraph, errors.RuntimeException,
                 errors.InvalidArgument, errors.EPFail)
        names = [value.name for value in model.graph.output]
        try:
            session = ort.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
            feeds = {info.name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.ascontiguousarray(inputs[info.name]).reshape(inputs[info.name].shape),
                info.type.tensor_type.elem_type) for info in model.graph.input}
            found = session.run_with_ort_values(names, feeds)
        except known as error:
            raise RuntimeError(str(error)) from error
        return {name: _array(item) for name, item in zip(names, found, strict=True)}

    @staticmethod
    def _guilty(message: str) -> str:
        found = _NODE.search(message)
        return next(group for group in found.groups() if group) if found else ""

    @staticmethod
    def _kind(node: Any, kinds: Mapping[str, str]) -> tuple[Any, ...]:
        to = tuple(a.i for a in node.attribute if a.name in ("to", "dtype"))
        return (node.domain, node.op_type, *(kinds.get(name, "") for name in node.input), to)


def _array(item: Any) -> Any:
    """The numpy array of an OrtValue; numpy itself has no bfloat16."""
    kind = item.element_type()
    if kind == onnx.TensorProto.BFLOAT16:
        import ml_dtypes

        bits = item.numpy() if item.numpy().dtype != object else None
        assert bits is not None
        return bits.view(ml_dtypes.bfloat16) if bits.dtype == np.uint16 else bits
    return np.array(item.numpy())


def _short(error: Exception) -> str:
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : |/onnxruntime_src/\S+|n\d+|v\d+|c\d+|x\d+", "",
                  str(error))
    return text[:110]


def without_nodes(model: Any, names: list[str], inputs: Values, values: Mapping[str, Any]
                  ) -> tuple[Any, dict[str, Array]]:
    """A model without some nodes: their results become inputs, with the reference's data.

    A result that the graph gives out is no output any more.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    feed = dict(inputs)
    gone = []
    lost: set[str] = set()
    for node in graph.node:
        # A sequence or narrow numbers cannot be given, so those that read them go too.
        if node.name in names or lost & set(node.input):
            gone.append(node)
            lost |= {name for name in node.output if not _can_be_given(values.get(name))}
    for node in gone:
        graph.node.remove(node)
    kept_inputs = {info.name for info in graph.input}
    for node in gone:
        for name in node.output:
            data = values.get(name)
            if data is None or name in kept_inputs or not _can_be_given(data):
                continue
            feed[name] = data
            kind = onnx_dtype(dtype_from_numpy(data.dtype).name)
            graph.input.append(helper.make_tensor_value_info(name, kind, list(data.shape)))
    made = {name for node in graph.node for name in node.output}
    outputs = [info for info in graph.output if info.name in made]
    del graph.output[:]
    graph.output.extend(outputs)
    return pruned(result, feed)


def _can_be_given(data: Any) -> bool:
    """True for what may be an input of ONNX Runtime, and for what nobody knows."""
    if data is None or (isinstance(data, np.ndarray) and data.dtype == object):
        return True
    return isinstance(data, np.ndarray) and (
        data.dtype.kind != "V" or dtype_from_numpy(data.dtype).bits >= 16)


def strings_as_constants(model: Any, inputs: Values) -> tuple[Any, dict[str, Array]]:
    """The model with its inputs of strings as initializers: OrtValues cannot hold them."""
    texts = [name for name, data in inputs.items() if data.dtype == object]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for info in list(result.graph.input):
        if info.name in texts:
            result.graph.input.remove(info)
            result.graph.initializer.append(numpy_helper.from_array(inputs[info.name], info.name))
    return result, {name: data for name, data in inputs.items() if name not in texts}


def pruned(model: Any, inputs: Values) -> tuple[Any, dict[str, Array]]:
    """The model without what its outputs do not need; changes it in place."""
    graph = model.graph
    needed = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed |= set(names_read(node))
    kept.reverse()
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    infos = [onnx.ValueInfoProto.FromString(i.SerializeToString()) for i in graph.input
             if i.name in needed]
    tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer
               if t.name in needed]
    del graph.node[:], graph.input[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.input.extend(infos)
    graph.initializer.extend(tensors)
    return model, {info.name: inputs[info.name] for info in infos}


def names_read(node: Any) -> list[str]:
    """The names that a node reads, those of its bodies included."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                names += names_read(inner)
    return names
