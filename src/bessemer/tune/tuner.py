"""Chooses the schedule of each kernel of a network: from records, else by searching and timing.

The schedule that the formula gives is always among those timed, and is replaced only by one that
was clearly faster side by side. Candidates come in an order that does not depend on the budget, so
a larger budget tries the same ones and more.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bessemer.core.errors import CodegenError
from bessemer.lower.kernel import Kernel
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target
from bessemer.tune.cost_model import CostModel, current_model
from bessemer.tune.features import NAMES, estimated_seconds, features_of
from bessemer.tune.measure import LEAST_SLICES
from bessemer.tune.operands import Array
from bessemer.tune.records import Records, Trial
from bessemer.tune.session import Built, Session, can_measure
from bessemer.tune.space import Candidate, Space

_LOG = logging.getLogger("bessemer.tune")

DEFAULT_SECONDS = 30.0
"""How long "default" may search where no budget is given."""
MAX_SECONDS = 600.0
"""How long "max" searches where no budget is given, unless it finds nothing more before."""

CLEAR_WIN = 0.975
"""A schedule takes the place of the formula's if its time is below this share."""
NOISY_WIN = 0.88
"""The same where the machine was disturbed while it was timed."""
MOST_CODE = 1500
"""Instructions of a candidate: more take long to compile and do not fit the instruction cache."""

_POOL = {"default": 48, "max": 160}
_BATCH = {"default": 4, "max": 8}
_SMALL_SHARE = 0.004
_SMALL_SECONDS = 4e-6
_CONVERGED = 3
_CHUNK = 6
_SLACK_SECONDS = 0.5

OnProgress = Callable[[int, int, str], None]
"""Called with kernels done, kernels in all, and a remark."""


@dataclass(frozen=True)
class Effort:
    """How hard to search: the level, and when to end (`time.perf_counter`)."""

    level: str
    seconds: float
    deadline: float

    @staticmethod
    def of(level: str, budget_s: float | None, started: float) -> "Effort":
        """The effort of a build that began at `started`."""
        now = time.perf_counter()
        if budget_s is None:
            seconds = MAX_SECONDS if level == "max" else DEFAULT_SECONDS
            return Effort(level, seconds, now + seconds)
        # What follows, compiling what is missing and packing constants, takes time as well.
        rest = 0.3 + 0.3 * (now - started)
        return Effort(level, budget_s, started + budget_s - rest)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.perf_counter()

    @property
    def wanted(self) -> float:
        """What a kernel's record must say was spent on it, for the search to be skipped."""
        return 1.0 if self.level == "default" else max(self.seconds, 2.0)


@dataclass(eq=False)
class Entry:
    """One distinct kernel: how often it runs, its formula's schedule, what was found."""

    kernel: Kernel
    default: Built
    key: str
    trials: list[Trial]
    count: int = 1
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


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one distinct kernel, of which the network has `count`.

    `seconds` and `ratio` are None and 1 where nothing was timed; `tried` schedules were.
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
            and trial.ratio < (CLEAR_WIN if trial.clean else NOISY_WIN)]
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


def _tuned(entry: Entry) -> Tuned:
    trials = [trial for trial in entry.trials if trial.base == entry.base]
    best = entry.best
    seconds = next((t.seconds for t in trials if t.candidate == best), None)
    return Tuned(entry.kernel.name, entry.count, str(best), seconds, entry.ratio, len(trials))


