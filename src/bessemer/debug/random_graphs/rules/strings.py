"""Operators on text, and the general ones on tensors of strings."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import MICROSOFT, onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value

_PATTERNS = ("[a-z]+", ".*", "", "[^,]*,.*", "(?i)monday", r"-?\d+(\.\d+)?", "a|b", ".")


@rule("StringConcat", weight=0.6)
def joined(maker: Maker) -> None:
    """Element by element, with broadcasting."""
    a = maker.pick("string", (0, 3))
    maker.emit("StringConcat", [a, maker.partner(a)])


@rule("StringNormalizer", weight=0.5)
def normalised(maker: Maker) -> None:
    """Stop words and case."""
    x = maker.pick(
        "string", where=lambda v: v.rank == 1 or (v.rank == 2 and v.shape[0] == 1), new=0.3
    )
    if not x.data.size:
        raise Reject
    attributes: dict[str, Any] = {
        "locale": "C",
        "case_change_action": maker.choose("NONE", "LOWER", "UPPER"),
        "is_case_sensitive": maker.integer(0, 1),
    }
    if maker.chance(0.7):
        attributes["stopwords"] = maker.choose(["monday"], ["a", "MONDAY"], ["", "b"])
    maker.emit("StringNormalizer", [x], **attributes)


@rule("StringSplit", weight=0.5)
def split(maker: Maker) -> None:
    """At white space or a separator, at most so often."""
    x = maker.pick("string", (0, 3))
    if not x.data.size:
        raise Reject
    maker.emit(
        "StringSplit",
        [x],
        outputs=2,
        delimiter=maker.choose(None, "", ",", ".", "on"),
        maxsplit=maker.choose(None, None, 1, 2),
    )


@rule("RegexFullMatch", weight=0.4)
def matched(maker: Maker) -> None:
    """Whether all of an element fits a pattern."""
    maker.emit(
        "RegexFullMatch", [maker.pick("string", (0, 3))], pattern=maker.random.choice(_PATTERNS)
    )


@rule("text-Cast", weight=0.8)
def cast(maker: Maker) -> None:
    """Numbers to text, and text that means numbers back."""
    if maker.chance(0.5):
        x = maker.pick(("f32", "f64", "i32", "i64", "u8", "bool", "f16"), (0, 4))
        maker.emit("Cast", [x], to=onnx_dtype("string"))
        return
    numbers = ("0", "1", "-1", "25", "-2.5", "3.25e2", "1e-3", "-0.0", "NaN", "INF", "-INF")
    to = maker.choose("f32", "f64", "i64", "i32", "f16")
    known = numbers[:4] if to[0] == "i" else numbers if maker.hard else numbers[:8]
    shape = maker.choose([], [3], [2, 3])
    data = np.asarray(
        np.random.default_rng(maker.integer(0, 999)).choice(np.array(known, object), shape), object
    )
    maker.emit("Cast", [maker.given(data)], to=onnx_dtype(to))


@rule("text-Equal", "text-Where", weight=0.4)
def chosen(maker: Maker) -> None:
    """Comparisons of strings, and choices between them."""
    a = maker.pick("string", (0, 4))
    b = maker.partner(a)
    if maker.chance(0.5):
        maker.emit("Equal", [a, b])
    else:
        maker.emit("Where", [maker.partner(a, "bool"), a, b])


def _indices(maker: Maker, shape: tuple[int, ...] | list[int], extent: int) -> Value:
    if not extent:
        raise Reject
    return maker.fresh("i64", shape, low=-extent, high=extent - 1)


def _gather(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    axis = maker.axis(x.rank)
    return [x, _indices(maker, maker.choose([], [2], [2, 2]), x.shape[axis])], {"axis": axis}


def _gather_elements(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    axis = maker.axis(x.rank)
    return [x, _indices(maker, x.shape, x.shape[axis])], {"axis": axis}


def _scatter(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    axis = maker.axis(x.rank)
    order = np.argsort(np.random.default_rng(maker.counter).random(x.shape), axis=axis)
    return [x, maker.given(order), maker.fresh("string", x.shape)], {"axis": axis}


def _concat(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x, maker.fresh("string", x.shape), x], {"axis": maker.axis(x.rank)}


def _transpose(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x], {"perm": maker.random.sample(range(x.rank), x.rank)}


def _reshape(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x, maker.ints([-1] if x.data.size else [0])], {}


def _expand(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x, maker.ints([maker.integer(1, 3), *x.shape], open_=0.3)], {}


def _tile(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x, maker.ints([maker.integer(1, 2) for _ in x.shape], open_=0.3)], {}


def _slice(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    axis = maker.axis(x.rank)
    parts: list[Array] = [
        np.asarray([maker.integer(-2, 1)]),
        np.asarray([maker.integer(-2, 5)]),
        np.asarray([axis]),
        np.asarray([maker.choose(1, 2, -1)]),
    ]
    return [x, *(maker.given(part, True) for part in parts)], {}


def _squeeze(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [maker.emit("Unsqueeze", [x, maker.ints([0])])[0], maker.ints([0])], {}


def _compress(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    axis = maker.axis(x.rank)
    return [x, maker.fresh("bool", [x.shape[axis]])], {"axis": axis}


def _plain(maker: Maker, x: Value) -> tuple[list[Value], dict[str, Any]]:
    return [x], {}


_MOVES = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "ScatterElements": _scatter,
    "Concat": _concat,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Expand": _expand,
    "Tile": _tile,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Compress": _compress,
    "Identity": _plain,
    "Flatten": _plain,
    "Shape": _plain,
    "Size": _plain,
    "Unique": _plain,
}


@rule("text-movement", weight=2.0)
def moved(maker: Maker) -> None:
    """Strings taken, joined, turned and repeated."""
    x = maker.pick("string", (1, 4))
    op = maker.random.choice(sorted(_MOVES))
    inputs, attributes = _MOVES[op](maker, x)
    maker.emit(op, inputs, outputs=4 if op == "Unique" else 1, **attributes)


@rule("text-TfIdfVectorizer", weight=0.3)
def counted(maker: Maker) -> None:
    """How often words and pairs of words occur."""
    x = maker.pick("string", (1, 2))
    if not x.data.size:
        raise Reject
    maker.emit(
        "TfIdfVectorizer",
        [x],
        max_gram_length=maker.integer(1, 2),
        min_gram_length=1,
        max_skip_count=maker.integer(0, 1),
        mode=maker.choose("TF", "IDF", "TFIDF"),
        ngram_counts=[0, 3],
        ngram_indexes=[0, 1, 2, 3],
        pool_strings=["a", "b", "monday", "a", "b"],
        weights=maker.choose(None, [0.5, 1.0, 2.0, 0.25]),
    )


@rule("Tokenizer", weight=0.3)
def tokens(maker: Maker) -> None:
    """Com.microsoft: words between separators, padded to the longest row."""
    x = maker.pick("string", (1, 2))
    if not x.data.size:
        raise Reject
    form = maker.choose(
        {"separators": [" "]},
        {"separators": [",", "."]},
        {"tokenexp": "[a-z]+"},
        {"separators": [""]},
    )
    maker.emit(
        f"{MICROSOFT}.Tokenizer", [x],
        mark=maker.integer(0, 1),
        mincharnum=1,
        pad_value="#",
        **form,
    )
