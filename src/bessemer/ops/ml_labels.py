"""Tables of labels of ai.onnx.ml: LabelEncoder, CategoryMapper."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, dtype_from_numpy, f32, f64, i64, string
from bessemer.core.errors import ShapeError
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array
from bessemer.te import Expr, Tensor

_MOST_KEYS = 4096
"""Each element is compared with all keys; above this many the host's table is faster."""


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

    fusion = FusionClass.REDUCTION

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

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        values, dtype, default = self._values()
        keys = self._keys()
        if len(keys) > _MOST_KEYS:
            raise Unlowerable(f"a table of {len(keys)} labels is looked up on the host")
        both_whole = x.dtype.is_integer and all(isinstance(key, int) for key in keys)
        stage = i64 if both_whole else f64
        table = te.table(np.asarray(keys, stage.numpy), "keys")
        results = te.table(np.asarray(values, dtype.numpy), "values")
        k = te.reduce_axis(len(keys))

        def search(*i: Expr) -> Expr:
            item, key = te.cast(x[i], stage), table[k]
            hit = te.equal(item, key)
            if stage == f64:
                hit = hit | (te.isnan(item) & te.isnan(key))
            # Of equal keys the last one counts.
            return te.max_(te.where(hit, k, te.index(-1)), k)

        found = te.compute(i64, x.shape, search, "found")

        def body(*i: Expr) -> Expr:
            value = results[te.maximum(found[i], 0)]
            return te.where(found[i] < 0, te.const(default, dtype), value)

        return te.compute(dtype, x.shape, body, "labels")

    samples = (
        sample("f32[3,5]", keys_floats=(1.5, float("nan")), values_floats=(1.0, 2.0)),
        sample("i64[37]", keys_int64s=(0, 1, -1, 0), values_int64s=(7, 8, 9, 10)),
        sample(np.array([1.5, np.nan, 3], np.float64), values_tensor=np.array([5, 6.5]),
               keys_tensor=np.array([np.nan, 3.0])),
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
