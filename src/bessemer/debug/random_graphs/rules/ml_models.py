"""ai.onnx.ml: linear models, support vectors and forests."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import ML, ml_opset
from bessemer.debug.random_graphs.rules.ml_features import floats
from bessemer.debug.random_graphs.values import Reject, Value

_TRANSFORMS = ("NONE", "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
_COMPARISONS = (
    "BRANCH_LEQ",
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
)


def _rows(maker: Maker) -> Value:
    x = maker.pick(("f32", "f32", "f32", "f64", "i64", "i32"), (2, 2))
    if not x.data.size or x.shape[1] > 32:
        raise Reject
    return x


def _labels(maker: Maker, count: int) -> dict[str, Any]:
    if maker.chance(0.5):
        return {"classlabels_strings": [f"class {k}" for k in range(count)]}
    return {"classlabels_int64s": [3 * k - 1 for k in range(count)]}


@rule("LinearRegressor", weight=0.4)
def linear_regressor(maker: Maker) -> None:
    """Weighted sums of features."""
    x = _rows(maker)
    targets = maker.integer(1, 3)
    given: dict[str, Any] = {"coefficients": floats(maker, targets * x.shape[1])}
    if maker.chance(0.6):
        given["intercepts"] = floats(maker, targets)
    maker.emit(f"{ML}.LinearRegressor",
        [x],
        targets=targets,
        post_transform=maker.random.choice(_TRANSFORMS),
        **given,
    )


@rule("LinearClassifier", weight=0.5)
def linear_classifier(maker: Maker) -> None:
    """Scores by weighted sums, and the class of the largest."""
    x = _rows(maker)
    classes = maker.integer(2, 4)
    rows = 1 if classes == 2 and maker.chance(0.5) else classes
    name = "classlabels_ints"
    labels = _labels(maker, classes)
    if "classlabels_int64s" in labels:
        labels = {name: labels["classlabels_int64s"]}
    maker.emit(f"{ML}.LinearClassifier",
        [x],
        outputs=2,
        coefficients=floats(maker, rows * x.shape[1]),
        intercepts=floats(maker, rows),
        multi_class=maker.integer(0, 1),
        post_transform=maker.random.choice(_TRANSFORMS),
        **labels,
    )


def _kernel(maker: Maker) -> dict[str, Any]:
    kind = maker.choose("LINEAR", "POLY", "RBF", "SIGMOID")
    return {"kernel_type": kind, "kernel_params": [0.25, 0.5, float(maker.integer(1, 3))]}


@rule("SVMRegressor", weight=0.4)
def svm_regressor(maker: Maker) -> None:
    """Sums of kernels at support vectors, or a linear form."""
    x = _rows(maker)
    if maker.chance(0.25):
        linear: dict[str, Any] = {
            "coefficients": floats(maker, x.shape[1]),
            "rho": floats(maker, 1),
        }
        maker.emit(f"{ML}.SVMRegressor", [x], **linear, **_kernel(maker))
        return
    supports = maker.integer(1, 4)
    maker.emit(f"{ML}.SVMRegressor",
        [x],
        n_supports=supports,
        rho=floats(maker, 1),
        coefficients=floats(maker, supports),
        one_class=int(maker.chance(0.2)),
        support_vectors=floats(maker, supports * x.shape[1]),
        **_kernel(maker),
    )


@rule("SVMClassifier", weight=0.5)
def svm_classifier(maker: Maker) -> None:
    """Votes of pairs of classes, or probabilities of them."""
    x = _rows(maker)
    classes = maker.integer(2, 4)
    per_class = [maker.integer(1, 3) for _ in range(classes)]
    supports, pairs = sum(per_class), classes * (classes - 1) // 2
    given: dict[str, Any] = {}
    if maker.chance(0.4):
        given = {"prob_a": floats(maker, pairs, -2.0, -0.5), "prob_b": floats(maker, pairs)}
    maker.emit(f"{ML}.SVMClassifier",
        [x],
        outputs=2,
        vectors_per_class=per_class,
        coefficients=floats(maker, (classes - 1) * supports),
        rho=floats(maker, pairs),
        support_vectors=floats(maker, supports * x.shape[1]),
        post_transform=maker.random.choice(_TRANSFORMS),
        **given,
        **_kernel(maker),
        **_labels(maker, classes),
    )


@dataclass
class _Forest:
    """The columns of a forest's attributes, and (tree, node) of its leaves."""

    columns: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                "treeids",
                "nodeids",
                "featureids",
                "modes",
                "values",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
    )
    leaves: list[tuple[int, int]] = field(default_factory=list)

    def grow(self, maker: Maker, tree: int, features: int, depth: int, modes: list[str]) -> int:
        """Adds a node with all below it; returns its number."""
        node: int = sum(other == tree for other in self.columns["treeids"])
        place = len(self.columns["treeids"])
        leaf = depth == 0 or (node > 0 and maker.chance(0.25))
        mode = "LEAF" if leaf else maker.random.choice(modes)
        row = {
            "treeids": tree,
            "nodeids": node,
            "featureids": maker.integer(0, features - 1),
            "modes": mode,
            "values": 0.0 if leaf else floats(maker, 1)[0],
            "truenodeids": 0,
            "falsenodeids": 0,
            "missing_value_tracks_true": maker.integer(0, 1),
        }
        for name, item in row.items():
            self.columns[name].append(item)
        if leaf:
            self.leaves.append((tree, node))
        else:
            below = [self.grow(maker, tree, features, depth - 1, modes) for _ in range(2)]
            self.columns["truenodeids"][place], self.columns["falsenodeids"][place] = below
        return node

    def attributes(self) -> dict[str, Any]:
        """As TreeEnsembleRegressor and -Classifier name them."""
        return {f"nodes_{name}": column for name, column in self.columns.items()}


