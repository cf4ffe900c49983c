"""Shape computations with symbolic extents: what exporters write around Reshape and Expand."""

import numpy as np
import pytest

from bessemer.core.dtypes import boolean, f32, i64
from bessemer.core.errors import ShapeError
from bessemer.core.extents import larger, smaller
from bessemer.core.shapes import symbol
from bessemer.ir.graph import Graph
from bessemer.ir.inference import infer_again
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import print_graph
from bessemer.ir.types import TensorType
from bessemer.ops.arithmetic import Add, Div, Mod, Mul, Sub
from bessemer.ops.arithmetic_unary import Ceil, Floor
from bessemer.ops.cast import Cast
from bessemer.ops.compare import Equal, Greater, GreaterOrEqual, Less
from bessemer.ops.creation import ConstantOfShape, Range
from bessemer.ops.gather import Gather, Where
from bessemer.ops.movement import Concat, Expand, Split, Tile
from bessemer.ops.reduce import ReduceProd
from bessemer.ops.reshape import Flatten, Reshape, ShapeOf, Squeeze, Unsqueeze
from bessemer.ops.slicing import Pad, Slice
from bessemer.ops.variadic import Min

N, H = symbol("N"), symbol("H")


def constant(*values: int, shape: tuple[int, ...] | None = None) -> TensorType:
    array = np.array(values, np.int64)
    return TensorType.of(array if shape is None else array.reshape(shape))


def scalar(value: int) -> TensorType:
    return TensorType.of(np.array(value, np.int64))


def test_view_with_the_batch_read_from_the_input() -> None:
    x = TensorType(f32, (N, 8, H, 4))
    shape = ShapeOf().infer(x)
    batch = Gather(axis=0).infer(shape, scalar(0))
    assert batch.shape == ()
    row = Unsqueeze().infer(batch, constant(0))
    target = Concat(axis=0).infer(row, constant(-1, 4))
    assert Reshape().infer(x, target).shape == (N, H * 8, 4)


def test_static_shape_has_a_value() -> None:
    shape = ShapeOf(start=1).infer(TensorType(f32, (2, 3, 4)))
    assert shape.value is not None
    assert shape.value.tolist() == [3, 4]


def test_arithmetic_on_extents() -> None:
    x = TensorType(f32, (N, H))
    n = Gather(axis=0).infer(ShapeOf().infer(x), scalar(0))
    h = Gather(axis=0).infer(ShapeOf().infer(x), scalar(1))
    doubled = Mul().infer(n, scalar(2))
    less = Sub().infer(Add().infer(doubled, h), scalar(1))
    halved = Div().infer(Mul().infer(h, scalar(4)), scalar(2))
    axes = constant(0)
    target = Concat(axis=0).infer(Unsqueeze().infer(less, axes), Unsqueeze().infer(halved, axes))
    assert ConstantOfShape().infer(target).shape == (N * 2 + H - 1, H * 2)


def test_slice_of_a_shape_and_cast() -> None:
    shape = ShapeOf().infer(TensorType(f32, (N, 3, H, H)))
    tail = Slice().infer(shape, constant(2), constant(2**63 - 1), constant(0))
    assert tail.symbolic == (H, H)
    there = Cast(to="i32").infer(tail)
    back = Cast(to="i64").infer(there)
    assert Expand().infer(TensorType(f32, (1, 1)), back).shape == (H, H)
    reverse = Slice().infer(shape, constant(-1), constant(-(2**63)), constant(0), constant(-1))
    assert reverse.symbolic == (H, H, 3, N)


def test_expand_with_minus_one_replaced_by_where() -> None:
    shape = ShapeOf().infer(TensorType(f32, (N, 5)))
    wanted = constant(1, 5)
    ones = constant(1, 1)
    chosen = Where().infer(Equal().infer(wanted, constant(-1, -1)), ones, shape)
    # Equal of constants is folded by a pass, so its content is not known here.
    assert chosen.shape == (2,)
    mask = TensorType.of(np.array([True, False]))
    assert Where().infer(mask, ones, shape).value is not None
    assert Where().infer(mask, shape, ones).symbolic == (N, 1)


def test_range_over_an_extent() -> None:
    n = Squeeze().infer(
        Slice().infer(ShapeOf().infer(TensorType(f32, (N, 2))), constant(0), constant(1)),
        constant(0),
    )
    assert Range().infer(scalar(0), n, scalar(1)).shape == (N,)


