"""Chooses the schedule of each kernel of a network: from records, else by searching and timing.

The schedule that the formula gives is always among those timed, and is replaced only by one that
was clearly faster in the same place of the same network: once when it was found, and once more in a
rehearsal of all winners together. Candidates come in an order that does not depend on the budget,
so a larger budget tries the same ones and more.
"""

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from bessemer.core.errors import CodegenError
from bessemer.lower.kernel import Kernel
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target
from bessemer.tune.cost_model import CostModel, current_model
from bessemer.tune.description import kernel_key
from bessemer.tune.features import estimated_seconds, features_of
from bessemer.tune.measure import LEAST_SLICES
from bessemer.tune.network import Network, Site
from bessemer.tune.proposals import Proposals
from bessemer.tune.records import Records, Trial
from bessemer.tune.session import Built, Session, Trying, can_measure
from bessemer.tune.space import Candidate, Space

DEFAULT_SECONDS = 30.0
"""How long "default" may search where no budget is given."""
MAX_SECONDS = 600.0
"""How long "max" searches where no budget is given, unless it finds nothing more before."""

CLEAR_WIN = 0.98
"""A schedule takes the place of the formula's if its time is below this share."""

_SMALL_SHARE = 0.004
_SMALL_SECONDS = 4e-6
_CONVERGED = 3
_AT_ONCE = 3  # kernels whose candidates are compiled together
_TIMED_TOGETHER = {"default": 32, "max": 32}
_COMPARE_SECONDS = 3.0
_REHEARSAL_SECONDS = 2.0

OnProgress = Callable[[int, int, str], None]
"""Called with kernels done, kernels in all, and a remark."""


@dataclass(frozen=True)
class Effort:
    """How hard to search: the level, and when to end (`time.perf_counter`)."""

    level: str
    seconds: float
    deadline: float

    @staticmethod
    def of(level: str, budget_s: float | None, started: float, reserve_s: float) -> "Effort":
        """The effort of a build that began at `started` and takes `reserve_s` after tuning."""
        if budget_s is None:
            seconds = MAX_SECONDS if level == "max" else DEFAULT_SECONDS
            return Effort(level, seconds, time.perf_counter() + seconds)
        return Effort(level, budget_s, started + budget_s - reserve_s)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.perf_counter()

    @property
    def wanted(self) -> float:
        """What a kernel's record must say was spent on it, for the search to be skipped.

        Up to 1 for "default", which goes no further than its usual time; seconds for "max".
        """
        if self.level == "default":
            return min(self.seconds / DEFAULT_SECONDS, 1.0)
        return max(self.seconds, 2.0)


@dataclass(frozen=True)
class Pick:
    """The schedule of a kernel: what came second, in words, belongs to it."""

    candidate: Candidate
    runner_up: str = ""


Picks = dict[str, Pick]
"""By the kernel's key; kernels that are not in it keep what the formula chooses."""


