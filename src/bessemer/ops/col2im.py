"""Col2Im: columns of image blocks summed back into an image."""

import math
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Shape
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    check_extent,
    constant_ints,
    fresh_dim,
    known_dims,
)
from bessemer.ops.elementwise import known_of
from bessemer.ops.reshape import ints


@operator("Col2Im")
class Col2Im(Operator):
    """Sums columns of image blocks back into an image: the reverse of cutting windows out.

    Shapes: x [n, c * product(block), windows], image_shape [d], block_shape [d] -> y [n, c, image].
    Source: ONNX Col2Im-18.
    """

    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    form_inputs: ClassVar[tuple[int, ...]] = (1, 2)
    fusion = FusionClass.REDUCTION
    samples = (
        sample("f32[1,5,5]", ints(5, 5), ints(1, 5)),
        sample("f32[2,8,9]", ints(4, 4), ints(2, 2)),
        sample("f32[1,9,4]", ints(5, 5), ints(3, 3), strides=(2, 2)),
        sample("f32[1,5,15]", ints(5, 5), ints(1, 5), pads=(0, 1, 0, 1)),
        sample("f32[1,4,5]", ints(6, 6), ints(2, 2), dilations=(1, 5)),
        sample("f32[1,6,27]", ints(3, 4, 3), ints(1, 2, 3), pads=(0, 0, 1, 0, 0, 1)),
        sample("f32[1,10,6]", ints(7), ints(2)),
        sample("f32[0,4,4]", ints(3, 3), ints(2, 2)),
    )

    def window(self, image: tuple[int, ...], block: tuple[int, ...]) -> tuple[Any, ...]:
        """Dilations, pads in front, strides and window counts, spelled out."""
        rank = len(image)
        dilations, strides = self.dilations or (1,) * rank, self.strides or (1,) * rank
        pads = self.pads or (0,) * (2 * rank)
        counts = tuple(
            (image[k] + pads[k] + pads[k + rank] - dilations[k] * (block[k] - 1) - 1) // strides[k]
            + 1
            for k in range(rank)
        )
        return dilations, pads[:rank], strides, counts

    def infer(self, x: TensorType, image: TensorType, block: TensorType) -> TensorType:
        extents, kernel = known_dims(image), known_dims(block)
        if x.shape is None or extents is None:
            return TensorType(x.dtype, None)
        if x.rank != 3:
            raise ShapeError(f"Col2Im needs a tensor of rank 3, got {x}")
        if kernel is not None and len(kernel) != len(extents):
            raise ShapeError(f"Col2Im needs a block of {len(extents)} extents, got {kernel}")
        channels = fresh_dim(self) if kernel is None else x.dims[1]
        self._check_columns(x, extents, kernel)
        for dim in kernel or ():
            channels = channels // dim
        return TensorType(x.dtype, (x.dims[0], channels, *extents))

    def _check_columns(self, x: TensorType, image: Shape, block: Shape | None) -> None:
        sizes = [dim for dim in image if isinstance(dim, int)]
        kernel = [dim for dim in block or () if isinstance(dim, int)]
        if block is None or len(sizes) < len(image) or len(kernel) < len(block):
            return
        counts = self.window(tuple(sizes), tuple(kernel))[3]
        check_extent(self, "the count of columns", x.dims[2], math.prod(counts))
        if isinstance(x.dims[1], int):
            check_extent(self, "rows over blocks, the rest", x.dims[1] % math.prod(kernel), 0)

    def reference(self, x: Array, image: Array, block: Array) -> Array:
        extents, kernel = tuple(map(int, image)), tuple(map(int, block))
        dilations, pads, strides, counts = self.window(extents, kernel)
        columns = x.reshape(x.shape[0], x.shape[1] // math.prod(kernel), *kernel, *counts)
        y = np.zeros((*columns.shape[:2], *extents), x.dtype)
        for offset in np.ndindex(*kernel):
            for place in np.ndindex(*counts):
                at = [
                    p * s - b + k * d
                    for p, s, b, k, d in zip(place, strides, pads, offset, dilations)
                ]
                if all(0 <= index < size for index, size in zip(at, extents)):
                    y[(..., *at)] += columns[(slice(None), slice(None), *offset, *place)]
        return y

    def lower(
        self, x: te.Tensor, image: te.Tensor, block: te.Tensor, *, types: Any, **options: Any
    ) -> te.Tensor:
        known = known_of(options, 3)
        extents, kernel = constant_ints(known, 1, self), constant_ints(known, 2, self)
        dilations, pads, strides, counts = self.window(extents, kernel)
        axes = [te.reduce_axis(size) for size in kernel]

        def element(n: te.Expr, c: te.Expr, *i: te.Expr) -> te.Expr:
            channel, column, valid = c, te.index(0), te.const(True, te.equal(c, c).dtype)
            for k, axis in enumerate(axes):
                channel = channel * kernel[k] + axis
                reach = i[k] + pads[k] - axis * dilations[k]
                step = reach // strides[k]
                inside = te.equal(reach % strides[k], 0) & (step >= 0) & (step < counts[k])
                valid, column = valid & inside, column * counts[k] + step
            return te.sum_(te.where(valid, x.at(n, channel, column), te.const(0, x.dtype)), *axes)

        return te.compute(x.dtype, types[0].dims, element)
