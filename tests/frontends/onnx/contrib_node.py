"""One node of com.microsoft, run by ONNX Runtime and by Bessemer."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bessemer
from bessemer.core.dtypes import dtype_from_numpy
from bessemer.frontends import import_model
from bessemer.frontends.onnx.types import number_of
from bessemer.ir.interpreter import run_graph

MICROSOFT = "com.microsoft"
_RANDOM = np.random.default_rng(7)


def floats(*shape):
    """Normal f32 numbers."""
    return _RANDOM.standard_normal(shape).astype(np.float32)


def small(low, high, *shape, dtype=np.int32):
    """Integers from low to before high."""
    return _RANDOM.integers(low, high, shape).astype(dtype)


def bytes_of(*shape):
    """Any u8 numbers."""
    return small(0, 256, *shape, dtype=np.uint8)


def signed(*shape):
    """Any i8 numbers."""
    return small(-128, 128, *shape, dtype=np.int8)


def f32(value):
    """A constant such as a scale."""
    return np.array(value, np.float32)


def zero(value, dtype=np.uint8):
    """A zero point."""
    return np.array(value, dtype)


def node_model(op_type, inputs, outputs=("y0",), constants=(), domain=MICROSOFT, **attributes):
    """A model of one node; inputs are arrays or None, those at `constants` are initializers."""
    names = [f"x{k}" if x is not None else "" for k, x in enumerate(inputs)]
    node = helper.make_node(op_type, names, list(outputs), name="it", domain=domain, **attributes)
    given, stored = [], []
    for k, x in enumerate(inputs):
        if x is None:
            continue
        if k in constants:
            stored.append(numpy_helper.from_array(x, names[k]))
        else:
            elem = number_of(dtype_from_numpy(x.dtype))
            given.append(helper.make_tensor_value_info(names[k], elem, x.shape))
    results = [_result(name) for name in outputs if name]
    graph = helper.make_graph([node], "g", given, results, stored)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 10
    return model


def _result(name):
    """An output by its name; a last letter f says f32 where ONNX Runtime cannot infer it."""
    if name.endswith("f"):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    return onnx.ValueInfoProto(name=name)


def feeds(inputs, constants=()):
    """The arrays of the graph inputs by name."""
    return {f"x{k}": x for k, x in enumerate(inputs) if x is not None and k not in constants}


def rival(model, data):
    """The outputs by ONNX Runtime, unoptimised."""
    onnxruntime = pytest.importorskip("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, data)


def compare(found, expected, rtol=1e-4, atol=1e-5, steps=0):
    """Floats agree relative to the largest; integers to `steps`, and mostly exactly."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype.kind == "f":
        scale = float(np.max(np.abs(expected), initial=1.0, where=np.isfinite(expected)))
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * scale)
    else:
        distance = np.abs(found.astype(np.int64) - expected.astype(np.int64))
        assert distance.max(initial=0) <= steps
        assert distance.size == 0 or (distance > 0).mean() <= 0.05


@dataclass
class Case:
    """A node with its data, and how the results are compared."""

    op_type: str
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...] = ("y0",)
    constants: tuple[int, ...] = ()
    domain: str = MICROSOFT
    steps: int = 0
    atol: float = 1e-5
    compiled: bool = False
    """Build an engine too; the parts of most translations are tested elsewhere."""
    attributes: dict[str, Any] = field(default_factory=dict)

    def model(self):
        """The model of the node."""
        return node_model(self.op_type, self.inputs, self.outputs, self.constants, self.domain,
                          **self.attributes)

    def check(self):
        """Compares the references, and if asked the engine, with ONNX Runtime."""
        model, data = self.model(), feeds(self.inputs, self.constants)
        expected = rival(model, data)
        graph = import_model(model)
        runs = [run_graph(graph, [data[value.name] for value in graph.inputs])]
        if self.compiled:
            engine = bessemer.build(model)
            found = engine.run(data)
            runs.append([found[name] for name in self.outputs if name])
        for run in runs:
            for array, truth in zip(run, expected):
                compare(array, truth, atol=self.atol, steps=self.steps)


def case(op_type, *inputs, outputs=("y0",), constants=(), domain=MICROSOFT, steps=0, atol=1e-5,
         compiled=False, **attributes):
    """A pytest parameter; what is not named here is an attribute of the node."""
    made = Case(op_type, inputs, outputs, constants, domain, steps, atol, compiled, attributes)
    words = [op_type, *(f"{k}={v}" for k, v in attributes.items())]
    return pytest.param(made, id=",".join(words))
