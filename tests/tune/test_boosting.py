"""Boosted trees: they learn, are deterministic, and are the same after saving."""

import numpy as np
import pytest

from bessemer.core.errors import SettingsError
from bessemer.tune.boosting import Options, Trees, fit
from bessemer.tune.cost_model import SHIPPED, CostModel, Group
from bessemer.tune.features import NAMES

SMALL = Options(trees=60, depth=4)


def data(count=600, seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(count, 5))
    return samples, np.sin(2 * samples[:, 0]) + samples[:, 1] * (samples[:, 2] > 0)


def test_trees_learn_a_function():
    samples, targets = data()
    trees = fit(samples, targets, np.ones(len(targets)), SMALL)
    fresh, wanted = data(seed=1)
    error = np.mean((trees.predict(fresh) - wanted) ** 2)
    assert error < 0.35 * wanted.var()


def test_weights_count():
    samples = np.repeat([[0.0]], 40, axis=0)
    targets = np.array([0.0, 1.0] * 20)
    heavy = fit(samples, targets, np.where(targets == 1, 3.0, 1.0), SMALL)
    assert heavy.predict(samples[:1])[0] == pytest.approx(0.75, abs=0.1)


def test_the_same_samples_give_the_same_trees(tmp_path):
    samples, targets = data()
    one, two = (fit(samples, targets, np.ones(len(targets)), SMALL) for _ in range(2))
    one.save(tmp_path / "one.npz")
    again = Trees.load(tmp_path / "one.npz")
    assert np.array_equal(one.predict(samples), two.predict(samples))
    assert np.array_equal(one.predict(samples), again.predict(samples))


def test_other_files_are_no_models(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=1)
    for name in ("text.npz", "other.npz", "absent.npz"):
        with pytest.raises(SettingsError, match=name):
            Trees.load(tmp_path / name)


def test_the_cost_model_ranks_schedules_of_kernels_it_has_not_seen():
    rng = np.random.default_rng(3)

    def group(size):
        features = rng.normal(size=(30, len(NAMES)))
        features[:, 0] += size
        times = np.exp2(features[:, 0] + 2 * np.abs(features[:, 4]))
        return Group(features, times / times[0], features[0])

    model = CostModel.train([group(k) for k in range(40)], SMALL)
    better = 0
    for _ in range(10):
        unseen = group(100)
        order = np.argsort(model.scores(unseen.features, unseen.formula))
        better += unseen.ratios[order[:5]].min() <= np.sort(unseen.ratios)[2]
    assert better >= 8


def test_a_model_comes_with_the_package_and_fits_the_features():
    assert SHIPPED.exists()
    assert SHIPPED.stat().st_size < 300_000
    model = CostModel.load(SHIPPED)
    assert model.trees is not None
    assert model.trees.features.max() < 2 * len(NAMES) - 1
    assert np.isfinite(model.scores(np.zeros((3, len(NAMES))), np.zeros(len(NAMES)))).all()
