"""Small bindings: copied to and from fixed places, which is quicker than finding where arrays lie.

A network of a few layers runs for some ten microseconds. Asking arrays for their addresses and
making aligned outputs took a third of that. Here a run touches as few Python objects as it can: the
weights that the kernels read have pushed them all out of the nearest caches.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bessemer.runtime import pool as pools
from bessemer.runtime.bindings import Signature, Spec, empty_aligned
from bessemer.runtime.tables import Tables

_MOST_BYTES = 1 << 13
_ALIGNMENT = 64

Array = np.ndarray[Any, Any]
Quick = Callable[[Any], dict[str, Any] | None]
"""Runs on a dictionary of inputs that are simply right; None, with nothing done, for others."""


def quick_run(
    signature: Signature, tables: Tables, ready_pool: Callable[[], pools.Pool]
) -> Quick | None:
    """The quick way into and out of a native run; None if a binding is large or no plain memory.

    It knows no errors: what it does not take goes the general way, which words them. `ready_pool`
    points the tables at the pool of this process, which is another one in a new child process.
    """
    specs = (*signature.inputs, *signature.outputs)
    names = [spec.binding.name for spec in signature.outputs]
    if len({*names}) < len(names) or not all(map(_is_small, specs)):
        return None
    places = _Places(signature, tables, ready_pool)
    return places.single() if len(specs) == 2 and len(names) == 1 else places.several()


class _Places:
    """Fixed memory for the bindings of a native run, and the two ways through it."""

    def __init__(
        self, signature: Signature, tables: Tables, ready_pool: Callable[[], pools.Pool]
    ) -> None:
        staged, made = list(map(_place, signature.inputs)), list(map(_place, signature.outputs))
        self._staged, self._made = staged, made
        self._takes = [(spec.binding.name, array.shape, array.dtype, array)
                       for spec, array in zip(signature.inputs, staged, strict=True)]
        self._gives = [(spec.binding.name, array.copy)
                       for spec, array in zip(signature.outputs, made, strict=True)]
        self._tables, self._ready_pool = tables, ready_pool
        self._token = object()

    def _point(self) -> pools.Pool:
        """Points the tables at these places and at the pool of this process."""
        self._tables.bind(self._staged, self._made)
        self._tables.owner = self._token
        return self._ready_pool()

    def single(self) -> Quick:
        """One input and one output, the most frequent case: no loops, as few look-ups as can be."""
        ((name, shape, dtype, place),), ((target, copy),) = self._takes, self._gives
        kind, tables, token = np.ndarray, self._tables, self._token
        request = tables.requests[0]
        pool: pools.Pool | None = None

        def run(inputs: Any) -> dict[str, Any] | None:
            nonlocal pool
            if type(inputs) is not dict or len(inputs) != 1:
                return None
            array = inputs.get(name)
            if type(array) is not kind or array.shape != shape or array.dtype is not dtype:
                return None
            place[...] = array
            if tables.owner is not token or pool is None or pool is not pools.process_pool:
                pool = self._point()
            pool.run(request)
            return {target: copy()}

        return run

    def several(self) -> Quick:
        """Any number of inputs and outputs."""
        takes, gives, count = self._takes, self._gives, len(self._takes)
        kind, tables, token = np.ndarray, self._tables, self._token
        request = tables.requests[0]
        pool: pools.Pool | None = None

        def run(inputs: Any) -> dict[str, Any] | None:
            nonlocal pool
            if type(inputs) is not dict or len(inputs) != count:
                return None
            for name, shape, dtype, place in takes:
                array = inputs.get(name)
                if type(array) is not kind or array.shape != shape or array.dtype is not dtype:
                    return None
                place[...] = array
            if tables.owner is not token or pool is None or pool is not pools.process_pool:
                pool = self._point()
            pool.run(request)
            found = {}
            for name, copy in gives:
                found[name] = copy()
            return found

        return run


def _is_small(spec: Spec) -> bool:
    return (
        spec.shape is not None and spec.dtype is not None and not spec.dtype.hasobject
        and spec.size_bytes is not None and spec.size_bytes <= _MOST_BYTES
    )


def _place(spec: Spec) -> Array:
    assert spec.shape is not None
    assert spec.dtype is not None
    assert spec.size_bytes is not None
    return empty_aligned(spec.shape, spec.dtype, spec.size_bytes, _ALIGNMENT)
