"""Matrix products: MatMul, Gemm and their integer and quantised forms."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.assumptions import assume
from bessemer.core.errors import ShapeError
from bessemer.core.extents import broadcast_shapes
from bessemer.core.shapes import Dim, Shape
from bessemer.ir.operator import FusionClass, Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.accumulate import load, rounded, widen
from bessemer.ops.checks import check_broadcasts_to
from bessemer.ops.dims import Array
from bessemer.ops.elementwise import broadcast_index
from bessemer.te import Expr, Tensor


def _inner(what: str, a: Dim, b: Dim) -> None:
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ShapeError(f"{what}: inner extents {a} and {b} differ")
    assume(a, b)


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """The numpy.matmul shape; 1-D operands lose their axis. Raises ShapeError on misfit."""
    if not a or not b:
        raise ShapeError("matmul of a scalar; rank 1 or more expected")
    _inner("matmul", a[-1], b[-2] if len(b) > 1 else b[-1])
    batch = broadcast_shapes(a[:-2], b[:-2])
    rows = a[-2:-1] if len(a) > 1 else ()
    columns = b[-1:] if len(b) > 1 else ()
    return (*batch, *rows, *columns)


def batch_indices(batch: tuple[Expr, ...], shape: Shape) -> tuple[Expr | int, ...]:
    """Indices of an operand's own batch dimensions: the last ones, 0 where the extent is 1."""
    own = batch[len(batch) - len(shape) :]
    return tuple(0 if extent == 1 else broadcast_index(i, extent)
                 for i, extent in zip(own, shape, strict=True))


def matmul_sum(a: Tensor, b: Tensor, load_a: Any = load, load_b: Any = load) -> Tensor:
    """The matmul as one sum over k, in the type of the products."""
    shape = matmul_shape(a.shape, b.shape)
    k = te.reduce_axis(a.shape[-1])

    def body(*i: Expr) -> Expr:
        rest = list(i)
        column = (rest.pop(),) if b.rank > 1 else ()
        row = (rest.pop(),) if a.rank > 1 else ()
        batch = tuple(rest)
        left = load_a(a[(*batch_indices(batch, a.shape[:-2]), *row, k)])
        right = load_b(b[(*batch_indices(batch, b.shape[:-2]), k, *column)])
        return te.sum_(left * right, k)

    dtype = load_a(a.at(*(0,) * a.rank)).dtype
    return te.compute(dtype, shape, body, "matmul")


@operator("MatMul")
class MatMul(Operator):
    """Matrix product with numpy rules: batch dimensions broadcast, 1-D operands are vectors.

    Shapes: a [*, m, k], b [*, k, n] -> y [*, m, n].
    Source: ONNX MatMul-13.
    """

    fusion = FusionClass.COMPLEX_OUT

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.dtype != b.dtype:
            raise ShapeError(f"operands are {a.dtype} and {b.dtype}; equal dtypes expected")
        if a.shape is None or b.shape is None:
            return a.with_shape(None)
        return a.with_shape(matmul_shape(a.shape, b.shape))

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(widen(a), widen(b))).astype(a.dtype)

    def lower(self, a: Tensor, b: Tensor, **_: Any) -> Tensor:
        return rounded(matmul_sum(a, b), a.dtype)

    samples = (
        sample("f32[3,4]", "f32[4,5]"),
        sample("f32[17,33]", "f32[33,19]"),
        sample("f32[2,3,4,5]", "f32[2,3,5,6]"),
        sample("f32[2,1,4,5]", "f32[3,5,2]"),
        sample("f32[4]", "f32[4]"),
        sample("f32[4]", "f32[2,4,3]"),
        sample("f32[2,3,4]", "f32[4]"),
        sample("f64[3,4]", "f64[4,5]"),
        sample("f16[3,4]", "f16[4,5]"),
        sample("i32[3,4]", "i32[4,5]", low=-9, high=9),
        sample("f32[3,0]", "f32[0,5]"),
        sample("f32[0,4]", "f32[4,5]"),
    )


