"""Bases of element-wise operators: one input, two inputs, any number, with numpy broadcasting."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from bessemer import te
from bessemer.core.dtypes import DType, boolean, f32
from bessemer.core.errors import ShapeError
from bessemer.core.extents import broadcast_shapes, is_choice, taken_equal
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.operator import FusionClass, Operator, Sample, sample
from bessemer.ir.types import TensorType
from bessemer.ops.content import paired, signs
from bessemer.ops.dims import Array, Known, check_kind, check_same_dtype, known_dims

NUMERIC = ("float", "int", "uint")
"""The kinds of dtype that arithmetic takes."""


def samples_of(
    dtypes: str, low: float = -2.0, high: float = 2.0, **attributes: Any
) -> tuple[Sample, ...]:
    """Samples of one input: several ranks in the first dtype, one vector in each other one."""
    first, *rest = dtypes.split()
    shapes = ["[2,3]", "[]", "[0,3]", "[7]", "[2,1,3,2]"]
    texts = [first + shape for shape in shapes] + [dtype + "[5]" for dtype in rest]
    return tuple(sample(text, low=low, high=high, **attributes) for text in texts)


def pair_samples_of(dtypes: str, low: float = -2.0, high: float = 2.0) -> tuple[Sample, ...]:
    """Samples of two inputs: broadcasting in the first dtype, plain ones in the others."""
    first, *rest = dtypes.split()
    shapes = [
        ("[2,3]", "[2,3]"),
        ("[]", "[]"),
        ("[3]", "[2,3]"),
        ("[2,1,5]", "[4,1]"),
        ("[0,3]", "[1,3]"),
        ("[1]", "[7]"),
    ]
    pairs = [(first + a, first + b) for a, b in shapes]
    pairs += [(dtype + "[5]", dtype + "[2,5]") for dtype in rest]
    return tuple(sample(*pair, low=low, high=high) for pair in pairs)


def is_small_float(dtype: DType) -> bool:
    """True for the float types that math functions compute in f32."""
    return dtype.is_float and dtype.bits < 32


def widened(array: Array) -> Array:
    """The array, in f32 if it is of a smaller float type."""
    small = array.dtype.itemsize < 4 and array.dtype.kind not in "iub"
    return array.astype(np.float32) if small and array.dtype.kind in "fV" else array


def broadcast_type(op: Operator, *types: TensorType, dtype: DType | None = None) -> TensorType:
    """The numpy-broadcast type; rank unknown if one is. Raises: ShapeError on a misfit."""
    made = dtype or types[0].dtype
    shapes = [type.shape for type in types if type.shape is not None]
    if len(shapes) < len(types):
        return TensorType(made, None)
    try:
        return TensorType(made, broadcast_shapes(*shapes))
    except ValueError as error:
        raise ShapeError(f"{op.op_name}: {error}") from error


def load_broadcast(x: te.Tensor, indices: Sequence[te.Expr]) -> te.Expr:
    """The element of `x` that numpy broadcasting puts at `indices` of the result."""
    own = indices[len(indices) - x.rank :]
    return x.at(*(broadcast_index(index, extent) for extent, index in zip(x.shape, own)))


def broadcast_index(index: te.Expr, extent: Dim) -> te.Expr:
    """The index of an operand's own axis for the index of the result's.

    Of extents of which only a run can tell which is 1, the index goes up to the operand's last.
    """
    if extent == 1:
        return index if _is_single(index) else te.index(0)
    made = index.extent if isinstance(index, te.IterVar) else extent
    if extent == made or (isinstance(extent, int) and isinstance(made, int)):
        return index
    if isinstance(extent, Sym) and not is_choice(made) and isinstance(made, Sym) \
            and taken_equal(extent, made):
        return index
    return te.minimum(index, extent - 1)


def own_index(index: te.Expr, extent: Dim) -> te.Expr:
    """The index into a parameter that has one element for all, or one for each index."""
    if extent == 1:
        return te.index(0)
    return te.minimum(index, extent - 1) if isinstance(extent, Sym) else index


def _is_single(index: te.Expr) -> bool:
    """True for the index of an axis of extent 1: kept, so that equal shapes read alike."""
    return isinstance(index, te.IterVar) and index.extent == 1


def broadcast_compute(
    dtype: DType,
    inputs: Sequence[te.Tensor],
    function: Callable[..., te.Expr],
    shape: Shape | None = None,
) -> te.Tensor:
    """The compute of `function` over the broadcast elements of the inputs."""
    extent = broadcast_shapes(*(x.shape for x in inputs)) if shape is None else shape
    return te.compute(dtype, extent, lambda *i: function(*(load_broadcast(x, i) for x in inputs)))


def scalar_operand(x: te.Tensor, constant: Array | None) -> te.Expr:
    """The only element of a tensor: a literal where it is constant, else a load."""
    if constant is not None and x.dtype.name != "bf16":
        return te.const(constant.reshape(-1)[0].item(), x.dtype)
    if constant is not None:
        return te.const(float(constant.reshape(-1)[0]), x.dtype)
    return x.at(*(0 for _ in x.shape))


def known_of(options: dict[str, Any], count: int) -> Known:
    """The `known` tuple that the lowerer passes, or nothing known."""
    return tuple(options.get("known") or ()) or (None,) * count


class Unary(Operator):
    """Base of y = f(x), element by element, of the same dtype unless `result` is set.

    Shapes: x [*] -> y [*]. Small floats compute in f32 unless `widen` is off.
    """

    fusion = FusionClass.INJECTIVE
    result: ClassVar[DType | None] = None
    widen: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("float",)
    samples: ClassVar[tuple[Sample, ...]] = samples_of("f32 f16 bf16 f64")

    def array(self, x: Array) -> Any:
        """The function on arrays."""
        raise NotImplementedError

    def scalar(self, x: te.Expr) -> te.Expr:
        """The function on one element."""
        raise NotImplementedError

    def infer(self, x: TensorType) -> TensorType:
        check_kind(self, x, *self.kinds)
        return TensorType(self.result or x.dtype, x.shape)

    def reference(self, x: Array) -> Array:
        result = self.result.numpy if self.result is not None else x.dtype
        with np.errstate(all="ignore"):
            return np.asarray(self.array(widened(x) if self.widen else x)).astype(result)

    def lower(self, x: te.Tensor, **_: Any) -> te.Tensor:
        dtype = self.result or x.dtype
        wide = f32 if self.widen and is_small_float(x.dtype) else x.dtype
        return te.compute(
            dtype, x.shape, lambda *i: te.cast(self.scalar(te.cast(x.at(*i), wide)), dtype)
        )


class Binary(Operator):
    """Base of y = f(a, b) with numpy broadcasting; both inputs of one dtype.

    Shapes: a [*], b [*] -> y [broadcast]. Small floats compute in f32 where `widen` is on.
    """

    fusion = FusionClass.INJECTIVE
    result: ClassVar[DType | None] = None
    widen: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = NUMERIC
    samples: ClassVar[tuple[Sample, ...]] = pair_samples_of("f32 f16 bf16 f64 i32 i64")

    def array(self, a: Array, b: Array) -> Any:
        """The function on arrays."""
        raise NotImplementedError

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        """The function on one pair of elements."""
        raise NotImplementedError

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        check_kind(self, a, *self.kinds)
        check_same_dtype(self, a, b)
        return broadcast_type(self, a, b, dtype=self.result or a.dtype)

    def reference(self, a: Array, b: Array) -> Array:
        result = self.result.numpy if self.result is not None else a.dtype
        with np.errstate(all="ignore"):
            wide = (widened(a), widened(b)) if self.widen else (a, b)
            return np.asarray(self.array(*wide)).astype(result)

    def lower(self, a: te.Tensor, b: te.Tensor, **_: Any) -> te.Tensor:
        dtype = self.result or a.dtype
        wide = f32 if self.widen and is_small_float(a.dtype) else a.dtype
        return broadcast_compute(
            dtype,
            (a, b),
            lambda p, q: te.cast(self.scalar(te.cast(p, wide), te.cast(q, wide)), dtype),
        )


class Comparison(Binary):
    """Base of comparisons: the result is bool.

    It is known for dimensions where it holds for all extents, such as s == -1; `holds` are the
    signs of a - b for which the comparison is true.
    """

    holds: ClassVar[frozenset[int]] = frozenset()
    result = boolean

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        made = super().infer(a, b)
        p, q = known_dims(a), known_dims(b)
        if p is None or q is None or not a.dtype.is_integer or not made.is_static or made.rank > 1:
            return made
        possible = [signs(x, y) for x, y in paired(p, q)]
        if not all(found <= self.holds or not found & self.holds for found in possible):
            return made
        answers = np.array([found <= self.holds for found in possible], bool)
        return TensorType(boolean, made.shape, answers.reshape(made.static_shape))

    samples: ClassVar[tuple[Sample, ...]] = pair_samples_of("i32 f32 f16 bf16 f64 i8 u8 i64", -2, 3)


class Variadic(Operator):
    """Base of y = f(x0, x1, ...) folded pairwise, with numpy broadcasting."""

    fusion = FusionClass.INJECTIVE
    widen: ClassVar[bool] = False
    samples: ClassVar[tuple[Sample, ...]] = (
        sample("f32[2,3]"),
        sample("f32[]", "f32[3]"),
        sample("f32[2,1]", "f32[3]", "f32[4,1,1]"),
        sample("f16[3]", "f16[2,3]"),
        sample("bf16[3]", "bf16[2,3]", "bf16[1]"),
        sample("f64[3]", "f64[3]"),
        sample("f32[0,3]", "f32[3]"),
    )

    def array(self, a: Array, b: Array) -> Any:
        """The pairwise function on arrays."""
        raise NotImplementedError

    def scalar(self, a: te.Expr, b: te.Expr) -> te.Expr:
        """The pairwise function on elements."""
        raise NotImplementedError

    def finish_array(self, x: Array, count: int) -> Any:
        """What is done to the folded array of `count` inputs."""
        return x

    def finish_scalar(self, x: te.Expr, count: int) -> te.Expr:
        """What is done to the folded element."""
        return x

    def infer(self, *xs: TensorType) -> TensorType:
        if not xs:
            raise ShapeError(f"{self.op_name} needs at least one input")
        check_kind(self, xs[0], *NUMERIC)
        check_same_dtype(self, *xs)
        return broadcast_type(self, *xs)

    def reference(self, *xs: Array) -> Array:
        with np.errstate(all="ignore"):
            folded = reduce(self.array, [widened(x) if self.widen else x for x in xs])
            return np.asarray(self.finish_array(folded, len(xs))).astype(xs[0].dtype)

    def lower(self, *xs: te.Tensor, **_: Any) -> te.Tensor:
        dtype = xs[0].dtype
        wide = f32 if self.widen and is_small_float(dtype) else dtype

        def element(*parts: te.Expr) -> te.Expr:
            folded = reduce(self.scalar, [te.cast(part, wide) for part in parts])
            return te.cast(self.finish_scalar(folded, len(parts)), dtype)

        return broadcast_compute(dtype, xs, element)
