"""Activation functions of recurrent layers, as numpy functions and as tensor expressions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.errors import ShapeError
from bessemer.ops.activation import sigmoid, softplus, softplus_scalar
from bessemer.ops.dims import Array
from bessemer.te import Expr


@dataclass(frozen=True)
class _Formula:
    """A function of x, alpha and beta in both forms, and the parameters it takes."""

    array: Callable[[Array, float, float], Any]
    scalar: Callable[[Expr, float, float], Expr]
    alpha: float | None = None
    beta: float | None = None


_FORMULAS: dict[str, _Formula] = {
    "relu": _Formula(lambda x, a, b: np.maximum(x, 0), lambda x, a, b: te.maximum(x, 0.0)),
    "tanh": _Formula(lambda x, a, b: np.tanh(x), lambda x, a, b: te.tanh(x)),
    "sigmoid": _Formula(lambda x, a, b: sigmoid(x), lambda x, a, b: te.sigmoid(x)),
    "affine": _Formula(lambda x, a, b: a * x + b, lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": _Formula(
        lambda x, a, b: np.where(x >= 0, x, a * x),
        lambda x, a, b: te.where(x >= 0.0, x, a * x),
        0.01,
    ),
    "thresholdedrelu": _Formula(
        lambda x, a, b: np.where(x >= a, x, 0),
        lambda x, a, b: te.where(x >= a, x, 0.0),
        1.0,
    ),
    "scaledtanh": _Formula(
        lambda x, a, b: a * np.tanh(b * x), lambda x, a, b: a * te.tanh(b * x), 1.0, 1.0
    ),
    "hardsigmoid": _Formula(
        lambda x, a, b: np.clip(a * x + b, 0, 1),
        lambda x, a, b: te.minimum(te.maximum(a * x + b, 0.0), 1.0),
        0.2,
        0.5,
    ),
    "elu": _Formula(
        lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))),
        lambda x, a, b: te.where(x >= 0.0, x, a * te.expm1(te.minimum(x, 0.0))),
        1.0,
    ),
    "softsign": _Formula(
        lambda x, a, b: x / (1 + np.abs(x)), lambda x, a, b: x / (te.abs_(x) + 1.0)
    ),
    "softplus": _Formula(lambda x, a, b: softplus(x), lambda x, a, b: softplus_scalar(x)),
}


@dataclass(frozen=True)
class Activation:
    """One activation function: by name (any case), with its parameters.

    With `clip` above 0 its argument is limited to [-clip, clip] first.
    Source: ONNX LSTM-22, list of activation functions.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    clip: float = 0.0

    def array(self, x: Array) -> Array:
        """The function of every element, in the array's dtype."""
        bounded = np.clip(x, -self.clip, self.clip) if self.clip > 0 else x
        with np.errstate(over="ignore"):
            result = _formula(self.name).array(bounded, self.alpha, self.beta)
        return np.asarray(result, x.dtype)

    def scalar(self, x: Expr) -> Expr:
        """The function of one element."""
        if self.clip > 0:
            x = te.minimum(te.maximum(x, -self.clip), self.clip)
        return _formula(self.name).scalar(x, self.alpha, self.beta)


def _formula(name: str) -> _Formula:
    """Raises: ShapeError for an unknown name."""
    found = _FORMULAS.get(name.lower())
    if found is None:
        raise ShapeError(f"activation {name!r} is not one of {', '.join(_FORMULAS)}")
    return found


def resolve(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float
) -> tuple[Activation, ...]:
    """The activations of a layer; parameters go in order to the functions that take any.

    A function for which none is left has its default.
    Raises: ShapeError for an unknown name.
    """
    left, right = list(alphas), list(betas)
    made = []
    for name in names:
        formula = _formula(name)
        alpha, beta = formula.alpha or 0.0, formula.beta or 0.0
        if formula.alpha is not None and left:
            alpha = left.pop(0)
        if formula.beta is not None and right:
            beta = right.pop(0)
        made.append(Activation(name, alpha, beta, clip))
    return tuple(made)


def attributes_of(functions: Sequence[Activation]) -> dict[str, Any]:
    """The attributes from which `resolve` makes these functions again."""
    formulas = [_formula(function.name) for function in functions]
    return {
        "activations": tuple(function.name for function in functions),
        "activation_alpha": tuple(
            a.alpha for a, formula in zip(functions, formulas) if formula.alpha is not None
        ),
        "activation_beta": tuple(
            a.beta for a, formula in zip(functions, formulas) if formula.beta is not None
        ),
        "clip": functions[0].clip,
    }
