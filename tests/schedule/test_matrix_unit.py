"""Products by the matrix unit: over its space, on odd sizes, interpreted and, where it is, run."""

import itertools
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "codegen"))
from kernel_runner import run_kernel
from test_rules import product, transposed_product

from bessemer import build, te
from bessemer.codegen.llvm.emit import emit_assembly
from bessemer.codegen.llvm.emitter import module_text
from bessemer.core.dtypes import bf16, f32, i64, u32
from bessemer.core.errors import CodegenError, ScheduleError, VerifyError
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.kernel import inline_stages
from bessemer.lower.loop_interpreter import buffer_extent, run_function
from bessemer.lower.loop_parser import parse_function
from bessemer.lower.loop_verifier import verify_function
from bessemer.lower.loops import (
    TILE_DEPTH,
    TILE_SIDE,
    Alloc,
    Buffer,
    Function,
    TileProduct,
    statements,
)
from bessemer.ops.matmul import MatMul
from bessemer.runtime.cpu import missing_features
from bessemer.schedule.rule import RULES, applicable_rules, make_loops
from bessemer.schedule.rules.matrix_unit import cheapest
from bessemer.schedule.tile_nest import PARTS, Cut, pack_pairs
from bessemer.targets import get_target
from bessemer.te.expr import const

AMX = replace(get_target("x86-amx"), cores=2)
NAME = "matrix_unit"
needs_amx = pytest.mark.skipif(bool(missing_features(AMX.requires)),
                               reason="this machine has no matrix unit, or refuses it")
CASES = {
    "whole tiles": lambda: product(96, 96, 64),
    "odd": lambda: product(91, 97, 100, with_bias=True),
    "a row too many": lambda: product(81, 64, 65),
    "batch": lambda: product(82, 70, 67, batch=(3,)),
    "transposed": lambda: transposed_product(83, 81, 130),
    "deep": lambda: product(80, 66, 330),
}


def kernel_of(case):
    return simplify_axes(inline_stages(CASES[case]()))


def points(kernel, count):
    """Sampled knobs, the default first."""
    space = RULES.get(NAME)().space(kernel, AMX)
    every = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    random.Random(0).shuffle(every)
    return [{}, *every[:count]]


def inputs_of(kernel):
    rng = np.random.default_rng(3)
    return {o.tensor: o.constant if o.constant is not None
            else rng.standard_normal(o.shape).astype(np.float32) for o in kernel.inputs}


def interpreted(scheduled, kernel, arrays, threads=1):
    """The outputs by the meaning of the loops."""
    outputs = {id(o.tensor): o for o in kernel.outputs}
    flat = []
    for operand, buffer in zip(scheduled.operands, scheduled.function.params, strict=True):
        data = np.full(buffer_extent(buffer), 7, operand.dtype.numpy)
        if id(operand.tensor) not in outputs:
            data[:] = np.ascontiguousarray(arrays.get(operand.tensor, operand.constant)).ravel()
        flat.append(data)
    run_function(scheduled.function, flat, threads=threads)
    return [data.reshape(operand.shape) for operand, data in zip(
        scheduled.operands, flat, strict=True) if id(operand.tensor) in outputs]


def products(case, count):
    """Kernels of a case with sampled knobs, their inputs, and what the results should be."""
    for knobs in points(kernel_of(case), count):
        kernel = kernel_of(case)
        arrays = inputs_of(kernel)
        (wanted,) = te.evaluate(tuple(o.tensor for o in kernel.outputs), arrays)
        yield kernel, arrays, wanted, knobs


def check(got, wanted, knobs):
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5, err_msg=str(knobs))


@pytest.mark.parametrize("case", CASES)
def test_its_loops_mean_the_product(case):
    for kernel, arrays, wanted, knobs in products(case, 3):
        scheduled = make_loops(kernel, AMX, "kernel", NAME, knobs)
        for threads in (1, 3):
            check(*interpreted(scheduled, kernel, arrays, threads), wanted, knobs)


@needs_amx
@pytest.mark.parametrize("case", CASES)
def test_machine_code_over_its_space(case):
    for kernel, arrays, wanted, knobs in products(case, 8):
        for threads in (1, 3):
            check(*run_kernel(kernel, arrays, AMX, NAME, knobs, threads), wanted, knobs)


@needs_amx
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_machine_code_over_its_whole_space(case):
    for kernel, arrays, wanted, knobs in products(case, 10_000):
        check(*run_kernel(kernel, arrays, AMX, NAME, knobs, 2), wanted, knobs)


