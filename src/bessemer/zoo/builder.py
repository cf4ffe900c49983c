"""A small builder over onnx.helper: names every node and tensor, makes seeded weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
_IR_VERSION = 8

Array = np.ndarray[Any, Any]


class ModelBuilder:
    """Collects nodes and weights of one ONNX graph.

    Tensors are handled by name. `scope` puts a prefix before names: tensor
    "layer1.0.conv1.weight", node "/layer1/0/conv1/Conv", as exporters write them.
    Weights come from one seeded generator, in the order they are asked for.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._channels: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._path: list[str] = []
        self._taken: set[str] = set()

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts `name` before the names of everything made inside."""
        self._path.append(name)
        yield
        self._path.pop()

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> str:
        """Declares a graph input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        if len(shape) == 4 and isinstance(shape[1], int):
            self._channels[name] = shape[1]
        return name

    def output(self, tensor: str, name: str, shape: Sequence[int | str]) -> str:
        """Makes `tensor` a graph output under `name` (an Identity-free rename)."""
        for node in reversed(self._nodes):
            for position, produced in enumerate(node.output):
                if produced == tensor:
                    node.output[position] = name
        for node in self._nodes:
            for position, used in enumerate(node.input):
                if used == tensor:
                    node.input[position] = name
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        self._outputs.append(info)
        return name

    def node(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        return self.nodes(op, inputs, 1, name, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: int, name: str = "", **attributes: Any
    ) -> list[str]:
        """Adds a node with several outputs and returns their names."""
        node_name = self._unique("/" + "/".join([*self._parts(), *([name] if name else []), op]))
        names = [f"{node_name}_output_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=node_name, **attributes))
        return names

    def weight(self, name: str, value: Array) -> str:
        """Adds an initializer `<scope>.<name>`."""
        full = self._unique(".".join([*self._parts(), name]))
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), full))
        return full

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initializer for a small constant; equal ones are shared."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def normal(self, shape: Sequence[int], deviation: float) -> Array:
        """Float32 normal numbers of that standard deviation."""
        values = self.random.standard_normal(tuple(shape), dtype=np.float32)
        return values * np.float32(deviation)

    def channels(self, tensor: str) -> int:
        """The number of channels of a feature map [n, c, h, w]."""
        return self._channels[tensor]

    def mark_channels(self, tensor: str, count: int) -> str:
        """Records that `tensor` has `count` channels and returns it."""
        self._channels[tensor] = count
        return tensor

    def finish(self) -> ModelProto:
        """The model, with the outputs declared so far."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._initializers
        )
        return helper.make_model(
            graph,
            producer_name="bessemer.zoo",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )

    def _parts(self) -> list[str]:
        return [part for name in self._path for part in name.split(".")]

    def _unique(self, name: str) -> str:
        candidate, count = name, 0
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate)
        return candidate
