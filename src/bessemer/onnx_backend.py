"""ONNX's own backend interface: `prepare`, `run_model`, `run_node`, by the path that users take.

`onnx.backend.test` and other tools that speak `onnx.backend.base.Backend` use this module as the
backend. A model with symbolic dimensions is built at its first run, for the shapes it then sees; so
is one with inputs whose contents decide shapes (axes, sizes), for the contents it then sees.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from bessemer.compiler.build import build
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import BessemerError, InputError, ModelFormatError, TargetError
from bessemer.frontends import import_model
from bessemer.frontends.onnx import check_model
from bessemer.frontends.onnx.arrays import from_onnx, to_onnx
from bessemer.frontends.onnx.types import number_of
from bessemer.ir.contents import fix_contents, form_inputs
from bessemer.ir.graph import Graph, Value
from bessemer.ir.types import TensorType
from bessemer.runtime.engine import Engine

_MOST_ENGINES = 16
"""A prepared model keeps this many engines for different shapes and contents of inputs."""


# Inputs and outputs are arrays, lists (sequences) or None (empty optionals); the proto classes of
# onnx have no types that mypy could check.
class BessemerRep(BackendRep):  # type: ignore[misc]
    """A prepared model. `run` takes arrays in input order (or by name) and returns all outputs."""

    def __init__(self, model: Any, options: Mapping[str, Any]) -> None:
        self._model = model
        # Callers of this interface cannot choose operators: no warnings of host steps.
        self._options = {"strict": False, **options}
        self._graph = import_model(model)
        self._output_names = [value.name for value in self._graph.outputs]
        self._graphs: dict[tuple[Any, ...], Graph] = {}
        self._engines: dict[tuple[Any, ...], Engine] = {}
        if not _needs_shapes(self._graph) and not form_inputs(self._graph):
            self._engines[()] = build(self._graph, **self._options)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return [value.name for value in self._graph.inputs]

    @property
    def engines(self) -> list[Engine]:
        """The engines built so far: one, or one for each set of input shapes."""
        return list(self._engines.values())

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """All outputs, as a tuple that can also be read by name.

        Raises: InputError if the inputs do not fit; any error of a build.
        """
        feeds = self._feeds(inputs)
        for value in self._graph.inputs:
            if value.name in feeds:
                feeds[value.name] = from_onnx(feeds[value.name], value.type)
        engine = self._engine(feeds)
        # Inputs that decided the form of the results are constants of the engine.
        fixed = set(self.input_names) - {binding.name for binding in engine.inputs}
        outputs = engine.run({name: x for name, x in feeds.items() if name not in fixed})
        ordered = [to_onnx(outputs[value.name], value.type) for value in self._graph.outputs]
        made: tuple[Any, ...] = namedtupledict("Outputs", self._output_names)(*ordered)
        return made

    def _feeds(self, inputs: Any) -> dict[str, Any]:
        names = self.input_names
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        given = list(inputs)
        if len(given) > len(names):
            raise InputError(f"the model takes {len(names)} inputs ({', '.join(names)}), "
                             f"got {len(given)}")
        return dict(zip(names, given, strict=False))

    def _engine(self, feeds: Mapping[str, Any]) -> Engine:
        if () in self._engines:
            return self._engines[()]
        shapes = tuple(sorted(
            (value.name, np.asarray(feeds[value.name]).shape)
            for value in self._graph.inputs
            if _is_open(value) and value.name in feeds
        ))
        if shapes not in self._graphs:
            _make_room(self._graphs)
            self._graphs[shapes] = import_model(self._model, shapes=dict(shapes) or None)
        graph = self._graphs[shapes]
        contents = {
            value.name: np.asarray(feeds[value.name])
            for value in form_inputs(graph) if value.name in feeds
        }
        key = (shapes, *((name, array.tobytes()) for name, array in contents.items()))
        if key not in self._engines:
            _make_room(self._engines)
            self._engines[key] = build(fix_contents(graph, contents), **self._options)
        return self._engines[key]


def _make_room(cache: dict[Any, Any]) -> None:
    """Drops the oldest entry of a full cache."""
    if len(cache) >= _MOST_ENGINES:
        cache.pop(next(iter(cache)))


def _is_open(value: Value) -> bool:
    """True for a tensor input whose shape is not fully known."""
    return isinstance(value.type, TensorType) and not value.type.is_static


def _needs_shapes(graph: Graph) -> bool:
    return any(_is_open(value) for value in graph.inputs)


class BessemerBackend(Backend):  # type: ignore[misc]
    """`onnx.backend.base.Backend` on the CPU."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for CPU."""
        return device.split(":")[0] == "CPU"

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **_: Any) -> bool:
        """True if every operator of the model is supported."""
        try:
            return cls.supports_device(device) and not check_model(model).unsupported
        except BessemerError:
            return False

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> BessemerRep:
        """Builds a model (at once if its shapes are known); `options` are those of `build`.

        Raises: TargetError for another device than the CPU; any error of import or build.
        """
        if not cls.supports_device(device):
            raise TargetError(f"device {device!r} is not supported; use 'CPU'")
        return BessemerRep(model, options)

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str = "CPU", **options: Any
    ) -> tuple[Any, ...]:
        """Builds a model and runs it once."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Any, ...]:
        """Runs one NodeProto on the inputs it names, in order; `opset_version` may be given."""
        opset = options.pop("opset_version", None)
        given = inputs if isinstance(inputs, (Sequence, Mapping)) else [inputs]
        return cls.run_model(model_of_node(node, given, opset), given, device, **options)


def model_of_node(node: Any, inputs: Any, opset: int | None = None) -> Any:
    """A ModelProto that holds one node, its inputs typed like the data given for them.

    Raises: ModelFormatError if the number of inputs differs, or data has no ONNX type.
    """
    names = [name for name in node.input if name]
    data = [inputs[name] for name in names] if isinstance(inputs, Mapping) else list(inputs)
    if len(names) != len(data):
        raise ModelFormatError(f"node {node.name or node.op_type!r} names {len(names)} inputs, "
                               f"got {len(data)}")
    infos = [
        helper.make_value_info(name, _type_proto(item, name))
        for name, item in zip(names, data, strict=True)
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    domains = dict.fromkeys(["", node.domain])
    imports = [
        helper.make_opsetid(d, opset if opset and not d else _newest(d)) for d in domains
    ]
    return helper.make_model(helper.make_graph([node], node.name or node.op_type, infos, outputs),
                             opset_imports=imports)


def _newest(domain: str) -> int:
    versions = [s.since_version for s in onnx.defs.get_all_schemas() if s.domain == domain]
    return int(onnx.defs.onnx_opset_version()) if not domain else max(versions, default=1)


def _type_proto(item: Any, name: str) -> Any:
    if isinstance(item, list):
        element = item[0] if item else np.zeros(0, np.float32)
        return helper.make_sequence_type_proto(_type_proto(element, name))
    try:
        array = np.asarray(item)
        return helper.make_tensor_type_proto(number_of(dtype_from_numpy(array.dtype)), array.shape)
    except (KeyError, ValueError) as error:
        raise ModelFormatError(f"input {name!r}: a {type(item).__name__} has no ONNX type; "
                               "give an array, or a list of arrays for a sequence") from error


prepare = BessemerBackend.prepare
run_model = BessemerBackend.run_model
run_node = BessemerBackend.run_node
supports_device = BessemerBackend.supports_device
is_compatible = BessemerBackend.is_compatible
