"""Maps of ai.onnx.ml: ZipMap, DictVectorizer, CastMap. They run on the host; a map is a dict."""

from typing import Any, ClassVar

import numpy as np

from bessemer.core.dtypes import DTYPES, DType, f32, i64, string
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Dim
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import MapType, SequenceType, TensorType, ValueType
from bessemer.ops.checks import check_floats
from bessemer.ops.dims import Array, fresh_dim

_TAKES_MAP = "takes a map, which samples cannot give"
_CASTS = {"TO_FLOAT": f32, "TO_STRING": string, "TO_INT64": i64}


def _map_type(known: ValueType, op: Operator) -> MapType:
    if not isinstance(known, MapType):
        raise ShapeError(f"{op.op_name} needs a map, got {known}")
    return known


def _scalar(item: Any) -> Any:
    """A value of a map, which may be an array of one element."""
    return item.reshape(-1)[0] if isinstance(item, np.ndarray) and item.size == 1 else item


def _row(cells: list[Any], dtype: DType) -> Array:
    """One row of a table; texts as objects."""
    made: Array = np.empty((1, len(cells)), dtype.numpy)
    made[0, :] = cells
    return made


@operator("ai.onnx.ml.ZipMap")
class ZipMap(Operator):
    """Each row as a map from class labels to the row's values.

    Shapes: x f32 [n, c] or [c] -> a sequence of n maps (of one).
    Source: ai.onnx.ml ZipMap-1.
    """

    classlabels_int64s: tuple[int, ...] = ()
    classlabels_strings: tuple[str, ...] = ()

    def infer(self, x: TensorType) -> SequenceType:
        check_floats(x)
        if bool(self.classlabels_int64s) == bool(self.classlabels_strings):
            raise ShapeError("ZipMap needs either classlabels_int64s or classlabels_strings")
        labels = self.classlabels_int64s or self.classlabels_strings
        if x.shape is not None:
            columns = x.dims[-1] if x.rank in (1, 2) else None
            if columns is None or (isinstance(columns, int) and columns != len(labels)):
                raise ShapeError(f"ZipMap has {len(labels)} labels, which do not fit x {x}")
        key = i64 if self.classlabels_int64s else string
        return SequenceType(MapType(key, TensorType(x.dtype, ())))

    def reference(self, x: Array) -> list[dict[Any, Any]]:
        labels = self.classlabels_int64s or self.classlabels_strings
        rows = x.reshape(-1, len(labels)).tolist()
        return [dict(zip(labels, row, strict=True)) for row in rows]

    samples = (
        sample("f32[3,2]", classlabels_int64s=(7, 9)),
        sample("f32[3]", classlabels_strings=("a", "b", "c")),
    )


@operator("ai.onnx.ml.DictVectorizer")
class DictVectorizer(Operator):
    """The values of a map in the order of a vocabulary of keys, 0 (or "") where one is missing.

    A dict does not say of which element type its values are, so `dtype` does ("": f32).
    Shapes: x, a map from texts or integers to scalars -> y [1, keys].
    Source: ai.onnx.ml DictVectorizer-1.
    """

    dtype: str = ""
    int64_vocabulary: tuple[int, ...] = ()
    string_vocabulary: tuple[str, ...] = ()

    dtype_attributes: ClassVar[tuple[str, ...]] = ("dtype",)

    def infer(self, x: ValueType) -> TensorType:
        known = _map_type(x, self)
        if bool(self.int64_vocabulary) == bool(self.string_vocabulary):
            raise ShapeError("DictVectorizer needs int64_vocabulary or string_vocabulary")
        if (known.key == string) != bool(self.string_vocabulary):
            raise ShapeError(f"the keys of {known} are not of the kind of the vocabulary")
        element = known.element
        if isinstance(element, TensorType) and element.dtype != self._dtype():
            raise ShapeError(f"the values of {known} are not {self._dtype()}")
        keys = self.int64_vocabulary or self.string_vocabulary
        return TensorType(self._dtype(), (1, len(keys)))

    def _dtype(self) -> DType:
        return DTYPES[self.dtype or "f32"]

    def reference(self, x: dict[Any, Any]) -> Array:
        keys = self.int64_vocabulary or self.string_vocabulary
        empty = "" if self._dtype() == string else 0
        return _row([_scalar(x.get(key, empty)) for key in keys], self._dtype())

    samples = (sample(skip=_TAKES_MAP, string_vocabulary=("a",)),)


@operator("ai.onnx.ml.CastMap")
class CastMap(Operator):
    """The values of a map in the order of its integer keys, as another type.

    DENSE takes the values that are there; SPARSE makes a row of `max_map` with each value at the
    column of its key, and 0 (or "") elsewhere.
    Shapes: x, a map from i64 to f32 or text -> y [1, values] or [1, max_map].
    Source: ai.onnx.ml CastMap-1.
    """

    cast_to: str = "TO_FLOAT"
    map_form: str = "DENSE"
    max_map: int = 1

    def infer(self, x: ValueType) -> TensorType:
        _map_type(x, self)
        if self.cast_to not in _CASTS or self.map_form not in ("DENSE", "SPARSE"):
            raise ShapeError(f"CastMap does not know {self.cast_to!r} or {self.map_form!r}")
        columns: Dim = self.max_map
        if self.map_form == "DENSE":
            columns = fresh_dim(self, 0)
        return TensorType(_CASTS[self.cast_to], (1, columns))

    def reference(self, x: dict[Any, Any]) -> Array:
        dtype = _CASTS[self.cast_to]
        cells = {int(key): _cast(_scalar(value), dtype) for key, value in sorted(x.items())}
        if cells and min(cells) < 0:
            raise InputError(f"CastMap: key {min(cells)} is negative")
        if self.map_form == "DENSE":
            return _row(list(cells.values()), dtype)
        empty = "" if dtype == string else 0
        return _row([cells.get(key, empty) for key in range(self.max_map)], dtype)

    samples = (sample(skip=_TAKES_MAP),)


def _cast(value: Any, dtype: DType) -> Any:
    if dtype == string:
        return value if isinstance(value, str) else f"{float(value):f}"
    return int(float(value)) if dtype == i64 else float(value)
