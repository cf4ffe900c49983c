"""Tokenizer of com.microsoft: texts cut into words, as scikit-learn's text pipelines need it."""

import re

import numpy as np

from bessemer.core.errors import ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_kind, fresh_dim

_START, _END = "\x02", "\x03"
_TEXTS = np.array(["the cat, the mat", "", "a dog"], object)

@operator("com.microsoft.Tokenizer")
class Tokenizer(Operator):
    """The words of each text, in a row of their own; shorter rows are filled with `pad_value`.

    Words are what matches the pattern `tokenexp`, or what lies between matches of the patterns
    `separators`, tried one after the other; one empty separator makes every character a word.
    Words of fewer than `mincharnum` characters are dropped; `mark` puts a start and an end mark
    around the rest, where there is any word at all. Patterns are those of Python: alternatives are
    tried from the left, where ONNX Runtime takes the longest. It runs on the host.
    Shapes: x [n] or [b, n] -> y [n, most] or [b, n, most].
    Source: com.microsoft Tokenizer-1.
    """

    mark: int = 0
    mincharnum: int = 1
    pad_value: str = "#"
    separators: tuple[str, ...] = ()
    tokenexp: str = ""

    def infer(self, x: TensorType) -> TensorType:
        check_kind(self, x, "string")
        if bool(self.separators) == bool(self.tokenexp):
            raise ShapeError("Tokenizer needs either separators or tokenexp")
        if self.mincharnum < 1:
            raise ShapeError(f"mincharnum is {self.mincharnum}; 1 or more expected")
        for pattern in (*self.separators, self.tokenexp):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ShapeError(f"{pattern!r} is no regular expression: {error}") from error
        if x.shape is None:
            return x
        if x.rank not in (1, 2):
            raise ShapeError(f"x has rank {x.rank}; 1 or 2 expected")
        return x.with_shape((*x.dims, fresh_dim(self)))

    def reference(self, x: Array) -> Array:
        rows = [self._words(str(text)) for text in x.reshape(-1)]
        if self.mark and any(rows):
            rows = [[_START, *row, _END] for row in rows]
        most = max(map(len, rows), default=0)
        made: Array = np.full((len(rows), most), self.pad_value, object)
        for row, words in zip(made, rows, strict=True):
            row[: len(words)] = words
        return made.reshape(*x.shape, most)

    def _words(self, text: str) -> list[str]:
        if self.tokenexp:
            words = [found.group(0) for found in re.finditer(self.tokenexp, text)]
        elif self.separators == ("",):
            words = list(text)
        else:
            words = [text]
            for pattern in self.separators:
                words = [part for word in words for part in _split(pattern, word)]
        return [word for word in words if len(word) >= self.mincharnum]

    samples = (
        sample(_TEXTS, separators=(" ", ",")),
        sample(_TEXTS[None], tokenexp="[a-z]+", mincharnum=2, mark=1),
        sample(_TEXTS, separators=("",), pad_value=""),
        sample(_TEXTS[:0], tokenexp="x"),
    )

def _split(pattern: str, text: str) -> list[str]:
    """The parts of a text between the matches of a pattern."""
    parts, start = [], 0
    for found in re.finditer(pattern, text):
        parts.append(text[start : found.start()])
        start = found.end()
    return [*parts, text[start:]]
