"""Schedules compiled, checked and timed on this machine; everything that is found is recorded."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bessemer.codegen.cache import ObjectCache
from bessemer.codegen.llvm.driver import driver_module
from bessemer.codegen.llvm.pool import CompilePool
from bessemer.codegen.objects import compile_functions, name_by_content
from bessemer.core.errors import CodegenError
from bessemer.core.shapes import is_static
from bessemer.lower.kernel import Kernel
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target
from bessemer.tune.description import describe_chip, describe_kernel, kernel_key
from bessemer.tune.guard import guard_module
from bessemer.tune.measure import Bench, Code, Timing
from bessemer.tune.network import Network, Site, Turn
from bessemer.tune.operands import Array, Workspace
from bessemer.tune.records import KernelRecord, Records, Trial
from bessemer.tune.space import Candidate

_LOG = logging.getLogger("bessemer.tune")

TOLERANCE = 1e-4
"""Schedules may differ by this share of the largest output: sums are taken in another order."""


@dataclass(frozen=True, eq=False)
class Built:
    """A candidate with its loops."""

    candidate: Candidate
    scheduled: Scheduled


@dataclass(frozen=True, eq=False)
class Trying:
    """Schedules of a kernel to time in a network, the formula's first, and where it runs there."""

    kernel: Kernel
    sites: Sequence[Site]
    built: Sequence[Built]


