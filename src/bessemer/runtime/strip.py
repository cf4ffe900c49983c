"""Many iterations of a loop's body as one native call: its jobs, as often as it iterates.

Nothing is decided between the iterations, so all addresses are known before the first one.
"""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.engine.plan import KernelStep
from bessemer.runtime.memory import Region, round_up
from bessemer.runtime.program import is_long

if TYPE_CHECKING:
    from bessemer.runtime.runner import Runner

_MOST = 1024
"""Iterations of one native call; more of them take several calls."""

Array = np.ndarray[Any, Any]
Pointers = Sequence[tuple[Sequence[tuple[int, int]], Array]]
"""For each binding: (argument, byte) pairs, and its address [iterations]."""


class Strip:
    """Runs the body of a runner, which is one native call, for all iterations at once."""

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner
        steps = runner.program.plan.steps
        kernels = [step for step in steps if isinstance(step, KernelStep)]
        self._flops = np.array([step.flops for step in kernels], np.float64)
        self._bytes = np.array([step.bytes for step in kernels], np.float64)
        self._parallel = any(step.parallel for step in kernels)
        self._room = 0
        self._region: Region
        self._words: Array

    def run(self, pointers: Pointers, count: int) -> None:
        """Runs `count` iterations, each with the addresses of its row."""
        for start in range(0, count, _MOST):
            rows = min(count - start, _MOST)
            self._reserve(rows)
            words = self._words[:rows]
            words[:] = self._runner.tables.arguments
            for patches, addresses in pointers:
                for argument, byte in patches:
                    words[:, argument] = addresses[start : start + rows] + byte
            self._call(rows)

    def _reserve(self, rows: int) -> None:
        """Makes room for so many iterations: arguments, jobs, one request."""
        if rows <= self._room:
            return
        self._room = room = min(_MOST, max(16, 2 * rows))
        found = self._runner.program.jobs
        width, jobs = found.arguments, len(found.functions)
        self._jobs_at = round_up(8 * width * room, 64)
        self._request_at = round_up(self._jobs_at + abi.JOB_BYTES * jobs * room, 64)
        self._region = Region(self._request_at + abi.REQUEST_BYTES)
        base = self._region.address
        self._words = self._region.array(0, 8 * width * room).view(np.uint64).reshape(room, width)
        size = abi.JOB_BYTES * jobs * room
        table = self._region.array(self._jobs_at, size).view(np.uint64).reshape(room, jobs, 4)
        rest = 8 * width * np.arange(room, dtype=np.uint64)[:, None]
        table[:, :, 0] = found.functions
        table[:, :, 1] = rest + found.starts * np.uint64(8) + np.uint64(base)
        table[:, :, 2] = found.flags

    def _call(self, rows: int) -> None:
        pool = self._runner.ready_pool()
        request = self._region.address + self._request_at
        ctypes.memmove(request, self._runner.tables.requests[0], abi.REQUEST_BYTES)
        shared = self._parallel and is_long(np.tile(self._flops, rows), np.tile(self._bytes, rows))
        for offset, value in (
            (abi.REQUEST_JOBS, self._region.address + self._jobs_at),
            (abi.REQUEST_COUNT, rows * len(self._flops)),
            (abi.REQUEST_THREADS, self._runner.threads if shared else 1),
            (abi.REQUEST_STAMPS, 0),
        ):
            ctypes.c_uint64.from_address(request + offset).value = value
        pool.run(request)
