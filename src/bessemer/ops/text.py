"""Text: StringConcat, StringNormalizer, StringSplit, RegexFullMatch, TfIdfVectorizer."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import boolean, f32, i64, string
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.extents import broadcast_shapes
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, extent, fresh_dim
from bessemer.te import Expr, Tensor

_WORDS = np.array(["Monday", "tuesday", "monday", "a,b,c", " x  y "], object)


@operator("StringConcat")
class StringConcat(Operator):
    """Joins strings element by element, with broadcasting. Source: ONNX StringConcat-20."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.shape is None or b.shape is None:
            return TensorType(string, None)
        return TensorType(string, broadcast_shapes(a.shape, b.shape))

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(a.astype(object) + b.astype(object), object)

    samples = (
        sample("string[2,3]", "string[3]"), sample("string[]", "string[2]"),
        sample("string[0]", "string[1]"),
    )


@operator("StringNormalizer")
class StringNormalizer(Operator):
    """Removes stop words and changes case; one empty string if nothing is left.

    Shapes: x [c] or [1, c] -> y [k] or [1, k].
    Source: ONNX StringNormalizer-10.
    """

    case_change_action: str = "NONE"
    is_case_sensitive: int = 0
    locale: str = ""
    stopwords: tuple[str, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        if self.case_change_action not in ("NONE", "LOWER", "UPPER"):
            raise ShapeError(f"case_change_action is {self.case_change_action!r}")
        if x.shape is None:
            return x
        if x.rank not in (1, 2):
            raise ShapeError(f"x has rank {x.rank}; 1 or 2 expected")
        return x.with_shape((*x.dims[:-1], fresh_dim(self)))

    def _changed(self, word: str) -> str:
        if self.case_change_action == "LOWER":
            return word.lower()
        return word.upper() if self.case_change_action == "UPPER" else word

    def reference(self, x: Array) -> Array:
        if self.is_case_sensitive:
            kept = [word for word in x.reshape(-1) if word not in self.stopwords]
        else:
            dropped = {word.lower() for word in self.stopwords}
            kept = [word for word in x.reshape(-1) if word.lower() not in dropped]
        words = [self._changed(word) for word in kept] or [""]
        return np.asarray(words, object).reshape(*x.shape[:-1], len(words))

    samples = (
        sample(_WORDS, stopwords=("monday",), case_change_action="UPPER"),
        sample(_WORDS[None], stopwords=("monday",), is_case_sensitive=1),
        sample(_WORDS[:1], stopwords=("monday",), case_change_action="LOWER"),
    )


@operator("StringSplit")
class StringSplit(Operator):
    """Splits each string; shorter results are filled with empty strings.

    Shapes: x [*] -> parts [*, most], counts i64 [*].
    Source: ONNX StringSplit-20.
    """

    delimiter: str = ""
    maxsplit: int | None = None

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        if x.shape is None:
            return x.with_shape(None), TensorType(i64, None)
        return x.with_shape((*x.dims, fresh_dim(self))), TensorType(i64, x.shape)

    def reference(self, x: Array) -> tuple[Array, Array]:
        limit = -1 if self.maxsplit is None else self.maxsplit
        parts = [word.split(self.delimiter or None, limit) for word in x.reshape(-1)]
        counts = np.asarray([len(part) for part in parts], np.int64).reshape(x.shape)
        most = int(counts.max(initial=0))
        flat = [part + [""] * (most - len(part)) for part in parts]
        return np.asarray(flat, object).reshape(*x.shape, most), counts

    samples = (
        sample(_WORDS, outputs=2), sample(_WORDS, delimiter=",", maxsplit=1, outputs=2),
        sample(np.zeros((0, 2), object), outputs=2),
    )


@operator("RegexFullMatch")
class RegexFullMatch(Operator):
    """True where a whole string matches a pattern. Source: ONNX RegexFullMatch-20."""

    pattern: str = ""

    def infer(self, x: TensorType) -> TensorType:
        try:
            re.compile(self.pattern)
        except re.error as error:
            reason = f"pattern {self.pattern!r} is no regular expression: {error}"
            raise ShapeError(reason) from error
        return TensorType(boolean, x.shape)

    def reference(self, x: Array) -> Array:
        pattern = re.compile(self.pattern)
        flat = [pattern.fullmatch(word) is not None for word in x.reshape(-1)]
        return np.asarray(flat, bool).reshape(x.shape)

    samples = (sample(_WORDS, pattern="[Mm]onday"), sample("string[2,3]", pattern=r"\d"))


@operator("TfIdfVectorizer")
class TfIdfVectorizer(Operator):
    """Counts of n-grams (with skips) of a pool, optionally cut to 0/1 and weighted.

    Shapes: x [c] or [n, c] -> y f32 [m] or [n, m].
    Source: ONNX TfIdfVectorizer-9.
    """

    max_gram_length: int = 1
    max_skip_count: int = 0
    min_gram_length: int = 1
    mode: str = "TF"
    ngram_counts: tuple[int, ...] = ()
    ngram_indexes: tuple[int, ...] = ()
    pool_int64s: tuple[int, ...] = ()
    pool_strings: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        if self.mode not in ("TF", "IDF", "TFIDF"):
            raise ShapeError(f"mode is {self.mode!r}; TF, IDF or TFIDF expected")
        if not self.ngram_indexes:
            raise ShapeError("ngram_indexes is missing")
        if min(self.ngram_indexes) < 0:
            raise ShapeError(f"ngram_indexes has a negative column, {min(self.ngram_indexes)}")
        if len(self.weights) not in (0, len(self.ngram_indexes)):
            count = len(self.ngram_indexes)
            raise ShapeError(f"{len(self.weights)} weights for {count} ngram_indexes")
        if x.shape is None:
            return TensorType(f32, None)
        return TensorType(f32, (*x.dims[:-1], max(self.ngram_indexes) + 1))

    def _pool(self) -> dict[tuple[Any, ...], int]:
        """Each n-gram's number in the pool."""
        pool: Sequence[Any] = self.pool_strings or self.pool_int64s
        grams: dict[tuple[Any, ...], int] = {}
        starts = [*self.ngram_counts, len(pool)]
        for size, (start, end) in enumerate(itertools.pairwise(starts), 1):
            for place in range(start, end, size):
                grams[tuple(pool[place : place + size])] = len(grams)
        if len(grams) != len(self.ngram_indexes):
            raise InputError(f"{len(grams)} n-grams, but {len(self.ngram_indexes)} indexes")
        return grams

    def reference(self, x: Array) -> Array:
        pool = self._pool()
        rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
        result = np.zeros((len(rows), max(self.ngram_indexes) + 1), np.float32)
        for row, items in zip(result, rows.tolist(), strict=True):
            for number in self._matches(pool, items):
                row[self.ngram_indexes[number]] += 1
        if self.mode == "IDF":
            result = np.minimum(result, 1)
        if self.mode != "TF" and self.weights:
            factors = np.ones(result.shape[1], np.float32)
            factors[list(self.ngram_indexes)] = self.weights
            result = result * factors
        return result.reshape(*x.shape[:-1], -1)

    def _matches(self, pool: dict[tuple[Any, ...], int], items: list[Any]) -> list[int]:
        """Numbers of the pool's n-grams found, repeated as often as they occur."""
        found = []
        for size in range(self.min_gram_length, self.max_gram_length + 1):
            # A single item is the same whatever is skipped, so it counts once.
            for skip in range(self.max_skip_count + 1 if size > 1 else 1):
                step = skip + 1
                for start in range(len(items) - (size - 1) * step):
                    number = pool.get(tuple(items[start : start + (size - 1) * step + 1 : step]))
                    if number is not None:
                        found.append(number)
        return found

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        if not self.pool_int64s or not x.rank:
            raise Unlowerable("TfIdfVectorizer of strings, or of a scalar")
        if len(set(self.ngram_indexes)) < len(self.ngram_indexes):
            raise Unlowerable("TfIdfVectorizer whose n-grams share columns")
        grams, length = list(self._pool()), extent(x.shape[-1])
        columns, longest = max(self.ngram_indexes) + 1, max(map(len, grams))
        tokens = np.zeros((columns, longest), np.int64)
        # The size stays 0 where no n-gram of the wanted sizes has the column.
        sizes, factors = np.zeros(columns, np.int64), np.ones(columns, np.float32)
        for gram, column in zip(grams, self.ngram_indexes, strict=True):
            tokens[column, : len(gram)] = gram
            if self.min_gram_length <= len(gram) <= self.max_gram_length:
                sizes[column] = len(gram)
        if self.mode != "TF" and self.weights:
            factors[list(self.ngram_indexes)] = self.weights
        pool, size_of = te.table(tokens, "pool"), te.table(sizes, "sizes")
        start, skip = te.reduce_axis(length), te.reduce_axis(self.max_skip_count + 1)

        def matches(*i: Expr) -> Expr:
            size = size_of[i[-1]]
            step = skip + 1
            # A single item is the same whatever is skipped, so it counts once.
            hit = (size > 0) & (start + (size - 1) * step < length) & (
                (size > 1) | te.equal(skip, 0))
            for k in range(longest):
                item = te.index(x[(*i[:-1], te.minimum(start + k * step, length - 1))])
                hit = hit & (te.equal(item, pool[i[-1], k]) | (size <= k))
            return te.sum_(te.cast(hit, f32), start, skip)

        shape = (*x.shape[:-1], columns)
        counts = te.compute(f32, shape, matches, "counts")
        scale = te.table(factors, "factors")

        def body(*i: Expr) -> Expr:
            count = te.minimum(counts[i], 1.0) if self.mode == "IDF" else counts[i]
            return count * scale[i[-1]]

        return te.compute(f32, shape, body, "weighted")

    samples = (
        sample("i64[3,17]", max_gram_length=3, max_skip_count=2, min_gram_length=1, mode="IDF",
               ngram_counts=(0, 2, 6), ngram_indexes=(0, 3, 1, 4, 2, 6), low=0, high=2,
               pool_int64s=(0, 2, 1, 1, 0, 2, 0, 1, 2, 1, 1, 1),
               weights=(0.5, 2.0, 3.0, 4.0, 5.0, 0.25)),
        sample(
            np.array([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8], np.int32), max_gram_length=2,
            max_skip_count=5, min_gram_length=2, ngram_counts=(0, 4),
            ngram_indexes=(0, 1, 2, 3, 4, 5, 6), pool_int64s=(2, 3, 5, 4, 5, 6, 7, 8, 6, 7),
        ),
        sample(
            np.array([["a", "b", "a"], ["c", "a", "b"]], object), max_gram_length=2, mode="TFIDF",
            ngram_counts=(0, 2), ngram_indexes=(2, 0, 1), pool_strings=("a", "c", "a", "b"),
            weights=(0.5, 2.0, 3.0),
        ),
    )
