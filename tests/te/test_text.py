"""The text of tensor expressions parses back to an equal expression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer import te
from bessemer.core.dtypes import COMPILED, boolean, f32, f64, i32, i64
from bessemer.core.errors import ModelFormatError
from bessemer.te.expr import Cast, Const, text
from bessemer.te.parser import parse_expr
from bessemer.te.tensor import Tensor
from bessemer.te.walk import rewrite, walk

X = te.placeholder(f32, (5, 7), "x")
N = te.placeholder(i32, (5,), "n")
TENSORS = {"x": X, "n": N}
ROW, COL = te.Var("i"), te.Var("j.o+k")


def same(expr):
    back = parse_expr(text(expr), TENSORS)
    assert text(back) == text(expr)
    assert back.dtype == expr.dtype
    return back


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 0.1, -2e-30, 1e30, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [d for d in COMPILED if d.is_float and not d.is_small])
def test_float_literals(value, dtype):
    expr = te.const(value, dtype)
    back = same(expr)
    assert isinstance(back, Const)
    np.testing.assert_equal(back.value, expr.value)
    assert np.signbit(back.value) == np.signbit(expr.value)


@pytest.mark.parametrize("dtype", [d for d in COMPILED if not d.is_float])
def test_other_literals(dtype):
    for value in (0, 1) if dtype == boolean else (0, 1, 7, 100):
        back = same(te.const(value, dtype))
        assert isinstance(back, Const)
        assert back.value == value
    if dtype.kind == "int":
        assert same(te.const(-3, dtype)).value == -3


K = te.reduce_axis(7, "k")
EXPRESSIONS = [
    X[ROW, COL], X.at(ROW - 1, COL, fill=0.0), X.at(ROW, COL + -3, fill=-np.inf), N[ROW],
    te.where(X[ROW, COL] > 0.5, te.exp(X[ROW, COL]), -X[ROW, COL]),
    te.where((ROW >= 0) & (ROW < 5), te.cast(ROW, f32), 1.0),
    te.cast(X[ROW, COL], i64), te.cast(X[ROW, COL] > 0.0, f32), te.bitcast(X[ROW, COL], i32),
    te.cast(te.const(1.5, f64), f32), te.cast(te.const(True, boolean), f32),
    Cast(te.const(2.0, f32), boolean), ~(N[ROW] << 3 ^ N[ROW]), (N[ROW] & 7 | 1) >> 2,
    ~(N[ROW] < 3),
    te.minimum(X[ROW, COL], te.power(X[ROW, COL], 2.0)), te.binary("fmod", X[ROW, COL], 3.0),
    te.binary("rem", N[ROW], 3), N[ROW] // 2 % 3 / 5,
    te.not_equal(ROW * 16 + COL, ROW // 4 - COL % 4),
    te.isnan(X[ROW, COL]), te.round_(X[ROW, COL]), te.rsqrt(X[ROW, te.cast(N[ROW], i64)]),
    te.sum_(X[ROW, K] * X[ROW, K], K), te.max_(X[ROW, K], K), te.argmax(X[ROW, K], K),
    te.argmin(X[ROW, K], K, last=True), te.prod(N[K], K),
]


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=[str(k) for k in range(len(EXPRESSIONS))])
def test_round_trip(expr):
    same(expr)


def test_reductions_keep_their_axes():
    back = same(te.argmax(X[ROW, K], K, last=True))
    assert [(axis.name, axis.extent) for axis in back.axes] == [(K.name, 7)]
    assert back.last
    assert any(node is back.axes[0] for node in walk(back.body))


LEAVES = st.sampled_from([
    X[ROW, COL], te.const(2.5), te.cast(N[ROW], f32), X.at(COL, ROW, fill=1.0)])
FLOATS = st.recursive(LEAVES, lambda inner: st.one_of(
    st.builds(te.binary, st.sampled_from(("+", "-", "*", "/", "min", "max", "pow")), inner, inner),
    st.builds(te.unary, st.sampled_from(("exp", "neg", "tanh", "floor")), inner),
    st.builds(lambda a, b: te.where(a < b, a, b), inner, inner)), max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(FLOATS, st.integers(0, 2**32 - 1))
def test_parsed_expressions_mean_the_same(expr, seed):
    def tensor(body):
        axes = tuple(te.IterVar(name, i64, n) for name, n in (("i", 5), ("j.o+k", 5)))
        table = {"i": axes[0], "j.o+k": axes[1]}
        bound = rewrite(body, lambda node: table.get(getattr(node, "name", "")))
        return Tensor("t", f32, (5, 5), axes, bound)

    rng = np.random.default_rng(seed)
    arrays = {X: rng.standard_normal((5, 7)).astype("f4"), N: rng.integers(0, 9, 5).astype("i4")}
    both = te.evaluate((tensor(expr), tensor(same(expr))), arrays)
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(("source", "message"), [
    ("x[i, j] + 1", "'\\+' is left over"), ("y[i]", "no tensor 'y'"), ("(i + ", "ends too early"),
    ("(x[i, j] + n[i])", "operands of '\\+' are f32 and i32"), ("i32(1.5)", "1.5 is no i32"),
    ("select(i, j)", "unknown function select of 2"),
    ("x[i, j else i]", "a fill must be a literal"),
    ("(i $ j)", "unexpected '\\$ j\\)'"),
])
def test_faults_are_shown(source, message):
    with pytest.raises(ModelFormatError, match=message):
        parse_expr(source, TENSORS)
