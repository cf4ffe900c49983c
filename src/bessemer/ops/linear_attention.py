"""Attention variants: LinearAttention, a recurrence; FlexAttention, with graphs inside."""

import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, f64
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import narrow, wide, widen
from bessemer.ops.attention import heads_shape
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array, extent
from bessemer.ops.elementwise import own_index
from bessemer.ops.softmax import softmax_array
from bessemer.te import Expr, Tensor

_MOST_STEPS = 16

_RULES = ("linear", "gated", "delta", "gated_delta")


@operator("LinearAttention")
class LinearAttention(Operator):
    """Attention as a recurrence over a state matrix per head.

    Each step optionally decays the state, corrects the value by what the state already gives for
    the key (delta rules), adds key * value, and reads the state with the query.
    Shapes: q [b, t, hq * d], k [b, t, hkv * d], v [b, t, hkv * e], past [b, hkv, d, e],
    decay [b, t, hkv * d or hkv], beta [b, t, hkv or 1] -> y [b, t, hq * e], state [b, hkv, d, e].
    Source: ONNX LinearAttention-27.
    """

    chunk_size: int = 64
    kv_num_heads: int = 1
    q_num_heads: int = 1
    scale: float = 0.0
    update_rule: str = "gated_delta"

    fusion = FusionClass.REDUCTION

    def infer(
        self, q: TensorType, k: TensorType, v: TensorType, past: TensorType | None = None,
        decay: TensorType | None = None, beta: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        if self.update_rule not in _RULES:
            raise ShapeError(f"update_rule {self.update_rule!r} is not one of {', '.join(_RULES)}")
        if "gated" in self.update_rule and decay is None:
            raise ShapeError(f"update_rule {self.update_rule} needs decay")
        if "delta" in self.update_rule and beta is None:
            raise ShapeError(f"update_rule {self.update_rule} needs beta")
        state = past.dtype if past is not None else q.dtype
        if q.shape is None or k.shape is None or v.shape is None:
            return q.with_shape(None), TensorType(state, None)
        batch, heads, length, size = heads_shape(q.dims, self.q_num_heads)
        shared, key_size = heads_shape(k.dims, self.kv_num_heads)[1::2]
        value_size: Dim = heads_shape(v.dims, self.kv_num_heads)[3]
        same_dim("head sizes of q and k", size, key_size)
        if self.q_num_heads % self.kv_num_heads:
            raise ShapeError(f"{heads} query heads cannot share {shared} key heads")
        y = q.with_shape((batch, length, heads * value_size))
        return y, TensorType(state, (batch, shared, size, value_size))

    def reference(
        self, q: Array, k: Array, v: Array, past: Array | None = None, decay: Array | None = None,
        beta: Array | None = None,
    ) -> tuple[Array, Array]:
        batch, length = q.shape[:2]
        heads, shared = self.q_num_heads, self.kv_num_heads
        query = widen(q).reshape(batch, length, shared, heads // shared, -1)
        key, value = (widen(x).reshape(batch, length, shared, -1) for x in (k, v))
        scale = self.scale or 1.0 / math.sqrt(query.shape[-1])
        shape = (batch, shared, key.shape[-1], value.shape[-1])
        state = np.zeros(shape, query.dtype) if past is None else widen(past)
        y = np.zeros((batch, length, shared, heads // shared, value.shape[-1]), query.dtype)
        for t in range(length):
            if "gated" in self.update_rule and decay is not None:
                rate = np.exp(widen(decay)[:, t].reshape(batch, shared, -1))
                state = state * rate[..., None]
            change = value[:, t]
            if "delta" in self.update_rule and beta is not None:
                known = np.einsum("bhde,bhd->bhe", state, key[:, t])
                change = (change - known) * widen(beta)[:, t].reshape(batch, -1, 1)
            state = state + key[:, t][..., None] * change[..., None, :]
            y[:, t] = np.einsum("bhgd,bhde->bhge", query[:, t], state) * scale
        kept = past.dtype if past is not None else q.dtype
        return narrow(y.reshape(batch, length, -1), q.dtype), narrow(state, kept)

    def lower(
        self, q: Tensor, k: Tensor, v: Tensor, past: Tensor | None = None,
        decay: Tensor | None = None, beta: Tensor | None = None, *, types: Any = (), **_: Any,
    ) -> tuple[Tensor, Tensor]:
        length = extent(q.shape[1])
        if not 0 < length <= _MOST_STEPS:
            raise Unlowerable(f"LinearAttention of {length} steps, {_MOST_STEPS} are unrolled")
        dtype, shape = wide(q.dtype), types[1].dims
        size, width = extent(shape[2]), extent(shape[3])
        states: list[Tensor] = []
        state = te.compute(dtype, shape, lambda *i: te.const(0, dtype) if past is None else te.cast(
            past[i], dtype), "state")
        for t in range(length):
            state = self._step(state, t, k, v, decay, beta)
            states.append(state)
        share = self.q_num_heads // self.kv_num_heads
        scale = self.scale or 1.0 / math.sqrt(size)

        def read(t: int) -> Tensor:
            d = te.reduce_axis(size, "d")

            def body(b: Expr, h: Expr, e: Expr) -> Expr:
                query = te.cast(q[b, t, h * size + d], dtype)
                return te.sum_(query * states[t][b, h // share, d, e], d)

            return te.compute(dtype, (shape[0], self.q_num_heads, width), body, "read")

        reads = [read(t) for t in range(length)]

        def y(b: Expr, s: Expr, c: Expr) -> Expr:
            place = (b, c // width, c % width)
            result = reads[-1][place]
            for t in reversed(range(length - 1)):
                result = te.where(te.equal(s, t), reads[t][place], result)
            return te.cast(result * scale, q.dtype)

        kept = te.compute(types[1].dtype, shape, lambda *i: te.cast(state[i], types[1].dtype),
                          "kept")
        return te.compute(q.dtype, types[0].dims, y, "y"), kept

    def _step(
        self, state: Tensor, t: int, k: Tensor, v: Tensor, decay: Tensor | None,
        beta: Tensor | None,
    ) -> Tensor:
        """The state after step t."""
        dtype, (size, width) = state.dtype, map(extent, state.shape[2:])

        def decayed(b: Expr, h: Expr, d: Expr, e: Expr) -> Expr:
            if "gated" not in self.update_rule or decay is None:
                return state[b, h, d, e]
            single = decay.shape[2] == self.kv_num_heads and size != 1
            rate = decay[b, t, h if single else h * size + d]
            return state[b, h, d, e] * te.exp(te.cast(rate, dtype))

        old = te.compute(dtype, state.shape, decayed, "decayed")

        def key(b: Expr, h: Expr, d: Expr) -> Expr:
            return te.cast(k[b, t, h * size + d], dtype)

        d = te.reduce_axis(size, "d")
        known = te.compute(dtype, (*state.shape[:2], width),
                           lambda b, h, e: te.sum_(old[b, h, d, e] * key(b, h, d), d), "known")

        def body(b: Expr, h: Expr, d: Expr, e: Expr) -> Expr:
            change = te.cast(v[b, t, h * width + e], dtype)
            if "delta" in self.update_rule and beta is not None:
                weight = beta[b, t, own_index(h, beta.shape[2])]
                change = (change - known[b, h, e]) * te.cast(weight, dtype)
            return old[b, h, d, e] + key(b, h, d) * change

        return te.compute(dtype, state.shape, body, "state")

    samples = (
        sample("f16[1,5,6]", "f16[1,5,3]", "f16[1,5,5]", "f32[1,1,3,5]", "f16[1,5,1]",
               "f16[1,5,1]", q_num_heads=2, low=-1, high=0.5, outputs=2),
        sample(
            "f32[2,3,8]", "f32[2,3,4]", "f32[2,3,6]", "f32[2,2,2,3]", "f32[2,3,4]", "f32[2,3,2]",
            q_num_heads=4, kv_num_heads=2, low=-1, high=1, outputs=2,
        ),
        sample("f32[1,4,6]", "f32[1,4,6]", "f32[1,4,4]", update_rule="linear", q_num_heads=2,
               kv_num_heads=2, outputs=2),
        sample(
            "f32[1,4,6]", "f32[1,4,6]", "f32[1,4,4]", None, "f32[1,4,2]", update_rule="gated",
            q_num_heads=2, kv_num_heads=2, low=-1, high=0, outputs=2, scale=0.5,
        ),
        sample(
            "f32[1,4,6]", "f32[1,4,6]", "f32[1,4,4]", None, None, "f32[1,4,1]",
            update_rule="delta", q_num_heads=2, kv_num_heads=2, low=-1, high=1, outputs=2,
        ),
    )


@operator("ai.onnx.preview.FlexAttention")
class FlexAttention(Operator):
    """Attention whose scores and probabilities graphs may change.

    Shapes: q [b, hq, s, d], k [b, hkv, t, d], v [b, hkv, t, e], captured values -> y [b, hq, s, e].
    Source: ai.onnx.preview FlexAttention-1.
    """

    prob_mod: Graph | None = None
    scale: float | None = None
    score_mod: Graph | None = None
    softmax_precision: str = ""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("softmax_precision",)

    def subgraphs(self) -> dict[str, Any]:
        pairs = {"prob_mod": self.prob_mod, "score_mod": self.score_mod}
        return {name: graph for name, graph in pairs.items() if graph is not None}

    def infer(self, q: TensorType, k: TensorType, v: TensorType, *_: Any) -> TensorType:
        if q.shape is None or k.shape is None or v.shape is None:
            return q.with_shape(None)
        if (q.rank, k.rank, v.rank) != (4, 4, 4):
            raise ShapeError(f"ranks {q.rank}, {k.rank}, {v.rank}; 4 expected")
        same_dim("head sizes of q and k", q.dims[3], k.dims[3])
        same_dim("lengths of k and v", k.dims[2], v.dims[2])
        return q.with_shape((*q.dims[:3], v.dims[3]))

    def reference(self, q: Array, k: Array, v: Array, *captured: Any) -> Array:
        dtype = wide(TensorType.of(q, False).dtype)
        stage = DTYPES[self.softmax_precision] if self.softmax_precision else dtype
        if not self.softmax_precision and dtype != f64:
            stage = DTYPES["f32"]
        share = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(widen(x), share, axis=1) for x in (k, v))
        scale = self.scale if self.scale is not None else 1.0 / math.sqrt(q.shape[3])
        scores = narrow((widen(q) @ keys.transpose(0, 1, 3, 2)) * scale, stage.numpy)
        if self.score_mod is not None:
            (scores,) = run_graph(self.score_mod, [scores, *captured])
        weights = narrow(softmax_array(widen(scores), -1), stage.numpy)
        if self.prob_mod is not None:
            (weights,) = run_graph(self.prob_mod, [weights, *captured])
        return narrow(widen(weights) @ values, q.dtype)

    samples = (
        sample("f32[1,4,3,5]", "f32[1,2,6,5]", "f32[1,2,6,2]"),
        sample("f16[1,2,3,4]", "f16[1,2,3,4]", "f16[1,2,3,4]", scale=0.25),
    )