class Tuner:
    """Searches schedules for all kernels of a network on this machine."""

    def __init__(self, target: Target, threads: int, effort: Effort, records: Records, *,
                 model: CostModel | None = None, on_progress: OnProgress | None = None) -> None:
        self.target, self.threads, self.effort, self.records = target, threads, effort, records
        self.model = model or current_model()
        self.tell = on_progress or (lambda done, total, remark: None)
        self.found: list[Tuned] = []
        """What `choose` found, the kernels that take longest first."""

    def choose(self, kernels: Sequence[tuple[Kernel, Scheduled]]) -> list[Scheduled]:
        """The schedule for each kernel, given the formula's."""
        with Session(self.target, self.threads, self.records) as session:
            entries: dict[str, Entry] = {}
            names = [self._enter(session, entries, *pair) for pair in kernels]
            todo = [entry for entry in entries.values()
                    if self.records.effort(entry.key, entry.base) < self.effort.wanted]
            if todo:
                self._search(session, self._worthy(list(entries.values()), todo))
            for entry in todo:
                self.records.set_effort(entry.key, entry.base, self.effort.wanted)
        self.found = sorted(map(_tuned, entries.values()),
                            key=lambda each: -each.count * (each.seconds or 0.0))
        return [self._chosen(entries.get(name), kernel, default)
                for name, (kernel, default) in zip(names, kernels, strict=True)]

    def _enter(self, session: Session, entries: dict[str, Entry], kernel: Kernel,
               default: Scheduled) -> str:
        """Adds a kernel to those it equals; its name, empty if it cannot be timed."""
        if not can_measure(kernel):
            return ""
        key = session.key(kernel)
        if key in entries:
            entries[key].count += 1
            return key
        built = Built(Candidate.of(default.rule, default.knobs), default)
        entries[key] = Entry(kernel, built, key, self.records.trials(key))
        return key

    def _chosen(self, entry: Entry | None, kernel: Kernel, default: Scheduled) -> Scheduled:
        if entry is None:
            return default
        second = runner_up(entry.trials, entry.default.candidate)
        if entry.best == entry.default.candidate:
            return replace(default, runner_up=second)
        made = Space(kernel, self.target).loops(entry.best, for_use=True)
        return replace(made, runner_up=second) if made else default

    def _worthy(self, entries: Sequence[Entry], todo: Sequence[Entry]) -> list[Entry]:
        """The kernels worth searching, those that take the largest share of the time first."""
        seconds = {entry.key: float(estimated_seconds(features_of(
            entry.kernel, entry.default.scheduled, self.target, self.threads)))
            for entry in entries}
        share = {entry.key: entry.count * seconds[entry.key] for entry in entries}
        least = _SMALL_SHARE * sum(share.values())
        worthy = [entry for entry in todo
                  if seconds[entry.key] >= _SMALL_SECONDS and share[entry.key] >= least]
        return sorted(worthy, key=lambda entry: (-share[entry.key], entry.key))

    def _search(self, session: Session, entries: list[Entry]) -> None:
        """Turns over the kernels: one for "default", for "max" until nothing better is found."""
        searches = {id(entry): self._batches(entry) for entry in entries}
        queue, done = deque(entries), 0
        while queue:
            chunk = self._chunk(session, queue, searches)
            if not chunk:
                return
            with contextlib.suppress(CodegenError):  # reported when the kernel's turn comes
                session.compile([each.scheduled for entry, batch in chunk
                                 for each in (entry.default, *batch)])
            for entry, batch in chunk:
                if batch:
                    self._measure(session, entry, batch)
                if batch and self.effort.level == "max" and entry.fruitless < _CONVERGED:
                    queue.append(entry)
                else:
                    done += 1
                self.tell(done, len(entries), self._remark(entry))

    def _chunk(self, session: Session, queue: deque[Entry],
               searches: dict[int, Iterator[list[Built]]]) -> list[tuple[Entry, list[Built]]]:
        """Kernels and what to time of them next, as many as there is time for.

        Several at once, so that they are compiled by all processes.
        """
        chunk: list[tuple[Entry, list[Built]]] = []
        most = _CHUNK if session.knows_speed else 2
        while queue and len(chunk) < most:
            count = sum(len(batch) + 1 for _, batch in chunk) + _BATCH[self.effort.level] + 1
            if self.effort.left < count * session.compile_seconds + _SLACK_SECONDS * (
                    len(chunk) + 1):
                break
            entry = queue.popleft()
            chunk.append((entry, next(searches[id(entry)], [])))
        return chunk

    def _remark(self, entry: Entry) -> str:
        return (f"{entry.kernel.name}: {entry.best.rule}, {entry.ratio:.0%} of the formula's time; "
                f"{max(self.effort.left, 0):.0f} s left")

    def _measure(self, session: Session, entry: Entry, batch: list[Built]) -> None:
        """Times a batch; a new best one of many is timed once more, because luck favours it."""
        before, known = entry.ratio, entry.best
        self._time(session, entry, batch)
        winner = next((each for each in batch if each.candidate == entry.best), None)
        if self.effort.level == "max" and winner is not None and entry.best != known:
            self._time(session, entry, [winner])
        entry.fruitless = 0 if entry.ratio < before - 0.01 else entry.fruitless + 1

    def _time(self, session: Session, entry: Entry, batch: list[Built]) -> None:
        try:
            found = session.measure(entry.kernel, [entry.default, *batch],
                                    min(1.5, max(self.effort.left, 0.1)))
        except CodegenError as error:
            _LOG.error("internal error: kernel %s: %s", entry.kernel.name, error)
            entry.fruitless = _CONVERGED
            return
        trials = {(t.base, t.rule, t.knobs): t for t in (*entry.trials, *found)}
        entry.trials = list(trials.values())

    # -- candidates -------------------------------------------------------------------------------

    def _batches(self, entry: Entry) -> Iterator[list[Built]]:
        """What to time next, without end while there is anything new."""
        rng = np.random.default_rng(int(entry.key[:12], 16))
        space = Space(entry.kernel, self.target)
        tried = {trial.candidate for trial in entry.trials if trial.base == entry.base}
        tried.add(entry.default.candidate)
        level = self.effort.level
        while True:
            pool = self._pool(entry, space, tried, rng, _POOL[level])
            if not pool:
                return
            scores = self.model.scores(np.stack([features for _, features in pool]))
            best = [pool[k][0] for k in np.argsort(scores, kind="stable")]
            batch = []
            for built in best:
                made = space.loops(built.candidate, for_use=True)
                if made is not None:
                    batch.append(Built(built.candidate, made))
                if len(batch) == _BATCH[level]:
                    break
            tried |= {built.candidate for built in batch}
            yield batch

    def _pool(self, entry: Entry, space: Space, tried: set[Candidate], rng: np.random.Generator,
              size: int) -> list[tuple[Built, Array]]:
        """New candidates with their features: seeds, children of the best so far, random ones."""
        seen = set(tried)
        pool: list[tuple[Built, Array]] = []
        for number, candidate in enumerate(self._ideas(entry, space, rng)):
            if len(pool) >= size or number > 6 * size:
                break
            if candidate in seen:
                continue
            seen.add(candidate)
            made = space.loops(candidate)
            if made is None:
                continue
            features = features_of(entry.kernel, made, self.target, self.threads)
            if features[NAMES.index("code")] <= np.log2(MOST_CODE):
                pool.append((Built(candidate, made), features))
        return pool

    def _ideas(self, entry: Entry, space: Space, rng: np.random.Generator) -> Iterator[Candidate]:
        """Candidates in the order in which they are looked at."""
        yield from space.seeds()
        trials = sorted((t for t in entry.trials if not t.wrong), key=lambda t: t.ratio)[:6]
        parents = [trial.candidate for trial in trials if trial.rule in space.knobs]
        random = space.randoms(rng)
        while True:
            yield next(random)
            if parents:
                one, other = (parents[int(k)] for k in rng.integers(len(parents), size=2))
                yield space.mutate(one, rng)
                yield space.mutate(space.cross(one, other, rng), rng)
