"""Evaluates tensor expressions with numpy: the executable meaning of a compute."""

import math
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, as_type, boolean
from bessemer.te.expr import (
    Binary,
    Bitcast,
    Cast,
    Const,
    Expr,
    Load,
    Reduce,
    Select,
    Unary,
    Var,
)
from bessemer.te.tensor import Tensor, stages

Array = np.ndarray[Any, Any]


def evaluate(outputs: tuple[Tensor, ...], inputs: dict[Tensor, Array]) -> list[Array]:
    """The arrays of the outputs, given those of the placeholders (static shapes)."""
    arrays: dict[int, Array] = {id(tensor): array for tensor, array in inputs.items()}
    for tensor in stages(outputs):
        arrays[id(tensor)] = _evaluate_compute(tensor, arrays)
    return [arrays[id(tensor)] for tensor in outputs]


def _evaluate_compute(tensor: Tensor, arrays: dict[int, Array]) -> Array:
    shape = tuple(int(dim) for dim in tensor.shape)  # type: ignore[arg-type]
    body = tensor.body
    assert body is not None
    reduction = body if isinstance(body, Reduce) else None
    axes = tensor.axes + (reduction.axes if reduction is not None else ())
    extents = [int(axis.extent) for axis in axes]  # type: ignore[arg-type]
    grid: dict[int, Array] = {}
    for position, axis in enumerate(axes):
        view = [1] * len(axes)
        view[position] = extents[position]
        grid[id(axis)] = np.arange(extents[position], dtype=np.int64).reshape(view)
    with np.errstate(all="ignore"):
        inner = reduction.body if reduction is not None else body
        value = np.broadcast_to(_Evaluator(grid, arrays).value(inner), extents)
        if reduction is not None:
            value = _reduce(reduction, value, len(shape))
    return np.ascontiguousarray(value).astype(tensor.dtype.numpy, copy=False).reshape(shape)


def _reduce(node: Reduce, value: Array, keep: int) -> Array:
    rest = tuple(range(keep, value.ndim))
    dtype = node.body.dtype
    if node.kind in ("argmax", "argmin"):
        flat = value.reshape(*value.shape[:keep], math.prod(value.shape[keep:]))
        pick = np.argmax if node.kind == "argmax" else np.argmin
        if node.last:
            return np.asarray(flat.shape[-1] - 1 - pick(flat[..., ::-1], axis=-1))
        return np.asarray(pick(flat, axis=-1))
    if node.kind in ("max", "min"):
        extremum = np.maximum if node.kind == "max" else np.minimum
        return np.asarray(extremum.reduce(value, axis=rest, initial=extreme(dtype, node.kind)))
    wide = value.astype(np.float32) if dtype.name in ("f16", "bf16") else value
    function = np.add if node.kind == "sum" else np.multiply
    total: Array = function.reduce(wide, axis=rest, dtype=wide.dtype)
    return np.asarray(total).astype(dtype.numpy)


def extreme(dtype: DType, kind: str) -> Any:
    """The neutral element of max or min of a dtype."""
    if dtype == boolean:
        return kind == "min"
    if dtype.is_float:
        return dtype.numpy.type(-np.inf if kind == "max" else np.inf)
    info = np.iinfo(dtype.numpy)
    return dtype.numpy.type(info.min if kind == "max" else info.max)


def _erf(x: Array) -> Array:
    wide = np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64))
    return np.asarray(wide).astype(x.dtype)


_UNARY: dict[str, Any] = {
    "neg": np.negative, "abs": np.abs, "not": np.logical_not, "sign": np.sign, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt,
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype), "exp": np.exp, "log": np.log,
    "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh,
    "sigmoid": lambda x: (1 / (1 + np.exp(-x))).astype(x.dtype), "erf": _erf, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "isnan": np.isnan, "isinf": np.isinf, "invert": np.invert,
    "rounded": lambda x: x,
}
_BINARY: dict[str, Any] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "//": np.floor_divide, "%": np.mod,
    "min": np.minimum, "max": np.maximum, "pow": np.power, "fmod": np.fmod, "rem": np.fmod,
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal, "<<": np.left_shift, ">>": np.right_shift,
    "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor,
}


