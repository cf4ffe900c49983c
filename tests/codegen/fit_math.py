"""Derives the polynomials of `bessemer.codegen.legalize`: run it to print them.

Each is a weighted minimax fit: Lawson's iteration (iteratively reweighted least squares) on
Chebyshev nodes, with the weight that turns the error of the polynomial into the relative error of
the function. Functions with cancellation near zero are evaluated by series or in long double.
"""

import math

import numpy as np
from numpy.polynomial import chebyshev, polynomial

LONG = np.longdouble


def fit(function, weight, low, high, degree, rounds=200):
    """Monomial coefficients, lowest first, and the largest weighted error on the nodes."""
    count = 40 * (degree + 1)
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    y = np.array([float(function(LONG(v))) for v in x])
    w = np.array([abs(float(weight(LONG(v)))) for v in x])
    basis = chebyshev.chebvander(nodes, degree)
    lawson = np.ones(count)
    for _ in range(rounds):
        scale = (np.sqrt(lawson) * w)[:, None]
        solution, *_ = np.linalg.lstsq(basis * scale, y * scale[:, 0], rcond=None)
        error = np.abs((basis @ solution - y) * w)
        lawson *= error
        lawson /= lawson.sum()
    inner = chebyshev.cheb2poly(solution)
    middle, half = (low + high) / 2, (high - low) / 2
    result = np.zeros(1)
    for coefficient in inner[::-1]:
        result = polynomial.polyadd(
            polynomial.polymul(result, [-middle / half, 1 / half]), [coefficient])
    return result[: degree + 1], error.max()


def _exp_tail(r):
    return sum(r**k / math.factorial(k + 2) for k in range(25))


def _exp_rise(r):
    """(exp(r) - 1) / r."""
    return sum(r**k / math.factorial(k + 1) for k in range(25))


def _log_tail(f):
    return sum((-f) ** k / LONG(k + 3) for k in range(120))


def _odd(function):
    """(f(x) - x) / x**3 as a function of z = x**2."""
    return lambda z: (function(np.sqrt(z)) - np.sqrt(z)) / (z * np.sqrt(z))


def _odd_weight(function):
    return lambda z: z * np.sqrt(z) / function(np.sqrt(z))


def _erf_over_x(z):
    return LONG(math.erf(math.sqrt(z))) / np.sqrt(z) - 1


def _erf_argument(u):
    """x in 0 .. ERF_END for u in -1 .. 1."""
    return math.sqrt(max(0.0, (1 + float(u)) / 2)) * ERF_END


def _erf_over_argument(u):
    x = _erf_argument(u)
    return math.erf(x) / x


def _minus_log_erfc(t):
    return -math.log(math.erfc(float(t)))


def _cos_tail(z):
    return sum((-z) ** k / math.factorial(2 * k + 4) for k in range(15))


def _sin_tail(z):
    return -sum((-z) ** k / math.factorial(2 * k + 3) for k in range(15))


# From here on erf is 1 in f32.
ERF_END = 3.92
HALF_LN2 = math.log(2) / 2
# The function, its weight, the range, the degree.
FITS = {
    "EXP": (_exp_tail, lambda r: r * r / np.exp(r), -1.01 * HALF_LN2, 1.01 * HALF_LN2, 4),
    "EXP_SHORT": (_exp_rise, lambda r: r / np.exp(r), -1.01 * HALF_LN2, 1.01 * HALF_LN2, 4),
    "LOG": (_log_tail, lambda f: f**3 / np.log1p(f), 0.5**0.5 - 1, 2**0.5 - 1, 7),
    "TANH": (_odd(np.tanh), _odd_weight(np.tanh), 1e-3, 0.625**2, 4),
    "SINH": (_odd(np.sinh), _odd_weight(np.sinh), 1e-3, 1.0, 3),
    "ASIN": (_odd(np.arcsin), _odd_weight(np.arcsin), 1e-3, 0.25, 4),
    "ATAN": (_odd(np.arctan), _odd_weight(np.arctan), 1e-3, math.tan(math.pi / 8) ** 2, 4),
    "SIN": (_sin_tail, _odd_weight(np.sin), 1e-6, (math.pi / 4) ** 2, 2),
    "COS": (_cos_tail, lambda z: z * z / np.cos(np.sqrt(z)), 1e-6, (math.pi / 4) ** 2, 2),
    "ERF_SMALL": (_erf_over_x, lambda z: np.sqrt(z) / LONG(math.erf(math.sqrt(z))), 1e-4, 0.93**2,
                  6),
    "ERF_LARGE": (_minus_log_erfc, lambda t: math.erfc(float(t)), 0.9, 4.0, 6),
    "ERF_WHOLE": (_erf_over_argument, _erf_argument, -1, 1, 16),
    "POW_EXP": (_exp_tail, lambda r: r * r / np.exp(r), -1.01 * HALF_LN2, 1.01 * HALF_LN2, 5),
}

if __name__ == "__main__":
    for name, arguments in FITS.items():
        coefficients, worst = fit(*arguments)
        body = ", ".join(repr(float(c)) for c in coefficients)
        print(f"{name} = ({body})  # largest relative error {worst:.1e}")