def test_movement_keeps_symbols() -> None:
    x = TensorType(f32, (N, 6, H))
    assert Flatten(axis=2).infer(x).shape == (N * 6, H)
    assert Tile().infer(x, constant(2, 1, 3)).shape == (N * 2, 6, H * 3)
    assert Pad().infer(x, constant(1, 0, 0, 1, 0, 2)).shape == (N + 2, 6, H + 2)
    assert [part.shape for part in Split(axis=1, num_outputs=2).infer(x)] == [(N, 3, H)] * 2
    assert Concat(axis=0).infer(x, x).shape == (N * 2, 6, H)
    even = TensorType(f32, (N * 2, 1))
    assert [part.shape for part in Split(axis=0, num_outputs=2).infer(even)] == [(N, 1)] * 2


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (2, 0, 0),
        (-3, 0, 0),
        (-1, -3, 0),
        (0, 2**31 - 1, N),
        (1, 2**63 - 1, larger(N - 1, 0)),
        (0, -1, larger(N - 1, 0)),
        (-3, 2**31 - 1, smaller(N, 3)),
        (-3, -1, smaller(larger(N - 1, 0), 2)),
        (0, 5, smaller(N, 5)),
    ],
)
def test_slice_of_a_symbolic_axis(start: int, end: int, expected: object) -> None:
    made = Slice().infer(TensorType(f32, (N,)), constant(start), constant(end), constant(0))
    assert made.shape == (expected,)


def test_slice_with_unknown_axes_may_cut_any() -> None:
    unknown = TensorType(i64, (symbol("K"),))
    made = Slice().infer(TensorType(f32, (2, 3)), unknown, unknown)
    assert not any(isinstance(dim, int) for dim in made.dims)


def test_data_dependent_extents_are_named_after_their_node() -> None:
    graphs = []
    for _ in range(2):
        graph = Graph("g")
        x = graph.add_input("x", TensorType(f32, (8, 4)))
        start, end = (
            graph.add_constant("start", np.array([0])),
            graph.add_input("end", TensorType(i64, (1,))),
        )
        nodes = [graph.add_node(Slice(), [x, start, end], name=n) for n in ("a", "b/c", "a/b")]
        assert not any(infer_again(node) for node in nodes)
        graph.outputs = [node.output for node in nodes]
        graphs.append(graph)
    dims = [value.tensor.dims for value in graphs[0].outputs]
    assert [dim[1] for dim in dims] == [4, 4, 4]
    assert len({dim[0] for dim in dims}) == 3
    assert str(dims[0][0]) == "?a.0"
    assert print_graph(graphs[0]) == print_graph(graphs[1])
    assert print_graph(parse_graph(print_graph(graphs[0]))) == print_graph(graphs[0])


def test_element_count_from_a_shape() -> None:
    shape = ShapeOf().infer(TensorType(f32, (N, 3, H)))
    assert ReduceProd(keepdims=0).infer(shape).symbolic == (N * 3 * H,)


def test_a_required_input_left_out_is_named() -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(f32, (2,)))
    with pytest.raises(ShapeError, match='Add "sum": input 1 is required and left out'):
        graph.add_node(Add(), [x, None], name="sum")


def of_shape(position: int, *shape: object) -> TensorType:
    """One extent read from the shape of a tensor."""
    return Gather(axis=0).infer(ShapeOf().infer(TensorType(f32, shape)), scalar(position))


def test_minus_one_is_no_extent() -> None:
    shape = ShapeOf().infer(TensorType(f32, (N, 2 * H, 3)))
    equal = Equal().infer(shape, constant(-1))
    assert equal.value is not None
    assert not equal.value.any()
    target = Where().infer(equal, constant(1, 1, 1), shape)
    assert Expand().infer(TensorType(f32, (1, 1, 1)), target).shape == (N, 2 * H, 3)


def test_comparisons_are_known_only_where_they_hold_for_every_extent() -> None:
    n, more = of_shape(0, N, H), Add().infer(of_shape(0, N, H), scalar(3))
    assert Less().infer(n, more).value is not None
    assert Equal().infer(n, more).value is not None
    assert GreaterOrEqual().infer(n, scalar(0)).value is not None
    assert Equal().infer(n, scalar(1)).value is None
    assert Greater().infer(n, scalar(0)).value is None
    assert Less().infer(n, of_shape(1, N, H)).value is None