def truncating_divide(a: Array, b: Array) -> Array:
    """Integer division that rounds toward zero; 0 where the divisor is 0."""
    quotient, rest = np.floor_divide(a, b), np.mod(a, b)
    rounded = quotient + ((rest != 0) & ((a < 0) != (b < 0))).astype(quotient.dtype)
    return np.where(b == 0, 0, rounded).astype(a.dtype)


def apply_binary(op: str, a: Array, b: Array, dtype: DType) -> Array:
    """One binary operation on arrays of equal dtype, rounded to `dtype`."""
    if op == "/":
        result = np.divide(a, b) if a.dtype.kind not in "iu" else truncating_divide(a, b)
    else:
        result = _BINARY[op](a, b)
    return np.asarray(result).astype(dtype.numpy, copy=False)


def apply_unary(op: str, a: Array, dtype: DType) -> Array:
    """One unary function on an array, rounded to `dtype`."""
    return np.asarray(_UNARY[op](a)).astype(dtype.numpy, copy=False)


def apply_cast(a: Array, dtype: DType) -> Array:
    """Conversion to another dtype."""
    return np.asarray(a != 0) if dtype == boolean else as_type(np.asarray(a), dtype)


def apply_bitcast(a: Array, dtype: DType) -> Array:
    """The same bits as another dtype of equal size."""
    return np.array(a, order="C").view(dtype.numpy)


class _Evaluator:
    def __init__(self, grid: dict[int, Array], arrays: dict[int, Array]) -> None:
        self.grid = grid
        self.arrays = arrays
        self.memo: dict[int, Array] = {}

    def value(self, expr: Expr) -> Array:
        found = self.memo.get(id(expr))
        if found is None:
            found = self.memo[id(expr)] = self._value(expr)
        return found

    def _value(self, expr: Expr) -> Array:
        match expr:
            case Const(value=value, dtype=dtype):
                return np.asarray(value).astype(dtype.numpy)
            case Var():
                return self.grid[id(expr)]
            case Binary(op=op, a=a, b=b, dtype=dtype):
                return apply_binary(op, self.value(a), self.value(b), dtype)
            case Unary(op=op, a=a, dtype=dtype):
                return apply_unary(op, self.value(a), dtype)
            case Select(condition=condition, a=a, b=b):
                return np.where(self.value(condition), self.value(a), self.value(b))
            case Cast(a=a, dtype=dtype):
                return apply_cast(self.value(a), dtype)
            case Bitcast(a=a, dtype=dtype):
                return apply_bitcast(self.value(a), dtype)
            case Load(tensor=tensor, indices=indices, fill=fill):
                return self._load(tensor, indices, fill)
        raise TypeError(f"cannot evaluate {expr}")

    def _load(self, tensor: Tensor, indices: tuple[Expr, ...], fill: Const | None) -> Array:
        array = self.arrays[id(tensor)] if tensor.data is None else tensor.data
        if not indices:
            return array.reshape(())
        where = np.broadcast_arrays(*(self.value(i) for i in indices))
        # Loads on the side of a select that is not taken may point anywhere: clip them.
        clipped = tuple(np.clip(i, 0, max(n - 1, 0)) for i, n in zip(where, array.shape))
        if array.size == 0:
            return np.zeros(where[0].shape, array.dtype)
        value = np.asarray(array[clipped])
        if fill is None:
            return value
        inside = np.ones(where[0].shape, bool)
        for i, n in zip(where, array.shape):
            inside &= (i >= 0) & (i < n)
        return np.where(inside, value, np.asarray(fill.value).astype(array.dtype))
