"""Checks what the caller passes in against the engine's bindings, and makes the outputs."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import InputError
from bessemer.engine.check import binding_bytes
from bessemer.engine.plan import Binding
from bessemer.runtime.operators import describe

_NUMPY_ALIGNMENT = 16
_CACHE_LINE = 64
_LARGE_BYTES = 1 << 16


def shape_text(binding: Binding) -> str:
    """Dtype and shape of a binding as text: f32[1,3,?]."""
    if not binding.dtype:
        return "object"
    if binding.shape is None:
        return f"{binding.dtype}[...]"
    extents = ",".join("?" if extent is None else str(extent) for extent in binding.shape)
    return f"{binding.dtype}[{extents}]"


class Spec(NamedTuple):
    """One binding, prepared for quick checks. `shape` is None where a dimension is open."""

    binding: Binding
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None
    size_bytes: int | None


def _dtype_of(binding: Binding) -> np.dtype[Any] | None:
    return DTYPES[binding.dtype].numpy if binding.dtype else None


def _static_shape(binding: Binding) -> tuple[int, ...] | None:
    if not binding.is_static or binding.shape is None:
        return None
    return tuple(extent for extent in binding.shape if isinstance(extent, int))


def _spec(binding: Binding) -> Spec:
    return Spec(binding, _dtype_of(binding), _static_shape(binding), binding_bytes(binding))


class Signature:
    """Inputs and outputs of an engine; turns the caller's arguments into arrays in order."""

    def __init__(self, label: str, inputs: Sequence[Binding], outputs: Sequence[Binding]) -> None:
        self.label = label
        self.inputs = tuple(map(_spec, inputs))
        self.outputs = tuple(map(_spec, outputs))
        self._names = {binding.name for binding in inputs}
        self._any_open = any(spec.shape is None for spec in self.inputs)

    def arrays(self, inputs: Any) -> list[Any]:
        """One value for each input: from a mapping by name, a sequence, or a single array.

        Raises: InputError for a missing, unknown or misshapen input.
        """
        values = self.listed(inputs)
        for index, spec in enumerate(self.inputs):
            value = values[index]
            if not (
                type(value) is np.ndarray and value.shape == spec.shape
                and value.dtype == spec.dtype
            ):
                values[index] = self._convert(spec, value)
        if self._any_open:
            self._check_symbols(values)
        return values

    def listed(self, inputs: Any) -> list[Any]:
        """The inputs in order, as they are. Raises: InputError for a missing or unknown one."""
        # The first test alone is much quicker, and a run of a small model is short.
        if type(inputs) is dict or isinstance(inputs, Mapping):
            return self._by_name(inputs)
        return self._by_position(inputs)

    def converted(self, values: list[Any]) -> list[Any]:
        """Inputs in order as arrays of the right dtype, rank and known extents.

        Raises: InputError.
        """
        return [self._convert(spec, value)
                for spec, value in zip(self.inputs, values, strict=True)]

    def _by_name(self, inputs: Mapping[str, Any]) -> list[Any]:
        try:
            values = [inputs[spec.binding.name] for spec in self.inputs]
        except KeyError:
            missing = [s.binding.name for s in self.inputs if s.binding.name not in inputs]
            raise self._fail(f"missing input {_quoted(missing)}", inputs) from None
        if len(inputs) != len(values):
            extra = [str(name) for name in inputs if name not in self._names]
            raise self._fail(f"unknown input {_quoted(extra)}", inputs,
                             "; initializers of a model are constants: build with keep_inputs")
        return values

    def _by_position(self, inputs: Any) -> list[Any]:
        if inputs is None:
            values = []
        elif isinstance(inputs, list | tuple):
            values = list(inputs)
        else:
            values = [inputs]
        if len(values) != len(self.inputs):
            raise InputError(
                f"{self.label}: got {len(values)} inputs by position, expected "
                f"{len(self.inputs)}: {self._expected()}"
            )
        return values

    def _expected(self) -> str:
        known = [f"{s.binding.name}: {shape_text(s.binding)}" for s in self.inputs]
        return "; ".join(known) if known else "no inputs"

    def _fail(self, text: str, inputs: Mapping[str, Any], advice: str = "") -> InputError:
        found = _quoted(list(inputs))
        return InputError(
            f"{self.label}: {text}; expected {self._expected()}; found {found}{advice}"
        )

    def _convert(self, spec: Spec, value: Any) -> Any:
        """A value that is not simply right: accept other array kinds, else say what is wrong."""
        binding = spec.binding
        if spec.dtype is None:
            return value
        array = _as_array(value, self.label, binding)
        if binding.dtype == "string":
            if array.dtype.kind not in "USO":
                raise self._mismatch(binding, "dtype", array)
            array = array.astype(object)
        elif array.dtype != spec.dtype:
            raise self._mismatch(binding, "dtype", array)
        expected = binding.shape
        if expected is None:
            return array
        if array.ndim != len(expected):
            raise self._mismatch(binding, "rank", array)
        for extent, found in zip(expected, array.shape, strict=True):
            if isinstance(extent, int) and extent != found:
                raise self._mismatch(binding, "shape", array)
        return array

    def _mismatch(self, binding: Binding, what: str, array: np.ndarray[Any, Any]) -> InputError:
        return InputError(
            f"{self.label}: input {binding.name!r} has the wrong {what}: expected "
            f"{shape_text(binding)}, found {_array_text(array)}"
        )

    def _check_symbols(self, values: list[Any]) -> None:
        known: dict[str, tuple[int, str]] = {}
        for spec, value in zip(self.inputs, values, strict=True):
            if spec.dtype is None or spec.binding.shape is None:
                continue
            for extent, found in zip(spec.binding.shape, value.shape, strict=True):
                if not isinstance(extent, str):
                    continue
                first, where = known.setdefault(extent, (found, spec.binding.name))
                if first != found and extent.isidentifier():
                    raise InputError(
                        f"{self.label}: dimension {extent!r} is {first} in input {where!r} but "
                        f"{found} in input {spec.binding.name!r}"
                    )

    def target(self, name: str) -> int:
        """The index of an output. Raises: InputError."""
        for index, spec in enumerate(self.outputs):
            if spec.binding.name == name:
                return index
        known = _quoted([spec.binding.name for spec in self.outputs])
        raise InputError(f"{self.label}: unknown output {name!r}; there are {known}")


