"""Scaled dot-product attention: masks, causal and windowed, grouped heads, caches, soft cap."""

import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, DType, i64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Shape, Sym, usual
from bessemer.ir.operator import FusionClass, Operator, Sample, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, wide, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.ops.matmul import batch_indices
from bessemer.te import Expr, Tensor


def heads_shape(shape: Shape, heads: int) -> Shape:
    """[b, h, s, d] of an input that is 4-D, or 3-D [b, s, h * d]. Raises ShapeError otherwise."""
    if len(shape) == 4:
        return shape
    if len(shape) != 3:
        raise ShapeError(f"rank {len(shape)}; 3 or 4 expected")
    if heads < 1:
        raise ShapeError("the numbers of heads must be given for inputs of rank 3")
    if isinstance(shape[2], int) and shape[2] % heads:
        raise ShapeError(f"hidden size {shape[2]} cannot be split into {heads} heads")
    return (shape[0], heads, shape[1], shape[2] // heads)


def split_heads(x: Array, heads: int) -> Array:
    """The array as [b, h, s, d]."""
    if x.ndim == 4:
        return x
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def head_element(x: Tensor, size: Dim, b: Expr, h: Expr, s: Expr, d: Expr) -> Expr:
    """Element [b, h, s, d] of a tensor of rank 4 or 3."""
    if x.rank == 4:
        return x[b, h, s, d]
    return x[b, s, h * te.index(size) + d]


@operator("Attention")
class Attention(Operator):
    """softmax(q k' * scale + bias) v; a row whose scores are all -inf gives zeros.

    Shapes: q [b, hq, s, d], k [b, hkv, t, d], v [b, hkv, t, e] (or rank 3: [b, s, h * d]), mask
    broadcastable to [b, hq, s, p + t], past k and v [b, hkv, p, d or e], nonpad_kv_seqlen [b] ->
    y like q with e, present k and v, scores [b, hq, s, p + t].
    Source: ONNX Attention-25.
    """

    is_causal: int = 0
    kv_num_heads: int = 0
    left_window_size: int = -1
    q_num_heads: int = 0
    qk_matmul_output_mode: int = 0
    right_window_size: int = -1
    scale: float | None = None
    softcap: float = 0.0
    softmax_precision: str = ""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("softmax_precision",)
    fusion = FusionClass.COMPLEX_OUT
    zero_empty_rows: ClassVar[bool] = True

    def _stage(self, dtype: DType) -> DType:
        """Type of scores and probabilities."""
        return wide(DTYPES[self.softmax_precision]) if self.softmax_precision else wide(dtype)

    def _scale(self, size: int) -> float:
        return self.scale if self.scale is not None else 1.0 / math.sqrt(size)

    def _scale_expr(self, size: Dim, dtype: DType) -> Expr:
        if isinstance(size, int) or self.scale is not None:
            return te.const(self._scale(usual(size)), dtype)
        return 1.0 / te.sqrt(te.lift(size, dtype))

    def infer(
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None,
        past_k: TensorType | None = None, past_v: TensorType | None = None,
        lengths: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        check_floats(v, past_v)
        check_floats(q, k, past_k)
        if self.qk_matmul_output_mode not in (0, 1, 2, 3):
            mode = self.qk_matmul_output_mode
            raise ShapeError(f"qk_matmul_output_mode is {mode}; 0 to 3 expected")
        if (past_k is None) != (past_v is None):
            raise ShapeError("past key and past value must be given together")
        if q.shape is None or k.shape is None or v.shape is None:
            return tuple(t.with_shape(None) for t in (q, k, v, q))
        batch, heads, rows, size = heads_shape(q.dims, self.q_num_heads)
        _, shared, new, key_size = heads_shape(k.dims, self.kv_num_heads)
        v_dims = heads_shape(v.dims, self.kv_num_heads)
        same_dim("head sizes of q and k", size, key_size)
        same_dim("lengths of k and v", new, v_dims[2])
        if isinstance(heads, int) and isinstance(shared, int) and heads % shared:
            raise ShapeError(f"{heads} query heads cannot share {shared} key heads")
        total: Dim = new
        if past_k is not None:
            if past_k.shape is None:
                return tuple(t.with_shape(None) for t in (q, k, v, q))
            total = past_k.dims[2] + new
        y = (batch, heads, rows, v_dims[3]) if q.rank == 4 else (batch, rows, heads * v_dims[3])
        return (
            q.with_shape(y), k.with_shape((batch, shared, total, size)),
            v.with_shape((batch, shared, total, v_dims[3])),
            q.with_shape((batch, heads, rows, total)),
        )

    def _allowed(self, i: Any, j: Any, offset: Any, length: Any) -> list[Any]:
        """Conditions under which query row `i` may attend to key `j` (arrays or expressions)."""
        place = i + offset
        tests = []
        if self.is_causal:
            tests.append(j <= place)
        if self.left_window_size >= 0:
            tests.append(j >= place - self.left_window_size)
        if self.right_window_size >= 0:
            tests.append(j <= place + self.right_window_size)
        if length is not None:
            tests.append(j < length)
        return tests

    def _biased_scores(
        self, scores: Array, mask: Array | None, past: int | None, lengths: Array | None
    ) -> Array:
        """Scores [b, h, s, t] with mask, causal bound, windows and lengths.

        The function body of ONNX adds -inf where a key is left out. Here the score is replaced,
        so that a key that must not be attended to cannot make a row NaN.
        """
        lowest = scores.dtype.type(-np.inf)
        rows, total = np.arange(scores.shape[2])[:, None], np.arange(scores.shape[3])
        known = lengths.reshape(-1, 1, 1, 1) if lengths is not None else None
        offset: Any = 0 if past is None else past
        if past is None and known is not None:
            offset = known - scores.shape[2]
        result = scores
        for test in self._allowed(rows, total, offset, known):
            result = np.where(test, result, lowest)
        if mask is None:
            return result
        missing = scores.shape[3] - mask.shape[-1] if mask.shape[-1] != 1 else 0
        pads = [(0, 0)] * (mask.ndim - 1) + [(0, max(missing, 0))]
        if mask.dtype == bool:
            return np.where(np.pad(mask, pads), result, lowest)
        given: Array = np.pad(mask.astype(scores.dtype), pads, constant_values=lowest)
        return result + given

    def reference(
        self, q: Array, k: Array, v: Array, mask: Array | None = None,
        past_k: Array | None = None, past_v: Array | None = None, lengths: Array | None = None,
    ) -> tuple[Array, ...]:
        stage = self._stage(TensorType.of(q, False).dtype).numpy
        query = split_heads(q, self.q_num_heads)
        key, value = (split_heads(x, self.kv_num_heads) for x in (k, v))
        past = None
        if past_k is not None and past_v is not None:
            past = past_k.shape[2]
            key = np.concatenate([past_k, key], axis=2)
            value = np.concatenate([past_v, value], axis=2)
        share = query.shape[1] // key.shape[1]
        keys, values = (np.repeat(widen(x), share, axis=1) for x in (key, value))
        scale = self._scale(query.shape[3])
        scores = (widen(query) @ keys.transpose(0, 1, 3, 2)) * widen(query).dtype.type(scale)
        debug = [scores]
        if self.softcap:
            scores = self.softcap * np.tanh(scores / self.softcap)
        debug.append(scores)
        scores = self._biased_scores(scores.astype(stage), mask, past, lengths)
        debug.append(scores)
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        guarded = np.isneginf(top) & self.zero_empty_rows
        with np.errstate(all="ignore"):
            exps = np.exp(scores - np.where(guarded, 0, top))
        total = exps.sum(axis=-1, keepdims=True)
        probabilities = exps / np.where(total == 0, 1, total)
        debug.append(probabilities)
        y = probabilities.astype(values.dtype) @ values
        if q.ndim == 3:
            y = y.transpose(0, 2, 1, 3).reshape(*q.shape[:2], -1)
        shown = debug[self.qk_matmul_output_mode]
        return narrow(y, q.dtype), key, value, narrow(shown, q.dtype)

    def lower(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None,
        past_k: Tensor | None = None, past_v: Tensor | None = None,
        lengths: Tensor | None = None, **_: Any,
    ) -> tuple[Tensor, ...]:
        batch, heads, rows, size = heads_shape(q.shape, self.q_num_heads)
        shared, new = heads_shape(k.shape, self.kv_num_heads)[1:3]
        value_size = heads_shape(v.shape, self.kv_num_heads)[3]
        past = past_k.shape[2] if past_k is not None else None
        key = _present(k, past_k, (batch, shared, new, size))
        value = _present(v, past_v, (batch, shared, new, value_size))
        share = heads // shared
        shape = (batch, heads, rows, key.shape[2])
        d = te.reduce_axis(size, "d")

        def product(b: Expr, h: Expr, s: Expr, t: Expr) -> Expr:
            left = load(head_element(q, size, b, h, s, d))
            return te.sum_(left * load(key[b, h // share, t, d]), d)

        products = te.compute(wide(q.dtype), shape, product, "scores")
        scale = self._scale_expr(size, products.dtype)

        def capped_at(i: tuple[Expr, ...]) -> Expr:
            scaled = products[i] * scale
            return self.softcap * te.tanh(scaled / self.softcap) if self.softcap else scaled

        stage = self._stage(q.dtype)

        def biased_body(*i: Expr) -> Expr:
            return self._biased(te.cast(capped_at(i), stage), i, shape, mask, past, lengths)

        biased = te.compute(stage, shape, biased_body, "biased")
        exps, total = _row_exps(biased, self.zero_empty_rows)
        y = self._weighted(q, value, exps, total, share)
        shown: Any = {
            0: lambda *i: products[i] * scale, 1: lambda *i: capped_at(i),
            2: lambda *i: biased[i], 3: lambda *i: exps[i] / _divisor(total[i[:-1]]),
        }[self.qk_matmul_output_mode]
        debug = te.compute(q.dtype, shape, lambda *i: te.cast(shown(*i), q.dtype), "qk")
        return y, key, value, debug

    def _biased(
        self, score: Expr, i: tuple[Expr, ...], shape: Shape, mask: Tensor | None,
        past: Dim | None, lengths: Tensor | None,
    ) -> Expr:
        """The score with mask, causal bound, windows and lengths applied."""
        lowest = te.const(-math.inf, score.dtype)
        length = te.cast(lengths[i[0]], i64) if lengths is not None else None
        offset: Any = 0 if past is None else past
        if past is None and length is not None:
            offset = length - te.index(shape[2])
        result = score
        for test in self._allowed(i[2], i[3], offset, length):
            result = te.where(test, result, lowest)
        if mask is None:
            return result
        place = (*batch_indices(i[:-1], mask.shape[:-1]), _key_of(i[3], mask.shape[-1], shape[3]))
        short = mask.shape[-1] != shape[3] and mask.shape[-1] != 1
        if mask.dtype.kind == "bool":
            fill = False if short else None
            return te.where(mask.at(*place, fill=fill), result, lowest)
        return result + te.cast(mask.at(*place, fill=-math.inf if short else None), result.dtype)

    def _weighted(self, q: Tensor, value: Tensor, weights: Tensor, total: Tensor, share: Dim
                  ) -> Tensor:
        """Sum over the keys of weight * value, over the sum of weights, in the layout of q."""
        batch, heads, rows, count = weights.shape
        size = value.shape[3]
        t = te.reduce_axis(count, "t")
        dtype = wide(q.dtype)

        def element(b: Expr, h: Expr, s: Expr, e: Expr) -> Expr:
            weight = te.cast(weights[b, h, s, t], dtype)
            return te.sum_(weight * te.cast(value[b, h // share, t, e], dtype), t)

        result = te.compute(dtype, (batch, heads, rows, size), element, "weighted")

        def scaled(b: Expr, h: Expr, s: Expr, e: Expr) -> Expr:
            factor = te.cast(1.0 / _divisor(total[b, h, s]), dtype)
            return te.cast(result[b, h, s, e] * factor, q.dtype)

        if q.rank == 4:
            return te.compute(q.dtype, result.shape, scaled, "y")
        return te.compute(
            q.dtype, (batch, rows, heads * size),
            lambda b, s, c: scaled(b, c // size, s, c % size), "y",
        )

    samples: ClassVar[tuple[Sample, ...]] = (
        sample("f32[2,3,4,8]", "f32[2,3,6,8]", "f32[2,3,6,5]"),
        sample("f32[1,2,5,4]", "f32[1,2,5,4]", "f32[1,2,5,4]", is_causal=1),
        sample("f32[1,4,3,4]", "f32[1,2,5,4]", "f32[1,2,5,4]", "f32[3,5]", softcap=2.0),
        sample("f32[1,2,3,4]", "f32[1,2,5,4]", "f32[1,2,5,4]", "bool[2,3,4]", scale=0.3),
        sample(
            "f32[1,3,8]", "f32[1,5,4]", "f32[1,5,6]", q_num_heads=4, kv_num_heads=2, outputs=4,
        ),
        sample(
            "f32[1,2,2,4]", "f32[1,2,2,4]", "f32[1,2,2,3]", None, "f32[1,2,3,4]", "f32[1,2,3,3]",
            is_causal=1, outputs=4, qk_matmul_output_mode=2,
        ),
        sample(
            "f32[2,2,3,4]", "f32[2,2,6,4]", "f32[2,2,6,4]", None, None, None, np.array([2, 5]),
            is_causal=1, outputs=4, qk_matmul_output_mode=3,
        ),
        sample(
            "f32[1,1,5,4]", "f32[1,1,5,4]", "f32[1,1,5,4]", left_window_size=1,
            right_window_size=2,
        ),
        sample("f16[1,2,3,4]", "f16[1,2,5,4]", "f16[1,2,5,4]", softmax_precision="f32"),
    )


@operator("bessemer.PlainAttention")
class PlainAttention(Attention):
    """Attention by Softmax as ONNX defines that: a row whose scores are all -inf gives NaN.

    Shapes: as Attention.
    """

    zero_empty_rows = False
    samples = (
        sample("f32[2,3,4,8]", "f32[2,3,6,8]", "f32[2,3,6,5]", np.array(
            [0, -np.inf, 0, 1, -np.inf, -np.inf], np.float32), scale=0.5),
        sample("f32[1,2,2,4]", "f32[1,2,2,4]", "f32[1,2,2,4]", np.array(
            [[0, -np.inf], [-np.inf, -np.inf]], np.float32)),
    )


def _key_of(t: Expr, length: Dim, total: Dim) -> Expr:
    """The place of key `t` in a mask of that length: its only one, or `t`, which may lie behind."""
    if length == 1:
        return te.index(0)
    if not isinstance(length, Sym) or length == total:
        return t
    return te.where(te.equal(te.index(length), 1), te.index(0), t)


def _present(new: Tensor, past: Tensor | None, shape: Shape) -> Tensor:
    """The past followed by the new keys or values, as [b, h, t, d]."""
    if past is None:
        if new.rank == 4:
            return new
        return te.compute(new.dtype, shape, lambda *i: head_element(new, shape[3], *i), "heads")
    start, given = past.shape[2], past

    def body(b: Expr, h: Expr, t: Expr, d: Expr) -> Expr:
        # Both sides are safe to read: the side not taken is clipped.
        old = given.at(b, h, te.minimum(t, te.maximum(te.index(start) - 1, 0)), d, fill=0)
        late = te.maximum(t - start, 0)
        return te.where(t < start, old, head_element(new, shape[3], b, h, late, d))

    return te.compute(new.dtype, (shape[0], shape[1], start + shape[2], shape[3]), body, "present")


def _row_exps(x: Tensor, zeros: bool) -> tuple[Tensor, Tensor]:
    """exp(x - max) along the last axis and its sums; a row of -inf gives zeros, or NaN."""
    k, j = te.reduce_axis(x.shape[-1]), te.reduce_axis(x.shape[-1])
    outer = x.shape[:-1]
    top = te.compute(x.dtype, outer, lambda *i: te.max_(x[(*i, k)], k), "rowmax")
    lowest = te.const(-math.inf, x.dtype)

    def exp_body(*i: Expr) -> Expr:
        shift = top[i[:-1]]
        return te.exp(x[i] - (te.where(te.equal(shift, lowest), 0.0, shift) if zeros else shift))

    exps = te.compute(x.dtype, x.shape, exp_body, "exps")
    return exps, te.compute(x.dtype, outer, lambda *i: te.sum_(exps[(*i, j)], j), "rowsum")


def _divisor(total: Expr) -> Expr:
    """A sum of weights to divide by: 1 for a row without any."""
    return te.where(te.equal(total, 0.0), 1.0, total)
