"""Formulas: the text of dimensions read back, compiled, and refused where it is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.formula import (
    MAX_TOKENS,
    compile_formulas,
    formula_symbols,
    parse_dim,
    parse_formula,
)
from bessemer.core.shapes import Dim, Sym, substitute, symbol

NAMES = ("N", "H", "?_x_1.0")


def combine(parts: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    divisors = st.integers(1, 9) | st.integers(-9, -1)
    return st.one_of(
        st.builds(lambda a, b: a + b, parts, parts), st.builds(lambda a, b: a - b, parts, parts),
        st.builds(lambda a, b: a * b, parts, parts),
        st.builds(lambda a, b: a // b, parts, divisors),
        st.builds(lambda a, b: a // (b * b + 1), parts, parts),
    )


DIMS = st.recursive(
    st.sampled_from(NAMES).map(symbol) | st.integers(-50, 50), combine, max_leaves=8)


@given(DIMS, st.tuples(*[st.integers(0, 40)] * 3))
def test_text_of_dimensions_reads_back(dim: Dim, values: tuple[int, int, int]) -> None:
    known = dict(zip(NAMES, values, strict=True))
    assert parse_dim(str(dim)) == dim
    assert formula_symbols(str(dim)) == (dim.symbols() if isinstance(dim, Sym) else set())
    (found, twice) = compile_formulas([str(dim), f"2*({dim})"], NAMES)(values)
    assert (found, twice) == (substitute(dim, known), 2 * substitute(dim, known))


def test_compiled_formulas_keep_their_order() -> None:
    function = compile_formulas(["N-H-1", 7, "N//H//2", "N-(H-1)", "-N*-2", "N//(H*2)"], NAMES)
    assert function([20, 3, 0]) == [16, 7, 3, 18, 40, 3]
    assert compile_formulas([], [])([]) == []
    with pytest.raises(ZeroDivisionError):
        function([1, 0, 0])
    with pytest.raises(KeyError):
        compile_formulas(["M"], NAMES)


def test_long_formulas() -> None:
    """As long as they may be: neither reading nor compiling runs out of stack."""
    half = MAX_TOKENS // 2
    for mark, expected in (("+", 3 * half), ("*", 3**half), ("//", 0), ("-", 3 - 3 * (half - 1))):
        assert compile_formulas([mark.join(["N"] * half)], ["N"])([3]) == [expected]
    deep = "(" * 32 + "N" + "+1)" * 32
    assert compile_formulas([deep], ["N"])([3]) == [35]


@pytest.mark.parametrize("text", [
    "", " ", "N+", "+N", "1N", "((N", "N)", "()", "N**2", "1.5", "1e9", "N N", "N^2", "N/2",
    "9" * 20, "9223372036854775808", "(" * 33 + "N" + ")" * 33, "-" * 600 + "N",
    "+".join("N" * 300), "a;b", "__import__('os')", "é", "1_0", "²", "٣", "N if N else 1",
    "N\n+", "lambda: 0", "N[0]", "\0",
])
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        parse_formula(text)


def test_division_by_zero_is_no_dimension() -> None:
    with pytest.raises(ValueError, match="division by zero"):
        parse_dim("N//0")


@given(st.text(alphabet="NH0123456789+-*/()? .", max_size=40))
def test_any_text_is_a_formula_or_a_value_error(text: str) -> None:
    try:
        parse_formula(text)
    except ValueError:
        return
    compile_formulas([text], sorted(formula_symbols(text)))
