"""Shapes that what is usually so excludes: the same engine answers them, by its general variant.

Every model is run in both ways, as built and by the general variant, over shapes of both kinds.
"""

import importlib
import logging
import threading

import numpy as np
import pytest

import bessemer
from bessemer.compiler.api import OptimizationProfile
from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.errors import ExecutionError, InputError
from bessemer.engine.plan import HostStep
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.targets import get_target

ENDS = "@e : i64[1] = [9223372036854775807]\n @one : i64[1] = [1]\n"
CASES = {
    "two symbols broadcast": (
        "%x: f32[n,4], %y: f32[m,4]", "%a = Add(%x, %y)\n %z = Mul(%a, %x)",
        [[(3, 4), (3, 4)], [(1, 4), (3, 4)], [(3, 4), (1, 4)], [(0, 4), (1, 4)]]),
    "three symbols broadcast": (
        "%x: f32[n], %y: f32[m], %w: f32[k]", "%a = Add(%x, %y)\n %z = Sub(%w, %a)",
        [[(5,), (5,), (5,)], [(1,), (5,), (1,)], [(1,), (1,), (5,)], [(1,), (1,), (1,)]]),
    "the batch of a product": (
        "%x: f32[n,3,4], %y: f32[m,4,5]", "%z = MatMul(%x, %y)",
        [[(2, 3, 4), (2, 4, 5)], [(1, 3, 4), (2, 4, 5)], [(2, 3, 4), (1, 4, 5)]]),
    "the shape of a broadcast": (
        "%x: f32[n,4], %y: f32[m,4]",
        "%a = Add(%x, %y)\n %s = Shape(%a)\n %z = Expand(%y, %s)",
        [[(3, 4), (3, 4)], [(1, 4), (3, 4)], [(3, 4), (1, 4)]]),
    "the first ones": (
        "%x: f32[k,n]", f"@s : i64[1] = [0]\n @t : i64[1] = [5]\n {ENDS} %a = Slice(%x, %s, %t, "
        "%one)\n %z = Exp(%a)", [[(2, 9)], [(2, 5)], [(2, 3)], [(2, 0)], [(1, 1)]]),
    "the last one": (
        "%x: f32[k,n,4]", f"@s : i64[1] = [-1]\n {ENDS} %a = Slice(%x, %s, %e, %one)\n "
        "%b = Squeeze(%a, %one)\n %z = Exp(%b)", [[(2, 9, 4)], [(2, 1, 4)]]),
    "the last ones": (
        "%x: f32[k,n]", f"@s : i64[1] = [-4]\n @t : i64[1] = [-1]\n {ENDS} %a = Slice(%x, %s, %t, "
        "%one)\n %z = Exp(%a)", [[(2, 9)], [(2, 4)], [(2, 3)], [(2, 1)], [(2, 0)]]),
    "all but the ends": (
        "%x: f32[k,n]", f"@s : i64[1] = [2]\n @t : i64[1] = [-3]\n {ENDS} %a = Slice(%x, %s, %t, "
        "%one)\n %z = Exp(%a)", [[(2, 9)], [(2, 6)], [(2, 5)], [(2, 2)]]),
    "every third": (
        "%x: f32[k,n]", f"@s : i64[1] = [1]\n @t : i64[1] = [8]\n @p : i64[1] = [3]\n {ENDS} "
        "%a = Slice(%x, %s, %t, %one, %p)\n %z = Exp(%a)", [[(2, 9)], [(2, 6)], [(2, 1)]]),
    "as many as another has": (
        "%x: f32[n], %y: f32[m]", "%t = Shape(%y)\n @s : i64[1] = [0]\n %z = Slice(%x, %s, %t)",
        [[(5,), (3,)], [(3,), (3,)], [(3,), (5,)]]),
    "from a computed place": (
        "%x: f32[n], %y: f32[m]", "%t = Shape(%x)\n %u = Shape(%y)\n %s = Sub(%u, %t)\n "
        "%z = Slice(%x, %s, %t)", [[(4,), (7,)], [(4,), (9,)], [(4,), (2,)], [(4,), (4,)]]),
    "ones dropped": (
        "%x: f32[k,n,4]", "%a = Squeeze(%x)\n %z = Exp(%a)",
        [[(1, 3, 4)], [(1, 1, 4)], [(2, 3, 4)], [(2, 1, 4)]]),
    "one zero point for all rows": (
        "%x: u8[n,4], %y: u8[4,3], %u: u8[m]", "%a = MatMulInteger(%x, %y, %u)\n "
        "%z = Cast(%a, to=\"f32\")", [[(5, 4), (4, 3), (5,)], [(5, 4), (4, 3), (1,)]]),
    "data decide": (
        "%x: f32[n], %y: f32[m]", "%p = NonZero(%x)\n %q = NonZero(%y)\n %a = Add(%p, %q)\n "
        "%z = Cast(%a, to=\"f32\")",
        [[(5,), (5,)], [(5,), (1,)], [(1,), (5,)], [(5,), (5,)], [(0,), (1,)]]),
    "data decide what is sliced": (
        "%x: f32[n]", f"%p = NonZero(%x)\n @s : i64[1] = [2]\n {ENDS} %a = Slice(%p, %s, %e, "
        "%one)\n %z = Cast(%a, to=\"f32\")", [[(5,)], [(2,)], [(1,)], [(0,)]]),
    "the rank is open": (
        "%x: f32[n], %y: i64[k]", "%a = ConstantOfShape(%y)\n %s = ReduceSum(%a, keepdims=0)\n "
        "%z = Add(%x, %s)", [[(3,), (0,)], [(3,), (2,)], [(1,), (1,)]]),
    "labels of one": (
        "%x: f32[n,k], %y: f32[m,p]", "%z = Einsum(%x, %y, equation=\"ij,jk->ik\")",
        [[(2, 3), (3, 4)], [(2, 1), (3, 4)], [(2, 3), (1, 4)]]),
    "nothing is left": (
        "%x: f32[k,n]", "@s : i64[2] = [-2, -2]\n @t : i64[2] = [-5, -7]\n @i : i64[2] = [0, 1]\n"
        "@p : i64[2] = [1, -1]\n %z = Slice(%x, %s, %t, %i, %p)", [[(3, 6)], [(6, 3)], [(0, 1)]]),
}  # fmt: skip


