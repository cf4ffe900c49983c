"""Types of values: tensors (with symbolic dimensions and known content), and what holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, dtype_from_numpy
from bessemer.core.shapes import Dim, Shape, is_static, product, substitute

Fractions = tuple[tuple[Dim, int], ...]
"""Numbers as (dividend, divisor), the divisor above 0."""


@dataclass(frozen=True)
class TensorType:
    """dtype and shape of a tensor; `shape` None means unknown rank.

    `value` is the content if it is known at build time (then `shape` is static), so that
    operators such as Reshape can infer from it; it takes no part in comparison. `symbolic` is the
    content of a small integer tensor, flat, where some elements are symbolic dimensions;
    `fractions` that of a small float tensor, as dividends and divisors.
    """

    dtype: DType
    shape: Shape | None
    value: np.ndarray[Any, Any] | None = field(default=None, compare=False, repr=False)
    symbolic: Shape | None = field(default=None, compare=False, repr=False)
    fractions: Fractions | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(array: np.ndarray[Any, Any], keep_value: bool = True) -> "TensorType":
        """The type of an array, carrying the array itself unless told not to."""
        return TensorType(
            dtype_from_numpy(array.dtype), tuple(array.shape), array if keep_value else None
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype}[...]"
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        """Number of dimensions; asserts that the rank is known."""
        assert self.shape is not None, "unknown rank"
        return len(self.shape)

    @property
    def dims(self) -> Shape:
        """The shape; asserts that the rank is known."""
        assert self.shape is not None, "unknown rank"
        return self.shape

    @property
    def is_static(self) -> bool:
        """True if rank and every extent are known integers."""
        return self.shape is not None and is_static(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers; asserts that it is static."""
        assert self.is_static, f"{self} is not static"
        return tuple(int(dim) for dim in self.dims)  # type: ignore[arg-type]

    @property
    def count(self) -> Dim:
        """Number of elements."""
        return product(self.dims)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor; asserts a static shape."""
        return int(np.prod(self.static_shape, dtype=np.int64)) * self.dtype.size_bytes

    def without_value(self) -> "TensorType":
        """The same type with no known content."""
        return replace(self, value=None, symbolic=None, fractions=None)

    def with_shape(self, shape: Shape | None) -> "TensorType":
        """The same dtype with another shape and no known content."""
        return TensorType(self.dtype, shape)

    def subs(self, values: Mapping[str, Dim]) -> "TensorType":
        """The type with symbols of the shape replaced."""
        if self.shape is None or is_static(self.shape):
            return self
        return TensorType(self.dtype, tuple(substitute(dim, values) for dim in self.shape))


@dataclass(frozen=True)
class SequenceType:
    """A list of values of one type; `element` None means unknown."""

    element: "ValueType | None"

    def __str__(self) -> str:
        return f"seq<{self.element if self.element is not None else '?'}>"


@dataclass(frozen=True)
class OptionalType:
    """A value that may be absent."""

    element: "ValueType | None"

    def __str__(self) -> str:
        return f"optional<{self.element if self.element is not None else '?'}>"


@dataclass(frozen=True)
class MapType:
    """A dict whose keys are Python integers (i64) or texts; `element` is the type of its values.

    Scalars of such a map are Python numbers and texts; `element` None means unknown.
    """

    key: DType
    element: "ValueType | None"

    def __str__(self) -> str:
        return f"map<{self.key}, {self.element if self.element is not None else '?'}>"


ValueType = TensorType | SequenceType | OptionalType | MapType
