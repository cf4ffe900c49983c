"""Operators and math functions as AArch64 code in QEMU, against their references."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "operators"))

from aarch64_runner import run_kernel_on_qemu
from test_generated import CASES, Case, assert_close, is_random, tolerance_of
from test_math import BOUNDS, samples, ulps

from bessemer import te
from bessemer.codegen.llvm.freestanding import missing_tools
from bessemer.core.dtypes import COMPILED, f32
from bessemer.core.errors import CodegenError, ScheduleError
from bessemer.ir.operator import Unlowerable, infer_types, outputs_of
from bessemer.ir.types import TensorType
from bessemer.lower.kernel import Kernel, Operand
from bessemer.te.expr import Load
from bessemer.te.tensor import Tensor, stages
from bessemer.te.walk import loads, rewrite

pytestmark = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools() or "none")

QUICK = {"Add", "Conv", "MatMul", "MaxPool", "Softmax", "Relu", "LayerNormalization", "Transpose",
         "ReduceMean", "Gather", "Where", "Cast"}


@pytest.mark.parametrize("op", [
    op if op in ("exp", "erf", "sin") else pytest.param(op, marks=pytest.mark.slow)
    for op in BOUNDS
])
def test_math(op):
    bound, function = BOUNDS[op]
    x = samples(np.random.default_rng(6), 2000)
    place = te.placeholder(f32, x.shape)
    out = te.compute(f32, x.shape, lambda i: te.unary(op, place[i]))
    kernel = Kernel("k", [Operand.dense(place)], [Operand.dense(out)])
    (got,) = run_kernel_on_qemu(kernel, {place: x}, threads=2)
    with np.errstate(all="ignore"):
        error = ulps(got, function(x.astype(np.float64)))
    worst = int(error.argmax())
    assert error[worst] <= bound, (x[worst], got[worst])


def _operator_cases():
    seen = set()
    for case in CASES:
        name = case.values[0]
        quick = name in QUICK and name not in seen
        seen.add(name)
        yield case if quick else pytest.param(
            *case.values, id=case.id, marks=(*case.marks, pytest.mark.slow))


@pytest.mark.parametrize(("name", "number"), list(_operator_cases()))
def test_operator(name, number):
    case = Case(name, number)
    if not case.op.has_lowering() or is_random(case):
        pytest.skip("runs on the host")
    types = infer_types(case.op, case.types)
    tensors = [entry for entry in (*types, *case.types) if isinstance(entry, TensorType)]
    if not all(entry.is_static and entry.dtype in COMPILED for entry in tensors):
        pytest.skip("not a compiled dtype")
    places = [
        None if entry is None else te.placeholder(entry.dtype, entry.dims, f"x{position}")
        for position, entry in enumerate(case.types)
    ]
    try:
        lowered = outputs_of(case.op.lower(*places, known=case.known, types=types))
    except Unlowerable as error:
        pytest.skip(str(error))
    feed = {p: a for p, a in zip(places, case.inputs) if p is not None}
    expected = case.results()
    for position, tensor in enumerate(lowered):
        if tensor is None or expected[position] is None or tensor.body is None:
            continue
        try:
            got = run_tensor(tensor, feed)
        except CodegenError as error:
            if "without a C library" not in str(error):
                raise
            pytest.skip("calls libm")
        tolerance = tolerance_of(case.op, types[position].dtype.name)
        assert_close(got, expected[position], tolerance, f"output {position}")


def run_tensor(tensor, feed):
    """A tensor expression as one kernel, or as one for each compute if no schedule takes all."""
    computes = stages((tensor,))
    try:
        return run_stage(tensor, feed)
    except ScheduleError:
        if len(computes) == 1:
            raise
    arrays = dict(feed)
    twins = {}

    def detached(node):
        if isinstance(node, Load) and node.tensor in twins:
            return Load(twins[node.tensor], node.indices, node.dtype, node.fill)
        return None

    for stage in computes:
        alone = Tensor(stage.name, stage.dtype, stage.shape, stage.axes,
                       rewrite(stage.body, detached))
        twin = twins[stage] = te.placeholder(stage.dtype, stage.shape, stage.name)
        arrays[twin] = run_stage(alone, arrays)
    return arrays[twins[tensor]]


def run_stage(tensor, arrays):
    read = {load.tensor for stage in stages((tensor,)) for load in loads(stage.body)}
    inputs = [Operand.dense(place) for place in arrays if place in read]
    (got,) = run_kernel_on_qemu(Kernel("k", inputs, [Operand.dense(tensor)]), arrays)
    return got
