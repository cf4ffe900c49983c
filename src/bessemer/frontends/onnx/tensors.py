"""TensorProto and SparseTensorProto as numpy arrays, every size checked before it is believed."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from bessemer.core.dtypes import DType
from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.types import MAX_ELEMENTS, MAX_RANK, dtype_of

log = logging.getLogger("bessemer.frontends")

Array = np.ndarray[Any, Any]

MAX_DENSE_BYTES = 1 << 28
"""A sparse tensor is made dense up to this size."""

_PACKED_BITS = {"i4": 4, "u4": 4, "f4e2m1": 4, "i2": 2, "u2": 2}
_AS_INT32 = {
    "i32": np.int32, "i16": np.int16, "i8": np.int8, "u16": np.uint16, "u8": np.uint8,
    "bool": np.bool_, "f16": np.uint16, "bf16": np.uint16, "f8e4m3fn": np.uint8,
    "f8e4m3fnuz": np.uint8, "f8e5m2": np.uint8, "f8e5m2fnuz": np.uint8, "f8e8m0": np.uint8,
    "i4": np.uint8, "u4": np.uint8, "f4e2m1": np.uint8, "i2": np.uint8, "u2": np.uint8,
}
_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data",
                 "string_data")


@dataclass(frozen=True)
class TensorReader:
    """Reads tensors of one model; `folder` holds its external data (None: there is no file)."""

    source: str
    folder: Path | None

    def read(self, proto: Any, what: str) -> Array:
        """The array of a TensorProto, read-only.

        Raises: ModelFormatError naming `what` if sizes, dtype or external data do not fit.
        """
        where = f"{self.source}: {what}"
        shape = check_dims(proto.dims, where)
        dtype = dtype_of(proto.data_type, where)
        if proto.HasField("segment"):
            raise ModelFormatError(f"{where}: segmented tensors are not supported; "
                                   "store the tensor in one piece")
        count = math.prod(shape)
        if proto.data_location == TensorProto.EXTERNAL:
            array = self._from_raw(self._external(proto, dtype, count, where), dtype, count, where)
        elif proto.HasField("raw_data"):
            array = self._from_raw(proto.raw_data, dtype, count, where)
        else:
            array = _from_fields(proto, dtype, count, where)
        array = array.reshape(shape)
        array.flags.writeable = False
        return array

    def read_sparse(self, proto: Any, what: str) -> Array:
        """The dense array of a SparseTensorProto. Raises ModelFormatError if it does not fit."""
        where = f"{self.source}: {what}"
        shape = check_dims(proto.dims, where)
        values = self.read(proto.values, what + ".values").reshape(-1)
        indices = self.read(proto.indices, what + ".indices")
        if math.prod(shape) * max(values.itemsize, 1) > MAX_DENSE_BYTES:
            raise ModelFormatError(f"{where}: the dense form {shape} of this sparse tensor is "
                                   f"larger than {MAX_DENSE_BYTES} bytes; store it dense")
        if indices.ndim not in (1, 2) or indices.dtype != np.int64:
            raise ModelFormatError(f"{where}: indices must be i64 of rank 1 or 2")
        if indices.shape[0] != values.size:
            raise ModelFormatError(f"{where}: {indices.shape[0]} indices for {values.size} values")
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 2:
            if indices.shape[1] != len(shape):
                raise ModelFormatError(f"{where}: indices have {indices.shape[1]} columns "
                                       f"for rank {len(shape)}")
            if values.size and ((indices < 0) | (indices >= np.array(shape))).any():
                raise ModelFormatError(f"{where}: an index lies outside {shape}")
            dense[tuple(indices.T)] = values
        else:
            if values.size and ((indices < 0) | (indices >= dense.size)).any():
                raise ModelFormatError(f"{where}: an index lies outside {shape}")
            dense.reshape(-1)[indices] = values
        dense.flags.writeable = False
        return dense

    def _from_raw(self, raw: Any, dtype: DType, count: int, where: str) -> Array:
        if dtype.kind == "string":
            raise ModelFormatError(f"{where}: a string tensor cannot have raw data")
        bits = _PACKED_BITS.get(dtype.name, dtype.size_bytes * 8)
        expected = (count * bits + 7) // 8
        if len(raw) != expected:
            raise ModelFormatError(
                f"{where}: {dtype} with {count} elements takes {expected} bytes, but the file has "
                f"{len(raw)}; it is damaged or cut short"
            )
        if dtype.name in _PACKED_BITS:
            return _unpack(np.frombuffer(raw, np.uint8), dtype, count)
        if dtype.name == "bool":
            return np.asarray(np.frombuffer(raw, np.uint8) != 0)
        return np.frombuffer(raw, dtype.numpy.newbyteorder("<")).astype(dtype.numpy, copy=False)

    def _external(self, proto: Any, dtype: DType, count: int, where: str) -> Any:
        entries = {entry.key: entry.value for entry in proto.external_data}
        path = self._external_path(entries.get("location", ""), where)
        bits = _PACKED_BITS.get(dtype.name, dtype.size_bytes * 8)
        try:
            offset = int(entries.get("offset", "0") or 0)
            length = int(entries.get("length", str((count * bits + 7) // 8)))
        except ValueError as error:
            raise ModelFormatError(f"{where}: external offset or length is no number") from error
        size = path.stat().st_size
        if offset < 0 or length < 0 or offset + length > size:
            raise ModelFormatError(
                f"{where}: wants bytes {offset} to {offset + length} of {path}, which has {size}; "
                "the data file is damaged or belongs to another model"
            )
        if length == 0:
            return b""
        return np.memmap(path, np.uint8, "r", offset, (length,))

    def _external_path(self, location: str, where: str) -> Path:
        if self.folder is None:
            raise ModelFormatError(f"{where}: its data lies in the file {location!r}; give the "
                                   "model's path instead of its bytes, or load the data first")
        root = self.folder.resolve()
        try:
            path = (root / location).resolve()
            inside = path.is_relative_to(root) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not location or not inside:
            raise ModelFormatError(f"{where}: its data file {location!r} is not a file inside "
                                   f"{root}; put it beside the model")
        return path


def check_dims(dims: Sequence[int], where: str) -> tuple[int, ...]:
    """The dimensions as a tuple. Raises ModelFormatError if one is negative or they are absurd."""
    shape = tuple(int(dim) for dim in dims)
    if len(shape) > MAX_RANK:
        raise ModelFormatError(f"{where}: has {len(shape)} dimensions; at most {MAX_RANK} "
                               "are possible")
    if any(dim < 0 for dim in shape):
        raise ModelFormatError(f"{where}: has a negative dimension in {shape}")
    if math.prod(max(dim, 1) for dim in shape) > MAX_ELEMENTS:
        raise ModelFormatError(f"{where}: shape {shape} is not a possible size")
    return shape


def warn_about_nan(array: Array, what: str, source: str) -> bool:
    """Logs a warning if a floating-point constant holds NaN; True if it did."""
    if array.size == 0 or array.dtype not in (np.float32, np.float64, np.float16,
                                              np.dtype(ml_dtypes.bfloat16)):
        return False
    # The minimum of an array with a NaN is NaN, and finding it needs no copy.
    found = bool(np.isnan(np.min(array)))
    if found:
        log.warning("%s: %s holds NaN; the outputs will probably be NaN too", source, what)
    return found


def _from_fields(proto: Any, dtype: DType, count: int, where: str) -> Array:
    name, per_element = _field_of(dtype)
    data = getattr(proto, name)
    expected = count * per_element
    if dtype.name in _PACKED_BITS:
        expected = (count * _PACKED_BITS[dtype.name] + 7) // 8
    if len(data) != expected:
        other = next((f for f in _TYPED_FIELDS if f != name and len(getattr(proto, f))), "")
        hint = f" (its data is in {other}, which {dtype} does not use)" if other else ""
        raise ModelFormatError(f"{where}: {dtype} with {count} elements needs {expected} entries "
                               f"in {name}, but there are {len(data)}{hint}")
    if dtype.kind == "string":
        strings = np.empty(count, object)
        strings[:] = [item.decode("utf-8", "surrogateescape") for item in data]
        return strings
    if name == "int32_data":
        return _narrow(np.array(data, np.int64), dtype, count)
    if dtype.kind == "complex":
        parts = np.array(data, np.float32 if dtype.name == "c64" else np.float64)
        return parts.view(dtype.numpy)
    return np.array(data, dtype.numpy)


def _narrow(wide: Array, dtype: DType, count: int) -> Array:
    if dtype.name == "bool":
        return np.asarray(wide != 0)
    stored: Array = wide.astype(_AS_INT32[dtype.name])
    if dtype.name in _PACKED_BITS:
        return _unpack(stored, dtype, count)
    return stored if stored.dtype == dtype.numpy else stored.view(dtype.numpy)


def _field_of(dtype: DType) -> tuple[str, int]:
    if dtype.kind == "string":
        return "string_data", 1
    if dtype.name in ("f32", "c64"):
        return "float_data", 2 if dtype.name == "c64" else 1
    if dtype.name in ("f64", "c128"):
        return "double_data", 2 if dtype.name == "c128" else 1
    if dtype.name == "i64":
        return "int64_data", 1
    if dtype.name in ("u32", "u64"):
        return "uint64_data", 1
    return "int32_data", 1


def _unpack(packed: Array, dtype: DType, count: int) -> Array:
    """Elements of 2 or 4 bits, lowest bits first in each byte."""
    bits = _PACKED_BITS[dtype.name]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((packed[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    if dtype.name == "f4e2m1":
        return codes.view(dtype.numpy)
    if dtype.kind == "int":
        signed = codes.astype(np.int8)
        half = 1 << (bits - 1)
        return ((signed ^ half) - half).astype(dtype.numpy)
    return codes.astype(dtype.numpy)