def _array_text(array: np.ndarray[Any, Any]) -> str:
    name = next((n for n, d in DTYPES.items() if d.numpy == array.dtype), str(array.dtype))
    return f"{name}[{','.join(map(str, array.shape))}]"


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none"


def _as_array(value: Any, label: str, binding: Binding) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        raise InputError(
            f"{label}: input {binding.name!r} expects {shape_text(binding)}, found "
            f"{describe(value)}, which is no array: {error}"
        ) from error


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of the first byte."""
    try:
        # Four times quicker than the array interface, but only for writable contiguous arrays.
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return int(array.__array_interface__["data"][0])


def empty_aligned(
    shape: tuple[int, ...], dtype: np.dtype[Any], size_bytes: int, alignment: int
) -> np.ndarray[Any, Any]:
    """A new array whose address is a multiple of `alignment`."""
    if alignment <= _NUMPY_ALIGNMENT:
        return np.empty(shape, dtype)
    block = np.empty(size_bytes + alignment, np.uint8)
    start = -address_of(block) % alignment
    return block[start : start + size_bytes].view(dtype).reshape(shape)


def make_output(spec: Spec, mask: int) -> np.ndarray[Any, Any] | None:
    """A new array for an output; None if its shape is known only after the run."""
    if spec.size_bytes is None or spec.shape is None or spec.dtype is None:
        return None
    if mask < _NUMPY_ALIGNMENT and spec.size_bytes < _LARGE_BYTES:
        return np.empty(spec.shape, spec.dtype)
    # Vector stores across cache lines are slow, which shows in large outputs.
    return empty_aligned(spec.shape, spec.dtype, spec.size_bytes, max(mask + 1, _CACHE_LINE))
