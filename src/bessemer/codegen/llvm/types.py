"""LLVM type names and literals of our element types."""

import struct

import numpy as np

from bessemer.core.dtypes import DType
from bessemer.core.errors import CodegenError

_STORED = {"f64": "double", "f32": "float", "f16": "half", "bf16": "i16", "bool": "i8"}
_COMPUTED = {"f64": "double", "f32": "float", "f16": "half", "bf16": "i16", "bool": "i1"}


def stored(dtype: DType) -> str:
    """Type of an element in memory; small types are bytes."""
    return "i8" if dtype.is_small else _STORED.get(dtype.name) or _integer(dtype)


def computed(dtype: DType, lanes: int = 0) -> str:
    """Type of an SSA value; a vector if lanes > 0."""
    base = "i8" if dtype.is_small else _COMPUTED.get(dtype.name) or _integer(dtype)
    return f"<{lanes} x {base}>" if lanes else base


def _integer(dtype: DType) -> str:
    if not dtype.is_integer:
        raise CodegenError(f"kernels cannot hold {dtype}")
    return f"i{dtype.bits}"


def literal(value: float | int | bool, dtype: DType) -> str:
    """A scalar literal."""
    if dtype.kind == "bool":
        return "true" if value else "false"
    if dtype.is_small:
        return str(int(np.asarray(value).astype(dtype.numpy).view(np.uint8)))
    if dtype.name == "bf16":
        bits = struct.unpack("<I", struct.pack("<f", float(value)))[0]
        return str((bits >> 16) & 0xFFFF)
    if dtype.name == "f16":
        return f"0xH{struct.unpack('<H', struct.pack('<e', float(value)))[0]:04X}"
    if dtype.is_float:
        rounded = struct.unpack("<f", struct.pack("<f", value))[0] if dtype.bits == 32 else value
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(rounded)))[0]:016X}"
    bits = int(value) & ((1 << dtype.bits) - 1)
    return str(bits - (1 << dtype.bits) if bits >> (dtype.bits - 1) else bits)
