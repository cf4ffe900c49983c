"""RotaryEmbedding: positions as rotations of pairs of elements."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, widen
from bessemer.ops.attention import heads_shape, split_heads
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor


@operator("RotaryEmbedding")
class RotaryEmbedding(Operator):
    """Rotates pairs of elements of each head by an angle that depends on the position.

    A pair is (i, i + half) or, interleaved, (2 i, 2 i + 1), within the first
    `rotary_embedding_dim` elements; the rest stay.
    Shapes: x [b, h, s, d] or [b, s, h * d], cos and sin [positions, half] with position_ids [b, s],
    or [b, s, half] without -> y like x.
    Source: ONNX RotaryEmbedding-23.
    """

    interleaved: int = 0
    num_heads: int = 0
    rotary_embedding_dim: int = 0

    fusion = FusionClass.INJECTIVE

    def infer(
        self, x: TensorType, cos: TensorType, sin: TensorType, positions: TensorType | None = None
    ) -> TensorType:
        check_floats(x, cos, sin)
        if x.shape is None:
            return x
        size = heads_shape(x.dims, self.num_heads)[3]
        width = self.rotary_embedding_dim or size
        if isinstance(width, int) and width % 2:
            raise ShapeError(f"{width} rotated elements; an even number expected")
        for name, cache in (("cos", cos), ("sin", sin)):
            if cache.shape is None:
                continue
            expected = 3 if positions is None else 2
            if cache.rank != expected:
                raise ShapeError(f"{name} has rank {cache.rank}; {expected} expected")
            same_dim(f"half the rotated elements and {name}", width // 2, cache.dims[-1])
        return x.without_value()

    def reference(
        self, x: Array, cos: Array, sin: Array, positions: Array | None = None
    ) -> Array:
        heads = widen(split_heads(x, self.num_heads))
        width = self.rotary_embedding_dim or heads.shape[3]
        half = width // 2
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cosine, sine = widen(cos)[:, None], widen(sin)[:, None]
        first: Any = slice(0, width, 2) if self.interleaved else slice(0, half)
        second: Any = slice(1, width, 2) if self.interleaved else slice(half, width)
        result = heads.copy()
        a, b = heads[..., first], heads[..., second]
        result[..., first] = cosine * a - sine * b
        result[..., second] = sine * a + cosine * b
        if x.ndim == 3:
            result = result.transpose(0, 2, 1, 3).reshape(x.shape)
        return narrow(result, x.dtype)

    def lower(
        self, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None, **_: Any
    ) -> Tensor:
        size = heads_shape(x.shape, self.num_heads)[3]
        width = self.rotary_embedding_dim or size
        half = width // 2

        def body(*i: Expr) -> Expr:
            b, s = i[0], i[2] if x.rank == 4 else i[1]
            d = i[3] if x.rank == 4 else i[2] % size
            start = i[-1] - d
            if self.interleaved:
                pair, is_first = d // 2, te.equal(d % 2, 0)
                partner = te.where(is_first, d + 1, d - 1)
            else:
                pair, is_first = d % half, d < half
                partner = te.where(is_first, d + half, d - half)
            # Elements that are not rotated read a pair that exists and drop the result.
            pair, partner = te.minimum(pair, half - 1), te.minimum(partner, size - 1)
            row = (b, s) if positions is None else (te.index(positions[b, s]),)
            cosine, sine = load(cos[(*row, pair)]), load(sin[(*row, pair)])
            other = load(x[(*i[:-1], start + partner)])
            signed = te.where(is_first, -other, other)
            rotated = te.cast(cosine * load(x[i]) + sine * signed, x.dtype)
            return rotated if width == size else te.where(d < width, rotated, x[i])

        return te.compute(x.dtype, x.shape, body, "rotary")

    samples = (
        sample("f32[2,3,4,6]", "f32[9,3]", "f32[9,3]", np.array([[0, 1, 2, 3], [5, 6, 7, 8]])),
        sample("f32[2,4,12]", "f32[2,4,3]", "f32[2,4,3]", num_heads=2, interleaved=1),
        sample("f32[1,2,3,8]", "f32[1,3,2]", "f32[1,3,2]", rotary_embedding_dim=4),
        sample(
            "f32[1,2,3,8]", "f32[1,3,2]", "f32[1,3,2]", rotary_embedding_dim=4, interleaved=1
        ),
        sample("f16[1,2,3,4]", "f16[1,3,2]", "f16[1,3,2]"),
    )
