"""What one run works on: its inputs, outputs and host objects, as host steps see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.errors import InputError
from bessemer.runtime.bindings import Signature, Spec
from bessemer.runtime.constants import Constants
from bessemer.runtime.operators import own
from bessemer.runtime.places import Place, typed_view
from bessemer.runtime.program import HostSegment, ShapeSegment


@dataclass(eq=False, slots=True)
class Frame:
    """Values of one run; `arenas` are uint8 arrays, one for each epoch."""

    arenas: list[np.ndarray[Any, Any]]
    constants: Constants
    inputs: list[Any]
    outputs: list[Any]
    slots: list[Any]

    def value(self, place: Place) -> Any:
        """What a host step sees: a view of memory, or an object."""
        space, number, offset, size, dtype, shape = place
        if space == "host":
            return self.slots[number]
        if space == "arena":
            return typed_view(self.arenas[number], offset, size, dtype, shape or ())
        if space == "constant":
            return typed_view(self.constants.bytes_of(offset, size), 0, size, dtype, shape or ())
        value = (self.inputs if space == "input" else self.outputs)[number]
        if not isinstance(value, np.ndarray) or value.dtype.hasobject or shape is None:
            return value
        if value.shape == shape and not offset:
            return value
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return typed_view(flat, offset, size, dtype, shape)

    def run_host(
        self, segment: HostSegment, bodies: Mapping[str, Any] | None = None
    ) -> tuple[Any, ...]:
        """Runs one host step, on its bodies if it has any; stores its results and returns them.

        Raises: ExecutionError.
        """
        operation = segment.operation
        inputs = [None if place is None else _read_only(self.value(place))
                  for place in segment.inputs]
        results = operation.run(inputs, bodies)
        for place, result in zip(segment.outputs, results, strict=False):
            if place is None or place.space == "later":
                continue
            if place.space == "host":
                self.slots[place.number] = own(result)
            elif place.space == "output" and self.outputs[place.number] is None:
                self.outputs[place.number] = own(result)
            else:
                np.copyto(self.value(place), operation.fit(result, place))
        return results

    def run_shape(self, segment: ShapeSegment) -> None:
        """Writes the content of a shape step."""
        place, content = segment.place, segment.content
        assert place is not None
        assert content is not None
        if place.space == "host":
            self.slots[place.number] = content.copy()
        elif place.space == "output" and self.outputs[place.number] is None:
            self.outputs[place.number] = content.copy()
        else:
            np.copyto(self.value(place), content)

    def fetch(self, source: Place, index: int) -> None:
        """Fills an output that is an input, a constant, a part of the arena or a host object."""
        made = self.outputs[index]
        if made is None or source.space == "host":
            held = self.slots if source.space == "host" else self.inputs
            value = held[source.number]
            if isinstance(value, np.ndarray) and any(value is given for given in self.inputs):
                value = value.copy()
            self.outputs[index] = value
            return
        target = made.reshape(-1).view(np.uint8)
        start, size = source.offset, source.size_bytes
        if source.space == "constant":
            target[:] = self.constants.bytes_of(start, size)
        elif source.space == "arena":
            target[:] = self.arenas[source.number][start : start + size]
        else:
            flat = np.ascontiguousarray(self.inputs[source.number]).reshape(-1).view(np.uint8)
            target[:] = flat[start : start + size]


def _read_only(value: Any) -> Any:
    """A view that keeps a reference from changing memory that other steps read."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def use_given(
    signature: Signature, given: Mapping[str, Any], made: list[Any], inputs: list[Any], mask: int,
    specs: Sequence[Spec | None] | None = None,
) -> None:
    """Replaces outputs by the caller's arrays where kernels can write there safely.

    `specs` are those of this run where shapes are symbolic, None for shapes not known yet.

    Raises: InputError for an unknown name, a read-only array, a wrong dtype or shape.
    """
    if not isinstance(given, Mapping):
        raise InputError(
            f"{signature.label}: outputs must map output names to arrays, found "
            f"{type(given).__name__}"
        )
    for name, array in given.items():
        index = signature.target(name)
        spec = signature.outputs[index] if specs is None else specs[index]
        if not isinstance(array, np.ndarray) or not array.flags.writeable:
            raise InputError(f"{signature.label}: output {name!r} needs a writable array")
        if spec is None or spec.shape is None:
            continue
        if array.dtype != spec.dtype or array.shape != spec.shape:
            raise InputError(
                f"{signature.label}: the array for output {name!r} is "
                f"{array.dtype}{list(array.shape)}, expected {spec.dtype}{list(spec.shape)}"
            )
        if made[index] is None:
            continue
        others = [*inputs, *(a for n, a in given.items() if n != name)]
        shared = any(isinstance(o, np.ndarray) and np.may_share_memory(o, array) for o in others)
        address = int(array.__array_interface__["data"][0])
        if not shared and array.flags.c_contiguous and not address & mask:
            made[index] = array


def deliver(signature: Signature, name: str, target: np.ndarray[Any, Any], value: Any) -> Any:
    """Copies an output into the caller's array unless it was written there already.

    Raises: InputError if shape or dtype differ.
    """
    if value is target:
        return target
    array = np.asarray(value)
    if array.shape != target.shape or array.dtype != target.dtype:
        raise InputError(
            f"{signature.label}: output {name!r} is {array.dtype}{list(array.shape)}, "
            f"the given array {target.dtype}{list(target.shape)}"
        )
    np.copyto(target, array)
    return target
