"""Tensors as functions of their indices: placeholders, computes and reductions over axes."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, dtype_from_numpy, i64
from bessemer.core.shapes import Dim, Shape
from bessemer.te.expr import Const, Expr, ExprLike, Load, Reduce, Var, const, lift
from bessemer.te.functions import index
from bessemer.te.walk import loads

_COUNTER = itertools.count()


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class IterVar(Var):
    """An index variable that runs over 0 .. extent-1."""

    extent: Dim = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A placeholder (`body` None), one with known content (`data`), or a compute: [axes] = body.

    Shapes: shape has one entry per axis; entries are integers or symbols.
    """

    name: str
    dtype: DType
    shape: Shape
    axes: tuple[IterVar, ...] = ()
    body: Expr | None = None
    data: np.ndarray[Any, Any] | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @cached_property
    def producers(self) -> tuple["Tensor", ...]:
        """The computes that the body reads, each once, in order."""
        if self.body is None:
            return ()
        found = {id(load.tensor): load.tensor for load in loads(self.body)}
        return tuple(tensor for tensor in found.values() if tensor.body is not None)

    @property
    def is_reduction(self) -> bool:
        """True if the body is a reduction."""
        return isinstance(self.body, Reduce)

    def __getitem__(self, indices: ExprLike | tuple[ExprLike, ...]) -> Expr:
        return self.at(*(indices if isinstance(indices, tuple) else (indices,)))

    def at(self, *indices: ExprLike, fill: float | int | bool | None = None) -> Expr:
        """One element; with `fill`, that value where an index is outside the tensor."""
        if len(indices) != self.rank:
            raise IndexError(f"{self.name} has rank {self.rank}, got {len(indices)} indices")
        exprs = tuple(index(i) for i in indices)
        filler: Const | None = None if fill is None else const(fill, self.dtype)
        return Load(self, exprs, self.dtype, filler)

    def __str__(self) -> str:
        shape = ",".join(map(str, self.shape))
        if self.body is None:
            return f"{self.name}: {self.dtype}[{shape}]"
        names = ", ".join(axis.name for axis in self.axes)
        return f"{self.name}[{names}]: {self.dtype}[{shape}] = {self.body}"

    __repr__ = __str__


def placeholder(dtype: DType, shape: Shape, name: str = "x") -> Tensor:
    """An input tensor."""
    return Tensor(name, dtype, tuple(shape))


def table(data: np.ndarray[Any, Any], name: str = "table") -> Tensor:
    """Constants of an operator that its expression reads: attributes, twiddle factors ..."""
    return Tensor(name, dtype_from_numpy(data.dtype), data.shape, data=data)


def tables(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The tables that the outputs read, each once."""
    read = [load.tensor for stage in stages(outputs) if stage.body is not None
            for load in loads(stage.body)]
    return list({id(tensor): tensor for tensor in read if tensor.data is not None}.values())


def compute(dtype: DType, shape: Shape, function: Callable[..., ExprLike], name: str = ""
            ) -> Tensor:
    """The tensor whose element at `indices` is `function(*indices)`.

    The function gets one index variable per dimension and returns an expression of `dtype`
    (numbers are taken as literals). A reduction (`te.sum` ...) may only be the whole result.
    Raises: TypeError if the expression has another dtype.
    """
    number = next(_COUNTER)
    names = [f"i{number}_{k}" for k in range(len(shape))]
    axes = tuple(IterVar(n, i64, extent) for n, extent in zip(names, shape, strict=True))
    result = function(*axes)
    body = result if isinstance(result, Expr) else lift(result, dtype)
    if body.dtype != dtype:
        raise TypeError(f"compute {name!r} should give {dtype}, its body is {body.dtype}: {body}")
    return Tensor(name or f"t{number}", dtype, tuple(shape), axes, body)


def reduce_axis(extent: Dim, name: str = "k") -> IterVar:
    """An axis to reduce over."""
    return IterVar(f"{name}{next(_COUNTER)}", i64, extent)


def _reduction(kind: str) -> Callable[..., Expr]:
    def function(body: Expr, *axes: IterVar) -> Expr:
        return Reduce(kind, body, tuple(axes), body.dtype)

    function.__name__ = kind
    function.__doc__ = f"The {kind} of body over the axes, in the body's dtype."
    return function


sum_, prod, max_, min_ = (_reduction(kind) for kind in ("sum", "prod", "max", "min"))


def argmax(body: Expr, *axes: IterVar, last: bool = False) -> Expr:
    """Position (i64) of the first (or last) largest element along the axes."""
    return Reduce("argmax", body, tuple(axes), i64, last)


def argmin(body: Expr, *axes: IterVar, last: bool = False) -> Expr:
    """Position (i64) of the first (or last) smallest element along the axes."""
    return Reduce("argmin", body, tuple(axes), i64, last)


def stages(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All computes the outputs need, producers first (placeholders left out)."""
    order: list[Tensor] = []
    done: set[int] = set()

    def visit(tensor: Tensor) -> None:
        if id(tensor) in done or tensor.body is None:
            return
        done.add(id(tensor))
        for producer in tensor.producers:
            visit(producer)
        order.append(tensor)

    for output in outputs:
        visit(output)
    return order
