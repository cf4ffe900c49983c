"""Tuning as a stage of the build: kernels get the schedules that `bessemer.tune` chooses."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bessemer.compiler.kernels import CompiledKernel
from bessemer.core.errors import BessemerError
from bessemer.core.settings import settings
from bessemer.runtime.pool import default_threads
from bessemer.runtime.program import Program
from bessemer.targets import missing_flags
from bessemer.targets.target import Target
from bessemer.tune.network import Network, can_rehearse, time_by
from bessemer.tune.records import Records
from bessemer.tune.tuner import (
    Effort,
    Entry,
    Picks,
    Tuned,
    Tuner,
    apply_picks,
    entries_of,
    network_key,
    picks_of,
    summary,
)

FASTER = 0.995
"""A tuned network is used if its time is below this share of the formula's."""

_LOG = logging.getLogger("bessemer.tune")
_COMPARE_SECONDS = 2.0

Choose = Callable[[list[CompiledKernel]], None]
"""Gives kernels other schedules than those that their rules chose by formula."""


@dataclass(frozen=True)
class Tuning:
    """How the schedules of a build are chosen; `started` is when it began (`perf_counter`)."""

    level: str = "none"
    budget_s: float | None = None
    started: float = field(default_factory=time.perf_counter, compare=False)
    records: Records | None = field(default=None, compare=False)
    """Open records; None opens the user's."""
    found: list[Tuned] = field(default_factory=list, compare=False)
    """What was found for each distinct kernel; filled by the build."""

    @staticmethod
    def of(level: str | None, budget_s: float | None) -> "Tuning":
        """As the caller says, else as the setting, else "none": builds are equal."""
        return Tuning(level or settings().tune or "none", budget_s)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Records]:
        """The records to use."""
        if self.records is not None:
            yield self.records
            return
        with Records.from_settings() as records:
            yield records

    def effort(self, reserve_s: float) -> Effort:
        """How hard to search; the build takes `reserve_s` after it."""
        return Effort.of(self.level, self.budget_s, self.started, reserve_s)


class Chooser:
    """Chooses the schedules of one variant's kernels, in up to two builds.

    The first build takes what the records say if they say all, else the formula's schedules; then
    `search` finds others in the network that was built, a second build uses them, and `judge`
    says whether it is faster.
    """

    def __init__(self, tuning: Tuning, target: Target, threads: int | None, records: Records
                 ) -> None:
        self.tuning, self.target, self.records = tuning, target, records
        self.threads = threads or default_threads()
        self.settled = True
        """False where the network is to be tuned, or at least compared."""
        self._searched = False
        self._picks: Picks = {}
        self._entries: dict[str, Entry] = {}

    def __call__(self, kernels: list[CompiledKernel]) -> None:
        """Chooses for kernels in order of their jobs, which have the formula's schedules."""
        if not self._searched:
            pairs = [(entry.kernel, entry.scheduled) for entry in kernels]
            self._entries = entries_of(pairs, self.target, self.threads, self.records)
            self._consult()
        if self.settled:
            for entry in kernels:
                entry.scheduled = apply_picks(self._picks, entry.kernel, entry.scheduled,
                                              self.target, self.threads)

    def _consult(self) -> None:
        """What the records say."""
        wanted = self.tuning.effort(0.0).wanted
        self._picks = picks_of(self._entries.values())
        searched = all(self.records.effort(entry.key, entry.base) >= wanted
                       for entry in self._entries.values())
        ratio = self.records.network(self._key) if self._changes else 1.0
        self.settled = searched and ratio is not None
        if ratio is not None and ratio > FASTER:
            self._picks = {}

    @property
    def _changes(self) -> bool:
        """True if a schedule other than the formula's was picked."""
        return any(self._picks[entry.key].candidate != entry.default.candidate
                   for entry in self._entries.values())

    @property
    def _key(self) -> str:
        return network_key(self._entries.values(), self._picks)

    def search(self, program: Program, reserve_s: float,
               tell: Callable[[int, int, str], None]) -> bool:
        """Searches in a built network; True if it should be built again with what was found."""
        self.settled = self._searched = True
        self._picks = {}
        if not can_rehearse(program.plan):
            return False
        tuner = Tuner(self.target, self.threads, self.tuning.effort(reserve_s), self.records,
                      on_progress=tell)
        try:
            with Network(program, self.threads) as network:
                tuner.search(self._entries, network)
        except BessemerError as error:
            _LOG.warning("network %r is not tuned: it does not run on made-up inputs: %s",
                         program.plan.name, error)
            return False
        self._picks = picks_of(self._entries.values())
        return self._changes

    def judge(self, program: Program, formula: Program) -> float:
        """The time of the network built last by that of the one with the formula's schedules."""
        with Network(program, self.threads) as mine, Network(formula, self.threads) as plain:
            ratio = time_by(mine, plain, _COMPARE_SECONDS)
        self.records.set_network(self._key, ratio)
        return ratio

    def report(self) -> list[Tuned]:
        """What is known of each distinct kernel, those first that take longest."""
        return sorted(map(summary, self._entries.values()), key=lambda each: -(each.seconds or 0.0))


def choosers(tuning: Tuning, targets: tuple[Target, ...], threads: int | None, records: Records
             ) -> dict[str, Chooser]:
    """What chooses schedules, by the name of a target.

    Nothing for the level "none" and for targets whose code this machine cannot run.
    """
    if tuning.level == "none":
        return {}
    return {target.name: Chooser(tuning, target, threads, records) for target in targets
            if not missing_flags(target)}
