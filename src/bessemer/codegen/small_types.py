"""Conversions to and from 8-bit floats, 4-bit floats and integers below a byte, in u32 arithmetic.

An element of these types takes one byte of memory, a small integer its low bits. Kernels load,
store, select and convert them and compute with wider types. `expand_cast` spells a conversion out
without branches, so it vectorises. Rounding is to nearest, halves to even; values out of range
become infinite or NaN, whichever the type has (f4e2m1 has neither and saturates).

Source: OCP 8-bit Floating Point Specification 1.0 (E4M3, E5M2); Noune et al., "8-bit Numerical
Formats for Deep Neural Networks" (2022) for the types without negative zero; OCP Microscaling
Formats 1.0 (E2M1, E8M0).
"""

import math
from dataclasses import dataclass

from bessemer import te
from bessemer.core.dtypes import DType, f16, f32, f64, i32, u8, u32
from bessemer.te import Cast, Expr

_SIGN = 0x80000000
_F32_BIAS, _F32_MANTISSA = 127, 23


@dataclass(frozen=True)
class _Format:
    """A small float: a sign, exponent bits, `mantissa` bits.

    Codes (bits without the sign) above `largest` are not finite; `overflow` is written for what
    is too large and `nan` for NaN, both before the sign is set. With `one_nan` the code of
    negative zero is the only NaN.
    """

    sign: int
    mantissa: int
    bias: int
    largest: int
    overflow: int
    nan: int
    one_nan: bool = False


