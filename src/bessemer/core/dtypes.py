"""Element types: one table with the name used in text forms, bits, kind and numpy type."""

from functools import cache
from typing import Any

import numpy as np

from bessemer.core.frozen import dataclass


@dataclass(frozen=True)
class DType:
    """An element type.

    `kind` is one of float, int, uint, bool, string. `bits` is the storage in a tensor
    (bool is stored in one byte; int4 and smaller take one byte an element in memory).
    """

    name: str
    bits: int
    kind: str
    source: np.dtype[Any] | str
    """The numpy type, or the name of one of ml_dtypes, which is imported when it is used."""

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type."""
        return _from_ml_dtypes(self.source) if isinstance(self.source, str) else self.source

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    @property
    def size_bytes(self) -> int:
        """Bytes one element takes in memory."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """True for every floating-point type, small ones included."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self.kind in ("int", "uint")

    @property
    def is_small(self) -> bool:
        """True for 8-bit and 4-bit floats and integers below a byte: kernels only convert them."""
        return self.bits < 8 or (self.bits == 8 and self.is_float)

    def holds(self, other: "DType") -> bool:
        """True if every number of another type goes into this one and comes back the same."""
        if self == other:
            return True
        if self.kind not in ("float", "int", "uint") or other.kind not in (
                "float", "int", "uint", "bool"):
            return False
        if not other.is_float:
            low, high = _range(other)
            if not self.is_float:
                return _range(self)[0] <= low and high <= _range(self)[1]
            info = _finfo(self)
            # The least number of a signed type is a power of two.
            return bool(float(info.min) <= low and high <= float(info.max)
                        and high.bit_length() <= info.nmant + 1)
        if not self.is_float or self.name.endswith(("uz", "m0")):
            return False  # these have no -0, or no signs at all
        mine, theirs = _finfo(self), _finfo(other)
        return bool(theirs.nmant <= mine.nmant and float(theirs.max) <= float(mine.max)
                    and float(theirs.smallest_subnormal) >= float(mine.smallest_subnormal))


@cache
def _from_ml_dtypes(name: str) -> np.dtype[Any]:
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def _finfo(dtype: DType) -> Any:
    import ml_dtypes

    return ml_dtypes.finfo(dtype.numpy)


def _range(dtype: DType) -> tuple[int, int]:
    """The least and the largest number of an integer type, or of bool."""
    bits = 1 if dtype.kind == "bool" else dtype.bits
    if dtype.kind == "int":
        return -(1 << bits - 1), (1 << bits - 1) - 1
    return 0, (1 << bits) - 1


def _table() -> dict[str, DType]:
    rows: list[tuple[str, int, str, Any]] = [
        ("f64", 64, "float", np.float64),
        ("f32", 32, "float", np.float32),
        ("f16", 16, "float", np.float16),
        ("bf16", 16, "float", "bfloat16"),
        ("i8", 8, "int", np.int8),
        ("i16", 16, "int", np.int16),
        ("i32", 32, "int", np.int32),
        ("i64", 64, "int", np.int64),
        ("u8", 8, "uint", np.uint8),
        ("u16", 16, "uint", np.uint16),
        ("u32", 32, "uint", np.uint32),
        ("u64", 64, "uint", np.uint64),
        ("bool", 8, "bool", np.bool_),
        ("string", 64, "string", np.object_),
        ("i4", 4, "int", "int4"),
        ("u4", 4, "uint", "uint4"),
        ("i2", 2, "int", "int2"),
        ("u2", 2, "uint", "uint2"),
        ("f8e4m3fn", 8, "float", "float8_e4m3fn"),
        ("f8e4m3fnuz", 8, "float", "float8_e4m3fnuz"),
        ("f8e5m2", 8, "float", "float8_e5m2"),
        ("f8e5m2fnuz", 8, "float", "float8_e5m2fnuz"),
        ("f8e8m0", 8, "float", "float8_e8m0fnu"),
        ("f4e2m1", 4, "float", "float4_e2m1fn"),
        ("c64", 64, "complex", np.complex64),
        ("c128", 128, "complex", np.complex128),
    ]
    return {
        name: DType(name, bits, kind, source if isinstance(source, str) else np.dtype(source))
        for name, bits, kind, source in rows
    }


DTYPES: dict[str, DType] = _table()
_BY_NUMPY = {entry.numpy: entry for entry in DTYPES.values() if not isinstance(entry.source, str)}

f64, f32, f16, bf16 = DTYPES["f64"], DTYPES["f32"], DTYPES["f16"], DTYPES["bf16"]
i8, i16, i32, i64 = DTYPES["i8"], DTYPES["i16"], DTYPES["i32"], DTYPES["i64"]
u8, u16, u32, u64 = DTYPES["u8"], DTYPES["u16"], DTYPES["u32"], DTYPES["u64"]
boolean, string = DTYPES["bool"], DTYPES["string"]

COMPILED = (f64, f32, f16, bf16, i8, i16, i32, i64, u8, u16, u32, u64, boolean,
            *(entry for entry in DTYPES.values() if entry.is_small))
"""The element types that kernels load and store; all others run on the host."""


def as_type(array: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    """The array converted as numpy does it, also between two small types, which numpy lacks."""
    if dtype.is_small and array.dtype != dtype.numpy and dtype_from_numpy(array.dtype).is_small:
        array = array.astype(np.float32)
    return array.astype(dtype.numpy)


def dtype_from_numpy(dtype: Any) -> DType:
    """The DType of a numpy dtype (str and bytes arrays count as string); KeyError if none."""
    found = np.dtype(dtype)
    if found.kind in "US":
        return string
    return _BY_NUMPY.get(found) or _by_small_numpy()[found]


@cache
def _by_small_numpy() -> dict[np.dtype[Any], DType]:
    """The types that numpy has from ml_dtypes."""
    return {entry.numpy: entry for entry in DTYPES.values() if isinstance(entry.source, str)}
