"""Sequences and optionals. They run on the host; a sequence is a list, an absent optional None."""

from typing import Any, ClassVar

import numpy as np

from bessemer.core.dtypes import DTYPES, boolean, i64
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import Dim, Shape, Sym
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType
from bessemer.ops.control_types import join_types
from bessemer.ops.dims import Array, fresh_dim, normalize_axis

_TAKES_SEQUENCE = "takes a sequence, which samples cannot give"


def element_of(sequence: ValueType) -> ValueType | None:
    """The element type. Raises ShapeError if it is no sequence."""
    if not isinstance(sequence, SequenceType):
        raise ShapeError(f"{sequence} is no sequence")
    return sequence.element


def taken(op: Operator, element: ValueType) -> ValueType:
    """The type of one element: a symbol in the sequence's type may differ from one to the next."""
    if not isinstance(element, TensorType) or element.shape is None:
        return element
    return element.with_shape(_any_extents(op, element.shape))


def _any_extents(op: Operator, shape: Shape) -> Shape:
    return tuple(
        fresh_dim(op, 10 + axis) if isinstance(dim, Sym) else dim for axis, dim in enumerate(shape)
    )


def _joined(op: Operator, types: list[ValueType]) -> ValueType | None:
    result: ValueType | None = None
    for position, type in enumerate(types):
        plain = type.without_value() if isinstance(type, TensorType) else type
        result = plain if result is None else join_types(op, position, result, plain)
    return result


def _position(sequence: list[Any], position: Array, end: int) -> int:
    """The position counted from the front. Raises InputError if it is out of range."""
    place = int(position.reshape(-1)[0])
    if not -len(sequence) <= place < end:
        raise InputError(f"position {place} in a sequence of {len(sequence)}")
    return place + len(sequence) if place < 0 else place


@operator("SequenceConstruct")
class SequenceConstruct(Operator):
    """The sequence of the inputs. Source: ONNX SequenceConstruct-11."""

    def infer(self, *items: ValueType) -> SequenceType:
        return SequenceType(_joined(self, list(items)))

    def reference(self, *items: Any) -> list[Any]:
        return list(items)

    samples = (sample("f32[2,3]", "f32[1,3]"), sample("i64[2]"))


@operator("SequenceEmpty")
class SequenceEmpty(Operator):
    """The empty sequence of tensors of a dtype. Source: ONNX SequenceEmpty-11."""

    dtype: str = ""

    dtype_attributes: ClassVar[tuple[str, ...]] = ("dtype",)

    def infer(self) -> SequenceType:
        return SequenceType(TensorType(DTYPES[self.dtype or "f32"], None))

    def reference(self) -> list[Any]:
        return []

    samples = (sample(), sample(dtype="i64"))


@operator("SequenceAt")
class SequenceAt(Operator):
    """One element of a sequence. Source: ONNX SequenceAt-11."""

    def infer(self, sequence: ValueType, position: TensorType) -> ValueType:
        element = element_of(sequence)
        if element is None:
            raise ShapeError("the element type of the sequence is not known")
        return taken(self, element)

    def reference(self, sequence: list[Any], position: Array) -> Any:
        return sequence[_position(sequence, position, len(sequence))]

    samples = (sample(skip=_TAKES_SEQUENCE),)


@operator("SequenceErase")
class SequenceErase(Operator):
    """The sequence without one element, by default the last. Source: ONNX SequenceErase-11."""

    def infer(self, sequence: ValueType, position: TensorType | None = None) -> ValueType:
        element_of(sequence)
        return sequence

    def reference(self, sequence: list[Any], position: Array | None = None) -> list[Any]:
        place = len(sequence) - 1
        if position is not None:
            place = _position(sequence, position, len(sequence))
        return sequence[:place] + sequence[place + 1 :]

    samples = (sample(skip=_TAKES_SEQUENCE),)


@operator("SequenceInsert")
class SequenceInsert(Operator):
    """The sequence with one more element, by default at the end. Source: ONNX SequenceInsert-11."""

    def infer(
        self, sequence: ValueType, item: ValueType, position: TensorType | None = None
    ) -> SequenceType:
        element = element_of(sequence)
        items = [item] if element is None else [element, item]
        return SequenceType(_joined(self, items))

    def reference(
        self, sequence: list[Any], item: Any, position: Array | None = None
    ) -> list[Any]:
        place = len(sequence)
        if position is not None:
            place = _position(sequence, position, len(sequence) + 1)
        return [*sequence[:place], item, *sequence[place:]]

    samples = (sample(skip=_TAKES_SEQUENCE),)


