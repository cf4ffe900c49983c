"""The native side of a context: kernel arguments, job table and requests, with real addresses."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.runtime.bindings import address_of, empty_aligned
from bessemer.runtime.memory import Region, round_up
from bessemer.runtime.program import NativeSegment, Program

_STAGING_ALIGNMENT = 64


class Tables:
    """Argument arrays, jobs and one request for each native segment of a program.

    Those of a static plan are filled once; a run only writes addresses of bindings that changed.
    """

    def __init__(self, program: Program, arena_address: int = 0) -> None:
        found, template = program.jobs, program.template
        self._mask = program.plan.binding_alignment - 1
        count, jobs = found.arguments, len(found.functions)
        self._segments = [s for s in program.segments if isinstance(s, NativeSegment)]
        jobs_at = round_up(8 * count, 64)
        requests_at = round_up(jobs_at + abi.JOB_BYTES * jobs, 64)
        self._region = Region(requests_at + abi.REQUEST_BYTES * len(self._segments))
        self.base = base = self._region.address
        self.arguments = self._region.array(0, 8 * count).view(np.uint64)
        if template is not None:
            bases = np.array([arena_address, 0], np.uint64)
            self.arguments[:] = bases[template.bases] + template.offsets
        # Rows of function, address of the arguments, flags.
        self.jobs = self._region.array(jobs_at, abi.JOB_BYTES * jobs).view(np.uint64).reshape(
            jobs, abi.JOB_BYTES // 8)
        self.jobs[:, 0] = found.functions
        self.jobs[:, 1] = found.starts * np.uint64(8) + np.uint64(base)
        self.jobs[:, 2] = found.flags
        self.requests = [
            base + requests_at + abi.REQUEST_BYTES * i for i in range(len(self._segments))
        ]
        for address, segment in zip(self.requests, self._segments, strict=True):
            _put(address + abi.REQUEST_JOBS, base + jobs_at + abi.JOB_BYTES * segment.first)
            _put(address + abi.REQUEST_COUNT, segment.jobs)
        self._words = (ctypes.c_uint64 * count).from_address(base)
        patches = {} if template is None else template.patches
        self._inputs = [(key[1], key, found) for key, found in patches.items() if key[0] == "input"]
        self._outputs = [
            (key[1], key, found) for key, found in patches.items() if key[0] == "output"
        ]
        self._bound: dict[tuple[str, int], int] = {}
        # Who bound last, if it wants to know that nobody else did since.
        self.owner: object = None
        self._staging: dict[int, np.ndarray[Any, Any]] = {}
        self._threads = 1
        self.shared = [segment.parallel for segment in self._segments]

    def set_pool(self, address: int, threads: int) -> None:
        """Says which pool serves the requests, and with how many threads."""
        self._threads = threads
        for request, shared in zip(self.requests, self.shared, strict=True):
            _put(request + abi.REQUEST_POOL, address)
            _put(request + abi.REQUEST_THREADS, threads if shared else 1)

    def share(self, number: int, shared: bool) -> None:
        """Says whether a native call is worth more than one thread."""
        if self.shared[number] != shared:
            self.shared[number] = shared
            _put(self.requests[number] + abi.REQUEST_THREADS, self._threads if shared else 1)

    def set_stamps(self, address: int) -> None:
        """Where time stamps go; 0 for none. Each segment writes one more than it has jobs."""
        for number, (request, segment) in enumerate(
            zip(self.requests, self._segments, strict=True)
        ):
            where = address + abi.STAMP_BYTES * (segment.first + number) if address else 0
            _put(request + abi.REQUEST_STAMPS, where)

    def bind(self, inputs: list[Any], outputs: list[Any]) -> None:
        """Points the kernels at these arrays; an input that lies badly is copied first."""
        self.owner = None
        bound, arguments = self._bound, self._words
        for index, key, patches in self._inputs:
            address = self.input_address(index, inputs[index])
            if bound.get(key) != address:
                bound[key] = address
                for argument, byte in patches:
                    arguments[argument] = address + byte
        for index, key, patches in self._outputs:
            address = address_of(outputs[index])
            if bound.get(key) != address:
                bound[key] = address
                for argument, byte in patches:
                    arguments[argument] = address + byte

    def input_address(self, index: int, array: np.ndarray[Any, Any]) -> int:
        """The address of an input, or of a copy of it that lies well."""
        if array.flags.c_contiguous:
            address = address_of(array)
            if not address & self._mask:
                return address
        staging = self._staging.get(index)
        if staging is None or staging.shape != array.shape:
            alignment = max(self._mask + 1, _STAGING_ALIGNMENT)
            staging = empty_aligned(array.shape, array.dtype, array.nbytes, alignment)
            self._staging[index] = staging
        np.copyto(staging, array)
        return address_of(staging)

    def point(self, patches: Sequence[tuple[int, int]], address: int) -> None:
        """Points (argument, byte) pairs at a binding."""
        words = self._words
        for argument, byte in patches:
            words[argument] = address + byte

    def forget(self) -> None:
        """Lets the next `bind` write every address: others were pointed at meanwhile."""
        self._bound.clear()
        self.owner = None

    def close(self) -> None:
        """Frees the tables."""
        self._region.close()


def _put(address: int, value: int) -> None:
    ctypes.c_uint64.from_address(address).value = value
