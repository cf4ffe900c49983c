"""Elementary functions of f32 spelled out in basic arithmetic, without branches, so they vectorise.

Every function takes and returns f32 expressions and is right over the whole range: subnormals,
signed zeros, infinities and NaN included. The error bounds in the docstrings are in units in the
last place, measured over dense samples of all f32 numbers. They hold with and without fused
multiply-add, but not if additions are reassociated: the reductions rely on rounding.

Source: argument reduction after Cody and Waite, "Software Manual for the Elementary Functions"
(1980); the coefficients are weighted minimax fits, derived by tests/codegen/fit_math.py.
"""

import math

from bessemer import te
from bessemer.core.dtypes import DType, f32, f64, i32, i64, u32, u64
from bessemer.te import Expr

_EXP = (0.49999993050726615, 0.16666514791349973, 0.04166845678414843, 0.008369418836568936,
        0.0013813144828800036)
_EXP_SHORT = (0.9999996892474876, 0.49999115261035243, 0.16667675393857487, 0.041902557309086555,
              0.008289458752318693)
_LOG = (0.33333331707816916, -0.2500082103534142, 0.20001226863890748, -0.16623357303252373,
        0.14201758280873628, -0.13160183066574566, 0.12761575267684833, -0.07634492495035636)
_TANH = (-0.3333328194185434, 0.1333144219479991, -0.053739714853807304, 0.020639086605611683,
         -0.0057049863798967725)
_SINH = (0.16666666497560773, 0.008333350058178242, 0.00019836159777392203, 2.8169512275304583e-06)
_ASIN = (0.16666752482004812, 0.0749529764436203, 0.04547037573097883, 0.024179516027181748,
         0.04216630590453217)
_ATAN = (-0.3333331518858265, 0.1999847151407632, -0.14243533322682952, 0.10593813588209401,
         -0.06078221087877253)
_SIN = (-0.1666665460954349, 0.008332160761430556, -0.0001951528314182724)
_COS = (0.04166664568343392, -0.0013887316274385642, 2.4433159138738165e-05)
_ERF_SMALL = (0.12837916657453832, -0.3761263317182907, 0.11283687038232144,
              -0.026858935634431043, 0.005199895481743138, -0.000812991017425389,
              8.316413449085266e-05)
_ERF_LARGE = (0.00017751705952750996, 1.127749465742476, 0.6370599225865861, 0.10403720563776242,
              -0.022277010586856678, 0.0030555878638012534, -0.00019717967152576793)
_ERF_END = 3.92
_ERF_WHOLE = (0.3607368196477685, -0.18010857828743096, 0.13408344341903367, -0.10918117758408821,
              0.09062113705368643, -0.0739980111366256, 0.058197137461749635, -0.0435431952104848,
              0.030496997457158413, -0.019730931719619545, 0.012472255393354621,
              -0.008009597657672885, 0.004004981233716993, -0.0011607885574084118,
              0.0007999639625865756, -0.000906268161466819, 0.00032784695555813795)
_POW_EXP = (0.5000000071671886, 0.16666665820101062, 0.04166628032539025, 0.008333503753391555,
            0.001394575228359338, 0.00019789262841231223)

# ln 2 in two parts: the first has nine bits, so its products with exponents are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -0.00021219444005469057
_LN2 = math.log(2)
# Adding 1.5 * 2**23 leaves a number's nearest integer in the low bits of the sum. Unlike a
# conversion to integer, this is defined for NaN too.
_ROUND, _ROUND_BITS = 12582912.0, 0x4B400000
_ROUND64, _ROUND64_BITS = 6755399441055744.0, 0x4338000000000000
_SQRT_HALF_BITS = 0x3F3504F3
_SQRT_HALF64_BITS = 0x3FE6A09E667F3BCD
_SIGN = 0x80000000
# The first bits of 2/pi, in parts of 29: times the 24 bits of an f32 number, each is exact in f64.
_TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041
_TWO_OVER_PI_PARTS = tuple(
    math.ldexp(_TWO_OVER_PI >> (192 - 29 * (k + 1)) & (1 << 29) - 1, -29 * (k + 1))
    for k in range(6)
)
# What pi/2 loses when it is rounded to f32.
_HALF_PI_LOW = -4.371139000186241e-08
_INF, _NAN = math.inf, math.nan


def _f(value: float) -> Expr:
    return te.const(value, f32)


def polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """The polynomial with those coefficients, lowest first, by Horner's rule, in the dtype of x."""
    result: Expr = te.const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def _bits(x: Expr, dtype: DType = i32) -> Expr:
    return te.bitcast(x, dtype)


def copy_sign(magnitude: Expr, sign: Expr) -> Expr:
    """A non-negative magnitude with the sign bit of `sign`."""
    return te.bitcast(_bits(magnitude, u32) | (_bits(sign, u32) & _SIGN), f32)


def _power_of_two(n: Expr) -> Expr:
    """2**n for i32 n in -126 .. 127."""
    return te.bitcast((n + 127) << 23, f32)


def _reduce_exp(x: Expr, bias: int) -> tuple[Expr, Expr]:
    """Bits (i32) of _ROUND + n + bias, and r, with x = n ln 2 + r and abs(r) <= ln 2 / 2."""
    shifted = x * (1 / _LN2) + (_ROUND + bias)
    whole = shifted - (_ROUND + bias)
    return _bits(shifted), (x - whole * _LN2_HIGH) - whole * _LN2_LOW


def _at_most(x: Expr, high: float) -> Expr:
    """The smaller of two; NaN stays NaN (one instruction on x86, unlike te.minimum)."""
    return te.where(x > high, high, x)


def _at_least(x: Expr, low: float) -> Expr:
    return te.where(x < low, low, x)


def _exp(x: Expr, halvings: int = 0) -> Expr:
    """exp(x) / 2**halvings for x <= 90 (or NaN), rounded once also where it is subnormal.

    Two factors hold the exponent, because one cannot be as small as 2**-150.
    """
    bits, r = _reduce_exp(_at_least(x, -104.0), 2 * 127 - halvings)
    # A product that underflows costs the machine 150 cycles; most of them come from -inf.
    mantissa = te.where(x < -104.0, 0.0, (r * r) * polynomial(r, _EXP) + r + 1.0)
    n = bits - _ROUND_BITS
    first = n >> 1
    return mantissa * te.bitcast(first << 23, f32) * te.bitcast((n - first) << 23, f32)


def _exp_moderate(x: Expr) -> Expr:
    """exp(x) for x in -87 .. 88 (or NaN), where one scaling is enough."""
    bits, r = _reduce_exp(x, 127)
    # The shift drops all bits of _ROUND.
    return ((r * r) * polynomial(r, _EXP) + r + 1.0) * te.bitcast(bits << 23, f32)


def exp(x: Expr) -> Expr:
    """Exponential, below 1 ulp."""
    return _exp(_at_most(x, 90.0))


def expm1(x: Expr) -> Expr:
    """exp(x) - 1, below 2 ulp."""
    bits, r = _reduce_exp(_at_least(_at_most(x, 89.0), -20.0), 126)
    tail = (r * r) * polynomial(r, _EXP) + r
    half = te.bitcast(bits << 23, f32)
    return te.where(te.equal(x, 0.0), x, (half * tail + (half - 0.5)) * 2.0)


def _split(x: Expr) -> tuple[Expr, Expr]:
    """Exponent e (i32) and m in sqrt(1/2) .. sqrt(2) with x = m * 2**e, for normal positive x."""
    e = (_bits(x) - _SQRT_HALF_BITS) >> 23
    return e, te.bitcast(_bits(x) - (e << 23), f32)


def _log_sum(f: Expr, e: Expr) -> Expr:
    """log(1 + f) + e ln 2."""
    z = f * f
    scale = te.cast(e, f32)
    tail = (z * f) * polynomial(f, _LOG) + scale * _LN2_LOW - z * 0.5
    return (f + tail) + scale * _LN2_HIGH


def _log_ends(x: Expr, inner: Expr, zero: float) -> Expr:
    """`inner` for zero < x < inf, and the values at and beyond the ends of a logarithm."""
    outside = te.where(te.equal(x, zero), _f(-_INF), _f(_NAN))
    return te.where(x > zero, te.where(x < _INF, inner, x), outside)


def log(x: Expr) -> Expr:
    """Natural logarithm, below 1 ulp."""
    small = x < 2.0**-126
    e, m = _split(te.where(small, x * 2.0**25, x))
    e = te.where(small, e - 25, e)
    return _log_ends(x, _log_sum(m - 1.0, e), 0.0)