@dataclass(eq=False)
class Entry:
    """One distinct kernel: where it runs, its formula's schedule, what was found."""

    kernel: Kernel
    default: Built
    key: str
    trials: list[Trial]
    sites: list[Site] = field(default_factory=list)
    fruitless: int = 0

    @property
    def base(self) -> str:
        """The formula's schedule as records name it."""
        return str(self.default.candidate)

    @property
    def best(self) -> Candidate:
        """The schedule to use, by the trials beside the formula's schedule."""
        return decide(self.trials, self.default.candidate)

    @property
    def ratio(self) -> float:
        """Time of the best by that of the formula's."""
        best = self.best
        return next((t.ratio for t in self.trials if t.base == self.base
                     and t.candidate == best), 1.0)

    def add(self, found: Sequence[Trial]) -> None:
        """Takes trials in; they replace older ones of the same schedules."""
        trials = {(t.base, t.rule, t.knobs): t for t in (*self.trials, *found)}
        self.trials = list(trials.values())


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one distinct kernel, of which the network has `count`.

    `seconds`, of all of them together, and `ratio` are None and 1 where nothing was timed; `tried`
    schedules were.
    """

    kernel: str
    count: int
    schedule: str
    seconds: float | None
    ratio: float
    tried: int


def decide(trials: Sequence[Trial], default: Candidate) -> Candidate:
    """The fastest schedule that clearly beats the default, else the default."""
    base = str(default)
    wins = [(trial.ratio, trial.rule, trial.knobs, trial) for trial in trials
            if trial.base == base and not trial.wrong and trial.slices >= LEAST_SLICES
            and trial.ratio < CLEAR_WIN]
    return min(wins)[3].candidate if wins else default


def runner_up(trials: Sequence[Trial], default: Candidate) -> str:
    """The schedule that came nearest to the chosen one, and its time by that one's.

    Empty if nothing else was timed.
    """
    base, best = str(default), decide(trials, default)
    timed = {trial.candidate: trial.ratio for trial in trials
             if trial.base == base and not trial.wrong and trial.slices >= LEAST_SLICES}
    timed.setdefault(default, 1.0)
    others = [(ratio, str(each)) for each, ratio in timed.items() if each != best]
    if not others:
        return ""
    ratio, text = min(others)
    return f"{text}, {ratio / timed[best]:.2f} of its time"


def summary(entry: Entry) -> Tuned:
    """What is known of a kernel."""
    trials = [trial for trial in entry.trials if trial.base == entry.base]
    best = entry.best
    seconds = next((t.seconds for t in trials if t.candidate == best), None)
    return Tuned(entry.kernel.name, len(entry.sites), str(best), seconds, entry.ratio, len(trials))


def entries_of(kernels: Iterable[tuple[Kernel, Scheduled]], target: Target, threads: int,
               records: Records) -> dict[str, Entry]:
    """The distinct kernels that can be timed, by key; `kernels` in order of their jobs."""
    entries: dict[str, Entry] = {}
    for job, (kernel, default) in enumerate(kernels):
        if not can_measure(kernel):
            continue
        key = kernel_key(kernel, target, threads)
        if key not in entries:
            built = Built(Candidate.of(default.rule, default.knobs), default)
            trials = records.trials(key)
            if trials:  # a space costs the formulas of all rules
                # A schedule that cannot be made any more must not stand before one that can.
                space = Space(kernel, target)
                trials = [trial for trial in trials if space.knows(trial.candidate)]
            entries[key] = Entry(kernel, built, key, trials)
        entries[key].sites.append(Site(job, kernel, default))
    return entries


def picks_of(entries: Iterable[Entry]) -> Picks:
    """What the trials say, also of kernels that keep the formula's schedule."""
    return {entry.key: Pick(entry.best, runner_up(entry.trials, entry.default.candidate))
            for entry in entries}


def apply_picks(picks: Picks, kernel: Kernel, default: Scheduled, target: Target, threads: int
                ) -> Scheduled:
    """The schedule picked for a kernel; the formula's where there is none."""
    pick = picks.get(kernel_key(kernel, target, threads)) if can_measure(kernel) else None
    if pick is None:
        return default
    if pick.candidate == Candidate.of(default.rule, default.knobs):
        return replace(default, runner_up=pick.runner_up)
    made = Space(kernel, target).loops(pick.candidate, for_use=True)
    return replace(made, runner_up=pick.runner_up) if made else default


