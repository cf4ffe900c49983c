"""Reads the text of loop IR back: `str(parse_function(str(f))) == str(f)`."""

import ast
import re
from typing import Any

from bessemer.core.dtypes import DTYPES, i64
from bessemer.core.errors import ModelFormatError
from bessemer.core.formula import parse_dim
from bessemer.core.shapes import Shape
from bessemer.lower.loops import (
    Alloc,
    Buffer,
    Fma,
    For,
    Function,
    If,
    LaneReduce,
    Let,
    Prefetch,
    Stmt,
    Store,
    TileProduct,
    dense_strides,
)
from bessemer.te.expr import Expr, SymbolVar, Var
from bessemer.te.parser import ExprParser

_NAME = r"[A-Za-z_][\w.]*(?:\+[A-Za-z_][\w.]*)*"
_HEAD = re.compile(rf"kernel (?P<name>{_NAME})\($")
_NOTE = re.compile(r"note (?P<key>\w+) = (?P<value>.*)$")
_FOR = re.compile(rf"for (?P<name>{_NAME}) in (?P<extent>\S+)(?: (?P<kind>\w+))?:$")
_IF = re.compile(r"if (?P<condition>.*):$")
_ALLOC = re.compile(r"alloc (?P<buffer>.*)$")
_PREFETCH = re.compile(rf"prefetch (?P<place>{_NAME}\[.*)$")
_TILES = re.compile(
    r"tiles (?P<start>first|more) (?P<rows>\d+) x (?P<columns>\d+) x (?P<steps>\d+): "
    r"(?P<places>.*)$")
_STORE = re.compile(rf"(?P<name>{_NAME})\[")
_LET = re.compile(rf"(?P<name>{_NAME}) = (?P<value>.*)$")
_NUMBERS = r"\[(?P<{}>[^\[\]]*)\]"
_BUFFER = re.compile(
    rf"(?P<name>{_NAME}): (?P<scope>in|out|register|stack) (?P<dtype>\w+)"
    + _NUMBERS.format("shape") + rf"(?: strides {_NUMBERS.format('strides')})?"
    + r"(?: offset (?P<offset>\S+))?$")
KINDS = ("serial", "parallel", "unroll", "vector")


def parse_function(source: str) -> Function:
    """The function that prints as `source`.

    Raises: ModelFormatError naming the line that is not understood.
    """
    return _Reader(source).function()


class _Expressions(ExprParser):
    """Expressions of loop IR: `fma(a, b, c)` and `lanes.sum(acc[i])` besides those of te."""

    def call(self, name: str) -> Expr:
        if name == "fma":
            arguments = self.arguments()
            if len(arguments) != 3:
                raise self.error("fma takes three arguments")
            a, b, c = arguments
            return Fma(a, b, c, c.dtype)
        if name.startswith("lanes."):
            self.expect("(")
            buffer: Buffer = self.tensor(self.take()[1])
            indices, _ = self.indices()
            self.expect(")")
            return LaneReduce(name.removeprefix("lanes."), buffer, indices, buffer.dtype)
        return super().call(name)


