"""Trying operators finds what is compiled, with which element types, and why not."""

from bessemer.core.dtypes import DTYPES
from bessemer.debug.operator_trials import plain, try_operator, type_of


def first(index):
    return index == 0


def test_element_types():
    found = try_operator("Gather", [DTYPES[n] for n in ("f32", "u8", "string")], first)
    assert found.compiled == {"f32", "u8"}
    assert found.host == {"string"}
    # An element type that the operator refuses is in neither.
    found = try_operator("Sin", [DTYPES[n] for n in ("f32", "bool")], first)
    assert found.compiled == {"f32"}
    assert not found.host


def test_element_types_of_results():
    found = try_operator("EyeLike", [DTYPES["f32"], DTYPES["i64"]], None)
    assert found.compiled == {"f32", "i64"}


def test_reasons():
    found = try_operator("NonZero", [DTYPES["f32"]], first)
    assert not found.compiled
    assert found.host == {"f32"}
    assert found.reasons
    found = try_operator("TopK", [DTYPES["f32"]], first)
    assert found.compiled == {"f32"}
    assert found.reasons  # the number of results is computed at run time


def test_texts():
    assert str(type_of("f32[2,3]")) == "f32[2,3]"
    assert type_of("i64[]").dims == ()
    assert plain("x0 is f32[2,?]: its rank is not known") == (
        "a tensor of f32: its rank is not known"
    )