@operator("Gemm")
class Gemm(Operator):
    """alpha * a' @ b' + beta * c, where ' transposes if asked and c broadcasts to [m, n].

    Shapes: a [m, k], b [k, n], c broadcastable to [m, n] -> y [m, n].
    Source: ONNX Gemm-13.
    """

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0
    transB: int = 0

    fusion = FusionClass.COMPLEX_OUT

    def infer(self, a: TensorType, b: TensorType, c: TensorType | None = None) -> TensorType:
        if a.dtype != b.dtype:
            raise ShapeError(f"operands are {a.dtype} and {b.dtype}; equal dtypes expected")
        if a.shape is None or b.shape is None:
            return a.with_shape(None)
        if a.rank != 2 or b.rank != 2:
            raise ShapeError(f"operands have ranks {a.rank} and {b.rank}; 2 expected")
        m, k = reversed(a.dims) if self.transA else a.dims
        inner, n = reversed(b.dims) if self.transB else b.dims
        _inner("gemm", k, inner)
        check_broadcasts_to("c", c, (m, n))
        if c is not None and c.dtype != a.dtype:
            raise ShapeError(f"operands are {a.dtype} and c is {c.dtype}; equal dtypes expected")
        return a.with_shape((m, n))

    def reference(self, a: Array, b: Array, c: Array | None = None) -> Array:
        left, right = widen(a), widen(b)
        product = (left.T if self.transA else left) @ (right.T if self.transB else right)
        result = product if self.alpha == 1 else product * product.dtype.type(self.alpha)
        if c is not None and self.beta != 0:
            addend = widen(c)
            scaled = addend if self.beta == 1 else addend * addend.dtype.type(self.beta)
            result = result + scaled
        return result.astype(a.dtype)

    def lower(self, a: Tensor, b: Tensor, c: Tensor | None = None, **_: Any) -> Tensor:
        rows, depth = (a.shape[1], a.shape[0]) if self.transA else a.shape
        columns = b.shape[0] if self.transB else b.shape[1]
        k = te.reduce_axis(depth)

        def body(m: Expr, n: Expr) -> Expr:
            left = a[k, m] if self.transA else a[m, k]
            right = b[n, k] if self.transB else b[k, n]
            return te.sum_(load(left) * load(right), k)

        dtype = load(a[0, 0]).dtype
        total = te.compute(dtype, (rows, columns), body, "gemm")
        if self.alpha == 1 and (c is None or self.beta == 0):
            return rounded(total, a.dtype)

        def scaled(m: Expr, n: Expr) -> Expr:
            return te.cast(self._finish(total, c, m, n), a.dtype)

        return te.compute(a.dtype, total.shape, scaled, "scaled")

    def _finish(self, total: Tensor, c: Tensor | None, m: Expr, n: Expr) -> Expr:
        result = total[m, n] if self.alpha == 1 else total[m, n] * te.const(self.alpha, total.dtype)
        if c is not None and self.beta != 0:
            addend = load(c[batch_indices((m, n), c.shape)])
            scale = te.const(self.beta, addend.dtype)
            result = result + (addend if self.beta == 1 else addend * scale)
        return result

    samples = (
        sample("f32[3,4]", "f32[4,5]"),
        sample("f32[3,4]", "f32[4,5]", "f32[5]"),
        sample("f32[3,4]", "f32[5,4]", "f32[3,1]", transB=1),
        sample("f32[4,3]", "f32[4,5]", "f32[1,5]", transA=1, alpha=0.5, beta=2.0),
        sample("f32[4,3]", "f32[5,4]", "f32[]", transA=1, transB=1),
        sample("f32[3,4]", "f32[4,5]", alpha=0.25),
        sample("f32[1,7]", "f32[9,7]", "f32[9]", transB=1),
        sample("f16[3,4]", "f16[4,5]", "f16[5]"),
        sample("i32[3,4]", "i32[4,5]", low=-9, high=9),
        sample("f64[3,4]", "f64[4,5]", "f64[3,5]"),
    )
