"""A plan made ready to run: linked code, constants in memory, steps cut into native segments.

Nothing here changes while running, so all contexts of an engine share one program.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import EngineFormatError
from bessemer.engine.plan import BufferRef, EngineData, HostStep, KernelStep, Plan
from bessemer.runtime.linker import LinkedCode
from bessemer.runtime.memory import Region
from bessemer.runtime.operators import Operation, make_operation
from bessemer.runtime.pool import default_threads

_SPACE_NUMBER = {"arena": 0, "constant": 1, "input": 2, "output": 3}

# What other threads cost: waking them at the start, meeting them after each step. The speeds are
# those of one core with vector units and data in its caches.
_WAKE_SECONDS = 20e-6
_BARRIER_SECONDS = 1e-6
_FLOPS_PER_SECOND = 50e9
_BYTES_PER_SECOND = 20e9


class NativeSegment(NamedTuple):
    """Kernel steps that run in one native call: rows first .. first + jobs of the job table.

    Not `parallel` means on the caller's thread alone; results are the same either way.
    """

    first: int
    jobs: int
    parallel: bool
    steps: tuple[int, ...]


class HostSegment(NamedTuple):
    """One host step with its operator."""

    step: HostStep
    number: int
    operation: Operation


Segment = NativeSegment | HostSegment


class Patch(NamedTuple):
    """Kernel arguments that point into one binding: argument number and byte offset."""

    argument: int
    byte: int


class Template(NamedTuple):
    """Job table and arguments without the addresses that a context fills in."""

    spaces: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    functions: np.ndarray[Any, Any]
    starts: np.ndarray[Any, Any]
    flags: np.ndarray[Any, Any]
    patches: dict[tuple[str, int], tuple[Patch, ...]]


class Program:
    """What `Engine` and its contexts share."""

    def __init__(self, data: EngineData, variant: str | None, constants: "Constants") -> None:
        self.variant = variant
        self.plan: Plan = data.plan_of(variant) if variant is not None else data.plan
        self.constants = constants
        self.label = f"engine {self.plan.name!r}" + (f" ({variant})" if variant else "")
        kernels = [step for step in self.plan.steps if isinstance(step, KernelStep)]
        self.code: LinkedCode | None = None
        self.driver: bytes | None = None
        if kernels:
            if variant is None:
                raise EngineFormatError(f"{self.label} has kernels but no machine code")
            objects = data.objects[variant]
            self.code = LinkedCode(objects, self.label)
            owner = self.code.owner(abi.RUN)
            if owner is None:
                raise EngineFormatError(
                    f"{self.label} holds no driver of ABI version {abi.DRIVER_ABI} ({abi.RUN}); "
                    "build it again"
                )
            self.driver = objects[owner]
        self.segments = self._cut()
        self.template = self._template(kernels)
        self.is_native = (
            len(self.segments) == 1 and isinstance(self.segments[0], NativeSegment)
            and all(binding.source is None for binding in self.plan.outputs)
        )

    def _cut(self) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        pending: list[int] = []
        done = 0

        def flush() -> None:
            nonlocal done
            if pending:
                kernels = [self._kernel(index) for index in pending]
                parallel = any(step.parallel for step in kernels) and worth_waking(kernels)
                segments.append(NativeSegment(done, len(pending), parallel, tuple(pending)))
                done += len(pending)
                pending.clear()

        for index, step in enumerate(self.plan.steps):
            if isinstance(step, KernelStep):
                pending.append(index)
            else:
                flush()
                segments.append(HostSegment(step, index, self._operation(step)))
        flush()
        return tuple(segments)

    def _operation(self, step: HostStep) -> Operation:
        threads = self.plan.options.get("threads")
        return make_operation(
            step, self.label, threads if isinstance(threads, int) else default_threads())

    def _kernel(self, index: int) -> KernelStep:
        step = self.plan.steps[index]
        assert isinstance(step, KernelStep)
        return step

    def _template(self, kernels: list[KernelStep]) -> Template:
        refs: list[BufferRef] = []
        starts, functions, flags = [], [], []
        patches: dict[tuple[str, int], list[Patch]] = {}
        for number, step in enumerate(kernels):
            assert self.code is not None
            starts.append(len(refs))
            functions.append(self.code.address(step.symbol))
            following = kernels[number + 1] if number + 1 < len(kernels) else None
            flags.append(_flags(step, following))
            for ref in step.args:
                if ref.space in ("input", "output"):
                    patch = Patch(len(refs), ref.byte)
                    patches.setdefault((ref.space, ref.offset), []).append(patch)
                refs.append(ref)
        return Template(
            np.array([_SPACE_NUMBER[ref.space] for ref in refs], np.uint8),
            np.array([ref.offset if ref.space in ("arena", "constant") else 0 for ref in refs],
                     np.uint64),
            np.array(functions, np.uint64), np.array(starts, np.uint64), np.array(flags, np.uint64),
            {key: tuple(found) for key, found in patches.items()},
        )


def worth_waking(kernels: Sequence[KernelStep]) -> bool:
    """True if these steps take long enough for other threads to help.

    A step that states neither operations nor bytes may be of any size, so it counts as long.
    """
    if any(step.parallel and not step.flops and not step.bytes for step in kernels):
        return True
    seconds = sum(
        max(step.flops / _FLOPS_PER_SECOND, step.bytes / _BYTES_PER_SECOND) for step in kernels
    )
    return seconds >= _WAKE_SECONDS + _BARRIER_SECONDS * len(kernels)


def _flags(step: KernelStep, following: KernelStep | None) -> int:
    """Two serial steps in a row run on the same thread and need no barrier between them."""
    serial = not step.parallel and following is not None and not following.parallel
    flags = abi.FLAG_PARALLEL if step.parallel else 0
    return flags | (abi.FLAG_BARRIER if step.barrier_after and not serial else 0)


class Constants:
    """The constant blob in memory: bytes, address, and typed read-only views."""

    def __init__(self, blob: np.ndarray[Any, Any], owner: Any = None) -> None:
        self.blob = blob
        self.owner = owner
        self.address = int(blob.__array_interface__["data"][0])

    @staticmethod
    def gather(data: EngineData) -> "Constants":
        """Copies constants that were built in memory into one aligned blob."""
        size = data.constant_bytes
        region = Region(size, huge=True)
        blob = region.array(0, size)
        for offset, array in data.constants:
            if array.dtype.hasobject:
                raise EngineFormatError(
                    f"plan {data.plan.name!r}: the constant at {offset} holds Python objects"
                )
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            blob[offset : offset + flat.nbytes] = flat
        blob.flags.writeable = False
        return Constants(blob, region)

    def view(self, ref: BufferRef, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A typed view of a constant."""
        return typed_view(self.blob, ref.offset, ref.size_bytes, dtype, shape)


def typed_view(
    blob: np.ndarray[Any, Any], offset: int, size: int, dtype: str, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """Bytes of a uint8 array seen as a dense tensor."""
    return blob[offset : offset + size].view(DTYPES[dtype].numpy).reshape(shape)
