"""Times schedules where they will run: inside the network, between its other kernels.

A kernel timed alone finds its operands in other caches than in the network, so what is faster alone
may be slower there. Here the formula's engine runs as it is, but for single jobs of the driver's
table that point at other machine code. One run times one schedule of every kernel at once, by
the stamps that the driver takes after each job.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.core.dtypes import DTYPES
from bessemer.engine.plan import Binding, HostStep, KernelStep, Plan
from bessemer.lower.kernel import Kernel, Operand
from bessemer.runtime.bindings import Signature, make_output
from bessemer.runtime.context import make_runner
from bessemer.runtime.memory import PAGE, Region
from bessemer.runtime.profile import Recorder
from bessemer.runtime.program import Program
from bessemer.schedule.rule import Scheduled
from bessemer.tune.measure import LEAST_SLICES, Code, Timing
from bessemer.tune.operands import ColdWeights, is_cold, operand_bytes, packed_region

SLICE_SECONDS = 2e-3
"""Short networks run several times in a row until they take that long."""
MOST_REPEATS = 40
DROPPED = {0: 1.6, 1: 1.3, 3: 1.12, 5: 1.06}
"""After that round, schedules slower than the formula's by this factor are no longer run."""

_SEED = 20
_ROUNDS = 10
_PAIRS = 24
_MOST_PAIRS = 200
_Row = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Site:
    """One place where a kernel runs: the number of its job, and what the formula made of it."""

    job: int
    kernel: Kernel
    scheduled: Scheduled


@dataclass(frozen=True, eq=False)
class Turn:
    """Schedules of one kernel to compare with the formula's, at all sites where it runs.

    `kernel` is the one that the schedules were made of; the sites hold kernels equal to it.
    """

    kernel: Kernel
    sites: Sequence[Site]
    codes: Sequence[Code]


def can_rehearse(plan: Plan) -> bool:
    """True if a network can be run on made-up inputs: nothing in it depends on them but numbers."""
    return not plan.is_symbolic and all(map(_is_plain, (*plan.inputs, *plan.outputs))) and not any(
        isinstance(step, HostStep) and step.bodies for step in plan.steps)


def _is_plain(binding: Binding) -> bool:
    return bool(binding.dtype) and binding.dtype != "string" and binding.is_static


