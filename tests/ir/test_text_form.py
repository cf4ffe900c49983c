"""The graph text form reads back to an equal graph, and its errors name the line."""

import numpy as np
import pytest

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ModelFormatError
from bessemer.ir.layout import Layout
from bessemer.ir.parser import parse_attribute, parse_graph, parse_layout, parse_type
from bessemer.ir.printer import constant_table, print_attribute, print_graph, print_layout
from bessemer.ir.verifier import verify

TEXT = '''graph main(%x: f32[N,3,2*N-1,(N//32)], %"a b": seq<i64[]>) -> (%y, @c) {
  source "model.onnx"
  metadata "author" = "\\"me\\""
  @c : f32[2,2] = [1.5, -inf, 0.1, nan]
  @w : f32[3,1,1] = [0.1, 0.2, 0.3]
  %0 = Relu(%x) : f32[N,3,2*N-1,(N//32)] from "Relu_0", "b" named "k"
  %y = Clip(%0, none, @k) : f32[N,3,2*N-1,(N//32)] from "y"
  %z = LeakyRelu(%y, alpha=inf) : f32[N,3,2*N-1,(N//32)] from "z"
}'''


def test_prints_what_it_parsed():
    text = TEXT.replace("@w : f32[3,1,1] = [0.1, 0.2, 0.3]", "@k : f32[] = [6.0]").replace(
        "  @c", "  @C", 0)
    graph = parse_graph(text)
    again = parse_graph(print_graph(graph))
    assert print_graph(again) == print_graph(graph)
    assert [node.name for node in again.nodes] == ["k", "y", "z"]
    assert again.nodes[0].sources == ("Relu_0", "b")
    assert again.source == "model.onnx"
    assert again.metadata == {"author": '"me"'}
    assert again.nodes[1].inputs[1] is None
    verify(again)


def test_large_constants_come_from_the_side_table():
    graph = parse_graph(
        "graph g(%x: f32[40]) -> (%y) {\n @w : f32[40] = random(3)\n %y = Add(%x, @w)\n}"
    )
    text, table = print_graph(graph), constant_table(graph)
    assert len(table) == 1
    again = parse_graph(text, table)
    assert np.array_equal(again.constants()[0].constant, graph.constants()[0].constant)
    with pytest.raises(ModelFormatError, match="not in the side table"):
        parse_graph(text)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_small_arrays_of_every_dtype(name):
    dtype = DTYPES[name]
    array = np.array(["a", 'b"'], object) if dtype.kind == "string" else (
        np.array([1, 2]).astype(dtype.numpy))
    if name in ("i2", "u2", "bool"):
        array = np.array([1, 0]).astype(dtype.numpy)
    table = {}
    text = print_attribute(array)
    if text.count("#"):
        from bessemer.ir.printer import hash_of
        table[hash_of(array)] = array
    found = parse_attribute(text, table)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("item", [
    None, True, 3, -7, 0.5, float("inf"), "text", b"\x00\x01", (), (1,), (1, (2.0, "x")), [1, 2],
])
def test_attribute_values(item):
    found = parse_attribute(print_attribute(item))
    assert found == item
    assert type(found) is type(item)


@pytest.mark.parametrize("text", [
    "f32[]", "i64[N]", "f32[...]", "bool[N,2*H*W+1]", "seq<f32[N]>", "optional<seq<?>>",
    "map<i64, f32[]>", "seq<map<string, ?>>",
    "f16[(N//2),((N-1)//(H))]", "i64[?NonZero.3]",
])
def test_types(text):
    assert str(parse_type(text)) == str(parse_type(str(parse_type(text))))


def test_layouts():
    layout = Layout.blocked(4, 1, 16).with_halo(((0, 0), (0, 0), (1, 1), (1, 2)))
    assert parse_layout(print_layout(layout)) == layout


@pytest.mark.parametrize("text, message", [
    ("graph g(", "line 1"),
    ("graph g() -> (%y) {\n}", "'y' is not defined"),
    ("graph g(%x: f32[2]) -> (%y) {\n %y = Nonsense(%x)\n}", "line 2.*Nonsense"),
    ("graph g(%x: f32[2]) -> (%y) {\n %y = Relu(%x, alpha=3)\n}", "line 2.*alpha"),
    ("graph g(%x: f32[2]) -> (%x) {\n @x : f32[] = [1]\n}", "defined twice"),
    ("graph g(%x: f99[2]) -> (%x) {\n}", "element type"),
    ("graph g(%x: f32[2]) -> (%x) {\n ^\n}", "unexpected '\\^'"),
    ("graph g() -> (@x) {\n @x : f32[3] = [1]\n}", "bad content"),
])
def test_errors_name_the_place(text, message):
    with pytest.raises(ModelFormatError, match=message):
        parse_graph(text)
