"""Which schedules of a kernel to time next: seeds, random ones, children of the best so far."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bessemer.lower.kernel import Kernel
from bessemer.targets.target import Target
from bessemer.tune.cost_model import CostModel
from bessemer.tune.features import NAMES, features_of
from bessemer.tune.records import Trial
from bessemer.tune.session import Built
from bessemer.tune.space import Candidate, Space

MOST_CODE = 1500
"""Instructions of a candidate: more take long to compile and do not fit the instruction cache."""

_POOL = {"default": 32, "max": 160}
_BATCH = {"default": 5, "max": 8}
_PARENTS = 6

Array = np.ndarray[Any, Any]


class Proposals:
    """The schedules of one kernel in the order in which they are timed.

    The order depends on kernel, level and what was found, not on time. `seed` is any number.
    """

    def __init__(self, kernel: Kernel, target: Target, threads: int, level: str, model: CostModel,
                 seed: int) -> None:
        self.space = Space(kernel, target)
        self.batch_size = _BATCH[level]
        self._pool_size = _POOL[level]
        self._threads, self._model = threads, model
        self._rng = np.random.default_rng(seed)

    def batch(self, trials: Sequence[Trial], default: Candidate) -> list[Built]:
        """What to time next, given what was; empty if nothing new is found."""
        tried = {trial.candidate for trial in trials if trial.base == str(default)} | {default}
        pool = self._pool(trials, tried)
        if not pool:
            return []
        scores = self._model.scores(
            np.stack([features for _, features in pool]), self._features(default))
        batch: list[Built] = []
        for k in np.argsort(scores, kind="stable"):
            made = self.space.loops(pool[k][0], for_use=True)
            if made is not None:
                batch.append(Built(pool[k][0], made))
            if len(batch) == self.batch_size:
                break
        return batch

    def _pool(self, trials: Sequence[Trial], tried: set[Candidate]
              ) -> list[tuple[Candidate, Array]]:
        """New candidates with their features."""
        seen = set(tried)
        pool: list[tuple[Candidate, Array]] = []
        for number, candidate in enumerate(self._ideas(trials)):
            if len(pool) >= self._pool_size or number > 6 * self._pool_size:
                break
            if candidate in seen:
                continue
            seen.add(candidate)
            features = self._features(candidate)
            if features is not None and features[NAMES.index("code")] <= np.log2(MOST_CODE):
                pool.append((candidate, features))
        return pool

    def _features(self, candidate: Candidate) -> Array | None:
        """Those of a schedule; None if its rule does not make it."""
        made = self.space.loops(candidate)
        return None if made is None else features_of(
            self.space.kernel, made, self.space.target, self._threads)

    def _ideas(self, trials: Sequence[Trial]) -> Iterator[Candidate]:
        """Candidates in the order in which they are looked at."""
        space, rng = self.space, self._rng
        yield from space.seeds()
        best = sorted((t for t in trials if not t.wrong), key=lambda t: t.ratio)[:_PARENTS]
        parents = [trial.candidate for trial in best if trial.rule in space.knobs]
        random = space.randoms(rng)
        while True:
            yield next(random)
            if parents:
                one, other = (parents[int(k)] for k in rng.integers(len(parents), size=2))
                yield space.mutate(one, rng)
                yield space.mutate(space.cross(one, other, rng), rng)
