"""Gradient-boosted regression trees in numpy: small, deterministic, stored as plain arrays.

Source: Friedman 2001, "Greedy function approximation: a gradient boosting machine"; split search on
histograms as in Ke et al. 2017, "LightGBM".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import SettingsError

Array = np.ndarray[Any, Any]

_BINS = 64


@dataclass(frozen=True)
class Options:
    """How trees are grown. `depth` is that of a tree; `shrinkage` scales what each adds."""

    trees: int = 300
    depth: int = 5
    shrinkage: float = 0.08
    least_samples: int = 12
    regularisation: float = 4.0
    feature_share: float = 0.6
    sample_share: float = 0.7
    seed: int = 7


@dataclass(frozen=True, eq=False)
class Trees:
    """Complete binary trees, [trees, 2^(depth+1) - 1]: node k has the children 2k+1 and 2k+2.

    A sample goes to the second child where its `feature` is above the `threshold`. A node whose
    threshold is infinite sends everything to the first. `values` count at the last level.
    """

    features: Array
    thresholds: Array
    values: Array
    start: float

    def predict(self, samples: Array) -> Array:
        """Predictions [n], f64, for samples [n, features]."""
        inner = self.features.shape[1]
        total = np.full(len(samples), self.start)
        rows = np.arange(len(samples))
        for features, thresholds, values in zip(
                self.features, self.thresholds, self.values, strict=True):
            node = np.zeros(len(samples), np.int64)
            while len(node) and node[0] < inner:
                above = samples[rows, features[node]] > thresholds[node]
                node = 2 * node + 1 + above
            total += values[node - inner]
        return total

    def save(self, path: Path) -> None:
        """Writes the trees to an .npz file."""
        np.savez_compressed(
            path, features=self.features.astype(np.uint8),
            thresholds=self.thresholds.astype(np.float32), values=self.values.astype(np.float32),
            start=np.float64(self.start))

    @staticmethod
    def load(path: Path) -> "Trees":
        """Reads what `save` wrote. Raises: SettingsError for another file."""
        try:
            with np.load(path, allow_pickle=False) as data:
                return Trees(data["features"].astype(np.int64), data["thresholds"].astype(float),
                             data["values"].astype(float), float(data["start"]))
        except (OSError, ValueError, KeyError) as error:
            raise SettingsError(f"{path} is no cost model: {error}") from None


def fit(samples: Array, targets: Array, weights: Array, options: Options | None = None) -> Trees:
    """Trees that minimise the weighted squared error.

    `samples` [n, features], `targets` and `weights` [n], all f64 and finite.
    """
    options = options or Options()
    rng = np.random.default_rng(options.seed)
    edges = [_edges(column) for column in samples.T]
    bins = np.stack([np.searchsorted(e, column, side="left") for e, column
                     in zip(edges, samples.T, strict=True)], axis=1)
    start = float(np.average(targets, weights=weights))
    left = targets - start
    grown = []
    for _ in range(options.trees):
        chosen = np.flatnonzero(rng.random(len(left)) < options.sample_share)
        count = max(1, round(options.feature_share * bins.shape[1]))
        columns = np.sort(rng.choice(bins.shape[1], count, replace=False))
        tree = _grow(bins, edges, left, weights, chosen, columns, options)
        grown.append(tree)
        features, thresholds, values = (part[None] for part in tree)
        left = left - Trees(features, thresholds, values, 0.0).predict(samples)
    features, thresholds, values = (np.stack(parts) for parts in zip(*grown, strict=True))
    # As they will be stored, so that a model is the same before and after.
    return Trees(features, thresholds.astype(np.float32).astype(float),
                 values.astype(np.float32).astype(float), start)


def _edges(column: Array) -> Array:
    """Thresholds between values of a feature: at most as many as there are bins, less one."""
    values = np.unique(column)
    if len(values) > _BINS:
        values = np.unique(np.quantile(column, np.linspace(0, 1, _BINS)))
    return np.asarray((values[1:] + values[:-1]) / 2).astype(np.float32).astype(float)


def _grow(bins: Array, edges: list[Array], left: Array, weights: Array, chosen: Array,
          columns: Array, options: Options) -> tuple[Array, Array, Array]:
    """(features, thresholds, values) of one tree, level by level."""
    inner = 2 ** options.depth - 1
    features, thresholds = np.zeros(inner, np.int64), np.full(inner, np.inf)
    node = np.zeros(len(bins), np.int64)
    for level in range(options.depth):
        first = 2 ** level - 1
        for k in range(first, 2 * first + 1):
            rows = chosen[node[chosen] == k]
            found = _split(bins, edges, left, weights, rows, columns, options)
            if found is not None:
                features[k], thresholds[k] = found
                edge = np.searchsorted(edges[found[0]], found[1])
                mine = node == k
                node[mine] = 2 * k + 1 + (bins[mine, found[0]] > edge)
            else:
                node[node == k] = 2 * k + 1
    leaf = node[chosen] - inner
    weight = np.bincount(leaf, weights[chosen], inner + 1)
    total = np.bincount(leaf, weights[chosen] * left[chosen], inner + 1)
    return features, thresholds, options.shrinkage * total / (weight + options.regularisation)


def _split(bins: Array, edges: list[Array], left: Array, weights: Array, rows: Array,
           columns: Array, options: Options) -> tuple[int, float] | None:
    """The feature and threshold that lower the squared error most; None if no split is allowed."""
    if len(rows) < 2 * options.least_samples:
        return None
    weight, gradient = weights[rows], weights[rows] * left[rows]
    lam = options.regularisation
    all_weight, all_gradient = weight.sum(), gradient.sum()
    best, place = 1e-12, None
    for column in columns:
        places = bins[rows, column]
        count = np.cumsum(np.bincount(places, minlength=_BINS))[:-1]
        w = np.cumsum(np.bincount(places, weight, _BINS))[:-1]
        g = np.cumsum(np.bincount(places, gradient, _BINS))[:-1]
        gain = (g ** 2 / (w + lam) + (all_gradient - g) ** 2 / (all_weight - w + lam)
                - all_gradient ** 2 / (all_weight + lam))
        allowed = (count >= options.least_samples) & (len(rows) - count >= options.least_samples)
        gain = np.where(allowed, gain, 0.0)
        at = int(gain.argmax())
        if gain[at] > best and at < len(edges[column]):
            best, place = float(gain[at]), (int(column), float(edges[column][at]))
    return place
