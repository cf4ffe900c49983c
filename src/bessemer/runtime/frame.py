"""What one run works on: its inputs, outputs and host objects, as host steps see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.errors import InputError
from bessemer.engine.plan import BufferRef, TensorRef
from bessemer.runtime.bindings import Signature
from bessemer.runtime.operators import own
from bessemer.runtime.program import HostSegment, typed_view


@dataclass(eq=False, slots=True)
class Frame:
    """Values of one run; `arena` and `constants` are uint8 arrays."""

    arena: np.ndarray[Any, Any]
    constants: np.ndarray[Any, Any]
    inputs: list[Any]
    outputs: list[Any]
    slots: list[Any]

    def value(self, ref: TensorRef) -> Any:
        """What a host step sees: a view of memory, or an object."""
        buffer = ref.buffer
        if buffer.space == "host":
            return self.slots[buffer.offset]
        if buffer.space in ("arena", "constant"):
            return typed_view(
                self._blob(buffer), buffer.offset, buffer.size_bytes, ref.dtype, ref.shape or ()
            )
        values = self.inputs if buffer.space == "input" else self.outputs
        value = values[buffer.offset]
        if not isinstance(value, np.ndarray) or value.dtype.hasobject or ref.shape is None:
            return value
        if value.shape == ref.shape and not buffer.byte:
            return value
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return typed_view(flat, buffer.byte, buffer.size_bytes, ref.dtype, ref.shape)

    def run_host(self, segment: HostSegment) -> None:
        """Runs one host step and stores its results. Raises: ExecutionError."""
        step, operation = segment.step, segment.operation
        inputs = [None if ref is None else _read_only(self.value(ref)) for ref in step.inputs]
        results = operation.run(inputs)
        for ref, result in zip(step.outputs, results, strict=False):
            if ref is None:
                continue
            buffer = ref.buffer
            if buffer.space == "host":
                self.slots[buffer.offset] = own(result)
            elif buffer.space == "output" and self.outputs[buffer.offset] is None:
                self.outputs[buffer.offset] = own(result)
            else:
                np.copyto(self.value(ref), operation.fit(result, ref))

    def fetch(self, source: BufferRef, index: int) -> None:
        """Fills an output that is an input, a constant, a part of the arena or a host object."""
        made = self.outputs[index]
        if made is None or source.space == "host":
            held = self.slots if source.space == "host" else self.inputs
            value = held[source.offset]
            if isinstance(value, np.ndarray) and any(value is given for given in self.inputs):
                value = value.copy()
            self.outputs[index] = value
            return
        target = made.reshape(-1).view(np.uint8)
        if source.space == "input":
            flat = np.ascontiguousarray(self.inputs[source.offset]).reshape(-1).view(np.uint8)
            target[:] = flat[source.byte : source.byte + source.size_bytes]
        else:
            blob = self._blob(source)
            target[:] = blob[source.offset : source.offset + source.size_bytes]

    def _blob(self, buffer: BufferRef) -> np.ndarray[Any, Any]:
        return self.arena if buffer.space == "arena" else self.constants


def _read_only(value: Any) -> Any:
    """A view that keeps a reference from changing memory that other steps read."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def use_given(
    signature: Signature, given: Mapping[str, Any], made: list[Any], inputs: list[Any], mask: int
) -> None:
    """Replaces outputs by the caller's arrays where kernels can write there safely.

    Raises: InputError for an unknown name, a read-only array, a wrong dtype or shape.
    """
    if not isinstance(given, Mapping):
        raise InputError(
            f"{signature.label}: outputs must map output names to arrays, found "
            f"{type(given).__name__}"
        )
    for name, array in given.items():
        index = signature.target(name)
        spec = signature.outputs[index]
        if not isinstance(array, np.ndarray) or not array.flags.writeable:
            raise InputError(f"{signature.label}: output {name!r} needs a writable array")
        if spec.shape is None:
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
