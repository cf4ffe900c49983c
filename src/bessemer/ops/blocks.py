"""Movement in blocks and triangles: DepthToSpace, Trilu, ReverseSequence, CenterCropPad ..."""

from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import (
    Array,
    check_choice,
    check_extent,
    check_extents,
    check_single,
    content_of,
    fresh_dim,
    known_dims,
    normalize_axes,
    normalize_axis,
)
from bessemer.ops.elementwise import known_of, scalar_operand
from bessemer.ops.reshape import ints


def _need_rank(op: Operator, data: TensorType, rank: int) -> None:
    if data.rank != rank:
        raise ShapeError(f"{op.op_name} needs a tensor of rank {rank}, got {data}")


def _checked_blocksize(op: "DepthToSpace | SpaceToDepth") -> int:
    if op.blocksize < 1:
        raise ShapeError(f"{op.op_name} needs a blocksize of at least 1, got {op.blocksize}")
    return op.blocksize


@operator("DepthToSpace")
class DepthToSpace(Operator):
    """Blocks of channels laid out as blocks of pixels.

    Shapes: x [n, c, h, w] -> y [n, c / b**2, h * b, w * b].
    Source: ONNX DepthToSpace-28.
    """

    blocksize: int = 1
    mode: str = "DCR"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,8,2,3]", blocksize=2),
        sample("f32[1,12,2,3]", blocksize=2, mode="CRD"),
        sample("i8[1,9,1,2]", blocksize=3),
        sample("f32[0,4,2,2]", blocksize=2),
    )

    def infer(self, x: TensorType) -> TensorType:
        if x.shape is None:
            return TensorType(x.dtype, tuple(fresh_dim(self, k) for k in range(4)))
        _need_rank(self, x, 4)
        check_choice(self, "mode", self.mode, "DCR", "CRD")
        n, c, h, w = x.dims
        b = _checked_blocksize(self)
        if isinstance(c, int) and c % (b * b):
            raise ShapeError(f"{c} channels are no multiple of blocksize {b} squared")
        return TensorType(x.dtype, (n, c // (b * b), h * b, w * b))

    def reference(self, x: Array) -> Array:
        n, c, h, w = x.shape
        b, depth = self.blocksize, c // self.blocksize**2
        if self.mode == "DCR":
            y = x.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return np.ascontiguousarray(y.reshape(n, depth, h * b, w * b))

    def lower(self, x: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        b, depth = self.blocksize, types[0].dims[1]

        def element(n: te.Expr, c: te.Expr, h: te.Expr, w: te.Expr) -> te.Expr:
            block = (h % b) * b + w % b
            channel = block * depth + c if self.mode == "DCR" else c * (b * b) + block
            return x.at(n, channel, h // b, w // b)

        return te.compute(x.dtype, types[0].dims, element)


@operator("SpaceToDepth")
class SpaceToDepth(Operator):
    """Blocks of pixels laid out as channels.

    Shapes: x [n, c, h, w] -> y [n, c * b**2, h / b, w / b].
    Source: ONNX SpaceToDepth-28.
    """

    blocksize: int = 1
    mode: str = "DCR"

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[2,3,4,6]", blocksize=2),
        sample("f32[1,3,2,4]", blocksize=2, mode="CRD"),
        sample("u8[1,1,3,3]", blocksize=3, low=0, high=9),
        sample("f32[0,1,2,2]", blocksize=2),
    )

    def infer(self, x: TensorType) -> TensorType:
        if x.shape is None:
            return TensorType(x.dtype, tuple(fresh_dim(self, k) for k in range(4)))
        _need_rank(self, x, 4)
        check_choice(self, "mode", self.mode, "DCR", "CRD")
        n, c, h, w = x.dims
        b = _checked_blocksize(self)
        if any(isinstance(dim, int) and dim % b for dim in (h, w)):
            raise ShapeError(f"the image of {x} is no multiple of blocksize {b}")
        return TensorType(x.dtype, (n, c * (b * b), h // b, w // b))

    def reference(self, x: Array) -> Array:
        n, c, h, w = x.shape
        b = self.blocksize
        y = x.reshape(n, c, h // b, b, w // b, b)
        y = y.transpose((0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4))
        return np.ascontiguousarray(y.reshape(n, c * b * b, h // b, w // b))

    def lower(self, x: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        b, channels = self.blocksize, x.shape[1]

        def element(n: te.Expr, c: te.Expr, h: te.Expr, w: te.Expr) -> te.Expr:
            if self.mode == "DCR":
                source, block = c % channels, c // channels
            else:
                source, block = c // (b * b), c % (b * b)
            return x.at(n, source, h * b + block // b, w * b + block % b)

        return te.compute(x.dtype, types[0].dims, element)


@operator("ReverseSequence")
class ReverseSequence(Operator):
    """The first sequence_lens[b] steps of each sequence b in reverse; the rest unchanged.

    Source: ONNX ReverseSequence-28.
    """

    batch_axis: int = 1
    time_axis: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[4,3]", ints(4, 2, 1)),
        sample("f32[3,4,2]", ints(0, 3, 4), batch_axis=0, time_axis=1),
        sample("i64[0,2]", ints(0, 0)),
        sample("f16[5,1]", "i64[1]", low=1, high=5),
    )

    def infer(self, x: TensorType, lengths: TensorType) -> TensorType:
        if x.shape is not None and lengths.shape is not None:
            batch = normalize_axis(self.batch_axis, x.rank)
            if normalize_axis(self.time_axis, x.rank) == batch:
                raise ShapeError("ReverseSequence needs two different axes")
            check_extent(self, "the count of lengths", lengths.count, x.dims[batch])
        return TensorType(x.dtype, x.shape)

    def reference(self, x: Array, lengths: Array) -> Array:
        y = x.copy()
        steps = np.moveaxis(y, (self.batch_axis, self.time_axis), (0, 1))
        for batch, length in enumerate(max(int(n), 0) for n in lengths):
            steps[batch, :length] = steps[batch, :length][::-1].copy()
        return y

    def lower(self, x: te.Tensor, lengths: te.Tensor, **_: Any) -> te.Tensor:
        def element(*i: te.Expr) -> te.Expr:
            step, longest = i[self.time_axis], x.shape[self.time_axis]
            length = te.minimum(te.index(lengths.at(i[self.batch_axis])), longest)
            place = list(i)
            place[self.time_axis] = te.where(step < length, length - 1 - step, step)
            return x.at(*place)

        return te.compute(x.dtype, x.shape, element)


@operator("Trilu")
class Trilu(Operator):
    """The upper (or lower) triangle of each matrix from diagonal k on, zeros elsewhere.

    Source: ONNX Trilu-14.
    """

    upper: int = 1

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[3,4]"),
        sample("f32[2,3,3]", np.array(1, np.int64)),
        sample("bool[3,3]", upper=0),
        sample("i64[4,3]", np.array(-1, np.int64), upper=0),
        sample("f32[0,3]"),
        sample("f32[3,5]", "i64[]", low=-2, high=2),
        sample("f16[2,2]", np.array([5], np.int64)),
    )

    def infer(self, x: TensorType, k: TensorType | None = None) -> TensorType:
        if x.shape is not None and x.rank < 2:
            raise ShapeError(f"Trilu needs matrices, got {x}")
        check_single(self, "diagonal", k)
        return TensorType(x.dtype, x.shape)

    def reference(self, x: Array, k: Array | None = None) -> Array:
        diagonal = 0 if k is None else int(k.reshape(-1)[0])
        rows, columns = np.indices(x.shape[-2:])
        keep = columns - rows >= diagonal if self.upper else columns - rows <= diagonal
        return np.where(keep, x, np.zeros((), x.dtype))

    def lower(self, x: te.Tensor, k: te.Tensor | None = None, **options: Any) -> te.Tensor:
        known = (*known_of(options, 2), None)
        diagonal = te.index(0) if k is None else te.index(scalar_operand(k, known[1]))

        def element(*i: te.Expr) -> te.Expr:
            keep = i[-1] - i[-2] >= diagonal if self.upper else i[-1] - i[-2] <= diagonal
            return te.where(keep, x.at(*i), te.const(0, x.dtype))

        return te.compute(x.dtype, x.shape, element)


@operator("EyeLike")
class EyeLike(Operator):
    """Ones on diagonal k, zeros elsewhere, in the shape of a matrix. Source: ONNX EyeLike-22."""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("dtype",)
    dtype: str = ""
    k: int = 0

    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[3,4]"),
        sample("i32[3,3]", k=1),
        sample("f32[4,3]", k=-1, dtype="f64"),
        sample("f32[0,2]"),
        sample("i64[2,2]", dtype="bool"),
    )

    def infer(self, x: TensorType) -> TensorType:
        if x.shape is not None:
            _need_rank(self, x, 2)
        return TensorType(DTYPES[self.dtype] if self.dtype else x.dtype, x.shape)

    def reference(self, x: Array) -> Array:
        dtype = DTYPES[self.dtype].numpy if self.dtype else x.dtype
        return np.eye(x.shape[0], x.shape[1], k=self.k, dtype=np.int8).astype(dtype)

    def lower(self, x: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        dtype = types[0].dtype
        one, zero = te.const(1, dtype), te.const(0, dtype)
        return te.compute(dtype, x.shape, lambda i, j: te.where(te.equal(i + self.k, j), one, zero))


@operator("CenterCropPad")
class CenterCropPad(Operator):
    """The data cut or padded with zeros around its middle to the asked extents.

    Source: ONNX CenterCropPad-18.
    """

    axes: tuple[int, ...] = ()

    form_inputs: ClassVar[tuple[int, ...]] = (1,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample("f32[5,6]", ints(3, 3)),
        sample("f32[2,3]", ints(5, 8)),
        sample("f32[4,3]", ints(2, 6)),
        sample("i64[4,5,2]", ints(6, 3), axes=(0, -2)),
        sample("f32[2,0]", ints(1, 3)),
    )

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        if x.shape is None:
            return TensorType(x.dtype, None)
        axes = normalize_axes(self.axes or range(x.rank), x.rank)
        wanted = known_dims(shape) or tuple(fresh_dim(self, axis) for axis in axes)
        if len(wanted) != len(axes):
            raise ShapeError(f"CenterCropPad needs {len(axes)} extents, got {len(wanted)}")
        check_extents(self, wanted)
        made = dict(zip(axes, wanted))
        return TensorType(x.dtype, tuple(made.get(k, dim) for k, dim in enumerate(x.dims)))

    def reference(self, x: Array, shape: Array) -> Array:
        axes = normalize_axes(self.axes or range(x.ndim), x.ndim)
        made = list(x.shape)
        source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
        for axis, size in zip(axes, (int(n) for n in shape.reshape(-1))):
            made[axis] = size
            cut, pad = max(x.shape[axis] - size, 0) // 2, max(size - x.shape[axis], 0) // 2
            source[axis] = slice(cut, cut + min(size, x.shape[axis]))
            target[axis] = slice(pad, pad + min(size, x.shape[axis]))
        y = np.zeros(made, x.dtype)
        y[tuple(target)] = x[tuple(source)]
        return y

    def lower(self, x: te.Tensor, shape: te.Tensor, *, types: Any, **options: Any) -> te.Tensor:
        content_of(options, 1, self)
        made = types[0].dims

        def element(*i: te.Expr) -> te.Expr:
            place = [index + _shift(old, new) for index, old, new in zip(i, x.shape, made)]
            return x.at(*place, fill=0)

        return te.compute(x.dtype, made, element)


def _shift(old: Dim, new: Dim) -> Dim | te.Expr:
    """How far the middle moves from a new index to the old one."""
    cut = old - new
    if isinstance(cut, int):
        return cut // 2 if cut >= 0 else -(-cut // 2)
    return te.where(te.index(cut) >= 0, te.index(cut // 2), te.index(-(-cut // 2)))
