"""Reads the text of scalar expressions back: `text(parse_expr(text(e), ...)) == text(e)`.

Tensors (or buffers) are found by name; a name that is no known variable becomes an i64 variable.
The loop IR parser adds its own functions through `ExprParser.call`.
"""

import re
from collections.abc import Mapping
from typing import Any

from bessemer.core.dtypes import DTYPES, DType, boolean, i64
from bessemer.core.errors import ModelFormatError
from bessemer.core.shapes import Dim, symbol
from bessemer.te.expr import (
    ARITHMETIC,
    COMPARISONS,
    UNARY,
    Binary,
    Bitcast,
    Cast,
    Const,
    Expr,
    Load,
    Reduce,
    Select,
    Unary,
    Var,
    const,
)
from bessemer.te.tensor import IterVar

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>-?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf\b|nan\b))
      | (?P<name>[A-Za-z_][\w.]*(?:\+[A-Za-z_][\w.]*)*)
      | (?P<mark><<|>>|<=|>=|==|!=|//|[-+*/%&|^<>()\[\],=:])
    )""",
    re.VERBOSE,
)
_NAMED_BINARY = ("min", "max", "pow", "fmod", "rem")
_SYMBOLS = tuple(op for op in (*ARITHMETIC, *COMPARISONS) if op not in _NAMED_BINARY)
_REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "argmin")


def parse_expr(source: str, tensors: Mapping[str, Any],
               variables: Mapping[str, Var] | None = None) -> Expr:
    """The expression that prints as `source`.

    Raises: ModelFormatError naming the position of what is not understood.
    """
    parser = ExprParser(source, tensors, variables or {})
    result = parser.expression()
    parser.end()
    return result


class ExprParser:
    """A recursive-descent reader of one expression text."""

    def __init__(self, source: str, tensors: Mapping[str, Any], variables: Mapping[str, Var],
                 where: str = "expression") -> None:
        self.source = source
        self.where = where
        self.tensors = tensors
        self.variables = dict(variables)
        self.tokens = self._tokens()
        self.at = 0
        self._declare_reduction_axes()

    def _tokens(self) -> list[tuple[str, str]]:
        found, position = [], 0
        while self.source[position:].strip():
            match = _TOKEN.match(self.source, position)
            if match is None:
                raise ModelFormatError(
                    f"{self.where}: unexpected {self.source[position:].strip()[:10]!r} in "
                    f"{self.source!r}")
            found.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()
        return found

    def _declare_reduction_axes(self) -> None:
        """The axes stand behind the body of a reduction, but the body uses them."""
        match = re.search(r"over=\((.*?)\)", self.source)
        self.axes: tuple[IterVar, ...] = ()
        if match is None:
            return
        rows = [row.strip().split(":") for row in match.group(1).split(",") if row.strip()]
        self.axes = tuple(IterVar(name, i64, _extent(extent)) for name, extent in rows)
        self.variables |= {axis.name: axis for axis in self.axes}

    # -- tokens ---------------------------------------------------------------------------------

    def error(self, message: str) -> ModelFormatError:
        """An error that shows the text."""
        return ModelFormatError(f"{self.where}: {message} in {self.source!r}")

    def peek(self, ahead: int = 0) -> str:
        """The text of a coming token; empty at the end."""
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def take(self) -> tuple[str, str]:
        """The next token: kind and text."""
        if self.at >= len(self.tokens):
            raise self.error("the text ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, mark: str) -> None:
        """Takes one mark."""
        _, found = self.take()
        if found != mark:
            raise self.error(f"expected {mark!r}, found {found!r}")

    def end(self) -> None:
        """Checks that nothing is left."""
        if self.at < len(self.tokens):
            raise self.error(f"{self.peek()!r} is left over")

    # -- grammar --------------------------------------------------------------------------------

    def expression(self) -> Expr:
        """One expression; binary operations are always in parentheses."""
        kind, word = self.take()
        if kind == "number":
            return self.number(word, i64)
        if word == "(":
            return self.infix()
        if kind != "name":
            raise self.error(f"unexpected {word!r}")
        if word in ("true", "false"):
            return Const(word == "true", boolean)
        if self.peek() == "(":
            return self.call(word)
        if self.peek() == "[":
            return self.load(word)
        return self.variables.setdefault(word, Var(word, i64))

    def infix(self) -> Expr:
        """`a op b)` after the opening parenthesis."""
        a = self.expression()
        _, op = self.take()
        if op not in _SYMBOLS:
            raise self.error(f"unknown operation {op!r}")
        b = self.expression()
        self.expect(")")
        return self.binary(op, a, b)

    def binary(self, op: str, a: Expr, b: Expr) -> Expr:
        """The operation as it was printed: nothing is folded."""
        if a.dtype != b.dtype:
            raise self.error(f"operands of {op!r} are {a.dtype} and {b.dtype}")
        return Binary(op, a, b, boolean if op in COMPARISONS else a.dtype)

    def number(self, word: str, dtype: DType) -> Const:
        """A literal."""
        if not dtype.is_float and not re.fullmatch(r"-?\d+", word):
            raise self.error(f"{word} is no {dtype}")
        return const(float(word) if dtype.is_float else int(word), dtype)

    def call(self, name: str) -> Expr:
        """A function, cast, literal with dtype or reduction."""
        if name in DTYPES:
            return self.conversion(DTYPES[name])
        arguments = self.arguments()
        if name.startswith("bits.") and name[5:] in DTYPES and len(arguments) == 1:
            return Bitcast(arguments[0], DTYPES[name[5:]])
        if self.peek() == "over":
            return self.reduction(name, arguments)
        if name in _NAMED_BINARY and len(arguments) == 2:
            return self.binary(name, *arguments)
        if name == "select" and len(arguments) == 3:
            condition, a, b = arguments
            return Select(condition, a, b, a.dtype)
        if name in UNARY and len(arguments) == 1:
            a = arguments[0]
            return Unary(name, a, boolean if name in ("not", "isnan", "isinf") else a.dtype)
        raise self.error(f"unknown function {name} of {len(arguments)}")

    def arguments(self) -> list[Expr]:
        """`(a, b, ...)`; stops before `over=` of a reduction."""
        self.expect("(")
        result = [self.expression()]
        while self.peek() == ",":
            self.take()
            if self.peek() == "over":
                return result
            result.append(self.expression())
        self.expect(")")
        return result

    def conversion(self, dtype: DType) -> Expr:
        """`f32(1.5)` is a literal, `f32(x)` a cast."""
        kind = self.tokens[self.at + 1][0] if self.at + 1 < len(self.tokens) else ""
        if kind == "number":
            self.expect("(")
            result: Expr = self.number(self.take()[1], dtype)
            self.expect(")")
            return result
        arguments = self.arguments()
        if len(arguments) != 1:
            raise self.error(f"{dtype} takes one argument")
        return Cast(arguments[0], dtype)

    def load(self, name: str) -> Expr:
        """`x[i, j]` or `x[i, j else f32(0.0)]`."""
        tensor = self.tensor(name)
        indices, fill = self.indices()
        return Load(tensor, indices, tensor.dtype, fill)

    def tensor(self, name: str) -> Any:
        """A tensor by name."""
        if name not in self.tensors:
            raise self.error(f"no tensor {name!r}")
        return self.tensors[name]

    def indices(self) -> tuple[tuple[Expr, ...], Const | None]:
        """What stands between the brackets."""
        self.expect("[")
        found: list[Expr] = []
        fill: Const | None = None
        while self.peek() != "]":
            if found:
                self.expect(",")
            found.append(self.expression())
            if self.peek() == "else":
                self.take()
                value = self.expression()
                if not isinstance(value, Const):
                    raise self.error("a fill must be a literal")
                fill = value
        self.expect("]")
        return tuple(found), fill

    def reduction(self, kind: str, arguments: list[Expr]) -> Expr:
        """`sum(body, over=(k:5))`, after the comma."""
        if kind not in _REDUCTIONS or len(arguments) != 1:
            raise self.error(f"unknown reduction {kind}")
        while self.take()[1] != ")":
            pass
        last = self.peek() == ","
        if last:
            self.expect(",")
            self.expect("last")
        self.expect(")")
        body = arguments[0]
        dtype = i64 if kind in ("argmax", "argmin") else body.dtype
        return Reduce(kind, body, self.axes, dtype, last)


def _extent(text: str) -> Dim:
    return int(text) if text.strip().isdigit() else symbol(text.strip())
