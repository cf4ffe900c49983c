"""One meaning at every level: tensor expressions, loop IR, its text; for rules and operators."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lower"))
sys.path.insert(0, str(Path(__file__).parents[1] / "schedule"))
sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
from meaning import assert_same_meaning, evaluate, run_loops
from test_compiled import graph_of
from test_rules import CASES, PARAMETERS, points

from bessemer import te
from bessemer.compiler.build import bind_symbols
from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.variant import lower_variant
from bessemer.compiler.work import kernel_flops
from bessemer.core.dtypes import bf16, f16, f32
from bessemer.frontends.formats import import_model
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.lower.loop_parser import parse_function
from bessemer.lower.loops import dense_strides
from bessemer.passes.pipelines import run_pipeline
from bessemer.schedule.rule import RULES, make_loops
from bessemer.targets import get_target
from bessemer.zoo.catalogue import ZooOptions, digits_path, make_model

SLOW_CASES = {("convolution", 1), ("convolution", 3), ("convolution", 5)}
"""Cases with many multiply-adds: only their default schedule is interpreted."""


def random_arrays(kernel):
    rng = np.random.default_rng(3)
    return {o.tensor: o.constant if o.constant is not None
            else rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}


@pytest.mark.parametrize(("name", "number"), PARAMETERS)
def test_loops_of_each_rule_mean_their_tensor_expressions(name, number):
    target = get_target("x86-avx512")
    rule, lanes, make = RULES.get(name)(), target.lanes(f32), CASES[name][number]

    def fresh():
        return simplify_axes(inline_stages(make(lanes)))

    arrays = wanted = None
    count = 0 if (name, number) in SLOW_CASES else 2
    for position, knobs in enumerate(points(rule, fresh(), target, count)):
        kernel = fresh()
        arrays = random_arrays(kernel)
        wanted = evaluate(kernel, arrays)
        scheduled = make_loops(kernel, target, "kernel", name, knobs)
        assert_same_meaning(kernel, scheduled, arrays, wanted)
        if position == 0 and count:
            assert_same_meaning(kernel, scheduled, arrays, wanted, threads=3, backwards=True)


@pytest.mark.parametrize("target", ["x86-avx512", "x86-avx2", "aarch64-neon"])
@pytest.mark.parametrize(("name", "number"), PARAMETERS)
def test_text_of_each_rule_parses_back(name, number, target):
    chip = get_target(target)
    rule, make = RULES.get(name)(), CASES[name][number]
    lanes = chip.lanes(f32)
    for knobs in points(rule, simplify_axes(inline_stages(make(lanes))), chip, 3):
        kernel = simplify_axes(inline_stages(make(lanes)))
        text = str(make_loops(kernel, chip, "kernel", name, knobs).function)
        assert str(parse_function(text)) == text


OPERATORS = (
    "Add", "ArgMax", "ArgMin", "Attention", "AveragePool", "BatchNormalization", "Cast", "Clip",
    "Concat", "ConvTranspose", "CumSum", "DequantizeLinear", "Div", "Erf", "Expand", "Gather",
    "GatherElements", "Gelu", "Gemm", "GlobalAveragePool", "HardSwish", "InstanceNormalization",
    "LRN", "LayerNormalization", "LogSoftmax", "LpPool", "MatMul", "MaxPool", "Mod", "Mul", "Neg",
    "OneHot", "PRelu", "Pad", "Pow", "QuantizeLinear", "ReduceL2", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceProd", "Sigmoid", "Slice", "Softmax", "Split", "Tile",
    "Transpose", "Trilu", "Where",
)


def operator_kernels(name, target):
    """The kernels of every sample of an operator, with the data they run on."""
    graph, rows = graph_of(name)
    if not rows:
        return []
    feed = {key: array for _, part, _ in rows for key, array in part.items()}
    inputs = {id(value): feed[value.name] for value in graph.inputs}
    return lower_variant(graph, target, ConstantPool(), fuse=False).kernels, inputs


@pytest.mark.parametrize("name", OPERATORS)
def test_loops_of_operators_mean_their_tensor_expressions(name):
    kernels, known = operator_kernels(name, get_target("x86-avx2"))
    for entry in kernels:
        arrays = {}
        for operand in (*entry.kernel.inputs, *entry.scheduled.operands):
            if operand.constant is not None:
                arrays[operand.tensor] = operand.constant
            elif id(operand.key) in known:
                arrays[operand.tensor] = known[id(operand.key)].reshape(operand.shape)
        wanted = evaluate(entry.kernel, arrays)
        known |= {id(o.key): array for o, array in zip(entry.kernel.outputs, wanted)}
        assert_same_meaning(
            entry.kernel, entry.scheduled, arrays, wanted, threads=2, backwards=True)
        text = str(entry.function)
        assert str(parse_function(text)) == text


@pytest.mark.parametrize("vector", ["output", "reduction", "none"])
@pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
def test_sums_of_half_floats_do_not_stagnate(dtype, vector):
    x = te.placeholder(dtype, (9, 4096), "x")
    k = te.reduce_axis(4096)
    kernel = Kernel("sum", [Operand.dense(x)], [Operand.dense(
        te.compute(dtype, (9,), lambda i: te.sum_(x[i, k], k)))])
    scheduled = make_loops(
        kernel, get_target("x86-avx2"), "kernel", "reduction", {"vector": vector})
    arrays = {x: np.ones((9, 4096), dtype.numpy)}
    for total in run_loops(kernel, scheduled, arrays):
        assert (total.astype(np.float32) == 4096).all()


def fused_kernels(target):
    """Kernels of optimised models with fused epilogues, halos and tensors placed inside others."""
    small = ZooOptions(width=0.125, size=32)
    for model in (digits_path(), make_model("squeezenet1_1", small)):
        graph = bind_symbols(import_model(model))
        run_pipeline(graph)
        yield from lower_variant(graph, target, ConstantPool()).kernels


def test_loops_of_fused_kernels_mean_their_tensor_expressions():
    checked, placed = 0, 0
    for entry in fused_kernels(get_target("x86-avx512")):
        if kernel_flops(entry.kernel) > 200_000:
            continue
        operands = [*entry.kernel.inputs, *entry.scheduled.operands]
        constants = {o.tensor: o.constant for o in operands if o.constant is not None}
        arrays = {**random_arrays(entry.kernel), **constants}
        assert_same_meaning(entry.kernel, entry.scheduled, arrays, threads=2)
        checked += 1
        placed += any(b.strides != dense_strides(b.shape) for b in entry.function.params)
    assert checked >= 10
    assert placed
