"""Weights of a few bits per element with a scale per block: BlockMatMul and how they are packed.

A block of `block_size` elements lies in `block_size * bits / 8` bytes. Other systems put neighbours
into one byte; here byte j holds the elements j, j + width, j + 2 * width ..., so that a vector of
bytes gives vectors of neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32, i32, u8
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, narrow, rounded, wide, widen
from bessemer.ops.checks import check_floats, same_dim
from bessemer.ops.dims import Array, check_kind
from bessemer.te import Expr, Tensor


def unpack_bits(packed: Array, bits: int) -> Array:
    """The elements of bytes, the low bits first.

    Shapes: packed u8 [*, b] -> u8 [*, b * 8 / bits].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], packed.shape[-1] * (8 // bits))


def bits_of(packed: Expr, place: Expr, bits: int) -> Expr:
    """Element `place` of those in a byte, the low bits first, as i32."""
    if bits == 8:
        return te.cast(packed, i32)
    shift = te.cast(place * bits, i32)
    return (te.cast(packed, i32) >> shift) & te.const((1 << bits) - 1, i32)


def check_bits(bits: int) -> None:
    """Raises ShapeError unless a whole number of elements fits into a byte."""
    if bits not in (2, 4, 8):
        raise ShapeError(f"bits is {bits}; 2, 4 or 8 expected")


@operator("bessemer.UnpackBits")
class UnpackBits(Operator):
    """The elements of bytes, the low bits first. Shapes: x u8 [*, b] -> y u8 [*, b * 8 / bits]."""

    bits: int = 4

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        check_bits(self.bits)
        check_kind(self, x, "uint")
        if x.shape is None:
            return x.with_shape(None)
        return x.with_shape((*x.dims[:-1], x.dims[-1] * (8 // self.bits)))

    def reference(self, x: Array) -> Array:
        return unpack_bits(x, self.bits)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        per = 8 // self.bits

        def element(*i: Expr) -> Expr:
            return te.cast(bits_of(x[(*i[:-1], i[-1] // per)], i[-1] % per, self.bits), u8)

        return te.compute(u8, (*x.shape[:-1], x.shape[-1] * per), element, "unpacked")

    samples = (
        sample("u8[3,5]", high=255), sample("u8[7]", bits=2, high=255),
        sample("u8[2,3]", bits=8, high=255), sample("u8[0,3]"),
    )


@operator("bessemer.SpreadBits")
class SpreadBits(Operator):
    """Packs a block anew: from neighbours in one byte to neighbours in neighbouring bytes.

    Shapes: x u8 [*, b] -> y u8 [*, b], each row a block.
    """

    bits: int = 4

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        check_bits(self.bits)
        check_kind(self, x, "uint")
        return x.without_value()

    def reference(self, x: Array) -> Array:
        per = 8 // self.bits
        rows = unpack_bits(x, self.bits).reshape(*x.shape[:-1], per, x.shape[-1])
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)[:, None]
        return np.asarray(np.bitwise_or.reduce(rows << shifts, axis=-2, dtype=np.uint8))

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        per, width = 8 // self.bits, x.shape[-1]

        def element(*i: Expr) -> Expr:
            result: Expr | None = None
            for part in range(per):
                place = i[-1] + width * part
                one = bits_of(x[(*i[:-1], place // per)], place % per, self.bits)
                one = one << te.const(part * self.bits, i32)
                result = one if result is None else result | one
            assert result is not None
            return te.cast(result, u8)

        return te.compute(u8, x.shape, element, "spread")

    samples = (
        sample("u8[3,8]", high=255), sample("u8[2,4]", bits=2, high=255),
        sample("u8[2,3]", bits=8, high=255),
    )


@dataclass(frozen=True)
class BlockWeights(Operator):
    """Base of operators over weights in blocks: their attributes, and a weight as a float.

    Shapes: weights u8 [n, blocks, block_size * bits / 8], scales [n, blocks], zero points u8 or
    float [n, blocks], or half the range if left out.
    """

    K: int
    N: int
    block_size: int
    bits: int = 4

    @property
    def per_byte(self) -> int:
        """How many elements a byte holds."""
        return 8 // self.bits

    def check_weights(
        self, weights: TensorType, scales: TensorType, zeros: TensorType | None
    ) -> None:
        """Raises ShapeError if the tensors do not have the shapes that the attributes say."""
        check_bits(self.bits)
        check_floats(scales)
        size = self.block_size
        if size < 16 or size & (size - 1):
            raise ShapeError(f"block_size is {size}; a power of two from 16 on expected")
        blocks = -(-self.K // size)
        width = size // self.per_byte
        for name, found, shape in (
            ("weights", weights, (self.N, blocks, width)), ("scales", scales, (self.N, blocks)),
            ("zero points", zeros, (self.N, blocks)),
        ):
            if found is not None and found.is_static and found.shape != shape:
                raise ShapeError(f"{name} are {found}; the shape {list(shape)} expected")

    def real(self, weights: Array, scales: Array, zeros: Array | None) -> Array:
        """The weights as f32 [n, k]."""
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)[:, None]
        parts = (weights[..., None, :] >> shifts) & np.uint8((1 << self.bits) - 1)
        elements = parts.reshape(*scales.shape, self.block_size).astype(np.float32)
        middle = np.float32(1 << (self.bits - 1))
        offset = middle if zeros is None else zeros.astype(np.float32)[..., None]
        values = (elements - offset) * scales.astype(np.float32)[..., None]
        return values.reshape(self.N, -1)[:, : self.K]

    def weight(
        self, n: Expr, block: Expr, part: Expr, byte: Expr, weights: Tensor, scales: Tensor,
        zeros: Tensor | None,
    ) -> Expr:
        """Weight `part * width + byte` of a block, as f32."""
        element = te.cast(bits_of(weights[n, block, byte], part, self.bits), f32)
        middle = te.const(1 << (self.bits - 1), f32)
        offset = middle if zeros is None else te.cast(zeros[n, block], f32)
        return (element - offset) * te.cast(scales[n, block], f32)


@operator("bessemer.DequantizeBlocks")
class DequantizeBlocks(BlockWeights):
    """The weights of BlockMatMul as a matrix of floats. Shapes: as there -> y f32 [k, n]."""

    fusion = FusionClass.INJECTIVE

    def infer(
        self, weights: TensorType, scales: TensorType, zeros: TensorType | None = None
    ) -> TensorType:
        self.check_weights(weights, scales, zeros)
        return TensorType(f32, (self.K, self.N))

    def reference(self, weights: Array, scales: Array, zeros: Array | None = None) -> Array:
        return np.ascontiguousarray(self.real(weights, scales, zeros).T)

    def lower(
        self, weights: Tensor, scales: Tensor, zeros: Tensor | None = None, **_: Any
    ) -> Tensor:
        size, width = self.block_size, self.block_size // self.per_byte

        def element(k: Expr, n: Expr) -> Expr:
            inside = k % size
            return self.weight(n, k // size, inside // width, inside % width, weights, scales,
                               zeros)

        return te.compute(f32, (self.K, self.N), element, "weights")

    samples = (
        sample("u8[5,3,8]", "f32[5,3]", K=40, N=5, block_size=16, high=255),
        sample("u8[5,1,32]", "f32[5,1]", "u8[5,1]", K=32, N=5, block_size=32, bits=8, high=255),
        sample("u8[5,3,4]", "f32[5,3]", "f32[5,3]", K=33, N=5, block_size=16, bits=2, high=255),
    )


@operator("bessemer.BlockMatMul")
class BlockMatMul(BlockWeights):
    """x times weights of 2, 4 or 8 bits: (element - zero point) * scale, one scale per block.

    Shapes: x [*, k], weights u8 [n, blocks, block_size * bits / 8] packed as above, scales and zero
    points [n, blocks] (half the range if left out) -> y [*, n].
    Source: ONNX Runtime's com.microsoft MatMulNBits-1, with another packing.
    """

    fusion = FusionClass.COMPLEX_OUT

    def infer(
        self, x: TensorType, weights: TensorType, scales: TensorType,
        zeros: TensorType | None = None,
    ) -> TensorType:
        check_floats(x)
        self.check_weights(weights, scales, zeros)
        if x.shape is None:
            return x.with_shape(None)
        same_dim("the last extent of x and K", x.dims[-1], self.K)
        return x.with_shape((*x.dims[:-1], self.N))

    def reference(
        self, x: Array, weights: Array, scales: Array, zeros: Array | None = None
    ) -> Array:
        wider = widen(x)
        return narrow(wider @ self.real(weights, scales, zeros).T.astype(wider.dtype), x.dtype)

    def lower(
        self, x: Tensor, weights: Tensor, scales: Tensor, zeros: Tensor | None = None, **_: Any
    ) -> Tensor:
        blocks, width = -(-self.K // self.block_size), self.block_size // self.per_byte
        fill = 0 if self.K % self.block_size else None  # what the last block has beyond K
        block = te.reduce_axis(blocks, "block")
        part, byte = te.reduce_axis(self.per_byte, "part"), te.reduce_axis(width, "byte")

        def body(*i: Expr) -> Expr:
            place = block * self.block_size + part * width + byte
            factor = load(x.at(*i[:-1], place, fill=fill))
            weight = self.weight(i[-1], block, part, byte, weights, scales, zeros)
            return te.sum_(factor * te.cast(weight, factor.dtype), block, byte, part)

        total = te.compute(wide(x.dtype), (*x.shape[:-1], self.N), body, "product")
        return rounded(total, x.dtype)

    samples = (
        sample("f32[3,40]", "u8[5,3,8]", "f32[5,3]", K=40, N=5, block_size=16, high=255),
        sample("f32[2,3,32]", "u8[5,1,16]", "f32[5,1]", "u8[5,1]", K=32, N=5, block_size=32,
               high=15),
        sample("f32[12,48]", "u8[5,3,16]", "f32[5,3]", "u8[5,3]", K=48, N=5, block_size=16, bits=8,
               high=255),
        sample("f32[1,33]", "u8[5,3,4]", "f32[5,3]", "u8[5,3]", K=33, N=5, block_size=16, bits=2,
               high=3),
        sample("f32[32]", "u8[5,2,8]", "f32[5,2]", "f32[5,2]", K=32, N=5, block_size=16, high=255),
        sample("f16[2,32]", "u8[3,2,8]", "f16[3,2]", K=32, N=3, block_size=16, high=1),
    )
