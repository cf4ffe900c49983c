"""Linear forms against brute force: equal values, honest ranges, true decisions."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.dtypes import i64
from bessemer.core.shapes import symbol
from bessemer.lower.affine import floor_divide, holds, linear, modulo, simplify
from bessemer.te.expr import Const, SymbolVar, Var, binary, const

NAMES = ("a", "b", "c")
VARIABLES = {name: Var(name, i64) for name in NAMES}
COMPARE = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__,
           "==": int.__eq__, "!=": int.__ne__}
APPLY = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "//": int.__floordiv__,
         "%": int.__mod__, "min": min, "max": max}

SMALL = st.integers(-5, 5).map(lambda n: const(n, i64))
DIVISOR = st.sampled_from((1, 2, 3, 4, 6, 8, 12)).map(lambda n: const(n, i64))
LEAF = st.sampled_from(sorted(VARIABLES)).map(VARIABLES.__getitem__) | SMALL


def grow(inner):
    return st.one_of(
        st.builds(binary, st.sampled_from(("+", "-", "min", "max")), inner, inner),
        st.builds(binary, st.just("*"), inner, st.sampled_from((-3, 2, 4, 8)).map(
            lambda n: const(n, i64))),
        st.builds(binary, st.sampled_from(("//", "%")), inner, DIVISOR))


EXPRESSIONS = st.recursive(LEAF, grow, max_leaves=6)
RANGES = st.fixed_dictionaries({
    name: st.tuples(st.integers(-4, 4), st.integers(1, 6)).map(lambda r: (r[0], r[0] + r[1] - 1))
    for name in NAMES})


def value(expr, point):
    if isinstance(expr, Var):
        return point[expr.name]
    if isinstance(expr, Const):
        return expr.value
    return APPLY[expr.op](value(expr.a, point), value(expr.b, point))


def points(ranges):
    spans = (range(low, high + 1) for low, high in ranges.values())
    return [dict(zip(ranges, row)) for row in itertools.product(*spans)]


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, RANGES)
def test_simplified_expressions_have_equal_values_and_honest_ranges(expr, ranges):
    form = linear(expr, ranges)
    low, high = form.range(ranges)
    short = simplify(expr, ranges)
    for point in points(ranges):
        want = value(expr, point)
        assert value(short, point) == want, (str(expr), str(short), point)
        assert low <= want <= high, (str(expr), point)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.integers(1, 24), RANGES)
def test_division_and_rest(expr, divisor, ranges):
    form = linear(expr, ranges)
    quotient = floor_divide(form, divisor, ranges).expr()
    rest = modulo(form, divisor, ranges).expr()
    for point in points(ranges):
        want = value(expr, point)
        assert value(quotient, point) == want // divisor, (str(expr), divisor, str(quotient), point)
        assert value(rest, point) == want % divisor, (str(expr), divisor, str(rest), point)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.sampled_from(sorted(COMPARE)), EXPRESSIONS, RANGES)
def test_decided_conditions_hold_everywhere(a, op, b, ranges):
    decided = holds(binary(op, a, b), ranges)
    if decided is not None:
        for point in points(ranges):
            assert COMPARE[op](value(a, point), value(b, point)) == decided


def test_split_loops_come_back_together():
    """What blocked layouts need: (4a + b) // 4 is a, (4a + b) % 4 is b."""
    a, b = VARIABLES["a"], VARIABLES["b"]
    ranges = {"a": (0, 9), "b": (0, 3)}
    index = a * 4 + b
    assert str(simplify(index // 4, ranges)) == "a"
    assert str(simplify(index % 4, ranges)) == "b"
    assert str(simplify(index // 8, ranges)) == "(a // 2)"
    assert holds(index < const(40, i64), ranges) is True
    assert holds(index < const(39, i64), ranges) is None


def test_fused_loops_of_symbolic_extent_come_apart_in_range():
    fused, n = Var("f"), symbol("n")
    ranges = {"f": (0, 3 * n - 1)}
    assert linear(fused // SymbolVar("n"), ranges).range(ranges) == (0, 2)
    assert linear(fused % SymbolVar("n"), ranges).range(ranges) == (0, n - 1)
    extent = SymbolVar("n") * SymbolVar("m")
    ranges = {"f": (0, 3 * n * symbol("m") - 1)}
    assert linear(fused // extent, ranges).range(ranges) == (0, 2)
    odd = SymbolVar("n") * 2 - 1
    ranges = {"f": (0, 16 * n - 9)}
    assert linear(fused // odd, ranges).range(ranges)[0] == 0