_FORMATS = {
    "f8e4m3fn": _Format(0x80, 3, 7, 0x7E, 0x7F, 0x7F),
    "f8e4m3fnuz": _Format(0x80, 3, 8, 0x7F, 0x80, 0x80, one_nan=True),
    "f8e5m2": _Format(0x80, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8e5m2fnuz": _Format(0x80, 2, 16, 0x7F, 0x80, 0x80, one_nan=True),
    "f4e2m1": _Format(0x08, 1, 1, 0x07, 0x07, 0x08),
}


def expand_cast(node: Cast) -> Expr | None:
    """A conversion from or to a small type (or from f64 to f16) in wider types; else None."""
    source, to = node.a.dtype, node.dtype
    if source.is_small:
        wide = _float_of(node.a) if source.is_float else _integer_of(node.a)
        return wide if wide.dtype == to else _cast(wide, to)
    if to.is_small:
        return _small_float(node.a, to) if to.is_float else _small_integer(node.a, to)
    if (source, to) == (f64, f16):
        return te.cast(_round_to_odd(node.a), f16)
    return None


def _cast(value: Expr, to: DType) -> Expr:
    """A conversion that needs no other one inside."""
    made = te.cast(value, to)
    expanded = expand_cast(made) if isinstance(made, Cast) else None
    return made if expanded is None else expanded


def _bits(value: Expr) -> Expr:
    """The byte of a small element as u32."""
    return te.cast(te.bitcast(value, u8), u32)


def _u(value: int) -> Expr:
    return te.const(value, u32)


# -- small integers -----------------------------------------------------------------------------


def _integer_of(value: Expr) -> Expr:
    """A small integer as u32, or as i32 if it is signed."""
    dtype = value.dtype
    low = _bits(value) & ((1 << dtype.bits) - 1)
    if dtype.kind == "uint":
        return low
    half = 1 << (dtype.bits - 1)
    return te.cast(low ^ half, i32) - half


def _small_integer(value: Expr, to: DType) -> Expr:
    """The low bits of an integer; floats are truncated first."""
    whole = te.cast(value, i32) if value.dtype.is_float else value
    return te.bitcast(te.cast(whole, u8) & ((1 << to.bits) - 1), to)


# -- small floats to f32 ------------------------------------------------------------------------


def _float_of(value: Expr) -> Expr:
    """A small float as f32, exactly."""
    bits = _bits(value)
    if value.dtype.name == "f8e8m0":
        # 2**-127 is below the normal numbers of f32.
        normal = te.where(te.equal(bits, 0), _u(0x00400000), bits << _F32_MANTISSA)
        return te.where(te.equal(bits, 255), te.const(math.nan, f32), te.bitcast(normal, f32))
    form = _FORMATS[value.dtype.name]
    code = bits & (form.sign - 1)
    shift = _F32_MANTISSA - form.mantissa
    normal = te.bitcast((code << shift) + ((_F32_BIAS - form.bias) << _F32_MANTISSA), f32)
    # A cast from i32 is one instruction, one from u32 is not.
    smallest = 2.0 ** (1 - form.bias - form.mantissa)
    subnormal = te.cast(te.cast(code, i32), f32) * smallest
    magnitude = te.where(code < (1 << form.mantissa), subnormal, normal)
    if form.overflow > form.largest and not form.one_nan:
        special = te.where(te.equal(code, form.overflow),
                           te.const(math.nan if form.nan == form.overflow else math.inf, f32),
                           te.const(math.nan, f32))
        magnitude = te.where(code > form.largest, special, magnitude)
    sign = te.where(te.equal(bits & form.sign, 0), _u(0), _u(_SIGN))
    result = te.bitcast(te.bitcast(magnitude, u32) | sign, f32)
    if form.one_nan:
        return te.where(te.equal(bits, form.sign), te.bitcast(_u(0xFFC00000), f32), result)
    return result


# -- f32 to small floats ------------------------------------------------------------------------


def _small_float(value: Expr, to: DType) -> Expr:
    """A number as a small float; wider types are rounded to f32 first, as ml_dtypes does."""
    wide = _cast(value, f32)
    bits = te.bitcast(wide, u32)
    code = _exponent_code(bits) if to.name == "f8e8m0" else _code(bits, _FORMATS[to.name])
    return te.bitcast(te.cast(code, u8), to)


def _code(bits: Expr, form: _Format) -> Expr:
    """The code of the f32 number with those bits."""
    absolute = bits & (_SIGN - 1)
    shift = _F32_MANTISSA - form.mantissa
    least = (_F32_BIAS - form.bias + 1) << _F32_MANTISSA
    # Below the normal numbers `absolute` would wrap; it is not used there.
    normal = _rounded(te.maximum(absolute, _u(least)), shift) - (
        (_F32_BIAS - form.bias) << form.mantissa)
    scaled = te.bitcast(absolute, f32) * 2.0 ** (form.bias - 1 + form.mantissa)
    small = te.where(absolute < least, te.round_(scaled), te.const(0.0, f32))
    subnormal = te.cast(te.cast(small, i32), u32)
    code = te.where(absolute < least, subnormal, normal)
    code = te.where(code > form.largest, _u(form.overflow), code)
    sign = te.where(bits < _SIGN, _u(0), _u(form.sign))
    is_nan = absolute > 0x7F800000
    if form.one_nan:
        signed = te.where(te.equal(code, 0), _u(0), code | sign)
        return te.where(is_nan, _u(form.nan), signed)
    if form.sign == form.nan:
        # A type without NaN: ml_dtypes gives the zero of the opposite sign.
        return te.where(is_nan, sign ^ form.nan, code | sign)
    return te.where(is_nan, _u(form.nan), code) | sign


def _rounded(bits: Expr, shift: int) -> Expr:
    """Bits shifted right, rounded to nearest, halves to even."""
    odd = (bits >> shift) & 1
    return (bits + odd + ((1 << (shift - 1)) - 1)) >> shift


def _exponent_code(bits: Expr) -> Expr:
    """The nearest power of two as f8e8m0, halves up; NaN for what is not positive and finite.

    Subnormal numbers round up from 2**-127 on, as ml_dtypes does.
    """
    up = te.where(te.equal(bits, 0x00400000), _u(0), _u(0x00400000))
    code = (bits + up) >> _F32_MANTISSA
    valid = (bits > 0) & (bits < 0x7F800000)
    return te.where(valid, code, _u(255))


# -- f64 to f16 ---------------------------------------------------------------------------------


def _round_to_odd(value: Expr) -> Expr:
    """An f64 number as f32, rounded so that rounding again to f16 gives what one rounding gives.

    What is not exact gets an odd last bit. Source: Boldo and Melquiond, "Emulation of FMA and
    correctly rounded sums: proved algorithms using rounding to odd" (2008).
    """
    near = te.cast(value, f32)
    bits = te.bitcast(near, u32)
    away = te.abs_(te.cast(near, f64)) > te.abs_(value)
    cut = te.where(away, bits - 1, bits)
    exact = te.equal(te.cast(near, f64), value) | te.isnan(value)
    return te.bitcast(te.where(exact, bits, cut | 1), f32)