def network_key(entries: Iterable[Entry], picks: Picks) -> str:
    """The name under which it is kept whether these picks make a network of kernels faster."""
    lines = sorted(f"{entry.key} {len(entry.sites)} {entry.base} {picks[entry.key].candidate}"
                   for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


class Tuner:
    """Searches schedules for the kernels of a network on this machine."""

    def __init__(self, target: Target, threads: int, effort: Effort, records: Records, *,
                 model: CostModel | None = None, on_progress: OnProgress | None = None) -> None:
        self.target, self.threads, self.effort, self.records = target, threads, effort, records
        self.model = model or current_model()
        self.tell = on_progress or (lambda done, total, remark: None)

    def search(self, entries: dict[str, Entry], network: Network) -> None:
        """Tries schedules of the entries that are worth it in the network, until time is over."""
        todo = [entry for entry in entries.values()
                if self.records.effort(entry.key, entry.base) < self.effort.wanted]
        with Session(self.target, self.threads, self.records) as session:
            self._search(session, network, self._worthy(list(entries.values()), todo))
            self._rehearse(session, network, list(entries.values()))
        for entry in todo:
            self.records.set_effort(entry.key, entry.base, self.effort.wanted)

    def _worthy(self, entries: Sequence[Entry], todo: Sequence[Entry]) -> list[Entry]:
        """The kernels worth searching, those that take the largest share of the time first."""
        seconds = {entry.key: float(estimated_seconds(features_of(
            entry.kernel, entry.default.scheduled, self.target, self.threads)))
            for entry in entries}
        share = {entry.key: len(entry.sites) * seconds[entry.key] for entry in entries}
        least = _SMALL_SHARE * sum(share.values())
        worthy = [entry for entry in todo
                  if seconds[entry.key] >= _SMALL_SECONDS and share[entry.key] >= least]
        return sorted(worthy, key=lambda entry: (-share[entry.key], entry.key))

    def _search(self, session: Session, network: Network, entries: list[Entry]) -> None:
        """Turns over the kernels: one for "default", for "max" until nothing better is found."""
        proposals = {entry.key: Proposals(entry.kernel, self.target, self.threads,
                                          self.effort.level, self.model, int(entry.key[:12], 16))
                     for entry in entries}
        queue, total, done = deque(entries), len(entries), 0
        while queue:
            chunk = self._compiled(session, queue, proposals, done, total)
            if not chunk:
                return
            self._measure(session, network, [pair for pair in chunk if pair[1]])
            for entry, batch in chunk:
                if batch and self.effort.level == "max" and entry.fruitless < _CONVERGED:
                    queue.append(entry)
                else:
                    done += 1
                self.tell(done, total, self._remark(entry))

    def _compiled(self, session: Session, queue: deque[Entry], proposals: dict[str, Proposals],
                  done: int, total: int) -> list[tuple[Entry, list[Built]]]:
        """Kernels and what to time of them next, compiled, as many as there is time for."""
        chunk: list[tuple[Entry, list[Built]]] = []
        fixed = _COMPARE_SECONDS + _REHEARSAL_SECONDS
        while queue and len(chunk) < _TIMED_TOGETHER[self.effort.level]:
            part = list(queue)[:_AT_ONCE]
            count = sum(proposals[entry.key].batch_size for entry in part)
            if self.effort.left < fixed + count * session.compile_seconds:
                break
            found = [(queue.popleft(), proposals[entry.key].batch(
                entry.trials, entry.default.candidate)) for entry in part]
            with contextlib.suppress(CodegenError):  # reported when the kernel is measured
                session.compile([each.scheduled for entry, batch in found
                                 for each in (entry.default, *batch)])
            chunk += found
            self.tell(done, total, f"{part[-1].kernel.name}: compiled; "
                      f"{max(self.effort.left, 0):.0f} s left")
        return chunk

    def _remark(self, entry: Entry) -> str:
        return (f"{entry.kernel.name}: {entry.best.rule}, {entry.ratio:.0%} of the formula's time; "
                f"{max(self.effort.left, 0):.0f} s left")

    def _measure(self, session: Session, network: Network,
                 chunk: Sequence[tuple[Entry, list[Built]]]) -> None:
        """Times the batches of several kernels."""
        found = session.measure_in(
            network, [Trying(entry.kernel, entry.sites, [entry.default, *batch])
                      for entry, batch in chunk], _COMPARE_SECONDS)
        for (entry, _), trials in zip(chunk, found, strict=True):
            before = entry.ratio
            entry.add(trials)
            better = trials and entry.ratio < before - 0.01
            entry.fruitless = 0 if better else entry.fruitless + 1 if trials else _CONVERGED

    def _rehearse(self, session: Session, network: Network, entries: Sequence[Entry]) -> None:
        """Times winners once more, all together, because luck has favoured them.

        Where one fails, the next best has its turn. What there is no time for does not win.
        """
        rehearsed: set[tuple[str, Candidate]] = set()
        while not rehearsed or self.effort.left > _REHEARSAL_SECONDS:
            todo: dict[Entry, Trying] = {}
            for entry in entries:
                best = entry.best
                if best == entry.default.candidate or (entry.key, best) in rehearsed:
                    continue
                made = Space(entry.kernel, self.target).loops(best, for_use=True)
                if made is not None:
                    todo[entry] = Trying(entry.kernel, entry.sites,
                                         [entry.default, Built(best, made)])
                    rehearsed.add((entry.key, best))
            if not todo:
                return
            found = session.rehearse(network, list(todo.values()), _REHEARSAL_SECONDS)
            for entry, timed in zip(todo, found, strict=True):
                entry.add(timed)
        for entry in entries:
            entry.trials = [trial for trial in entry.trials if trial.ratio >= CLEAR_WIN
                            or (entry.key, trial.candidate) in rehearsed]
