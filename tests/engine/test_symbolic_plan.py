"""Symbolic plans as files, and what is refused of them when they load."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import EngineFormatError
from bessemer.debug.symbolic_engine import symbolic_plan
from bessemer.engine.check import check_engine, check_plan
from bessemer.engine.file import read_engine, write_engine
from bessemer.engine.manifest import decode_plan, decode_source, encode_plan, encode_source
from bessemer.engine.plan import (
    Binding,
    BlockRecord,
    BufferRef,
    EngineData,
    HostStep,
    KernelStep,
    Plan,
    ShapeStep,
    StoredConstant,
    StoredGraph,
    SymbolRecord,
    TensorRef,
)

PLAN = symbolic_plan()
SOURCE = StoredGraph(
    "graph g() -> () {\n}", (StoredConstant("ab12", 64, "f32", (3, 4), "0 1; 0:0 0:0"),),
    {"cd34": {"dtype": "string", "shape": [1], "items": ["a"]}},
)


def test_round_trip() -> None:
    check_plan(PLAN, 0)
    assert decode_plan(encode_plan(PLAN)) == PLAN
    assert decode_source(encode_source(SOURCE)) == SOURCE
    assert PLAN.is_symbolic
    assert PLAN.format_version == 2
    assert not Plan("p", (), (), ()).is_symbolic


def test_file_keeps_the_source(tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    for source, version in ((SOURCE, 2), (None, 2)):
        data = EngineData(PLAN, source=source and dataclasses.replace(source, constants=()))
        write_engine(path, data)
        read = read_engine(path)
        assert (read.plan, read.source) == (PLAN, data.source)
        assert path.read_bytes()[8] == version
        write_engine(tmp_path / "again.plan", read)
        assert path.read_bytes() == (tmp_path / "again.plan").read_bytes()


def test_source_must_lie_in_the_constants() -> None:
    with pytest.raises(EngineFormatError, match=r"'ab12' of the stored graph, bytes 64..112"):
        check_engine(EngineData(PLAN, source=SOURCE))


def changed_step(index: int, **changes: Any) -> Plan:
    steps = list(PLAN.steps)
    steps[index] = dataclasses.replace(steps[index], **changes)
    return dataclasses.replace(PLAN, steps=tuple(steps))


def changed_symbol(index: int, **changes: Any) -> Plan:
    symbols = list(PLAN.symbols)
    symbols[index] = dataclasses.replace(symbols[index], **changes)
    return dataclasses.replace(PLAN, symbols=tuple(symbols))


BLOCK = BufferRef("block", 0, "4*N*H")
FOUND = TensorRef(BufferRef("block", 2, "16*n"), "i64", (2, "n"))


@pytest.mark.parametrize("plan, words", [
    (changed_step(0, scalars=("N*",)), "unexpected the end in formula"),
    (changed_step(0, scalars=("N**2",)), r"unexpected '\*'"),
    (changed_step(0, scalars=("(" * 99 + "N" + ")" * 99,)), "nested too deeply"),
    (changed_step(0, scalars=("9" * 40,)), "too large"),
    (changed_step(0, scalars=("M",)), "unknown symbol 'M'; known: N, H, n"),
    (changed_step(0, scalars=("n",)), "symbol 'n' is not known in epoch 0"),
    (changed_step(0, work=("N",)), "work is not two formulas"),
    (changed_step(0, args=(dataclasses.replace(BLOCK, offset=9),)), "block 9 of 4"),
    (changed_step(0, args=(dataclasses.replace(BLOCK, offset=2),)), "epoch 1 in epoch 0"),
    (changed_step(0, args=(dataclasses.replace(BLOCK, space="arena"),)), "blocks and no arena"),
    (changed_step(0, args=(BufferRef("constant", 0, "N"),)), "lie outside its 0 bytes"),
    (changed_step(0, args=(BufferRef("output", 2, "16"),)), "'twice' has no fixed size"),
    (changed_step(2, values=("N",)), "does not hold 1 integers"),
    (changed_step(2, output=TensorRef(BLOCK, "f32", (3,))), "does not hold 3 integers"),
    (changed_step(2, output=TensorRef(BLOCK, "i64", ("N",))), "does not hold 3 integers"),
    (changed_step(2, output=TensorRef(BufferRef("constant", 0, 24), "i64", (3,))),
     "cannot lie in constant"),
    (changed_step(3, outputs=(TensorRef(BufferRef("input", 0, 0), "f32", (1,)),)), "read-only"),
    (changed_step(3, inputs=(FOUND,)), "symbol 'n' is not known in epoch 0"),
    (changed_step(3, outputs=()), "step 3 is no host step with an output 0"),
    (changed_symbol(0, name="a b"), "this is no name"), (changed_symbol(0, name="H"), "not extent"),
    (changed_symbol(0, source=()), "malformed"), (changed_symbol(0, source=("input", 0)), "malf"),
    (changed_symbol(0, source=("input", 7, 0)), "input 7 does not exist"),
    (changed_symbol(0, source=("input", 0, 5)), "is not extent 5 of input 'x'"),
    (changed_symbol(0, source=("content", 0, 0)), "input 'x' holds no integers"),
    (changed_symbol(0, source=("step", 0, 0, 0)), "step 0 is no host step"),
    (changed_symbol(0, low=5, high=4), "no value lies in 5..4"),
    (dataclasses.replace(PLAN, symbols=(*PLAN.symbols, PLAN.symbols[0])), "names are not unique"),
    (dataclasses.replace(PLAN, epochs=(5, 4)), "no ascending steps"),
    (dataclasses.replace(PLAN, epochs=(99,)), "no ascending steps"),
    (dataclasses.replace(PLAN, epochs=()), "there is no epoch 1"),
    (dataclasses.replace(PLAN, epochs=(3,)), "block 2: symbol 'n' is not known in epoch 1"),
    (dataclasses.replace(PLAN, blocks=(BlockRecord(8, (0,)),)), "are no earlier blocks"),
    (dataclasses.replace(PLAN, blocks=(BlockRecord(8), BlockRecord(8, (0,), 1))), "no earlier"),
    (dataclasses.replace(PLAN, blocks=(BlockRecord("n"),)), "'n' is not known in epoch 0"),
    (dataclasses.replace(PLAN, zeroed=(BufferRef("arena", 0, 0),)), "must lie in the arena"),
    (dataclasses.replace(PLAN, inputs=(Binding("x", "f32", ("N", "H")),
                                       Binding("z", "f32", ("n",)))), "'n' is not known in epoch"),
    (dataclasses.replace(PLAN, inputs=(Binding("x", "f32", ("N", "H")), Binding("z", "f32", None))),
     "a byte offset|an open shape|no fixed size"),
    (Plan("s", (), (), (KernelStep("k", "k", (BLOCK,)),)), "the formula '4.N.H' needs a plan with"),
    (Plan("s", (), (), (ShapeStep("k", FOUND, ()),)), "a shape step needs a plan with symbols"),
    (Plan("s", (), (), (HostStep("k", {}, (FOUND,), ()),)), "formula '?2?|n' needs a plan with"),
])
def test_inconsistent_plans_are_refused(plan: Plan, words: str) -> None:
    with pytest.raises(EngineFormatError, match=words):
        check_plan(plan, 0)


def test_static_sizes_are_still_checked() -> None:
    symbol = SymbolRecord("N", source=("input", 0, 0))
    plan = Plan(
        "s", (Binding("x", "f32", ("N",)),), (),
        (KernelStep("k", "k", (BufferRef("block", 0, 8, 60),)),), symbols=(symbol,),
        blocks=(BlockRecord(64),),
    )
    with pytest.raises(EngineFormatError, match=r"bytes 60..60\+8 of block 0 lie outside its 64"):
        check_plan(plan, 0)


@pytest.mark.parametrize("path, value", [
    ("symbols.0", ["N"]), ("symbols.0.4", []), ("symbols.0.4", ["moon", 0, 0]),
    ("symbols.0.4", ["input", -1, 0]), ("symbols.0.1", 1 << 64), ("symbols.0.1", "x"),
    ("blocks.0", [1]), ("blocks.0.0", -1), ("blocks.0.1", [-1]), ("blocks.0.2", 1.5),
    ("epochs", 4), ("epochs", [-1]), ("steps.0.kernel.scalars", [3]),
    ("steps.0.kernel.work", ["N", "N", "N"]), ("steps.2.shape.values", [1 << 63]),
    ("steps.2.shape", []), ("steps.0", {"shape": {}, "host": {}}),
])
def test_hostile_values_name_the_field(path: str, value: object) -> None:
    data = encode_plan(PLAN)
    *parents, last = path.split(".")
    place: Any = data
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    with pytest.raises(EngineFormatError, match="manifest field plan"):
        decode_plan(data)