def log1p(x: Expr) -> Expr:
    """log(1 + x), below 2 ulp: what the sum 1 + x loses is added to its mantissa."""
    total = x + 1.0
    e, m = _split(total)
    lost = te.where(x > 1.0, 1.0 - (total - x), x - (total - 1.0))
    lost = te.where(x > 2.0**30, 0.0, lost)
    e_scale = te.where(e > 100, 100, e)
    inner = _log_sum((m - 1.0) + lost * _power_of_two(-e_scale), e)
    return _log_ends(x, te.where(te.equal(x, 0.0), x, inner), -1.0)


def tanh(x: Expr) -> Expr:
    """Hyperbolic tangent, below 1.5 ulp: a polynomial below 0.625, 1 - 2 / (exp(2x) + 1) above."""
    a = te.abs_(x)
    z = a * a
    small = (a * z) * polynomial(z, _TANH) + a
    capped = _at_most(a, 10.0)
    large = 1.0 - 2.0 / (_exp_moderate(capped + capped) + 1.0)
    return copy_sign(te.where(a < 0.625, small, large), x)


def _reduce_exp_of_minus(x: Expr) -> tuple[Expr, Expr]:
    """Bits (i32) of _ROUND + n + 127, and r, with -x = n ln 2 + r, for x in -105 .. 88.

    Of -x, `_reduce_exp` takes an instruction more: EfficientNet-B0 1.6 % longer on Cascade Lake.
    """
    shifted = x * (-1 / _LN2) + (_ROUND + 127)
    whole = shifted - (_ROUND + 127)
    return _bits(shifted), (-x - whole * _LN2_HIGH) - whole * _LN2_LOW


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)), below 2.5 ulp; where exp(-x) overflows, both parts are 2**64 smaller."""
    bits, r = _reduce_exp_of_minus(_at_least(_at_most(x, 87.0), -105.0))
    # Two short polynomials take the place of one, so that less waits for the step before.
    z = r * r
    low, high = polynomial(r, _EXP[:2]), polynomial(r, _EXP[2:4])
    q = z * (z * (z * _EXP[4] + high) + low) + r
    far = x < -60.0
    unit = te.where(far, _f(2.0**-64), _f(1.0))
    # The shift drops all bits of _ROUND, and what n is above 127 until 64 is subtracted.
    scale = te.bitcast((bits << 23) - te.where(far, te.const(64 << 23, i32), 0), f32)
    return unit / (q * scale + (scale + unit))


def gated(a: Expr, x: Expr) -> Expr:
    """The product a * sigmoid(x) by one division, below 4 ulp.

    Gates stand by the million behind light convolutions, so the exponential is as short as it can
    be. A sigmoid below 2**-126 may count as 0.
    """
    bits, r = _reduce_exp_of_minus(_at_least(_at_most(x, 87.0), -89.0))
    power = polynomial(r, (1.0, *_EXP_SHORT))
    return a / (power * te.bitcast(bits << 23, f32) + 1.0)


def erf(x: Expr) -> Expr:
    """Error function, below 1.5 ulp: a polynomial below 0.92, 1 - exp(polynomial) above."""
    a = te.abs_(x)
    z = a * a
    small = a * polynomial(z, _ERF_SMALL) + a
    capped = _at_most(a, 4.0)
    large = 1.0 - _exp_moderate(-polynomial(capped, _ERF_LARGE))
    return copy_sign(te.where(a < 0.92, small, large), x)


def one_plus_erf(x: Expr) -> Expr:
    """1 + erf(x), to 3e-7: x times one polynomial of x**2, and neither branch nor exponential.

    GELU takes this sum. A correctly rounded erf would leave it 9e-8; exact are the ends 0 and 2.
    """
    near = _at_least(_at_most(x, _ERF_END), -_ERF_END)
    u = near * (near * (2 / _ERF_END**2)) - 1.0
    return te.where(x < -_ERF_END, 0.0, near * polynomial(u, _ERF_WHOLE) + 1.0)


def one_plus_tanh(x: Expr) -> Expr:
    """1 + tanh(x), below 4 ulp: twice the sigmoid of twice the argument."""
    return gated(_f(2.0), x + x)


def sinh(x: Expr) -> Expr:
    """Hyperbolic sine, below 2 ulp."""
    a = te.abs_(x)
    z = a * a
    small = (a * z) * polynomial(z, _SINH) + a
    half = _exp(_at_most(a, 90.0), halvings=1)
    return copy_sign(te.where(a < 1.0, small, half - 0.25 / half), x)


def cosh(x: Expr) -> Expr:
    """Hyperbolic cosine, below 2 ulp."""
    half = _exp(_at_most(te.abs_(x), 90.0), halvings=1)
    return half + 0.25 / half


def asinh(x: Expr) -> Expr:
    """Inverse hyperbolic sine, below 3 ulp: log1p(a + a**2 / (1 + sqrt(1 + a**2)))."""
    a = te.abs_(x)
    huge = a > 2.0**30
    z = a * a
    inner = te.where(huge, a, a + z / (te.sqrt(z + 1.0) + 1.0))
    return copy_sign(log1p(inner) + te.where(huge, _f(_LN2), _f(0.0)), x)


def acosh(x: Expr) -> Expr:
    """Inverse hyperbolic cosine, below 3 ulp; NaN below 1."""
    huge = x > 2.0**30
    t = x - 1.0
    inner = te.where(huge, x, t + te.sqrt(t * t + 2.0 * t))
    result = log1p(inner) + te.where(huge, _f(_LN2), _f(0.0))
    return te.where(x < 1.0, _f(_NAN), result)


def atanh(x: Expr) -> Expr:
    """Inverse hyperbolic tangent, below 3 ulp; NaN beyond 1."""
    a = te.abs_(x)
    return copy_sign(0.5 * log1p((a + a) / (1.0 - a)), x)


def _asin_parts(x: Expr) -> tuple[Expr, Expr, Expr]:
    """(a > 1/2, the reduced argument t, asin(t)), with asin(a) = pi/2 - 2 asin(t) above 1/2."""
    a = te.abs_(x)
    large = a > 0.5
    z = te.where(large, (1.0 - a) * 0.5, a * a)
    t = te.where(large, te.sqrt(z), a)
    return large, t, (t * z) * polynomial(z, _ASIN) + t


def asin(x: Expr) -> Expr:
    """Inverse sine, below 2 ulp; NaN beyond 1."""
    large, _, inner = _asin_parts(x)
    # pi/2 in two parts, so that the difference keeps its last bits.
    flipped = (_f(math.pi / 2) - 2.0 * inner) + _HALF_PI_LOW
    return copy_sign(te.where(large, flipped, inner), x)


def acos(x: Expr) -> Expr:
    """Inverse cosine, below 2 ulp; NaN beyond 1."""
    large, _, inner = _asin_parts(x)
    twice = inner + inner
    far = te.where(x < 0.0, (_f(math.pi) - twice) + 2 * _HALF_PI_LOW, twice)
    near = _f(math.pi / 2) - (copy_sign(inner, x) - _HALF_PI_LOW)
    return te.where(large, far, near)


def atan(x: Expr) -> Expr:
    """Inverse tangent, below 2 ulp: reduced at tan(pi/8) and tan(3 pi/8) by one division."""
    a = te.abs_(x)
    middle, large = a > math.tan(math.pi / 8), a > math.tan(3 * math.pi / 8)
    top = te.where(large, -1.0, te.where(middle, a - 1.0, a))
    bottom = te.where(large, a, te.where(middle, a + 1.0, _f(1.0)))
    base = te.where(large, _f(math.pi / 2), te.where(middle, _f(math.pi / 4), _f(0.0)))
    low = te.where(large, _f(_HALF_PI_LOW), te.where(middle, _f(_HALF_PI_LOW / 2), _f(0.0)))
    t = top / bottom
    z = t * t
    return copy_sign(base + (((t * z) * polynomial(z, _ATAN) + low) + t), x)


def _reduce_quadrant(x: Expr) -> tuple[Expr, Expr]:
    """Quadrant q (u32; only its two low bits count) and r in -pi/4 .. pi/4, x = r + q pi/2.

    Right for all finite x: each part of x * 2/pi is exact, and multiples of 4 in it are dropped.
    Source: the idea of Payne and Hanek (1983), with f64 products in place of integers.
    """
    wide = te.cast(x, f64)
    parts = []
    for part in _TWO_OVER_PI_PARTS:
        turn = wide * part
        parts.append(turn - te.round_(turn * 0.25) * 4.0)
    rough = parts[0] + parts[1]
    shifted = rough + _ROUND64
    fraction = (parts[0] - (shifted - _ROUND64)) + parts[1]
    # The later parts hold whole turns only where x is huge; then the first ones are zero.
    rest = (parts[2] + parts[3]) + (parts[4] + parts[5])
    again = (fraction + rest) + _ROUND64
    fraction = (fraction - (again - _ROUND64)) + rest
    quadrant = te.cast(_bits(shifted, u64) + _bits(again, u64), u32)
    return quadrant, te.cast(fraction * (math.pi / 2), f32)


def _sin_cos(x: Expr) -> tuple[Expr, Expr, Expr]:
    """The quadrant, and sine and cosine of the reduced argument."""
    quadrant, r = _reduce_quadrant(x)
    z = r * r
    sine = (r * z) * polynomial(z, _SIN) + r
    cosine = (z * z) * polynomial(z, _COS) - z * 0.5 + 1.0
    return quadrant, sine, cosine


def _turned(quadrant: Expr, sine: Expr, cosine: Expr) -> Expr:
    """The sine of an angle turned by quadrants."""
    value = te.where(te.equal(quadrant & 1, 0), sine, cosine)
    return te.bitcast(_bits(value, u32) ^ ((quadrant & 2) << 30), f32)


def sin(x: Expr) -> Expr:
    """Sine, below 1.5 ulp; below 3 ulp at the worst multiples of pi/2 beyond 2**24."""
    return te.where(te.equal(x, 0.0), x, _turned(*_sin_cos(x)))


def cos(x: Expr) -> Expr:
    """Cosine, below 1.5 ulp; below 3 ulp at the worst multiples of pi/2 beyond 2**24."""
    quadrant, sine, cosine = _sin_cos(x)
    return _turned(quadrant + 1, sine, cosine)


def tan(x: Expr) -> Expr:
    """Tangent, below 4 ulp."""
    quadrant, sine, cosine = _sin_cos(x)
    even = te.equal(quadrant & 1, 0)
    value = te.where(even, sine, -cosine) / te.where(even, cosine, sine)
    return te.where(te.equal(x, 0.0), x, value)


def _log2_f64(a: Expr) -> Expr:
    """log2 of a positive f32 number as f64, to 1e-13: 2 atanh((m-1)/(m+1)) as a series."""
    wide = te.cast(a, f64)
    # Kept positive, so that a logical shift does (AVX2 has no arithmetic one for 64 bits).
    biased = _bits(wide, u64) - (_SQRT_HALF64_BITS - (1023 << 52))
    e = (biased >> 52) - 1023
    m = te.bitcast(_bits(wide, u64) - (e << 52), f64)
    exponent = te.bitcast(te.bitcast(e, i64) + _ROUND64_BITS, f64) - _ROUND64
    s = (m - 1.0) / (m + 1.0)
    terms = tuple(2 / _LN2 / (2 * k + 1) for k in range(8))
    return s * polynomial(s * s, terms) + exponent


def _exp2_f64(t: Expr) -> Expr:
    """2**t of an f64 number as f32, overflow and underflow included."""
    t = _at_least(_at_most(t, 200.0), -200.0)
    shifted = t + (_ROUND64 + 1023)
    r = (t - (shifted - (_ROUND64 + 1023))) * _LN2
    mantissa = (r * r) * polynomial(r, _POW_EXP) + r + 1.0
    return te.cast(mantissa * te.bitcast(_bits(shifted, i64) << 52, f64), f32)


def power(x: Expr, y: Expr) -> Expr:
    """Power of two f32 numbers as in C (F.10.4.4), below 0.6 ulp: 2**(y log2(x)) in f64."""
    a = te.abs_(x)
    ends = te.where(te.equal(a, 0.0), _f(-_INF), a)
    inside = (a > 0.0) & (a < _INF)
    log2 = te.where(inside, _log2_f64(a), te.cast(ends, f64))
    product = log2 * te.cast(y, f64)
    # (-1)**inf is 1, though 0 * inf is NaN.
    product = te.where(te.equal(a, 1.0) & te.equal(y, y), te.const(0.0, f64), product)
    size = _exp2_f64(product)
    whole = te.equal(te.trunc(y), y)
    half = y * 0.5
    odd = whole & te.not_equal(te.trunc(half), half)
    negative = _bits(x) < 0
    result = te.where(odd & negative, -size, size)
    invalid = (x < 0.0) & (x > -_INF) & ~whole
    result = te.where(invalid, _f(_NAN), result)
    return te.where(te.equal(y, 0.0) | te.equal(x, 1.0), _f(1.0), result)
