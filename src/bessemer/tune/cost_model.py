"""The learned cost model: which of a kernel's schedules are likely to be fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.settings import settings
from bessemer.tune.boosting import Options, Trees, fit

Array = np.ndarray[Any, Any]

SHIPPED = Path(__file__).with_name("cost_model.npz")


@dataclass(frozen=True, eq=False)
class Group:
    """Schedules of one kernel that were timed side by side: features [n, f] and seconds [n]."""

    features: Array
    seconds: Array


@dataclass(frozen=True, eq=False)
class CostModel:
    """Predicts times from features (`tune.features`); without trees, by the counts alone."""

    trees: Trees | None

    def scores(self, features: Array) -> Array:
        """Logarithm (base 2) of the predicted seconds [n], up to a constant for each kernel."""
        estimate = np.asarray(features[:, 0])
        if self.trees is None:
            return estimate
        return np.asarray(estimate + self.trees.predict(inputs_of(features)))

    @staticmethod
    def train(groups: Sequence[Group], options: Options | None = None) -> "CostModel":
        """A model that tells schedules of one kernel from one another.

        Each kernel's times are taken relative to their mean, because only their order matters; fast
        schedules weigh more, because a search asks which are the fastest.
        """
        samples, targets, weights = [], [], []
        for group in groups:
            slower = np.log2(group.seconds / group.seconds.min())
            found = np.log2(group.seconds) - group.features[:, 0]
            samples.append(inputs_of(group.features))
            targets.append(found - np.average(found, weights=_weight(slower)))
            weights.append(_weight(slower))
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


def inputs_of(features: Array) -> Array:
    """What the trees see of features [n, f] of one kernel's schedules.

    Absolute sizes are left out: they would tell kernels apart, not schedules.
    """
    return np.asarray(features[:, 1:])


def own_path() -> Path:
    """Where the model lies that was trained on this machine."""
    return settings().cache_dir / "cost_model.npz"


def current_model() -> CostModel:
    """The model trained on this machine, else the one that comes with the package."""
    for path in (own_path(), SHIPPED):
        if path.exists():
            return CostModel.load(path)
    return CostModel(None)
