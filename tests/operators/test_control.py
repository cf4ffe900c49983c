"""Corner cases of control flow, sequences and optionals."""

from typing import Any

import numpy as np
import pytest

from bessemer.core.dtypes import boolean, f32, i64
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Sym, symbol
from bessemer.ir.graph import Graph
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType
from bessemer.ops.arithmetic import Add, Mul
from bessemer.ops.compare import Less
from bessemer.ops.control import If, Loop, Scan, SequenceMap
from bessemer.ops.movement import Concat
from bessemer.ops.sequence import (
    ConcatFromSequence,
    Optional,
    OptionalGetElement,
    OptionalHasElement,
    SequenceAt,
    SequenceConstruct,
    SequenceErase,
    SequenceInsert,
    SequenceLength,
    SplitToSequence,
)

NUMBER = TensorType(i64, ())
TRUTH = TensorType(boolean, ())


def graph(types: list[ValueType], build: Any) -> Graph:
    made = Graph("body")
    values = [made.add_input(f"x{k}", type) for k, type in enumerate(types)]
    made.outputs = build(made, *values)
    return made


def row(extent: Any) -> TensorType:
    return TensorType(f32, (extent,))


def test_branches_of_different_extent_give_a_new_symbol() -> None:
    same = graph([row(3)], lambda g, x: [x])
    twice = graph([row(3)], lambda g, x: [g.add_node(Concat(axis=0), [x, x]).output])
    op = If(then_branch=same, else_branch=twice)
    (joined,) = op.infer(TRUTH, row(3))
    assert isinstance(joined, TensorType)
    assert isinstance(joined.dims[0], Sym)
    assert op.infer(TRUTH, row(3)) == (joined,)
    assert op.infer(TensorType.of(np.array(False)), row(3)) == (row(6),)
    x = np.arange(3, dtype=np.float32)
    assert op.reference(np.array(False), x)[0].shape == (6,)
    assert op.reference(np.array([True]), x)[0].shape == (3,)


def test_branches_must_agree_on_the_dtype() -> None:
    a = graph([], lambda g: [g.add_constant("a", np.zeros(2, np.float32))])
    b = graph([], lambda g: [g.add_constant("b", np.zeros(2, np.int64))])
    with pytest.raises(ShapeError, match="on one path"):
        If(then_branch=a, else_branch=b).infer(TRUTH)


def counting() -> Graph:
    """Adds the captured row; stacks what is carried; goes on as it began."""
    return graph(
        [NUMBER, TRUTH, row(2), row(2)],
        lambda g, i, c, x, y: [c, (z := g.add_node(Add(), [x, y]).output), z],
    )


def test_a_loop_of_known_length() -> None:
    op = Loop(body=counting(), captured=1)
    trips = TensorType.of(np.array(3))
    assert [str(t) for t in op.infer(trips, None, row(2), row(2))] == ["f32[2]", "f32[3,2]"]
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    last, every = op.reference(np.array(3), None, zeros, ones)
    np.testing.assert_array_equal(last, [3, 3])
    np.testing.assert_array_equal(every, [[1, 1], [2, 2], [3, 3]])


@pytest.mark.parametrize(("trips", "cond"), [(0, True), (5, False), (-1, True)])
def test_a_loop_that_never_runs(trips: int, cond: bool) -> None:
    x = np.ones(2, np.float32)
    last, every = Loop(body=counting(), captured=1).reference(
        np.array(trips), np.array(cond), x, x
    )
    np.testing.assert_array_equal(last, x)
    assert every.shape == (0, 2)


def test_a_loop_that_ends_itself() -> None:
    body = graph(
        [NUMBER, TRUTH, NUMBER, NUMBER],
        lambda g, i, c, x, limit: [
            g.add_node(Less(), [(z := g.add_node(Mul(), [x, x]).output), limit]).output, z,
        ],
    )
    op = Loop(body=body, captured=1)
    (last,) = op.reference(None, None, np.array(2), np.array(100))
    assert last == 256
    with pytest.raises(ShapeError, match="body has 4 inputs"):
        op.infer(None, None, NUMBER)