class Network:
    """A network in memory of its own, with inputs made up. A context manager."""

    def __init__(self, program: Program, threads: int) -> None:
        plan = program.plan
        signature = Signature(program.label, plan.inputs, plan.outputs)
        self._runner = make_runner(program, signature, threads)
        rng = np.random.default_rng(_SEED)
        self._inputs = [_made_up(binding, rng) for binding in plan.inputs]
        self._outputs = [make_output(spec, plan.binding_alignment - 1)
                         for spec in signature.outputs]
        self._runner.tables.bind(self._inputs, self._outputs)
        self._recorder = Recorder(program)
        self._steps = [k for k, step in enumerate(plan.steps) if isinstance(step, KernelStep)]
        self._formula = self._runner.tables.jobs.copy()
        self._cold = ColdWeights()
        self._kept: list[Region] = []
        self._held: list[np.ndarray] = []
        self._repeats = 1
        self._run()
        took = self._seconds()
        self._repeats = int(min(max(round(SLICE_SECONDS / took), 1), MOST_REPEATS))

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the memory."""
        self._forget()
        self._runner.close()

    # -- comparing --------------------------------------------------------------------------------

    def compare(self, turns: Sequence[Turn], seconds: float) -> list[list[Timing]]:
        """For each turn the timings of its codes, by the formula's schedule in the same rounds.

        In a round each schedule of each kernel runs once, in an order of its own.
        """
        end = time.perf_counter() + seconds
        rng = np.random.default_rng(len(turns))
        rows = self._prepare(turns)
        found = [_Series(len(turn.codes)) for turn in turns]
        for number in range(_ROUNDS if turns else 0):
            orders = [rng.permutation(series.running) for series in found]
            for place in range(max(map(len, orders))):
                for turn, codes, order in zip(turns, rows, orders, strict=True):
                    self._place(turn, codes, int(order[place % len(order)]))
                spans = self._run()
                for turn, series, order in zip(turns, found, orders, strict=True):
                    if place < len(order):
                        series.add(int(order[place]), sum(spans[s.job] for s in turn.sites))
            for series in found:
                series.end_round(number)
            if time.perf_counter() > end:
                break
        self._restore()
        return [series.timings() for series in found]

    def rehearse(self, turns: Sequence[Turn], seconds: float) -> list[list[Timing]]:
        """All first codes at once against the formula's schedules, run by run in turn.

        Each way runs twice, and only the second time counts: so each finds its own weights in the
        caches, as it would in use.
        """
        end = time.perf_counter() + seconds
        rows = self._prepare(turns)
        found = [_Series(1) for _ in turns]
        for number in range(_PAIRS):
            for changed in (0, 1) if number % 2 else (1, 0):
                for turn, codes in zip(turns, rows, strict=True):
                    self._place(turn, codes, changed)
                self._run()
                spans = self._run()
                for turn, series in zip(turns, found, strict=True):
                    series.add(changed, sum(spans[s.job] for s in turn.sites))
            for series in found:
                series.end_round()
            if number >= LEAST_SLICES and time.perf_counter() > end:
                break
        self._restore()
        return [series.timings() for series in found]

    def release(self) -> None:
        """Frees what was made for the schedules of past comparisons."""
        self._forget()

    # -- running ----------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The time of a run, the best of a few in a row."""
        return min(self._seconds() for _ in range(self._repeats))

    def _seconds(self) -> float:
        start = time.perf_counter()
        self._runner.run_bound(self._inputs, self._outputs)
        return time.perf_counter() - start

    def _run(self) -> list[float]:
        """Seconds of each job: the median of a few runs in a row, each job on its own."""
        runner, recorder = self._runner, self._recorder
        runner.set_stamps(recorder)
        for _ in range(self._repeats):
            runner.run_bound(self._inputs, self._outputs, recorder)
            recorder.collect(0)
        runner.set_stamps(None)
        times = recorder.take()
        return [statistics.median(times[step]) * 1e-6 for step in self._steps]

    # -- other machine code in the table ----------------------------------------------------------

    def _place(self, turn: Turn, rows: Sequence[Sequence[_Row]], which: int) -> None:
        """Points the jobs of a kernel at one of its schedules; 0 is the formula's."""
        table = self._runner.tables.jobs
        for number, site in enumerate(turn.sites):
            table[site.job, :3] = rows[which - 1][number] if which else self._formula[site.job, :3]

    def _restore(self) -> None:
        self._runner.tables.jobs[:] = self._formula

    def _prepare(self, turns: Sequence[Turn]) -> list[list[list[_Row]]]:
        """By turn, code and site what the job table says where a schedule runs."""
        self._cold.reserve(max((operand_bytes(operand) + PAGE for turn in turns
                                for code in turn.codes for operand in code.scheduled.operands
                                if is_cold(operand)), default=0))
        return [[self._rows(turn, code) for code in turn.codes] for turn in turns]

    def _rows(self, turn: Turn, code: Code) -> list[_Row]:
        return [(code.address, self._arguments(turn.kernel, site, code.scheduled),
                 code.flags | self._sharing(site, code)) for site in turn.sites]

    def _sharing(self, site: Site, code: Code) -> int:
        """How threads share the step: that depends on its size, not on its schedule."""
        alone = abi.FLAG_PARALLEL | abi.FLAG_BARRIER
        return int(self._formula[site.job, 2]) & ~alone if code.flags & abi.FLAG_PARALLEL else 0

    def _arguments(self, kernel: Kernel, site: Site, scheduled: Scheduled) -> int:
        """The address of the arguments for a schedule of an equal kernel."""
        known = self._known(kernel, site)
        words = np.array([self._address(o, known) for o in scheduled.operands], np.uint64)
        self._held.append(words)
        return int(words.ctypes.data)

    def _known(self, kernel: Kernel, site: Site) -> dict[int, tuple[Operand, int]]:
        """Operands of the formula's schedule with their addresses, by the kernel's tensors."""
        tables = self._runner.tables
        first = (int(self._formula[site.job, 1]) - tables.base) // 8
        there = {id(operand.tensor): (operand, int(tables.arguments[first + k]))
                 for k, operand in enumerate(site.scheduled.operands)}
        mine, theirs = ((*each.inputs, *each.outputs) for each in (kernel, site.kernel))
        return {id(a.tensor): there[id(b.tensor)] for a, b in zip(mine, theirs, strict=True)
                if id(b.tensor) in there}

    def _address(self, operand: Operand, known: dict[int, tuple[Operand, int]]) -> int:
        there = known.get(id(operand.tensor))
        if operand.constant is None:
            return there[1] if there is not None else self._scratch(operand)
        if there is not None and there[0].constant is not None \
                and there[0].layout == operand.layout and there[0].shape == operand.shape:
            return there[1]
        if is_cold(operand):
            return self._cold.take(operand_bytes(operand))
        region = packed_region(operand)
        self._kept.append(region)
        return region.address

    def _scratch(self, operand: Operand) -> int:
        region = Region(operand_bytes(operand) + 64, huge=True)
        self._kept.append(region)
        return region.address

    def _forget(self) -> None:
        for region in self._kept:
            region.close()
        self._kept.clear()
        self._held.clear()


