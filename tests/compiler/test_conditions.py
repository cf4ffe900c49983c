"""Engines of open shapes refuse shapes that do not fit the model, before anything is read."""

import numpy as np
import pytest

import bessemer
from bessemer.core.errors import ExecutionError, InputError
from bessemer.ir.parser import parse_graph


def engine_of(inputs, nodes):
    return bessemer.build(parse_graph(f"graph g({inputs}) -> (%z) {{\n {nodes}\n}}"))


def run(engine, *shapes):
    feed = {b.name: np.ones(shape, np.float32) for b, shape in zip(engine.inputs, shapes)}
    return engine.run(feed)["z"]


CASES = {
    "MatMul": ("%x: f32[n,k], %y: f32[m,p]", "%z = MatMul(%x, %y)",
               [(2, 3), (3, 4)], [(2, 5), (3, 4)], "needs k to be equal to m, but k=5, m=3"),
    "constant": ("%x: f32[n,m]", "@w : f32[4,2] = [1, 1, 1, 1, 1, 1, 1, 1]\n %z = MatMul(%x, @w)",
                 [(2, 4)], [(2, 5)], "needs m to be equal to 4, but m=5"),
    "Concat": ("%x: f32[n,k], %y: f32[m,p]", "%z = Concat(%x, %y, axis=0)",
               [(2, 3), (1, 3)], [(2, 3), (1, 4)], "p=4"),
    "Reshape": ("%x: f32[n,k]", "@s : i64[2] = [6, 4]\n %z = Reshape(%x, @s)",
                [(8, 3)], [(2, 3)], "they are 6 and 24"),
    "Reshape rest": ("%x: f32[n,k]", "@s : i64[2] = [7, -1]\n %z = Reshape(%x, @s)",
                     [(14, 3)], [(2, 3)], "needs k\\*n to be equal to 7"),
    "broadcast": ("%x: f32[n,k]", "@b : f32[3] = [1, 2, 3]\n %z = Add(%x, @b)",
                  [(2, 3)], [(2, 4)], "needs k to be 1 or equal to 3"),
    "broadcast one": ("%x: f32[n,k]", "@b : f32[3] = [1, 2, 3]\n %z = Add(%x, @b)",
                      [(2, 1)], [(2, 2)], "needs k to be 1 or equal to 3"),
    "Conv": ("%x: f32[n,c,5,5], %w: f32[m,d,3,3]", "%z = Conv(%x, %w)",
             [(1, 3, 5, 5), (2, 3, 3, 3)], [(1, 3, 5, 5), (2, 4, 3, 3)], "c=3, d=4"),
    "Split": ("%x: f32[n]", "@s : i64[2] = [1, 2]\n %z, %y = Split(%x, @s)",
              [(3,)], [(4,)], "needs n to be equal to 3|needs 3 to be equal to n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_misfits_are_refused(name, tmp_path):
    inputs, nodes, good, bad, words = CASES[name]
    engine = engine_of(inputs, nodes)
    engine.save(tmp_path / "e.plan")
    for each in (engine, bessemer.load(tmp_path / "e.plan")):
        run(each, *good)
        with pytest.raises(InputError, match=words):
            run(each, *bad)
        run(each, *good)


def test_what_follows_from_the_inputs_is_no_condition():
    engine = engine_of("%x: f32[n,k], %y: f32[k,4]", "%z = MatMul(%x, %y)")
    assert not engine.plan.conditions


def test_extents_that_depend_on_data_are_checked_when_they_are_known():
    engine = engine_of("%x: f32[n], %y: f32[m,2]", "%p = NonZero(%x)\n %f = Cast(%p, to=\"f32\")\n"
                       " %z = MatMul(%f, %y)")
    assert run(engine, (3,), (3, 2)).shape == (1, 2)
    with pytest.raises((ExecutionError, InputError), match="m=4"):
        run(engine, (3,), (4, 2))