def graph_of(case: str):
    inputs, nodes, _ = CASES[case]
    return parse_graph(f"graph g({inputs}) -> (%z) {{\n {nodes}\n}}")


def data_of(graph, shapes):
    rng = np.random.default_rng(0)
    return [rng.integers(1, 9, shape).astype(value.tensor.dtype.numpy)
            for value, shape in zip(graph.inputs, shapes, strict=True)]


def built(rows):
    return [row["shape"] for row in rows if row["state"] == "built"]


@pytest.mark.parametrize("exact", [False, True], ids=["usual", "general"])
@pytest.mark.parametrize("case", CASES)
def test_every_shape_is_answered(case, exact, tmp_path, monkeypatch):
    monkeypatch.setenv("BESSEMER_SPECIALISE_AFTER", "0")
    options = BuildOptions((get_target("host"),), strict=False, exact=exact)
    made = compile_graph(graph_of(case), options).engine
    made.save(tmp_path / "e.plan")
    for engine in (made, bessemer.load(tmp_path / "e.plan")):
        for shapes in CASES[case][2] * 2:
            feed = data_of(graph_of(case), shapes)
            (want,) = run_graph(graph_of(case), feed)
            (found,) = engine.run(feed).values()
            assert found.shape == want.shape
            np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        assert not exact or not engine.variants
        assert len(engine.variants) <= 1


@pytest.mark.parametrize("case", ["two symbols broadcast", "the first ones", "the last ones",
                                  "every third", "as many as another has"])
def test_the_general_variant_is_compiled(case):
    options = BuildOptions((get_target("host"),), strict=False, exact=True)
    plan = compile_graph(graph_of(case), options).engine.plan
    assert not [step for step in plan.steps if isinstance(step, HostStep)]
    assert not plan.takes_for_granted


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setenv("BESSEMER_SPECIALISE_AFTER", "3")
    monkeypatch.setenv("BESSEMER_MAX_VARIANTS", "2")
    return bessemer.build(graph_of("the last ones"))


def last_ones(n):
    return np.arange(2.0 * n, dtype=np.float32).reshape(2, n)


