"""Tokenizer: words of texts, compared with what ONNX Runtime gives."""

import numpy as np
import pytest

from bessemer.core.errors import ShapeError
from bessemer.core.registry import OPERATORS
from bessemer.ir.types import TensorType

TEXTS = np.array(["the cat, the mat", "", "a dog"], object)


def tokens(x, **attributes):
    return OPERATORS.get("com.microsoft.Tokenizer")(**attributes).reference(x).tolist()


def test_separators():
    assert tokens(TEXTS, separators=(" ",)) == [
        ["the", "cat,", "the", "mat"], ["#"] * 4, ["a", "dog", "#", "#"]]
    assert tokens(TEXTS, separators=(" ", ","), mincharnum=4) == [[], [], []]
    assert tokens(TEXTS[2:], separators=(",?\\s",)) == [["a", "dog"]]
    assert tokens(TEXTS[2:], separators=("",)) == [["a", " ", "d", "o", "g"]]


def test_pattern_and_marks():
    assert tokens(TEXTS[None, :2], tokenexp="[a-z]+", mark=1, pad_value="") == [[
        ["\x02", "the", "cat", "the", "mat", "\x03"], ["\x02", "\x03", "", "", "", ""]]]
    assert tokens(TEXTS[1:2], tokenexp="[a-z]+", mark=1) == [[]]
    assert tokens(TEXTS[:0], tokenexp="[a-z]+", mark=1) == []


@pytest.mark.parametrize("attributes", [
    {}, {"separators": (" ",), "tokenexp": "x"}, {"tokenexp": "("},
    {"tokenexp": "x", "mincharnum": 0},
])  # fmt: skip
def test_misfits(attributes):
    with pytest.raises(ShapeError):
        OPERATORS.get("com.microsoft.Tokenizer")(**attributes).infer(TensorType.of(TEXTS))
