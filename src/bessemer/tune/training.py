"""Learning the cost model from records, and judging it on kernels that it did not learn from."""

import dataclasses
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.targets.target import TARGETS, Target
from bessemer.tune.cost_model import CostModel, Group
from bessemer.tune.description import parse_kernel
from bessemer.tune.features import features_of
from bessemer.tune.records import KernelRecord, Records, Trial
from bessemer.tune.space import Space

_LOG = logging.getLogger("bessemer.tune")
_CHIP = re.compile(r"(.+) (\d+) (\d+)K/(\d+)K/(\d+)K")

LEAST_TRIALS = 4


@dataclass(frozen=True, eq=False)
class Sample:
    """The timed schedules of one kernel, with features; `formula` says which is the formula's."""

    kernel: KernelRecord
    trials: list[Trial]
    group: Group
    formula: int


def chip_target(chip: str) -> Target | None:
    """The target that a record's chip is, as far as it is known here."""
    found = _CHIP.fullmatch(chip)
    if found is None:
        return None
    for name in TARGETS.names():
        target = TARGETS.get(name)
        if target.cpu == found[1] and target.vector_bits == int(found[2]):
            l1, l2, l3 = (int(size) << 10 for size in found.groups()[2:])
            return dataclasses.replace(target, l1_bytes=l1, l2_bytes=l2, l3_bytes=l3)
    return None


def samples_of(records: Records, on_progress: Callable[[int, int, str], None] | None = None
               ) -> Iterator[Sample]:
    """What can be learnt from records: those whose rules still make the recorded schedules."""
    kernels = records.kernels()
    for number, kernel in enumerate(kernels):
        if on_progress is not None:
            on_progress(number, len(kernels), kernel.description.split("\n", 1)[0])
        bases = defaultdict(list)
        for trial in records.trials(kernel.key):
            if not trial.wrong:
                bases[trial.base].append(trial)
        for trials in bases.values():
            sample = _sample(kernel, trials)
            if sample is not None:
                yield sample


def _sample(record: KernelRecord, trials: list[Trial]) -> Sample | None:
    target = chip_target(record.chip)
    if target is None:
        return None
    try:
        space = Space(parse_kernel(record.description), target)
        rows, used = [], []
        for trial in trials:
            made = space.loops(trial.candidate)
            if made is not None:
                rows.append(features_of(space.kernel, made, target, record.threads))
                used.append(trial)
    except BessemerError as error:
        _LOG.warning("records of kernel %s are left out: %s", record.key, error)
        return None
    formula = next((k for k, t in enumerate(used) if str(t.candidate) == t.base), None)
    if len(rows) < LEAST_TRIALS or formula is None:
        return None
    ratios = np.array([trial.ratio for trial in used])
    return Sample(record, used, Group(np.stack(rows), ratios, rows[formula]), formula)


def train(samples: Sequence[Sample]) -> CostModel:
    """The model of these samples. The same samples give the same model."""
    return CostModel.train([sample.group for sample in samples])


@dataclass(frozen=True)
class Verdict:
    """How good the first schedules of a ranking are: their best by the best of all.

    `beside` is that of five schedules, of which the formula's is one: tuning always times that.
    """

    formula: float
    first: float
    top5: float
    beside: float
    schedules: int


def judge(model: CostModel, sample: Sample, count: int = 5) -> Verdict:
    """How the model ranks the schedules of a kernel."""
    group = sample.group
    order = np.argsort(model.scores(group.features, group.formula), kind="stable")
    slower = group.ratios / group.ratios.min()
    beside = [sample.formula, *order[order != sample.formula][: count - 1]]
    return Verdict(float(slower[sample.formula]), float(slower[order[0]]),
                   float(slower[order[:count]].min()), float(slower[beside].min()), len(slower))