@operator("SequenceLength")
class SequenceLength(Operator):
    """The number of elements, i64 []. Source: ONNX SequenceLength-11."""

    def infer(self, sequence: ValueType) -> TensorType:
        element_of(sequence)
        return TensorType(i64, ())

    def reference(self, sequence: list[Any]) -> Array:
        return np.asarray(len(sequence), np.int64)

    samples = (sample(skip=_TAKES_SEQUENCE),)


@operator("SplitToSequence")
class SplitToSequence(Operator):
    """Parts of a tensor along an axis: of given lengths, of one length, or single slices.

    Shapes: x [*], split [] or [parts] -> a sequence of tensors.
    Source: ONNX SplitToSequence-24.
    """

    axis: int = 0
    keepdims: int = 1

    def infer(self, x: TensorType, split: TensorType | None = None) -> SequenceType:
        if x.shape is None:
            return SequenceType(x.with_shape(None))
        axis = normalize_axis(self.axis, x.rank)
        rest = x.dims[:axis], x.dims[axis + 1 :]
        if split is None and not self.keepdims:
            return SequenceType(x.with_shape((*rest[0], *rest[1])))
        extent: Dim = 1 if split is None else fresh_dim(self)
        return SequenceType(x.with_shape((*rest[0], extent, *rest[1])))

    def reference(self, x: Array, split: Array | None = None) -> list[Any]:
        extent = x.shape[normalize_axis(self.axis, x.ndim)]
        if split is None and not self.keepdims:
            return [np.asarray(x.take(k, axis=self.axis), x.dtype) for k in range(extent)]
        if split is None:
            ends = list(range(1, extent))
        elif split.ndim:
            if int(split.sum()) != extent:
                raise InputError(f"parts {split.tolist()} do not add up to {extent}")
            ends = np.cumsum(split)[:-1].tolist()
        else:
            ends = list(range(int(split), extent, int(split)))
        return list(np.split(x, ends, axis=self.axis))

    samples = (
        sample("f32[4,3]"), sample("f32[4,3]", np.array([1, 3])), sample("f32[5,3]", np.array(2)),
        sample("f32[4,3]", axis=-1, keepdims=0),
    )


@operator("ConcatFromSequence")
class ConcatFromSequence(Operator):
    """The tensors of a sequence joined along an axis, or stacked along a new one.

    Source: ONNX ConcatFromSequence-11.
    """

    axis: int = 0
    new_axis: int = 0

    def infer(self, sequence: ValueType) -> TensorType:
        element = element_of(sequence)
        if not isinstance(element, TensorType):
            raise ShapeError(f"the elements are {element}; tensors expected")
        if element.shape is None:
            return element
        element = element.with_shape(_any_extents(self, element.shape))
        axis = normalize_axis(self.axis, element.rank + (1 if self.new_axis else 0))
        rest = element.dims[axis:] if self.new_axis else element.dims[axis + 1 :]
        return element.with_shape((*element.dims[:axis], fresh_dim(self), *rest))

    def reference(self, sequence: list[Any]) -> Array:
        if not sequence:
            raise InputError("an empty sequence cannot be joined")
        if self.new_axis:
            return np.stack(sequence, axis=self.axis)
        return np.concatenate(sequence, axis=self.axis)

    samples = (sample(skip=_TAKES_SEQUENCE),)


@operator("Optional")
class Optional(Operator):
    """The input as an optional, or an absent one of a type. Source: ONNX Optional-28."""

    type: ValueType | None = None

    def infer(self, item: ValueType | None = None) -> OptionalType:
        return OptionalType(self.type if item is None else item)

    def reference(self, item: Any = None) -> Any:
        return item

    samples = (sample("f32[2]"),)


@operator("OptionalGetElement")
class OptionalGetElement(Operator):
    """The element of an optional. Source: ONNX OptionalGetElement-28."""

    def infer(self, item: ValueType) -> ValueType:
        element = item.element if isinstance(item, OptionalType) else item
        if element is None:
            raise ShapeError("the element type of the optional is not known")
        return element

    def reference(self, item: Any) -> Any:
        if item is None:
            raise InputError("the optional has no element")
        return item

    samples = (sample("f32[2]"),)


@operator("OptionalHasElement")
class OptionalHasElement(Operator):
    """True if an optional has an element, bool []. Source: ONNX OptionalHasElement-28."""

    def infer(self, item: ValueType | None = None) -> TensorType:
        return TensorType(boolean, ())

    def reference(self, item: Any = None) -> Array:
        return np.asarray(item is not None)

    samples = (sample("f32[2]"), sample())