def test_either_side_of_an_open_choice_may_be_the_same() -> None:
    chosen, shape = TensorType(boolean, (2,)), ShapeOf().infer(TensorType(f32, (N, H)))
    assert Where().infer(chosen, shape, shape).symbolic == (N, H)
    assert Where().infer(chosen, shape, constant(1, 1)).symbolic is None


def test_padding_to_a_multiple() -> None:
    s = of_shape(0, H)
    over = Mod().infer(s, scalar(4))
    missing = Mod().infer(Sub().infer(scalar(4), over), scalar(4))
    pads = Concat(axis=0).infer(constant(0), Unsqueeze().infer(missing, constant(0)))
    (length,) = Pad().infer(TensorType(f32, (H,)), pads).shape or ()
    values = [length.subs({"H": extent}) for extent in range(9)]
    assert values == [0, 4, 4, 4, 4, 8, 8, 8, 8]
    rows = Reshape().infer(TensorType(f32, (length,)), constant(-1, 4)).dims[0]
    assert [rows.subs({"H": extent}) for extent in range(9)] == [0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(("operator", "number", "rounding", "expected"), [
    (Mul(), 2.0, None, [0, 2, 4, 6, 8]), (Mul(), 0.5, Floor(), [0, 0, 1, 1, 2]),
    (Mul(), 1.5, Ceil(), [0, 2, 3, 5, 6]), (Div(), 3.0, Floor(), [0, 0, 0, 1, 1]),
    (Div(), 0.25, None, [0, 4, 8, 12, 16]), (Add(), 0.5, Ceil(), [1, 2, 3, 4, 5]),
    (Sub(), 1.0, None, [-1, 0, 1, 2, 3]), (Mul(), 0.75, None, [0, 0, 1, 2, 3]),
])  # fmt: skip
def test_sizes_computed_in_floats(operator, number, rounding, expected) -> None:
    size = Cast(to="f32").infer(of_shape(0, H))
    factor = TensorType.of(np.array(number, np.float32))
    scaled = operator.infer(size, factor)
    whole = Cast(to="i64").infer(scaled if rounding is None else rounding.infer(scaled))
    assert whole.symbolic is not None
    assert [whole.symbolic[0].subs({"H": extent}) for extent in range(5)] == expected


def test_factors_that_are_no_short_fractions_stay_unknown() -> None:
    size = Cast(to="f32").infer(of_shape(0, H))
    scaled = Mul().infer(size, TensorType.of(np.array(0.1, np.float32)))
    assert Cast(to="i64").infer(scaled).symbolic is None
    inverse = Div().infer(TensorType.of(np.array(1, np.float32)), size)
    assert Cast(to="i64").infer(inverse).symbolic is None


def test_range_of_floats_over_an_extent() -> None:
    limit = Cast(to="f32").infer(of_shape(0, H))
    zero, one = (TensorType.of(np.array(v, np.float32)) for v in (0, 1))
    assert Range().infer(zero, limit, one).shape == (H,)
    two = Range().infer(scalar(0), of_shape(0, H), scalar(2)).dims[0]
    assert [two.subs({"H": extent}) for extent in range(5)] == [0, 1, 1, 2, 2]


def test_contents_of_small_constants_are_known_at_once() -> None:
    graph = Graph("g")
    axes = graph.add_constant("c", np.array([3, -2]))
    two = graph.add_constant("two", np.array(2))
    quotient = graph.add_node(Div(), [axes, two]).output
    low = graph.add_node(Min(), [quotient, two]).output
    assert low.tensor.value is not None
    assert low.tensor.value.tolist() == [1, -1]


def test_equal_quotients_have_equal_text() -> None:
    assert (24 * H * N) // 168 == (H * N) // 7
    assert (6 * H + 5) // 4 == (3 * H + 2) // 2
    assert (4 * H + 4) // 4 == H + 1
    for h in range(12):
        assert ((6 * H + 5) // 4).subs({"H": h}) == (6 * h + 5) // 4
        assert ((10 * H - 7) // 15).subs({"H": h}) == (10 * h - 7) // 15
