"""Tokens of the graph text form, and the error that points at a line."""

import json
import re
from dataclasses import dataclass

from bessemer.core.errors import ModelFormatError

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|//[^\n]*)
      | (?P<newline>\n)
      | (?P<value>[%@](?:"(?:[^"\\]|\\.)*"|[A-Za-z0-9_./$]+(?:[:-](?!>)[A-Za-z0-9_./$]+)*))
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<hash>\#[0-9a-f]*)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<name>\??[A-Za-z_][A-Za-z0-9_.$]*)
      | (?P<mark>->|//|\.\.\.|[-+*/%()\[\]{}<>,:=?])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A piece of text; `kind` is value, string, hash, number, name, mark or end."""

    kind: str
    text: str
    line: int


def tokenize(text: str) -> list[Token]:
    """The tokens of a text, then one of kind `end`.

    Raises: ModelFormatError naming the line of a character that fits no token.
    """
    tokens: list[Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        # `//` starts a comment only at the start of a line; inside it is floor division.
        if match is not None and match.group().startswith("//") and _line_begun(tokens, line):
            tokens.append(Token("mark", "//", line))
            position += 2
            continue
        if match is None:
            raise ModelFormatError(f"graph text, line {line}: unexpected {text[position]!r}")
        kind = match.lastgroup or ""
        if kind == "newline":
            line += 1
        elif kind != "space":
            tokens.append(Token(kind, match.group(), line))
        position = match.end()
    return [*tokens, Token("end", "", line)]


def _line_begun(tokens: list[Token], line: int) -> bool:
    return bool(tokens) and tokens[-1].line == line


class TokenReader:
    """Walks over tokens; every misfit is a ModelFormatError with its line."""

    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text)
        self._position = 0

    @property
    def next(self) -> Token:
        """The token to be read next."""
        return self._tokens[self._position]

    def take(self) -> Token:
        """Reads one token."""
        token = self.next
        if token.kind != "end":
            self._position += 1
        return token

    def accept(self, text: str) -> bool:
        """Reads the next token if it is that mark or name."""
        if self.next.text != text or self.next.kind not in ("mark", "name"):
            return False
        self.take()
        return True

    def expect(self, text: str) -> None:
        """Reads that mark or name. Raises: ModelFormatError if something else is there."""
        if not self.accept(text):
            raise self.error(f"expected {text!r}")

    def kind(self, kind: str) -> str:
        """Reads a token of that kind and gives its text."""
        if self.next.kind != kind:
            raise self.error(f"expected a {kind}")
        return self.take().text

    def string(self) -> str:
        """Reads a quoted string."""
        return unquote(self.kind("string"), self)

    def integer(self) -> int:
        """Reads an integer, which may be negative."""
        sign = -1 if self.accept("-") else 1
        text = self.kind("number")
        if not text.isdigit():
            raise self.error(f"expected an integer, found {text!r}")
        return sign * int(text)

    def error(self, what: str, at: Token | None = None) -> ModelFormatError:
        """The error to raise at this place, or at an earlier token."""
        token = at or self.next
        found = token.text or "the end"
        return ModelFormatError(f"graph text, line {token.line}: {what}, found {found!r}")


def unquote(text: str, reader: TokenReader) -> str:
    """The content of a quoted string."""
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise reader.error(f"bad string {text}") from error