class _Reader:
    def __init__(self, source: str) -> None:
        self.lines = [line.rstrip() for line in source.strip("\n").split("\n")]
        self.at = 0
        self.buffers: dict[str, Buffer] = {}
        self.variables: dict[str, Var] = {}

    def error(self, message: str) -> ModelFormatError:
        """An error that shows the current line."""
        line = self.lines[self.at] if self.at < len(self.lines) else ""
        return ModelFormatError(f"loop text, line {self.at + 1}: {message}: {line.strip()!r}")

    def take(self) -> str:
        """The current line without its indent; moves on."""
        if self.at >= len(self.lines):
            raise self.error("the text ends too early")
        self.at += 1
        return self.lines[self.at - 1].strip()

    def peek(self, depth: int) -> str | None:
        """The current line if it is indented by `depth`."""
        if self.at >= len(self.lines):
            return None
        line = self.lines[self.at]
        indent = len(line) - len(line.lstrip())
        return line.strip() if indent == 2 * depth and line.strip() != "}" else None

    # -- pieces ---------------------------------------------------------------------------------

    def function(self) -> Function:
        head = _HEAD.match(self.take())
        if head is None:
            self.at -= 1
            raise self.error("expected `kernel NAME(`")
        params = []
        symbols: tuple[str, ...] = ()
        while (line := self.take()) != ") {":
            words = line.removesuffix(",").split()
            if words[:1] == ["symbols"]:
                symbols = tuple(words[1:])
                self.variables |= {name: SymbolVar(name, i64) for name in symbols}
                continue
            params.append(self.buffer(line.removesuffix(",")))
        notes: dict[str, Any] = {}
        while (row := self.peek(1)) is not None and (match := _NOTE.match(row)):
            notes[match["key"]] = self.note(match["value"])
            self.at += 1
        body = self.block(1)
        if self.take() != "}" or self.at != len(self.lines):
            self.at -= 1
            raise self.error("expected `}` and the end of the text")
        return Function(head["name"], tuple(params), body, notes, symbols)

    def note(self, text: str) -> object:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise self.error("a note must be a Python literal") from None

    def buffer(self, text: str) -> Buffer:
        match = _BUFFER.match(text)
        if match is None or match["dtype"] not in DTYPES:
            self.at -= 1
            raise self.error("expected `NAME: SCOPE DTYPE[SHAPE]`")
        shape = _numbers(match["shape"])
        strides = dense_strides(shape) if match["strides"] is None else _numbers(match["strides"])
        if len(strides) != len(shape):
            self.at -= 1
            raise self.error("there must be one stride for each dimension")
        scope = "global" if match["scope"] in ("in", "out") else match["scope"]
        found = Buffer(match["name"], DTYPES[match["dtype"]], shape, strides, scope,
                       parse_dim(match["offset"] or "0"), match["scope"] != "in")
        self.buffers[found.name] = found
        return found

    def block(self, depth: int) -> list[Stmt]:
        """Statements indented by `depth`; what they declare ends with them."""
        buffers, variables = dict(self.buffers), dict(self.variables)
        result: list[Stmt] = []
        while (line := self.peek(depth)) is not None:
            result.append(self.statement(line, depth))
        self.buffers, self.variables = buffers, variables
        return result

    def statement(self, line: str, depth: int) -> Stmt:
        if match := _FOR.match(line):
            return self.loop(match, depth)
        if match := _IF.match(line):
            condition = self.expression(match["condition"])
            self.at += 1
            body = self.block(depth + 1)
            otherwise: list[Stmt] = []
            if self.peek(depth) == "else:":
                self.at += 1
                otherwise = self.block(depth + 1)
            return If(condition, body, otherwise)
        if match := _ALLOC.match(line):
            self.at += 1
            return Alloc(self.buffer(match["buffer"]))
        if match := _PREFETCH.match(line):
            parser = self.parser(match["place"])
            buffer: Buffer = parser.tensor(parser.take()[1])
            indices, _ = parser.indices()
            parser.end()
            self.at += 1
            return Prefetch(buffer, indices)
        if match := _TILES.match(line):
            return self.tiles(match)
        if _STORE.match(line):
            return self.store(line)
        if match := _LET.match(line):
            value = self.expression(match["value"])
            self.at += 1
            return Let(self.declare(match["name"]), value)
        raise self.error("unknown statement")

    def loop(self, match: re.Match[str], depth: int) -> For:
        kind = match["kind"] or "serial"
        if kind not in KINDS:
            raise self.error(f"unknown kind of loop {kind}")
        self.at += 1
        outer = dict(self.variables)
        var = self.declare(match["name"])
        body = self.block(depth + 1)
        self.variables = outer
        return For(var, parse_dim(match["extent"]), kind, body)

    def declare(self, name: str) -> Var:
        self.variables[name] = Var(name, i64)
        return self.variables[name]

    def store(self, line: str) -> Store:
        parser = self.parser(line)
        buffer: Buffer = parser.tensor(parser.take()[1])
        indices, _ = parser.indices()
        parser.expect("=")
        value = parser.expression()
        parser.end()
        self.at += 1
        return Store(buffer, indices, value)

    def tiles(self, match: re.Match[str]) -> TileProduct:
        parser = self.parser(match["places"])

        def place() -> tuple[Buffer, tuple[Expr, Expr]]:
            buffer: Buffer = parser.tensor(parser.take()[1])
            indices, _ = parser.indices()
            if len(indices) != 2:
                raise parser.error("a tile has two indices")
            return buffer, (indices[0], indices[1])

        sums = place()
        parser.expect(",")
        a = place()
        parser.expect(",")
        b = place()
        parser.end()
        self.at += 1
        rows, columns, steps = (int(match[name]) for name in ("rows", "columns", "steps"))
        return TileProduct(*sums, *a, *b, rows, columns, steps,
                           match["start"] == "first")

    def expression(self, text: str) -> Expr:
        parser = self.parser(text)
        result = parser.expression()
        parser.end()
        return result

    def parser(self, text: str) -> _Expressions:
        return _Expressions(text, self.buffers, self.variables, f"loop text, line {self.at + 1}")


def _numbers(text: str) -> Shape:
    return tuple(parse_dim(part) for part in text.split(",") if part)