def parts_of(values):
    """Three arrays with 8 bits of fraction whose sum is `values`."""
    parts = []
    for _ in range(PARTS):
        parts.append((values.view(np.int32) & -65536).view(np.float32))
        values = values - parts[-1]
    return parts


def test_packed_weights_are_in_order_of_use():
    weights = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    packed = pack_pairs(weights, 2, 2)
    assert packed.shape == (2, 2 * TILE_DEPTH, 2 * TILE_SIDE)
    whole = np.concatenate(list(packed), axis=1)
    assert np.array_equal(whole[:40, :50], weights)
    assert not whole[40:].any()
    assert not whole[:, 50:].any()


def test_tiles_are_multiplied_part_by_part():
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((32, 96), (96, 32)))
    function = tile_function(scope="global")
    arrays = [np.zeros(buffer_extent(buffer), buffer.dtype.numpy) for buffer in function.params]
    first, second = (array.reshape(buffer.shape) for array, buffer in zip(
        arrays[1:], function.params[1:], strict=True))
    for part, (x, y) in enumerate(zip(parts_of(a), parts_of(b), strict=True)):
        first[:, :, part] = x.reshape(2, 16, 3, 32).transpose(0, 2, 1, 3)
        bits = y.view(np.uint32)
        pairs = bits[0::2] >> 16 | bits[1::2]
        second[:, :, part] = pairs.reshape(3, 16, 2, 16).transpose(2, 0, 1, 3)
    run_function(function, arrays)
    got = arrays[0].reshape(2, 2, 16, 16).transpose(0, 2, 1, 3).reshape(32, 32)
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e10])
@pytest.mark.parametrize("depth", [64, 770])
def test_errors_are_those_of_f32(scale, depth):
    rng = np.random.default_rng(5)
    a = rng.standard_normal((16, depth)).astype(np.float32) * np.float32(scale)
    b = rng.standard_normal((depth, 16)).astype(np.float32)
    wanted = a.astype(np.float64) @ b
    parts, others = parts_of(a), parts_of(b)
    got = sum(parts[i] @ others[j] for i in range(PARTS) for j in range(PARTS - i))
    largest = np.abs(wanted).max()
    assert np.abs(got - wanted).max() / largest < 2e-6
    assert np.abs(got - wanted).max() < 4 * np.abs(a @ b - wanted).max()


def network(rows=96, columns=80):
    rng = np.random.default_rng(7)
    graph = Graph("net")
    x = graph.add_input("x", TensorType(f32, (rows, 128)))
    w = graph.add_constant("w", rng.standard_normal((128, columns)).astype(np.float32))
    graph.outputs.append(graph.add_node(MatMul(), [x, w], name="product").output)
    return graph, {"x": rng.standard_normal((rows, 128)).astype(np.float32)}


def rules_of(engine):
    return [getattr(step, "rule", "") for step in engine.plan.steps]


def test_an_engine_names_the_rule_and_can_do_without():
    graph, _ = network()
    engine = build(graph, target="x86-amx")
    assert NAME in rules_of(engine)
    assert NAME not in rules_of(build(graph, target="x86-amx", disable=[NAME]))
    assert NAME not in rules_of(build(graph, target="x86-avx512"))


@needs_amx
def test_results_do_not_depend_on_the_number_of_threads():
    graph, inputs = network()
    results = [next(iter(build(graph, target="x86-amx", threads=n).run(inputs).values()))
               for n in (1, 2, 3)]
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@needs_amx
def test_an_infinite_input_spoils_its_row_only():
    graph, inputs = network()
    engine = build(graph, target="x86-amx")
    (clean,) = engine.run(inputs).values()
    inputs["x"][5, 3], inputs["x"][9, 0] = np.inf, np.nan
    (got,) = engine.run(inputs).values()
    assert np.isnan(got[9]).all()
    assert not np.isfinite(got[5]).any()
    others = [row for row in range(96) if row not in (5, 9)]
    assert np.array_equal(got[others], clean[others])


@needs_amx
def test_an_engine_asks_for_permission_in_a_new_process(tmp_path):
    graph, inputs = network()
    engine = build(graph, target="x86-amx")
    engine.save(tmp_path / "net.plan")
    np.save(tmp_path / "x.npy", inputs["x"])
    source = ("import sys, bessemer, numpy as np; e = bessemer.load(sys.argv[1]); "
              "y, = e.run({'x': np.load(sys.argv[2])}).values(); np.save(sys.argv[3], y)")
    subprocess.run([sys.executable, "-c", source, *(
        str(tmp_path / name) for name in ("net.plan", "x.npy", "y.npy"))], check=True)
    (wanted,) = engine.run(inputs).values()
    assert np.array_equal(np.load(tmp_path / "y.npy"), wanted)