def check(engine, n):
    (found,) = engine.run(last_ones(n)).values()
    np.testing.assert_allclose(found, np.exp(last_ones(n)[:, -4:-1]), rtol=1e-5)


def test_it_is_built_once_and_told(engine, caplog):
    with caplog.at_level(logging.INFO, "bessemer.runtime"):
        check(engine, 9)
        assert engine.variants == []
        for n in (3, 2, 9, 1, 3):
            check(engine, n)
    assert [r.getMessage()[:36] for r in caplog.records if "unusual" in r.getMessage()] == [
        "engine 'g': built for unusual shapes"]
    assert built(engine.variants) == ["all shapes"]
    assert "variant for all shapes: built" in engine.inspect()


def test_shapes_that_recur_get_static_variants_of_which_few_are_kept(engine):
    for n in (3, 2, 1, 3, 2):
        for _ in range(5):
            check(engine, n)
        assert engine.wait_specialised(60)
    assert built(engine.variants)[0] == "all shapes"
    assert len(built(engine.variants)) <= 3
    assert engine._own_context()._runner._serving.program.plan.is_symbolic is False


def test_outputs_and_profiles_work_by_the_general_variant(engine):
    given = np.zeros((2, 2), np.float32)
    assert engine.run(last_ones(3), outputs={"z": given})["z"] is given
    np.testing.assert_allclose(given, np.exp(last_ones(3)[:, :2]), rtol=1e-5)
    with engine.create_context(2) as context:
        assert [row.kind for row in context.profile(last_ones(3), runs=2).rows] == ["kernel"]
        assert context.measured_peak_bytes(last_ones(3)) <= context.arena_bytes
        assert context.profile(last_ones(9), runs=2).rows


def test_threads_share_it(engine):
    def work():
        with engine.create_context(1) as context:
            for n in (3, 9, 2) * 20:
                (found,) = context.run(last_ones(n)).values()
                right.append(np.allclose(found, np.exp(last_ones(n)[:, -4:-1]), rtol=1e-5))

    right: list[bool] = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 180
    assert all(right)
    assert built(engine.variants).count("all shapes") == 1


def test_without_the_graph_the_error_says_what_to_do():
    options = BuildOptions((get_target("host"),), store=False)
    engine = compile_graph(graph_of("the last ones"), options).engine
    check(engine, 9)
    with pytest.raises(InputError, match=r"needs 3 to be at most .*, but n=3.*build it with"):
        engine.run(last_ones(3))


def test_without_the_compiler_the_error_says_so(engine, monkeypatch):
    def missing(name):
        raise ImportError(f"no module {name}")

    check(engine, 9)
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ExecutionError, match="the compiler is missing"):
        engine.run(last_ones(3))


def test_a_profile_says_what_is_usual():
    profile = OptimizationProfile().set_shape("x", (1, 1), (2, 3), (4, 8))
    engine = bessemer.build(graph_of("the last ones"), profiles=[profile])
    check(engine, 3)
    check(engine, 7)
    assert engine.variants == []
    with pytest.raises(InputError, match="built for 1 to 8"):
        engine.run(last_ones(9))


def test_shapes_that_fit_no_variant_are_refused():
    engine = bessemer.build(graph_of("two symbols broadcast"))
    x = np.ones((3, 4), np.float32)
    for _ in range(2):
        with pytest.raises(InputError, match="these shapes do not fit the model"):
            engine.run([x, np.ones((2, 4), np.float32)])
        engine.run([x, x])


def test_bodies_of_control_flow_take_for_granted_too():
    engine = bessemer.build(parse_graph("""graph g(%x: f32[n], %c: bool[]) -> (%z) {
      %z = If(%c, %x, then_branch=graph t(%a: f32[n]) -> (%d) {
        @s : i64[1] = [0]
        @e : i64[1] = [3]
        %b = Slice(%a, %s, %e)
        %d = Exp(%b)
      }, else_branch=graph f(%a: f32[n]) -> (%d) {
        %d = Neg(%a)
      })
    }"""))
    for n in (7, 2, 3, 0):
        x = np.arange(n, dtype=np.float32)
        for taken, want in ((True, np.exp(x[:3])), (False, -x)):
            np.testing.assert_allclose(engine.run([x, np.array(taken)])["z"], want, rtol=1e-5)