def test_a_scan_backwards_along_another_axis() -> None:
    body = graph(
        [row(3), row(3)], lambda g, h, x: [(z := g.add_node(Add(), [h, x]).output), z]
    )
    op = Scan(body=body, scan_input_axes=(1,), scan_input_directions=(1,), scan_output_axes=(-1,))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    last, every = op.reference(np.zeros(3, np.float32), x)
    np.testing.assert_array_equal(last, x.sum(axis=1))
    np.testing.assert_array_equal(every, x[:, ::-1].cumsum(axis=1))
    types = op.infer(row(3), TensorType(f32, (3, symbol("T"))))
    assert [str(t) for t in types] == ["f32[3]", "f32[3,T]"]


def test_a_map_over_a_sequence() -> None:
    body = graph([row(2), row(2)], lambda g, x, y: [g.add_node(Mul(), [x, y]).output])
    items = [np.full(2, k, np.float32) for k in range(3)]
    (result,) = SequenceMap(body=body, captured=1).reference(items, np.full(2, 2, np.float32))
    assert [r.tolist() for r in result] == [[0, 0], [2, 2], [4, 4]]
    assert SequenceMap(body=body).reference([], items[0]) == ([],)


ITEMS = [np.arange(k + 1) for k in range(3)]


def test_positions_in_sequences() -> None:
    assert SequenceAt().reference(ITEMS, np.array(-1)) is ITEMS[2]
    assert SequenceLength().reference(ITEMS) == 3
    assert [len(x) for x in SequenceErase().reference(ITEMS, np.array(0))] == [2, 3]
    assert [len(x) for x in SequenceErase().reference(ITEMS)] == [1, 2]
    new = np.zeros(9)
    assert [len(x) for x in SequenceInsert().reference(ITEMS, new, np.array(-3))] == [9, 1, 2, 3]
    assert [len(x) for x in SequenceInsert().reference(ITEMS, new)] == [1, 2, 3, 9]
    assert len(ITEMS) == 3
    for op in (SequenceAt(), SequenceErase()):
        with pytest.raises(InputError, match="position 3"):
            op.reference(ITEMS, np.array(3))


def test_element_types_are_joined() -> None:
    made = SequenceConstruct().infer(row(2), row(2))
    assert str(made) == "seq<f32[2]>"
    mixed = SequenceConstruct().infer(row(2), row(3)).element
    assert isinstance(mixed, TensorType)
    assert isinstance(mixed.dims[0], Sym)
    with pytest.raises(ShapeError, match="no sequence"):
        SequenceAt().infer(row(2), NUMBER)
    joined = ConcatFromSequence(new_axis=1, axis=-1).infer(made)
    assert joined.rank == 2
    assert joined.dims[0] == 2


def test_split_and_join() -> None:
    x = np.arange(10).reshape(5, 2)
    for split in (None, np.array(2), np.array([1, 0, 4])):
        parts = SplitToSequence().reference(x, split)
        np.testing.assert_array_equal(ConcatFromSequence().reference(parts), x)
    flat = SplitToSequence(keepdims=0).reference(x)
    np.testing.assert_array_equal(ConcatFromSequence(new_axis=1).reference(flat), x)
    with pytest.raises(InputError, match="add up"):
        SplitToSequence().reference(x, np.array([1, 1]))


def test_optionals() -> None:
    x = np.ones(2)
    assert Optional().reference(x) is x
    assert Optional(type=row(2)).infer() == OptionalType(row(2))
    assert OptionalHasElement().reference(None) == np.array(False)
    assert OptionalGetElement().infer(OptionalType(SequenceType(row(2)))) == SequenceType(row(2))
    with pytest.raises(InputError, match="no element"):
        OptionalGetElement().reference(None)