def test_what_it_refuses():
    rule = RULES.get(NAME)()
    assert "matrix unit" in rule.matches(kernel_of("odd"), get_target("x86-avx512"))
    assert "small" in rule.matches(product(79, 64, 64), AMX)
    assert "small" in rule.matches(product(64, 20, 64), AMX)
    assert "no constant" in rule.matches(product(64, 64, 64, constant=False), AMX)
    kernel = kernel_of("whole tiles")
    weights = next(o for o in kernel.inputs if o.constant is not None)
    weights.constant[3, 3] = np.inf
    assert "finite" in rule.matches(kernel, AMX)


@pytest.mark.parametrize("sizes", [
    (64, 64, 64), (197, 768, 3072), (1024, 3072, 768), (49, 200_000, 64),
    (100, 65_536, 100_000), (5000, 64, 200_000), (100, 13_000, 30_000)])
@pytest.mark.parametrize("cores", [1, 2, 7, 64, 1024])
def test_the_default_fits_and_covers_the_product(sizes, cores):
    rows, depth, columns = sizes
    whole = Cut(1, rows, columns, depth, TILE_SIDE, 1, 1)
    cut = cheapest(whole, replace(AMX, cores=cores))
    assert cut.scratch_bytes <= 768 << 10
    assert cut.blocks * cut.block * TILE_DEPTH >= depth
    assert cut.groups * cut.column_tiles * TILE_SIDE >= columns
    assert cut.chunks * cut.chunk >= rows


def test_it_comes_first_where_it_applies():
    assert applicable_rules(kernel_of("odd"), AMX)[0][0].name == NAME


def test_scratch_that_does_not_fit_is_an_error():
    with pytest.raises(ScheduleError, match="bytes of scratch"):
        make_loops(simplify_axes(inline_stages(product(512, 64, 4096))), AMX, "k", NAME,
                   {"chunk": 256, "block": 128})


def test_machine_code_has_tiles_and_other_targets_cannot():
    function = make_loops(kernel_of("odd"), AMX, "kernel", NAME).function
    text = emit_assembly(module_text([function], AMX), AMX)
    for word in ("ldtilecfg", "tdpbf16ps", "tileloadd", "tilestored", "tilerelease"):
        assert word in text
    with pytest.raises(CodegenError, match="cannot multiply tiles"):
        module_text([function], get_target("x86-avx512"))


def test_loops_are_read_back():
    for case in ("odd", "deep"):
        function = make_loops(kernel_of(case), AMX, "kernel", NAME).function
        assert any(isinstance(stmt, TileProduct) for stmt in statements(function.body))
        assert str(parse_function(str(function))) == str(function)


def tile_function(scope="stack", **changes):
    """One product of tiles of scratch memory, or of arguments."""
    sums = Buffer.dense("sums", f32, (2, 2, TILE_SIDE, TILE_SIDE), scope)
    a = Buffer.dense("a", bf16, (2, 3, PARTS, TILE_SIDE, TILE_DEPTH), scope)
    b = Buffer.dense("b", u32, (2, 3, PARTS, TILE_SIDE, TILE_SIDE), scope)
    zero = const(0, i64)
    stmt = TileProduct(sums, (zero, zero), a, (zero, zero), b, (zero, zero), 2, 2, 3, True)
    if scope == "global":
        return Function("k", (sums, a, b), [stmt])
    return Function("k", (), [Alloc(sums), Alloc(a), Alloc(b), replace(stmt, **changes)])


@pytest.mark.parametrize(("changes", "message"), [
    ({"steps": 4}, "outside 0..2"),
    ({"a_at": (const(1, i64), const(0, i64))}, "outside 0..1"),
    ({"rows": 3}, "one or two rows"),
    ({"a": Buffer.dense("a", bf16, (2, 3, PARTS, TILE_SIDE, TILE_DEPTH), "stack")}, "no buffer of"),
    ({"b": Buffer.dense("b", f32, (2, 3, PARTS, TILE_SIDE, TILE_DEPTH), "stack")}, "no buffer of"),
])
def test_unsound_products_are_refused(changes, message):
    verify_function(tile_function())
    with pytest.raises(VerifyError, match=message):
        verify_function(tile_function(**changes))


def test_every_product_of_parts_comes_once():
    (stmt,) = (s for s in tile_function().body if isinstance(s, TileProduct))
    assert sorted(stmt.terms) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    changes = sum((a != c) + (b != d) for (a, b), (c, d) in itertools.pairwise(stmt.terms))
    assert changes == len(stmt.terms) - 1
