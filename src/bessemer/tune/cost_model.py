"""The learned cost model: which of a kernel's schedules are likely to be fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.settings import settings
from bessemer.tune.boosting import Options, Trees, fit
from bessemer.tune.features import NAMES

Array = np.ndarray[Any, Any]

SHIPPED = Path(__file__).with_name("cost_model.npz")


@dataclass(frozen=True, eq=False)
class Group:
    """Schedules of one kernel that were timed beside the formula's.

    `features` [n, f]; `ratios` [n] are times by that of the formula, whose features are [f].
    """

    features: Array
    ratios: Array
    formula: Array


@dataclass(frozen=True, eq=False)
class CostModel:
    """Predicts times from features (`tune.features`); without trees, by the counts alone.

    The trees see how far a schedule is from the formula's, which knows much that the features do
    not say. On 43 kernels of eight networks held out, with 60 schedules each, the first five of the
    ranking hold one within 10 % of the best for 86 %; without that for 77 %.
    """

    trees: Trees | None

    def scores(self, features: Array, formula: Array | None) -> Array:
        """Logarithm (base 2) of predicted times [n], up to a constant for each kernel.

        `features` [n, f] are those of the schedules, `formula` [f] those of the formula's; where
        that cannot be made, the counts alone decide.
        """
        estimate = np.asarray(features[:, 0])
        if self.trees is None or formula is None:
            return estimate
        return np.asarray(estimate + self.trees.predict(inputs_of(features, formula)))

    @staticmethod
    def train(groups: Sequence[Group], options: Options | None = None) -> "CostModel":
        """A model that tells schedules of one kernel from one another.

        Fast schedules weigh more, because a search asks which are the fastest.
        """
        samples, targets, weights = [], [], []
        for group in groups:
            estimate = group.features[:, 0] - group.formula[0]
            samples.append(inputs_of(group.features, group.formula))
            targets.append(np.log2(group.ratios) - estimate)
            weights.append(_weight(np.log2(group.ratios / group.ratios.min())))
        return CostModel(fit(np.concatenate(samples), np.concatenate(targets),
                             np.concatenate(weights), options))

    @staticmethod
    def load(path: Path) -> "CostModel":
        """Reads a saved model. Raises: SettingsError."""
        return CostModel(Trees.load(path))

    def save(self, path: Path) -> None:
        """Writes the trees. Raises: OSError."""
        if self.trees is not None:
            self.trees.save(path)


def _weight(slower: Array) -> Array:
    return np.asarray(1.0 / (0.3 + slower))


def inputs_of(features: Array, formula: Array) -> Array:
    """What the trees see of one kernel's schedules [n, f]: themselves, and beside the formula's.

    Absolute sizes are left out: they would tell kernels apart, not schedules.
    """
    return np.concatenate([features[:, 1:], features - formula], axis=1)


def own_path() -> Path:
    """Where the model trained on this machine lies; its name tells how many inputs it sees."""
    return settings().cache_folder / f"cost_model_{2 * len(NAMES) - 1}.npz"


def current_model() -> CostModel:
    """The model trained on this machine, else the one that comes with the package."""
    for path in (own_path(), SHIPPED):
        if path.exists():
            return CostModel.load(path)
    return CostModel(None)
