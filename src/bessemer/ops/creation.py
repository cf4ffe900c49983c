"""Tensors made from nothing but parameters: ConstantOfShape, Range, and random numbers."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DTYPES, dtype_from_numpy
from bessemer.core.errors import ShapeError
from bessemer.core.shapes import Dim, Sym
from bessemer.ir.operator import FusionClass, Operator, Sample, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.content import fractions_of
from bessemer.ops.dims import (
    Array,
    check_extents,
    check_same_dtype,
    fresh_dim,
    known_dims,
    length_of,
    with_content,
)
from bessemer.ops.elementwise import is_small_float, known_of, scalar_operand
from bessemer.ops.movement import fresh_dims
from bessemer.ops.reshape import ints


@operator("ConstantOfShape")
class ConstantOfShape(Operator):
    """A tensor of the asked shape filled with one value (f32 zero by default).

    Source: ONNX ConstantOfShape-25.
    """

    value: Array | None = None

    form_inputs: ClassVar[tuple[int, ...]] = (0,)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample(ints(2, 3)),
        sample(ints(4), value=np.array([7], np.int64)),
        sample(ints()),
        sample(ints(0, 2), value=np.array([True])),
        sample(ints(3), value=np.array([1.5], np.float16)),
    )

    def __hash__(self) -> int:
        return hash(None if self.value is None else (self.value.dtype.str, self.value.tobytes()))

    def filling(self) -> Array:
        """The value as an array of rank 0."""
        return np.zeros((), np.float32) if self.value is None else self.value.reshape(())

    def infer(self, shape: TensorType) -> TensorType:
        dtype = dtype_from_numpy(self.filling().dtype)
        dims = known_dims(shape)
        if dims is None:
            return TensorType(dtype, fresh_dims(self, length_of(shape)))
        check_extents(self, dims)
        if dtype.is_integer and len(dims) == 1 and isinstance(dims[0], int) and dims[0] <= 64:
            return with_content(dtype.numpy, dims, (int(self.filling()),) * dims[0])
        return TensorType(dtype, dims)

    def reference(self, shape: Array) -> Array:
        filling = self.filling()
        return np.full([int(n) for n in shape.reshape(-1)], filling, filling.dtype)

    def lower(self, shape: te.Tensor, *, types: Any, **_: Any) -> te.Tensor:
        dtype = types[0].dtype
        number = self.filling().astype(np.float64) if dtype.is_float else self.filling()
        return te.compute(dtype, types[0].dims, lambda *i: te.const(number.item(), dtype))


@operator("Range")
class Range(Operator):
    """start, start + delta, ... up to but without limit.

    Shapes: start, limit, delta [] -> output [max(ceil((limit - start) / delta), 0)].
    Source: ONNX Range-27.
    """

    dtype_attributes: ClassVar[tuple[str, ...]] = ("stash_type",)
    stash_type: str = "f32"

    form_inputs: ClassVar[tuple[int, ...]] = (0, 1, 2)
    fusion = FusionClass.INJECTIVE
    samples = (
        sample(np.array(3), np.array(9), np.array(3)),
        sample(np.array(10), np.array(4), np.array(-2)),
        sample(np.array(0.5, np.float32), np.array(3, np.float32), np.array(0.75, np.float32)),
        sample(np.array(5), np.array(1), np.array(1)),
        sample("i32[]", "i32[]", "i32[]", low=1, high=4),
        sample(np.array(0, np.float16), np.array(3, np.float16), np.array(1, np.float16)),
    )

    def infer(self, start: TensorType, limit: TensorType, delta: TensorType) -> TensorType:
        check_same_dtype(self, start, limit, delta)
        if start.value is not None and limit.value is not None and delta.value is not None:
            return TensorType(start.dtype, (_count(start.value, limit.value, delta.value),))
        count = self._symbolic_count(start, limit, delta)
        return TensorType(start.dtype, (fresh_dim(self) if count is None else count,))

    def _symbolic_count(
        self, start: TensorType, limit: TensorType, delta: TensorType
    ) -> Dim | None:
        """The count where it follows from dimensions; None if not, or if it could be negative."""
        bounds = [fractions_of(x) for x in (start, limit, delta)]
        if not all(bounds):
            return None
        (first, p), (last, q), (step, r) = (b[0] for b in bounds if b)
        if isinstance(step, Sym) or step < 1 or (p, q, r) != (1, 1, 1):
            return None
        return (last - first + (step - 1)) // step

    def reference(self, start: Array, limit: Array, delta: Array) -> Array:
        count = _count(start, limit, delta)
        if start.dtype.itemsize == 2 and start.dtype.kind not in "iu":
            wide = DTYPES[self.stash_type].numpy
            start, delta = start.astype(wide), delta.astype(wide)
        steps = np.arange(count).astype(start.dtype) * delta.reshape(())
        return np.asarray(start.reshape(()) + steps).astype(limit.dtype)

    def lower(
        self, start: te.Tensor, limit: te.Tensor, delta: te.Tensor, *, types: Any, **options: Any
    ) -> te.Tensor:
        known = known_of(options, 3)
        dtype = types[0].dtype
        wide = DTYPES[self.stash_type] if is_small_float(dtype) else dtype
        first = te.cast(scalar_operand(start, known[0]), wide)
        step = te.cast(scalar_operand(delta, known[2]), wide)
        return te.compute(
            dtype, types[0].dims, lambda i: te.cast(first + te.cast(i, wide) * step, dtype)
        )


def _count(start: Array, limit: Array, delta: Array) -> int:
    """How many elements a range has. Raises: ShapeError if delta is 0."""
    if start.dtype.kind in "iu":
        first, last, step = (int(x.reshape(())) for x in (start, limit, delta))
        if step == 0:
            raise ShapeError("Range needs a delta other than 0")
        return max(-((first - last) // step), 0)
    a, b, c = (float(x.reshape(())) for x in (start, limit, delta))
    if c == 0:
        raise ShapeError("Range needs a delta other than 0")
    return max(math.ceil((b - a) / c), 0)


@dataclass(frozen=True)
class _Random(Operator):
    """Base of random tensors: results are repeatable only with a seed. They run on the host."""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("dtype",)
    deterministic = False

    seed: float | None = None
    dtype: str = ""

    def generator(self) -> np.random.Generator:
        """A generator, seeded with the bits of `seed` if there is one."""
        if self.seed is None:
            return np.random.default_rng()
        return np.random.default_rng(int(np.array(self.seed, np.float64).view(np.uint64)))

    def type_of(self, shape: Any, default: str) -> TensorType:
        """The type of a result."""
        check_extents(self, shape or ())
        return TensorType(DTYPES[self.dtype or default], shape)

    def finish(self, array: Any, default: str) -> Array:
        """The random array in the asked dtype."""
        return np.asarray(array).astype(DTYPES[self.dtype or default].numpy)


@operator("RandomNormal")
class RandomNormal(_Random):
    """Normal numbers of the given mean and standard deviation. Source: ONNX RandomNormal-22."""

    mean: float = 0.0
    scale: float = 1.0
    shape: tuple[int, ...] = ()

    samples = (sample(shape=(2, 3)), sample(shape=(), seed=1.0), sample(shape=(0,), dtype="f64"))

    def infer(self) -> TensorType:
        return self.type_of(self.shape, "f32")

    def reference(self) -> Array:
        return self.finish(self.generator().normal(self.mean, self.scale, self.shape), "f32")


@operator("RandomUniform")
class RandomUniform(_Random):
    """Uniform numbers in [low, high). Source: ONNX RandomUniform-22."""

    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] = ()

    samples = (
        sample(shape=(2, 3)),
        sample(shape=(), seed=1.0),
        Sample((), {"shape": (2,), "low": -1.0}),
    )

    def infer(self) -> TensorType:
        return self.type_of(self.shape, "f32")

    def reference(self) -> Array:
        return self.finish(self.generator().uniform(self.low, self.high, self.shape), "f32")


@operator("RandomNormalLike")
class RandomNormalLike(_Random):
    """Normal numbers in the shape of the input. Source: ONNX RandomNormalLike-22."""

    mean: float = 0.0
    scale: float = 1.0

    samples = (sample("f32[2,3]"), sample("i32[2]", dtype="f16"), sample("f64[]", seed=3.0))

    def infer(self, x: TensorType) -> TensorType:
        return self.type_of(x.shape, x.dtype.name)

    def reference(self, x: Array) -> Array:
        drawn = self.generator().normal(self.mean, self.scale, x.shape)
        return self.finish(drawn, dtype_from_numpy(x.dtype).name)


@operator("RandomUniformLike")
class RandomUniformLike(_Random):
    """Uniform numbers in the shape of the input. Source: ONNX RandomUniformLike-22."""

    low: float = 0.0
    high: float = 1.0

    samples = (sample("f32[2,3]"), sample("i32[2]", dtype="f16"), sample("f64[]", seed=3.0))

    def infer(self, x: TensorType) -> TensorType:
        return self.type_of(x.shape, x.dtype.name)

    def reference(self, x: Array) -> Array:
        drawn = self.generator().uniform(self.low, self.high, x.shape)
        return self.finish(drawn, dtype_from_numpy(x.dtype).name)


@operator("Bernoulli")
class Bernoulli(_Random):
    """1 with the probability that the input gives, else 0. Source: ONNX Bernoulli-22."""

    samples = (sample("f32[2,3]", low=0, high=1), sample("f64[4]", low=0, high=1, dtype="bool"))

    def infer(self, x: TensorType) -> TensorType:
        return self.type_of(x.shape, x.dtype.name)

    def reference(self, x: Array) -> Array:
        drawn = self.generator().uniform(size=x.shape) < x.astype(np.float64)
        return self.finish(drawn, dtype_from_numpy(x.dtype).name)


@operator("Multinomial")
class Multinomial(_Random):
    """Classes drawn by unnormalized log-probabilities, with replacement.

    Shapes: input [batch, classes] -> output [batch, sample_size].
    Source: ONNX Multinomial-22; drawn by Gumbel's maximum.
    """

    sample_size: int = 1

    samples = (sample("f32[2,5]", sample_size=4), sample("f32[1,3]", dtype="i64", seed=2.0))

    def infer(self, x: TensorType) -> TensorType:
        batch: Dim = fresh_dim(self) if x.shape is None else x.dims[0]
        return self.type_of((batch, self.sample_size), "i32")

    def reference(self, x: Array) -> Array:
        noise = self.generator().gumbel(size=(x.shape[0], self.sample_size, x.shape[1]))
        return self.finish(np.argmax(x[:, None, :].astype(np.float64) + noise, axis=-1), "i32")