class _Series:
    """Times of the formula's schedule (0) and of others, round by round."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.running = list(range(count + 1))
        self._rows: list[dict[int, float]] = [{}]

    def add(self, which: int, seconds: float) -> None:
        """The time of a schedule in this round."""
        self._rows[-1][which] = seconds

    def end_round(self, number: int | None = None) -> None:
        """Leaves out what is far behind."""
        if number in DROPPED:
            self.running = [k for k in self.running if k == 0
                            or self._ratio(k) <= DROPPED[number]]
        self._rows.append({})

    def timings(self) -> list[Timing]:
        """The figures of all schedules, the formula's first."""
        return [self._timing(k) for k in range(self._count + 1)]

    def _timing(self, k: int) -> Timing:
        times = [row[k] for row in self._rows if k in row]
        return Timing(statistics.median(times), self._ratio(k), len(times),
                      len(times) >= LEAST_SLICES)

    def _ratio(self, k: int) -> float:
        """The median over rounds, or the ratio of the best times if that is higher."""
        pairs = [(row[k], row[0]) for row in self._rows if k in row]
        best = min(a for a, _ in pairs) / min(b for _, b in pairs)
        return max(statistics.median(a / b for a, b in pairs), best)


def time_by(network: Network, other: Network, seconds: float) -> float:
    """The time of a network's run by that of another one, run by run in turn."""
    end = time.perf_counter() + seconds
    ratios: list[float] = []
    while len(ratios) < _PAIRS or (len(ratios) < _MOST_PAIRS and time.perf_counter() < end):
        found = []
        for each in (network, other) if len(ratios) % 2 else (other, network):
            each.seconds()
            found.append(each.seconds())
        first, second = found if len(ratios) % 2 else reversed(found)
        ratios.append(first / second)
    return statistics.median(ratios)


def _made_up(binding: Binding, rng: np.random.Generator) -> np.ndarray:
    """An input: random numbers; integers are zero, which every table has an entry for."""
    dtype = np.dtype(DTYPES[binding.dtype].numpy)
    shape = [extent for extent in binding.shape or () if isinstance(extent, int)]
    if DTYPES[binding.dtype].is_float:
        return rng.normal(0, 1, shape).astype(dtype)
    return np.zeros(shape, dtype)
