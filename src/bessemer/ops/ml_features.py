"""Feature operators of ai.onnx.ml: scaling, encoding, selecting columns, filling gaps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import dtype_from_numpy, f32, f64, i64
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array, extent
from bessemer.ops.quantize import require_compiled
from bessemer.te import Expr, Tensor


@operator("ai.onnx.ml.ArrayFeatureExtractor")
class ArrayFeatureExtractor(Operator):
    """Picks entries of the last axis.

    Shapes: x [*, f], indices [k] -> y [*, k] ([1, k] for x of rank 1).
    Source: ai.onnx.ml ArrayFeatureExtractor-1.
    """

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        if x.shape is None or indices.shape is None:
            return x.with_shape(None)
        outer: tuple[Dim, ...] = x.dims[:-1] if x.rank > 1 else (1,)
        return x.with_shape((*outer, indices.count))

    def reference(self, x: Array, indices: Array) -> Array:
        picked = x[..., indices.reshape(-1)]
        return picked if x.ndim > 1 else picked[None]

    def lower(self, x: Tensor, indices: Tensor, **_: Any) -> Tensor:
        require_compiled(self, x.dtype)
        if indices.rank != 1:
            raise Unlowerable("ArrayFeatureExtractor with indices of rank above 1")
        outer = x.shape[:-1] if x.rank > 1 else (1,)

        def body(*i: Expr) -> Expr:
            column = te.index(indices[i[-1]])
            return x[(*i[:-1], column)] if x.rank > 1 else x[column]

        return te.compute(x.dtype, (*outer, indices.shape[0]), body, "picked")

    samples = (
        sample("f32[3,5]", np.array([4, 0, 4])), sample("f64[5]", np.array([1, 3])),
        sample("string[2,3]", np.array([2])),
    )


@operator("ai.onnx.ml.Binarizer")
class Binarizer(Operator):
    """1 where x is above the threshold, else 0. Source: ai.onnx.ml Binarizer-1."""

    threshold: float = 0.0

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        return x.without_value()

    def reference(self, x: Array) -> Array:
        return np.asarray(x > x.dtype.type(self.threshold)).astype(x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        one, zero = te.const(1, x.dtype), te.const(0, x.dtype)
        return te.compute(
            x.dtype, x.shape, lambda *i: te.where(x[i] > self.threshold, one, zero), "binary"
        )

    samples = (sample("f32[2,3]"), sample("f64[4]", threshold=0.5), sample("i32[4]", threshold=1.0))


def _per_column(values: tuple[Any, ...], dtype: Any) -> Array:
    """Attribute values that broadcast along the last axis."""
    return np.asarray(values, dtype)


def _check_columns(name: str, values: tuple[Any, ...], x: TensorType) -> None:
    if len(values) > 1 and x.shape:
        same_dim(f"features of x and {name}", x.dims[-1], len(values))


@operator("ai.onnx.ml.Imputer")
class Imputer(Operator):
    """Replaces one value (NaN allowed) by others, one for all or one per column.

    Shapes: x [*, f] -> y [*, f].
    Source: ai.onnx.ml Imputer-1.
    """

    imputed_value_floats: tuple[float, ...] = ()
    imputed_value_int64s: tuple[int, ...] = ()
    replaced_value_float: float = 0.0
    replaced_value_int64: int = 0

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        values = self.imputed_value_floats or self.imputed_value_int64s
        if not values:
            raise ShapeError("imputed_value_floats or imputed_value_int64s must be given")
        _check_columns("imputed values", values, x)
        return x.without_value()

    def reference(self, x: Array) -> Array:
        if x.dtype.kind == "f":
            fill = _per_column(self.imputed_value_floats, x.dtype)
            old = self.replaced_value_float
            hit = np.isnan(x) if np.isnan(old) else x == x.dtype.type(old)
        else:
            fill = _per_column(self.imputed_value_int64s, x.dtype)
            hit = np.asarray(x == self.replaced_value_int64)
        return np.where(hit, fill, x)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        floats = x.dtype.is_float
        values = self.imputed_value_floats if floats else self.imputed_value_int64s
        old = self.replaced_value_float if floats else self.replaced_value_int64
        fill = te.table(_per_column(values, x.dtype.numpy), "fill")

        def body(*i: Expr) -> Expr:
            hit = te.isnan(x[i]) if np.isnan(old) else te.equal(x[i], old)
            return te.where(hit, fill[i[-1] if len(values) > 1 else 0], x[i])

        return te.compute(x.dtype, x.shape, body, "imputed")

    samples = (
        sample(np.array([[1, np.nan], [np.nan, 2]], np.float32), imputed_value_floats=(5.0, 6.0),
               replaced_value_float=float("nan")),
        sample("i64[2,3]", imputed_value_int64s=(7,), replaced_value_int64=1),
        sample("i32[3,7]", imputed_value_int64s=tuple(range(7)), low=-1, high=1),
        sample(np.array([0.0, 1, -0.0], np.float32), imputed_value_floats=(5.0,)),
    )


@operator("ai.onnx.ml.Normalizer")
class Normalizer(Operator):
    """Divides each row by its maximum, 1-norm or 2-norm; a row of zeros stays.

    Shapes: x [n, f] or [f] -> y f32 like x.
    Source: ai.onnx.ml Normalizer-1.
    """

    norm: str = "MAX"

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        if self.norm not in ("MAX", "L1", "L2"):
            raise ShapeError(f"norm is {self.norm!r}; MAX, L1 or L2 expected")
        if x.shape == ():
            raise ShapeError("Normalizer of a scalar; rank 1 or more expected")
        return TensorType(f32, x.shape)

    def reference(self, x: Array) -> Array:
        values = x.astype(np.float64)
        if self.norm == "MAX":
            size = values.max(axis=-1, keepdims=True)
        elif self.norm == "L1":
            size = np.abs(values).sum(axis=-1, keepdims=True)
        else:
            size = np.sqrt((values * values).sum(axis=-1, keepdims=True))
        return (values / np.where(size == 0, 1, size)).astype(np.float32)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        k = te.reduce_axis(x.shape[-1])

        def size_body(*o: Expr) -> Expr:
            value = te.cast(x[(*o, k)], f64)
            if self.norm == "MAX":
                return te.max_(value, k)
            return te.sum_(te.abs_(value) if self.norm == "L1" else value * value, k)

        size = te.compute(f64, x.shape[:-1], size_body, "size")

        def body(*i: Expr) -> Expr:
            row = te.sqrt(size[i[:-1]]) if self.norm == "L2" else size[i[:-1]]
            return te.cast(te.cast(x[i], f64) / te.where(te.equal(row, 0.0), 1.0, row), f32)

        return te.compute(f32, x.shape, body, "normalized")

    samples = (
        sample("i32[3,17]", norm="L1"), sample("f32[5,9]", norm="L2"), sample("f32[7]"),
        sample("f32[2,3]"), sample("f64[2,3]", norm="L1"), sample("i64[4]", norm="L2"),
        sample(np.zeros((2, 2), np.float32), norm="L2"),
    )


@operator("ai.onnx.ml.Scaler")
class Scaler(Operator):
    """(x - offset) * scale, one pair for all or one per column.

    Shapes: x [*, f] -> y f32 like x.
    Source: ai.onnx.ml Scaler-1.
    """

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        if x.shape == ():
            raise ShapeError("x is a scalar; a row of features expected")
        _check_columns("offset", self.offset, x)
        _check_columns("scale", self.scale, x)
        return TensorType(f32, x.shape)

    def reference(self, x: Array) -> Array:
        offset = _per_column(self.offset or (0.0,), np.float32)
        scale = _per_column(self.scale or (1.0,), np.float32)
        return np.asarray((x - offset) * scale).astype(np.float32)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        # As numpy combines x with f32 numbers.
        stage = dtype_from_numpy(np.result_type(x.dtype.numpy, np.float32))

        def parameter(values: tuple[float, ...], neutral: float) -> Callable[[Expr], Expr]:
            table = te.table(_per_column(values or (neutral,), np.float32), "parameter")
            return lambda c: te.cast(table[c if len(values) > 1 else 0], stage)

        offset, scale = parameter(self.offset, 0.0), parameter(self.scale, 1.0)

        def body(*i: Expr) -> Expr:
            moved = te.cast(x[i], stage) - offset(i[-1])
            return te.cast(moved * scale(i[-1]), f32)

        return te.compute(f32, x.shape, body, "scaled")

    samples = (
        sample("i32[3,7]", offset=tuple(range(7)), scale=(0.1,)),
        sample("f32[2,3]", offset=(1.0, 2.0, 3.0), scale=(0.5, 1.0, 2.0)),
        sample("i64[2,3]", offset=(1.0,), scale=(0.5,)), sample("f64[3]"),
    )


@operator("ai.onnx.ml.FeatureVectorizer")
class FeatureVectorizer(Operator):
    """Joins columns of several tensors as f32.

    Shapes: each x [n, f] or [f] -> y f32 [n, sum of f].
    Source: ai.onnx.ml FeatureVectorizer-1.
    """

    inputdimensions: tuple[int, ...] = ()

    fusion = FusionClass.INJECTIVE

    def _width(self, position: int, x: TensorType) -> Dim:
        if position < len(self.inputdimensions):
            return self.inputdimensions[position]
        return x.dims[-1]

    def infer(self, *values: TensorType) -> TensorType:
        if any(x.shape is None for x in values):
            return TensorType(f32, None)
        total: Dim = 0
        for position, x in enumerate(values):
            total = total + self._width(position, x)
        rows = values[0].dims[0] if values[0].rank > 1 else 1
        return TensorType(f32, (rows, total))

    def reference(self, *values: Array) -> Array:
        parts = []
        for position, x in enumerate(values):
            row = x.reshape(1, -1) if x.ndim < 2 else x
            width = int(self._width(position, TensorType.of(row, False)))  # type: ignore[arg-type]
            gap = max(width - row.shape[1], 0)
            parts.append(np.pad(row[:, :width], ((0, 0), (0, gap))))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def lower(self, *values: Tensor, types: Any = (), **_: Any) -> Tensor:
        widths = [extent(self._width(k, TensorType(x.dtype, x.shape)))
                  for k, x in enumerate(values)]
        ends = np.cumsum(widths).tolist()

        def body(row: Expr, column: Expr) -> Expr:
            result: Expr = te.const(0.0, f32)
            for x, end, width in reversed(list(zip(values, ends, widths, strict=True))):
                # Clipped, because the side of a select that is not taken is still an index.
                place = te.maximum(column - (end - width), 0)
                value = x.at(row, place, fill=0) if x.rank > 1 else x.at(place, fill=0)
                result = te.where(column < end, te.cast(value, f32), result)
            return result

        return te.compute(f32, types[0].dims, body, "features")

    samples = (
        sample("f64[5,3]", "i64[5,9]", "f32[5,2]", inputdimensions=(5, 4, 2)),
        sample("f32[2,3]", "f32[2,2]", inputdimensions=(3, 2)), sample("i64[3]", "i64[1]"),
    )


@operator("ai.onnx.ml.OneHotEncoder")
class OneHotEncoder(Operator):
    """One column per category, 1 where the element is that category.

    Shapes: x [*] -> y f32 [*, categories].
    Source: ai.onnx.ml OneHotEncoder-1.
    """

    cats_int64s: tuple[int, ...] = ()
    cats_strings: tuple[str, ...] = ()
    zeros: int = 1

    fusion = FusionClass.INJECTIVE

    def infer(self, x: TensorType) -> TensorType:
        count = len(self.cats_int64s or self.cats_strings)
        return TensorType(f32, None if x.shape is None else (*x.shape, count))

    def reference(self, x: Array) -> Array:
        if self.cats_int64s:
            values, known = x.astype(np.int64), np.asarray(self.cats_int64s)
        else:
            values, known = x.astype(object), np.asarray(self.cats_strings, object)
        hits = values[..., None] == known
        if not self.zeros and not hits.any(axis=-1).all():
            raise InputError("an element is none of the categories")
        return np.asarray(hits, np.float32)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        if not self.cats_int64s or not self.zeros:
            raise Unlowerable("OneHotEncoder of strings, or that must refuse unknown categories")
        table = te.table(np.asarray(self.cats_int64s, np.int64), "categories")

        def body(*i: Expr) -> Expr:
            return te.cast(te.equal(te.cast(x[i[:-1]], i64), table[i[-1]]), f32)

        return te.compute(f32, (*x.shape, len(self.cats_int64s)), body, "onehot")

    samples = (
        sample("f32[3,5]", cats_int64s=(-1, 0, 7, 1)), sample("i32[7]", cats_int64s=(2,)),
        sample(np.array([[1, 3], [2, 9]]), cats_int64s=(1, 2, 3)),
        sample(np.array(["b", "z"], object), cats_strings=("a", "b")),
        sample(np.array([1.0, 2.0], np.float32), cats_int64s=(1, 2), zeros=0),
    )