class Session:
    """What all kernels of one tuning share: compilers, the bench, the records.

    A context manager, because it keeps helper processes.
    """

    def __init__(self, target: Target, threads: int, records: Records,
                 cache: ObjectCache | None = None) -> None:
        self.target, self.threads, self.records = target, threads, records
        self.cache = cache or ObjectCache.from_settings()
        self.compile_seconds = 0.3
        """What one schedule takes to compile; a guess until `knows_speed`."""
        self.knows_speed = False
        self._pool = CompilePool(target, cache=self.cache)
        self._objects: dict[str, bytes] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    @cached_property
    def bench(self) -> Bench:
        """The bench on this machine's threads."""
        driver, guard = self._pool.compile_many(
            [driver_module(self.target), guard_module(self.target)])
        return Bench(driver, guard, self.threads)

    def compile(self, schedules: Sequence[Scheduled]) -> list[bytes]:
        """Objects of schedules, each distinct one compiled once.

        Raises: CodegenError.
        """
        start = time.perf_counter()
        names = [name_by_content(each.function) for each in schedules]
        missing = {name: each.function for name, each in zip(names, schedules, strict=True)
                   if name not in self._objects}
        codes = compile_functions(list(missing.values()), self._pool, self.cache)
        self._objects |= zip(missing, codes, strict=True)
        if len(missing) > 2:
            self.compile_seconds = (time.perf_counter() - start) / len(missing)
            self.knows_speed = True
        return [self._objects[name] for name in names]

    def key(self, kernel: Kernel) -> str:
        """The name under which the kernel's records are kept."""
        return kernel_key(kernel, self.target, self.threads)

    def measure(self, kernel: Kernel, built: Sequence[Built], seconds: float, wanted: int = 6
                ) -> list[Trial]:
        """Times of schedules side by side, by themselves, the formula's first; they are recorded.

        A schedule with other results than the first is an internal error: it is reported and
        recorded as wrong, and its time is not taken.
        """
        codes, workspace = self._load(built), Workspace(kernel)
        right = [0, *self._right(kernel, built, codes, workspace)]
        timings = self.bench.compare([codes[k] for k in right], workspace, seconds, wanted=wanted)
        workspace.close()
        _close(codes)
        return self._record(kernel, built, dict(zip(right, timings, strict=True)))

    def measure_in(self, network: Network, trials: Sequence[Trying], seconds: float
                   ) -> list[list[Trial]]:
        """Times of schedules inside a network, for each kernel the formula's first; recorded.

        Empty for a kernel with a schedule that does not compile: this is an internal error, too.
        """
        turns: list[Turn] = []
        rights: list[list[int] | None] = []
        loaded: list[Code] = []
        for each in trials:
            try:
                codes = self._load(each.built)
                loaded += codes
                workspace = Workspace(each.kernel)
                right = self._right(each.kernel, each.built, codes, workspace)
                workspace.close()
            except CodegenError as error:
                _LOG.error("internal error: kernel %s: %s", each.kernel.name, error)
                rights.append(None)
                continue
            rights.append(right)
            turns.append(Turn(each.kernel, each.sites, [codes[k] for k in right]))
        found = iter(network.compare(turns, seconds))
        result = [[] if right is None else self._record(
            each.kernel, each.built, dict(zip((0, *right), next(found), strict=True)))
            for each, right in zip(trials, rights, strict=True)]
        network.release()
        _close(loaded)
        return result

    def rehearse(self, network: Network, trials: Sequence[Trying], seconds: float
                 ) -> list[list[Trial]]:
        """Times of one other schedule for each kernel, all at once, in turn with the formula's."""
        codes = [self._load(each.built) for each in trials]
        found = network.rehearse(
            [Turn(each.kernel, each.sites, loaded[1:])
             for each, loaded in zip(trials, codes, strict=True)], seconds)
        network.release()
        for loaded in codes:
            _close(loaded)
        return [self._record(each.kernel, each.built, dict(enumerate(timings)))
                for each, timings in zip(trials, found, strict=True)]

    def _load(self, built: Sequence[Built]) -> list[Code]:
        objects = self.compile([each.scheduled for each in built])
        return [Code.load(each.scheduled, code) for each, code in zip(built, objects, strict=True)]

    def _right(self, kernel: Kernel, built: Sequence[Built], codes: Sequence[Code],
               workspace: Workspace) -> list[int]:
        """The schedules but the first whose results are those of the first."""
        expected = self.bench.check(codes[0], workspace)
        return [k for k, code in enumerate(codes) if k and self._agrees(
            kernel, built[k], self.bench.check(code, workspace), expected)]

    def _agrees(self, kernel: Kernel, built: Built, found: list[Array], expected: list[Array]
                ) -> bool:
        error = max(map(difference, found, expected))
        if error > TOLERANCE:
            _LOG.error(
                "internal error: kernel %s: schedule '%s' gives results that differ by %.2g of the "
                "largest output; it is not used. Please report this kernel:\n%s",
                kernel.name, built.candidate, error, describe_kernel(kernel))
        return error <= TOLERANCE

    def _record(self, kernel: Kernel, built: Sequence[Built], timings: dict[int, Timing]
                ) -> list[Trial]:
        key, base = self.key(kernel), str(built[0].candidate)
        trials = []
        for k, each in enumerate(built):
            timing = timings.get(k) or Timing(1.0, 1e6, 0, False)
            trials.append(Trial(
                key, each.candidate.rule, each.candidate.knobs_text, base, timing.seconds,
                timing.ratio, timing.slices, timing.clean, k not in timings))
        self.records.add(KernelRecord(
            key, describe_chip(self.target), self.threads, describe_kernel(kernel)), trials)
        return trials


def _close(codes: Sequence[Code]) -> None:
    for code in codes:
        code.linked.close()


def difference(found: Array, expected: Array) -> float:
    """The largest difference, as a share of the largest expected number; inf for other NaNs."""
    if found.dtype.kind not in "fV" or found.dtype.itemsize < 2:
        return 0.0 if np.array_equal(found, expected) else np.inf
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.where(a == b, 0.0, a - b))
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return float(np.nan_to_num(gap, nan=0.0, posinf=np.inf).max(initial=0.0) / (scale or 1.0))


def can_measure(kernel: Kernel) -> bool:
    """True if the kernel can be timed by itself: no extent is left to the run."""
    dims = [dim for o in (*kernel.inputs, *kernel.outputs)
            for dim in (*o.shape, *o.strides, o.offset)]
    return is_static(dims)
