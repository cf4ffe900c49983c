"""Feature operators of ai.onnx.ml: scaling, encoding, selecting columns, filling gaps."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, dtype_from_numpy, f32, i64, string
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.checks import same_dim
from bessemer.ops.dims import Array
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

    samples = (
        sample(np.array([[1, np.nan], [np.nan, 2]], np.float32), imputed_value_floats=(5.0, 6.0),
               replaced_value_float=float("nan")),
        sample("i64[2,3]", imputed_value_int64s=(7,), replaced_value_int64=1),
    )


@operator("ai.onnx.ml.Normalizer")
class Normalizer(Operator):
    """Divides each row by its maximum, 1-norm or 2-norm; a row of zeros stays.

    Shapes: x [n, f] or [f] -> y f32 like x.
    Source: ai.onnx.ml Normalizer-1.
    """

    norm: str = "MAX"

    def infer(self, x: TensorType) -> TensorType:
        if self.norm not in ("MAX", "L1", "L2"):
            raise ShapeError(f"norm is {self.norm!r}; MAX, L1 or L2 expected")
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

    samples = (
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

    samples = (
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

    samples = (
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

    samples = (
        sample(np.array([[1, 3], [2, 9]]), cats_int64s=(1, 2, 3)),
        sample(np.array(["b", "z"], object), cats_strings=("a", "b")),
        sample(np.array([1.0, 2.0], np.float32), cats_int64s=(1, 2), zeros=0),
    )


@operator("ai.onnx.ml.LabelEncoder")
class LabelEncoder(Operator):
    """Maps each element by a table; elements that are no key get the default.

    Shapes: x [*] -> y [*].
    Source: ai.onnx.ml LabelEncoder-4.
    """

    default_float: float = -0.0
    default_int64: int = -1
    default_string: str = "_Unused"
    default_tensor: Array | None = None
    keys_floats: tuple[float, ...] = ()
    keys_int64s: tuple[int, ...] = ()
    keys_strings: tuple[str, ...] = ()
    keys_tensor: Array | None = None
    values_floats: tuple[float, ...] = ()
    values_int64s: tuple[int, ...] = ()
    values_strings: tuple[str, ...] = ()
    values_tensor: Array | None = None

    def _values(self) -> tuple[list[Any], DType, Any]:
        """The values, their dtype and the default."""
        if self.values_tensor is not None:
            dtype = dtype_from_numpy(self.values_tensor.dtype)
            default: Any = {"string": "_Unused", "f32": -0.0, "f64": -0.0}.get(dtype.name, -1)
            if self.default_tensor is not None:
                default = self.default_tensor.reshape(-1)[0]
            return self.values_tensor.reshape(-1).tolist(), dtype, default
        if self.values_strings:
            return list(self.values_strings), string, self.default_string
        if self.values_floats:
            return list(self.values_floats), f32, self.default_float
        return list(self.values_int64s), i64, self.default_int64

    def _keys(self) -> list[Any]:
        if self.keys_tensor is not None:
            return list(self.keys_tensor.reshape(-1).tolist())
        return list(self.keys_strings or self.keys_floats or self.keys_int64s)

    def infer(self, x: TensorType) -> TensorType:
        values, dtype, _ = self._values()
        if len(values) != len(self._keys()):
            raise ShapeError(f"{len(self._keys())} keys for {len(values)} values")
        return TensorType(dtype, x.shape)

    def reference(self, x: Array) -> Array:
        values, dtype, default = self._values()
        # NaN is unequal to itself, so one stand-in serves for all NaNs.
        table = {_key(key): value for key, value in zip(self._keys(), values, strict=True)}
        flat = [table.get(_key(item), default) for item in x.reshape(-1).tolist()]
        return np.asarray(flat, dtype.numpy).reshape(x.shape)

    samples = (
        sample(np.array([["a", "c"], ["b", "a"]], object), keys_strings=("a", "b"),
               values_int64s=(5, 6)),
        sample(np.array([1.5, np.nan, 3], np.float32), keys_floats=(1.5, float("nan")),
               values_strings=("x", "y")),
        sample(np.array([1, 2, 3]), keys_int64s=(1, 3), values_floats=(0.5, 0.25),
               default_float=9.0),
        sample(np.array([1, 2]), keys_tensor=np.array([1]), values_tensor=np.array([2.5])),
    )


def _key(item: Any) -> Any:
    return "nan" if isinstance(item, float) and item != item else item


@operator("ai.onnx.ml.CategoryMapper")
class CategoryMapper(Operator):
    """Strings to integers or back, by two parallel lists.

    Shapes: x [*] -> y [*].
    Source: ai.onnx.ml CategoryMapper-1.
    """

    cats_int64s: tuple[int, ...] = ()
    cats_strings: tuple[str, ...] = ()
    default_int64: int = -1
    default_string: str = "_Unused"

    def infer(self, x: TensorType) -> TensorType:
        if len(self.cats_int64s) != len(self.cats_strings):
            raise ShapeError("cats_int64s and cats_strings differ in length")
        return TensorType(i64 if x.dtype == string else string, x.shape)

    def reference(self, x: Array) -> Array:
        if x.dtype.kind in "OU":
            codes = dict(zip(self.cats_strings, self.cats_int64s, strict=True))
            flat: list[Any] = [codes.get(item, self.default_int64) for item in x.reshape(-1)]
            return np.asarray(flat, np.int64).reshape(x.shape)
        names = dict(zip(self.cats_int64s, self.cats_strings, strict=True))
        flat = [names.get(item, self.default_string) for item in x.reshape(-1).tolist()]
        return np.asarray(flat, object).reshape(x.shape)

    samples = (
        sample(np.array(["a", "z"], object), cats_strings=("a", "b"), cats_int64s=(1, 2)),
        sample(np.array([[2, 7]]), cats_strings=("a", "b"), cats_int64s=(1, 2)),
    )