def _forest(maker: Maker, features: int) -> _Forest:
    forest = _Forest()
    modes = [maker.random.choice(_COMPARISONS)] if maker.chance(0.7) else list(_COMPARISONS)
    for tree in range(maker.integer(1, 4)):
        forest.grow(maker, tree, features, maker.integer(0, 3), modes)
    return forest


def _weights(maker: Maker, forest: _Forest, prefix: str, targets: int) -> dict[str, Any]:
    """Every leaf gives to all targets, or to some."""
    share = maker.choose(0.7, 1.0, 1.0)
    rows = [
        (tree, node, target)
        for tree, node in forest.leaves
        for target in range(targets)
        if targets == 1 or maker.chance(share)
    ]
    if not rows:
        raise Reject
    return {
        f"{prefix}_treeids": [r[0] for r in rows],
        f"{prefix}_nodeids": [r[1] for r in rows],
        f"{prefix}_ids": [r[2] for r in rows],
        f"{prefix}_weights": floats(maker, len(rows)),
    }


@rule("TreeEnsembleRegressor", weight=0.6)
def tree_regressor(maker: Maker) -> None:
    """Sums, means and extremes of what the trees give."""
    if ml_opset(maker.opset) > 4:
        raise Reject
    x = _rows(maker)
    forest, targets = _forest(maker, x.shape[1]), maker.integer(1, 3)
    given = {**forest.attributes(), **_weights(maker, forest, "target", targets)}
    if maker.chance(0.4):
        given["base_values"] = floats(maker, targets)
    maker.emit(f"{ML}.TreeEnsembleRegressor",
        [x],
        n_targets=targets,
        aggregate_function=maker.choose("SUM", "SUM", "AVERAGE", "MIN", "MAX"),
        post_transform=maker.choose("NONE", "NONE", "LOGISTIC", "SOFTMAX"),
        **given,
    )


@rule("TreeEnsembleClassifier", weight=0.6)
def tree_classifier(maker: Maker) -> None:
    """Scores of classes by trees; two classes may share one score."""
    if ml_opset(maker.opset) > 4:
        raise Reject
    x = _rows(maker)
    forest, classes = _forest(maker, x.shape[1]), maker.integer(2, 4)
    scored = 1 if classes == 2 and maker.chance(0.5) else classes
    given = {**forest.attributes(), **_weights(maker, forest, "class", scored)}
    if maker.chance(0.3):
        given["base_values"] = floats(maker, classes)
    maker.emit(f"{ML}.TreeEnsembleClassifier",
        [x],
        outputs=2,
        post_transform=maker.choose("NONE", "NONE", "LOGISTIC", "SOFTMAX"),
        **given,
        **_labels(maker, classes),
    )


_MODES = {
    "BRANCH_LEQ": 0,
    "BRANCH_LT": 1,
    "BRANCH_GTE": 2,
    "BRANCH_GT": 3,
    "BRANCH_EQ": 4,
    "BRANCH_NEQ": 5,
}


@rule("TreeEnsemble", weight=0.8)
def tree_ensemble(maker: Maker) -> None:
    """The newest form: inner nodes and leaves apart."""
    if ml_opset(maker.opset) < 5:
        raise Reject
    x = maker.pick(("f32", "f32", "f64"), (2, 2))
    if not x.data.size or x.shape[1] > 32:
        raise Reject
    columns = _forest(maker, x.shape[1]).columns
    inner: list[int] = []
    leaves: list[int] = []
    roots: list[int] = []
    place: dict[tuple[int, int], tuple[int, bool]] = {}
    for row, mode in enumerate(columns["modes"]):
        target = leaves if mode == "LEAF" else inner
        key = columns["treeids"][row], columns["nodeids"][row]
        place[key] = len(target), mode == "LEAF"
        if key[1] == 0:
            if mode == "LEAF":  # a tree of one leaf has another form
                raise Reject
            roots.append(len(target))
        target.append(row)
    kind = x.data.dtype
    targets = maker.integer(1, 3)

    def child(row: int, name: str) -> tuple[int, bool]:
        return place[columns["treeids"][row], columns[name][row]]

    yes = [child(row, "truenodeids") for row in inner]
    no = [child(row, "falsenodeids") for row in inner]
    maker.emit(f"{ML}.TreeEnsemble",
        [x],
        n_targets=targets,
        tree_roots=roots,
        aggregate_function=maker.choose(0, 1, 1, 2, 3),
        post_transform=maker.choose(0, 0, 1, 2),
        nodes_featureids=[columns["featureids"][row] for row in inner],
        nodes_modes=np.array([_MODES[columns["modes"][row]] for row in inner], np.uint8),
        nodes_splits=np.array([columns["values"][row] for row in inner], kind),
        nodes_truenodeids=[index for index, _ in yes],
        nodes_trueleafs=[int(v) for _, v in yes],
        nodes_falsenodeids=[index for index, _ in no],
        nodes_falseleafs=[int(v) for _, v in no],
        nodes_missing_value_tracks_true=[
            columns["missing_value_tracks_true"][row] for row in inner
        ],
        leaf_targetids=[maker.integer(0, targets - 1) for _ in leaves],
        leaf_weights=np.array(floats(maker, len(leaves)), kind),
    )
