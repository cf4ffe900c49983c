"""Einsum: sums of products of elements, named by letters."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, f32, i64
from bessemer.core.errors import ShapeError
from bessemer.core.extents import broadcast_shapes
from bessemer.core.shapes import Dim
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, check_kind, check_same_dtype, extent
from bessemer.ops.elementwise import broadcast_index, is_small_float, widened

_LARGEST_MATRIX = 12

Labels = tuple[str, ...]
"""One label per axis: a letter, or ".0", ".1" ... for the axes of an ellipsis, last first."""


def _term(text: str, rank: int | None) -> Labels:
    """The labels of one operand, the ellipsis spelled out. Raises: ShapeError on a misfit."""
    front, dots, back = text.partition("...")
    if not (front + back).isalpha() and front + back:
        raise ShapeError(f"Einsum term {text!r} may hold letters and one '...' only")
    if rank is None:
        return (*front, *back)
    hidden = rank - len(front) - len(back)
    if hidden < 0 or (hidden and not dots):
        raise ShapeError(f"Einsum term {text!r} does not fit an input of rank {rank}")
    return (*front, *(f".{k}" for k in reversed(range(hidden))), *back)


@dataclass(frozen=True)
class Equation:
    """An equation over operands of known ranks."""

    inputs: tuple[Labels, ...]
    output: Labels

    @staticmethod
    def parse(text: str, ranks: Sequence[int]) -> "Equation":
        """The equation for operands of those ranks. Raises: ShapeError if it does not fit."""
        left, arrow, right = text.replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(ranks):
            raise ShapeError(f"Einsum {text!r} names {len(terms)} inputs, got {len(ranks)}")
        inputs = tuple(_term(term, rank) for term, rank in zip(terms, ranks))
        dots = sorted(
            {name for labels in inputs for name in labels if name[0] == "."},
            key=lambda name: -int(name[1:]),
        )
        if arrow:
            front, ellipsis, back = right.partition("...")
            output = (*front, *(dots if ellipsis else ()), *back)
        else:
            letters = Counter(name for term in inputs for name in term if name[0] != ".")
            output = (*dots, *sorted(name for name, times in letters.items() if times == 1))
        unknown = set(output) - {name for labels in inputs for name in labels}
        if unknown:
            raise ShapeError(f"Einsum {text!r} puts out {sorted(unknown)}, which no input has")
        if len(set(output)) < len(output):
            raise ShapeError(f"Einsum {text!r} names a label twice in its output")
        return Equation(inputs, tuple(output))

    def extents(self, shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
        """The extent of each label, to which its axes broadcast. Raises: ShapeError on a misfit."""
        result: dict[str, Dim] = {}
        for labels, shape in zip(self.inputs, shapes):
            for name, size in zip(labels, shape):
                known = result.get(name, 1)
                try:
                    (result[name],) = broadcast_shapes((known,), (size,))
                except ValueError:
                    raise ShapeError(
                        f"Einsum label {name!r} has extents {known} and {size}") from None
        return result


@operator("Einsum")
class Einsum(Operator):
    """The sum of products over the labels that the output does not name.

    Shapes: inputs as the left side says -> output as the right side says. Several inputs are
    contracted pairwise from the left.
    Source: ONNX Einsum-28.
    """

    equation: str = ""

    fusion = FusionClass.COMPLEX_OUT
    samples = (
        sample("f32[2,3]", "f32[3,4]", equation="ij,jk->ik"),
        sample("f32[3,4]", equation="ij->ji"),
        sample("f32[2,3,4]", "f32[2,4,5]", equation="bij, bjk -> bik"),
        sample("f32[3,3]", equation="ii->i"),
        sample("f32[3,4]", equation="ij->i"),
        sample("f32[4]", "f32[4]", equation="i,i"),
        sample("f32[2,1,3,4]", "f32[5,4,2]", equation="...ij,...jk->...ik"),
        sample("f32[2,3]", "f32[3,4]", "f32[4,2]", equation="ij,jk,kl->il"),
        sample("f16[2,8]", "f16[8,2]", equation="ij,jk"),
        sample("i32[2,3]", "i32[3]", equation="ij,j->i"),
        sample("f32[3,3]", equation="ii"),
        sample("f64[2,3]", "f64[4]", equation="ij,k->kij"),
        sample("f32[2,0]", "f32[0,3]", equation="ij,jk->ik"),
        sample("f32[2,3]", equation="...->..."),
    )

    def infer(self, *xs: TensorType) -> TensorType:
        check_same_dtype(self, *xs)
        ranks = [x.rank for x in xs if x.shape is not None]
        if len(ranks) < len(xs):
            _, arrow, right = self.equation.replace(" ", "").partition("->")
            return TensorType(xs[0].dtype, () if arrow and not right else None)
        equation = Equation.parse(self.equation, ranks)
        extents = equation.extents([x.dims for x in xs])
        return TensorType(xs[0].dtype, tuple(extents[name] for name in equation.output))

    def reference(self, *xs: Array) -> Array:
        wide = [widened(x) for x in xs]
        return np.array(np.einsum(self.equation.replace(" ", ""), *wide)).astype(xs[0].dtype)

    def lower(self, *xs: te.Tensor, **_: Any) -> te.Tensor:
        equation = Equation.parse(self.equation, [x.rank for x in xs])
        extents = equation.extents([x.shape for x in xs])
        dtype = xs[0].dtype
        wide = f32 if is_small_float(dtype) else dtype
        value, labels = xs[0], equation.inputs[0]
        if len(xs) == 1:
            result = _contract([(value, labels)], equation.output, extents, wide)
        for position in range(1, len(xs)):
            last = position == len(xs) - 1
            later = {name for term in equation.inputs[position + 1 :] for name in term}
            both = dict.fromkeys((*labels, *equation.inputs[position]))
            needed = later | set(equation.output)
            kept = equation.output if last else tuple(n for n in both if n in needed)
            pair = [(value, labels), (xs[position], equation.inputs[position])]
            result = value = _contract(pair, kept, extents, wide)
            labels = kept
        if result.dtype == dtype:
            return result
        return te.compute(dtype, result.shape, lambda *i: te.cast(result.at(*i), dtype))

def _contract(
    operands: list[tuple[te.Tensor, Labels]], output: Labels, extents: dict[str, Dim], dtype: DType
) -> te.Tensor:
    """The compute of the product of one or two operands, summed over labels not in `output`."""
    names = dict.fromkeys(name for _, labels in operands for name in labels)
    summed = {name: te.reduce_axis(extents[name]) for name in names if name not in output}

    def element(*i: te.Expr) -> te.Expr:
        place: dict[str, te.Expr] = {**dict(zip(output, i)), **summed}
        loads = [
            te.cast(
                x.at(*(0 if n == 1 else broadcast_index(place[name], n)
                       for name, n in zip(labels, x.shape))), dtype
            )
            for x, labels in operands
        ]
        product = loads[0] if len(loads) == 1 else loads[0] * loads[1]
        return te.sum_(product, *summed.values()) if summed else product

    return te.compute(dtype, tuple(extents[name] for name in output), element)


@operator("Det")
class Det(Operator):
    """The determinant of each matrix.

    Shapes: x [.., m, m] -> y [..]. Lowered as elimination with partial pivoting.
    Source: ONNX Det-22.
    """

    fusion = FusionClass.REDUCTION
    samples = (
        sample("f32[3,3]"), sample("f32[2,4,2,2]"), sample("f64[1,1]"), sample("f32[0,2,2]"),
        sample("f64[3,7,7]"), sample("f32[5,4,4]"),
        sample(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 2]], np.float32)),
        sample(np.array([[1, 2], [2, 4]], np.float32)), sample(np.zeros((2, 3, 3))),
        sample("f32[2,0,0]"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_kind(self, x, "float")
        if x.shape is None:
            return TensorType(x.dtype, None)
        if x.rank < 2:
            raise ShapeError(f"Det needs square matrices, got {x}")
        m, n = x.dims[-2:]
        if isinstance(m, int) and isinstance(n, int) and m != n:
            raise ShapeError(f"Det needs square matrices, got {x}")
        return TensorType(x.dtype, x.dims[:-2])

    def reference(self, x: Array) -> Array:
        return np.asarray(np.linalg.det(widened(x))).astype(x.dtype)

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        outer, size = x.shape[:-2], extent(x.shape[-1])
        if size > _LARGEST_MATRIX:
            raise Unlowerable(f"Det of {size} x {size} matrices takes {2 * size} kernels")
        wide = f32 if is_small_float(x.dtype) else x.dtype
        matrix = te.compute(wide, x.shape, lambda *i: te.cast(x[i], wide), "matrix")
        sign = te.compute(wide, outer, lambda *o: te.const(1, wide), "sign")
        for column in range(size - 1):
            matrix, sign = _eliminated(matrix, sign, column)

        def body(*o: te.Expr) -> te.Expr:
            product = sign[o]
            for k in range(size):
                product = product * matrix[(*o, k, k)]
            return te.cast(product, x.dtype)

        return te.compute(x.dtype, outer, body, "determinant")


def _eliminated(matrix: te.Tensor, sign: te.Tensor, k: int) -> tuple[te.Tensor, te.Tensor]:
    """The matrix with zeros below row k of column k, and the sign that swapping rows gives."""
    outer, size = matrix.shape[:-2], extent(matrix.shape[-1])
    below = te.reduce_axis(size - k)
    # The position among the rows from k on.
    pivot = te.compute(
        i64, outer, lambda *o: te.argmax(te.abs_(matrix[(*o, below + k, k)]), below), "pivot")

    def body(*i: te.Expr) -> te.Expr:
        o, row, column = i[:-2], i[-2], i[-1]
        chosen = pivot[o] + k
        source = te.where(te.equal(row, k), chosen, te.where(
            te.equal(row, chosen), te.index(k), row))
        value, top = matrix[(*o, source, column)], matrix[(*o, chosen, column)]
        head = matrix[(*o, chosen, k)]
        # A column of zeros stays: the product of the diagonal is 0.
        factor = te.where(te.equal(head, 0.0), 0.0, matrix[(*o, source, k)] / head)
        return te.where(row > k, value - factor * top, value)

    swapped = te.compute(sign.dtype, outer, lambda *o: te.where(
        te.equal(pivot[o], 0), sign[o], -sign[o]), "sign")
    return te.compute(matrix.dtype, matrix.shape, body, f"step{k}"), swapped
