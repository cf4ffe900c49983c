"""Runs small ONNX graphs compiled and by the reference, on the same arrays."""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from onnx import helper, numpy_helper

from bessemer.compiler.build import build
from bessemer.core.dtypes import DTYPES, dtype_from_numpy
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph

sys.path.insert(0, str(Path(__file__).parent))

FLOATS = ("f32", "f64", "f16", "bf16")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")

values = settings(max_examples=25, deadline=None, derandomize=True, database=None,
                  phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
"""For tests that compile once and draw data."""
shapes = settings(values, max_examples=12)
"""For tests that compile a graph for every example."""


class BothWays:
    """A graph of nodes as an engine and as its reference; inputs are given by name."""

    def __init__(self, nodes, inputs, constants=None, opset=23):
        made = [name for node in nodes for name in node.output]
        outputs = [helper.make_tensor_value_info(name, 0, None) for name in made]
        for output in outputs:
            output.ClearField("type")
        infos = [helper.make_tensor_value_info(
            name, onnx_dtype(dtype_from_numpy(array.dtype).name), array.shape)
            for name, array in inputs.items()]
        tensors = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
        graph = helper.make_graph(nodes, "g", infos, outputs, tensors)
        self.model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        self.nodes = {name: node for node in nodes for name in node.output}
        self.graph = import_model(self.model)
        self.engine = build(self.model, strict=False, tune="none")

    def __call__(self, inputs):
        """[(name, found, expected)]."""
        found = self.engine.run(inputs)
        with np.errstate(all="ignore"):
            wanted = run_graph(self.graph, [inputs[v.name] for v in self.graph.inputs])
        return [(v.name, np.array(found[v.name]), np.asarray(want))
                for v, want in zip(self.graph.outputs, wanted, strict=True)]

    def check(self, inputs, ulps=4.0, absolute=0.0, zeros=()):
        """Asserts equality up to `ulps`; outputs in `zeros` must agree in the sign of zero too."""
        for name, got, want in self(inputs):
            label = f"{self.nodes[name].op_type} -> {name} of {inputs}"
            allowed = ulps.get(name, 4.0) if isinstance(ulps, dict) else ulps
            assert_same(got, want, allowed, absolute, label, name in zeros)


def assert_same(got, want, ulps, absolute, label, zeros=False):
    """Same type, shape, NaN and infinities; numbers within units in the last place."""
    assert got.dtype == want.dtype, label
    assert got.shape == want.shape, label
    if not dtype_from_numpy(want.dtype).is_float:
        np.testing.assert_array_equal(got, want, label)
        return
    eps, least = ml_dtypes.finfo(want.dtype).eps, ml_dtypes.finfo(want.dtype).smallest_subnormal
    a, b = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b), label)
    large = np.isinf(a) | np.isinf(b)
    most = float(ml_dtypes.finfo(want.dtype).max)
    # An infinity and the largest numbers are neighbours.
    ends = np.clip(a[large], -2 * most, 2 * most), np.clip(b[large], -2 * most, 2 * most)
    assert (np.sign(ends[0]) == np.sign(ends[1])).all(), f"{label}: {got} {want}"
    assert (np.abs(ends[0]) >= most * (1 - ulps * eps)).all(), f"{label}: {got} {want}"
    assert (np.abs(ends[1]) >= most * (1 - ulps * eps)).all(), f"{label}: {got} {want}"
    rest = ~large & ~np.isnan(b)
    error = np.abs(a[rest] - b[rest])
    limit = ulps * (float(eps) * np.abs(b[rest]) + float(least)) + absolute * float(eps)
    assert (error <= limit).all(), f"{label}: {got} instead of {want}"
    if zeros:
        at = rest & (b == 0)
        np.testing.assert_array_equal(np.signbit(a[at]), np.signbit(b[at]), f"{label}: sign of 0")


def specials(dtype):
    """The numbers of a float type that break things."""
    info = ml_dtypes.finfo(DTYPES[dtype].numpy)
    base = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.0, 0.1, 100.0, -88.0,
            np.inf, -np.inf, np.nan, float(info.max), -float(info.max), float(info.tiny),
            -float(info.tiny), float(info.smallest_subnormal), -float(info.smallest_subnormal),
            float(info.eps), 1.0 + float(info.eps), 1.0 - float(info.eps) / 2]
    with np.errstate(all="ignore"):
        return np.array(base).astype(DTYPES[dtype].numpy)
