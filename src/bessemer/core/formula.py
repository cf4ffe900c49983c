"""The text of dimensions read back, as dimensions, and compiled: many formulas in one function.

`parse_dim(str(dim)) == dim`. Texts may come from anybody: sizes are limited and every misfit is a
ValueError.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from bessemer.core.shapes import FUNCTIONS, Dim, function, symbol

Tree = int | str | tuple[Any, ...]
"""A number, the name of a symbol, or an operation and trees: `+ - * //` or a function."""

MAX_TOKENS = 512
MAX_DEPTH = 32
MAX_NUMBER = (1 << 63) - 1

_TOKEN = re.compile(r"\s*(?:([0-9]+)(?![A-Za-z_.?$])|([A-Za-z_?][A-Za-z0-9_.?$]*)|(//|[-+*(),]))")

Evaluate = Callable[[Sequence[int]], list[int]]


@lru_cache(maxsize=4096)
def parse_formula(text: str) -> Tree:
    """The tree of a formula. Raises: ValueError for anything else."""
    parser = _Parser(text)
    tree = parser.sum(0)
    if parser.next:
        raise ValueError(f"unexpected {parser.next!r} in formula {_shown(text)}")
    return tree


def parse_dim(text: str) -> Dim:
    """The dimension of a text. Raises: ValueError if it is none."""
    try:
        return _dim(parse_formula(text))
    except ZeroDivisionError:
        raise ValueError(f"division by zero in formula {_shown(text)}") from None


def formula_symbols(formula: int | str) -> frozenset[str]:
    """The symbols of a formula. Raises: ValueError."""
    return frozenset(_symbols(formula if isinstance(formula, int) else parse_formula(formula)))


def compile_formulas(formulas: Sequence[int | str], symbols: Sequence[str]) -> Evaluate:
    """A function from the values of `symbols`, in order, to the values of all formulas, in order.

    It computes each distinct formula as written, in Python's unlimited integers, and raises
    ZeroDivisionError where a divisor is 0. Symbols that no formula uses may have any value.

    Raises: ValueError for a text that is no formula, KeyError for an unknown symbol.
    """
    names = {name: f"s{index}" for index, name in enumerate(symbols)}
    parts = [_code(part if isinstance(part, int) else parse_formula(part), names)
             for part in formulas]
    head = f"({', '.join(names.values())},) = s\n    " if names else ""
    source = f"def evaluate(s):\n    {head}return [{', '.join(parts)}]\n"
    space: dict[str, Any] = {}
    # The source holds only numbers, operators, FUNCTIONS and the names made here.
    exec(source, {"__builtins__": {}, **FUNCTIONS}, space)
    made: Evaluate = space["evaluate"]
    return made


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.position = 0

    @property
    def next(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.position += 1
        return token

    def sum(self, depth: int) -> Tree:
        total = self.product(depth)
        while self.next in ("+", "-"):
            total = (self.take(), total, self.product(depth))
        return total

    def product(self, depth: int) -> Tree:
        total = self.atom(depth)
        while self.next in ("*", "//"):
            total = (self.take(), total, self.atom(depth))
        return total

    def atom(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise ValueError(f"formula {_shown(self.text)} is nested too deeply")
        token = self.take()
        if token == "(":
            inner = self.sum(depth + 1)
            if self.take() != ")":
                raise ValueError(f"a bracket is open in formula {_shown(self.text)}")
            return inner
        if token == "-":
            inner = self.atom(depth + 1)
            return -inner if isinstance(inner, int) else ("*", -1, inner)
        if token.isdigit():
            return int(token)
        if token in FUNCTIONS and self.next == "(":
            return self.call(token, depth)
        if not token or token in "+*//),":
            found = repr(token) if token else "the end"
            raise ValueError(f"unexpected {found} in formula {_shown(self.text)}")
        return token

    def call(self, name: str, depth: int) -> Tree:
        arguments: list[Tree] = []
        while not arguments or self.next == ",":
            self.take()
            arguments.append(self.sum(depth + 1))
        if self.take() != ")":
            raise ValueError(f"a bracket is open in formula {_shown(self.text)}")
        if name == "place" and len(arguments) != 2:
            raise ValueError(f"place has 2 arguments in formula {_shown(self.text)}")
        return (name, *arguments)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) == MAX_TOKENS:
            what = "is too long" if match else f"has an odd character at {position}"
            raise ValueError(f"formula {_shown(text)} {what}")
        token = match[match.lastindex or 0]
        if token.isdigit() and (len(token) > 19 or int(token) > MAX_NUMBER):
            raise ValueError(f"a number of formula {_shown(text)} is too large")
        tokens.append(token)
        position = match.end()
    return tokens


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _symbols(tree: Tree) -> Iterable[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, tuple):
        for part in tree[1:]:
            yield from _symbols(part)


def _dim(tree: Tree) -> Dim:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return symbol(tree)
    if tree[0] in FUNCTIONS:
        return function(tree[0], *map(_dim, tree[1:]))
    left, right = _dim(tree[1]), _dim(tree[2])
    match tree[0]:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    return left // right


def _code(tree: Tree, names: dict[str, str]) -> str:
    """Python text with brackets only where they are needed, so that long sums do not nest."""
    if isinstance(tree, int):
        return str(tree) if tree >= 0 else f"({tree})"
    if isinstance(tree, str):
        return names[tree]
    if tree[0] in FUNCTIONS:
        return f"{tree[0]}({', '.join(_code(part, names) for part in tree[1:])})"
    kind, left, right = tree
    first, second = _code(left, names), _code(right, names)
    if kind in ("*", "//"):
        first = f"({first})" if isinstance(left, tuple) and left[0] in ("+", "-") else first
    if isinstance(right, tuple) and right[0] not in FUNCTIONS:
        second = f"({second})"
    return f"{first}{kind}{second}"
