"""Tree ensembles of ai.onnx.ml: TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bessemer.core.dtypes import f32, i64, string
from bessemer.core.errors import InputError, ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array
from bessemer.ops.ml_linear import (
    TRANSFORMS,
    as_rows,
    binary_scores,
    check_transform,
    label_array,
    rows_of,
    transform_scores,
)

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
          "BRANCH_MEMBER", "LEAF")
_LEAF = _MODES.index("LEAF")
_MEMBER = _MODES.index("BRANCH_MEMBER")


@dataclass
class Forest:
    """All trees as parallel arrays over nodes; `votes` holds (node, target, weight) of leaves."""

    feature: Array
    mode: Array
    split: Array
    yes: Array
    no: Array
    missing: Array
    roots: list[int]
    votes: list[tuple[int, int, float]]
    members: dict[int, Array] = field(default_factory=dict)

    def leaves(self, x: Array) -> Array:
        """The leaf that each row of x reaches in each tree [n, trees]."""
        place = np.tile(np.asarray(self.roots, np.int64), (len(x), 1))
        rows = np.arange(len(x))[:, None]
        # A path cannot be longer than there are nodes, unless the model has a cycle.
        for _ in range(len(self.mode) + 1):
            inner = self.mode[place] != _LEAF
            if not inner.any():
                return place
            values = x[rows, self.feature[place]]
            place = np.where(inner, self._next(place, values), place)
        raise InputError("the trees have a cycle")

    def _next(self, place: Array, values: Array) -> Array:
        limit, mode = self.split[place], self.mode[place]
        tests = [values <= limit, values < limit, values >= limit, values > limit,
                 values == limit, values != limit]
        taken = np.select([mode == k for k in range(len(tests))], tests, False)
        for node, members in self.members.items():
            taken = np.where(place == node, np.isin(values, members), taken)
        taken = np.where(np.isnan(values) & (self.missing[place] != 0), True, taken)
        return np.where(taken, self.yes[place], self.no[place])

    def scores(self, x: Array, targets: int, aggregate: str) -> Array:
        """Votes of the reached leaves, joined over the trees [n, targets] in f64."""
        table = np.full((len(self.mode), targets), np.nan)
        for node, target, weight in self.votes:
            table[node, target] = np.nan_to_num(table[node, target]) + weight
        found = table[self.leaves(x)]
        if aggregate in ("SUM", "AVERAGE"):
            total = np.nansum(found, axis=1)
            return np.asarray(total / max(len(self.roots), 1) if aggregate == "AVERAGE" else total)
        pick = np.fmin if aggregate == "MIN" else np.fmax
        return np.asarray(np.nan_to_num(pick.reduce(found, axis=1)))


def make_forest(op: Any, prefix: str) -> Forest:
    """The forest of the older operators, whose attributes describe one node each.

    `prefix` is class or target. Raises InputError if a node is missing.
    """
    count = len(op.nodes_nodeids)
    number = {key: k for k, key in enumerate(zip(op.nodes_treeids, op.nodes_nodeids, strict=True))}
    values = op.nodes_values_as_tensor
    split = np.asarray(op.nodes_values if values is None else values, np.float64)
    modes = np.asarray([_MODES.index(mode) for mode in op.nodes_modes], np.int64)
    children: list[Array] = []
    for ids in (op.nodes_truenodeids, op.nodes_falsenodeids):
        place = [
            0 if mode == _LEAF else number.get((tree, child), -1)
            for tree, child, mode in zip(op.nodes_treeids, ids, modes.tolist(), strict=True)
        ]
        if -1 in place:
            raise InputError(f"node {place.index(-1)} of the trees has a child that is missing")
        children.append(np.asarray(place, np.int64))
    targets = set(children[0][modes != _LEAF]) | set(children[1][modes != _LEAF])
    roots = [k for k in range(count) if k not in targets]
    weights = getattr(op, f"{prefix}_weights_as_tensor")
    weights = getattr(op, f"{prefix}_weights") if weights is None else weights.tolist()
    votes = [
        (number[tree, node], target, weight)
        for tree, node, target, weight in zip(
            getattr(op, f"{prefix}_treeids"), getattr(op, f"{prefix}_nodeids"),
            getattr(op, f"{prefix}_ids"), weights, strict=True,
        )
    ]
    missing = op.nodes_missing_value_tracks_true or (0,) * count
    return Forest(
        np.asarray(op.nodes_featureids, np.int64), modes, split, children[0], children[1],
        np.asarray(missing, np.int64), roots, votes,
    )


def _base(op: Any) -> Array:
    """The values that scores start from; empty if there are none."""
    given = op.base_values if op.base_values_as_tensor is None else op.base_values_as_tensor
    return np.asarray(given, np.float64).reshape(-1)


_STUMPS: dict[str, Any] = {
    # Two trees: one split with two leaves, and one more of the other kind.
    "nodes_treeids": (0, 0, 0, 1, 1, 1), "nodes_nodeids": (0, 1, 2, 0, 1, 2),
    "nodes_featureids": (0, 0, 0, 1, 0, 0), "nodes_values": (0.25, 0.0, 0.0, -0.5, 0.0, 0.0),
    "nodes_modes": ("BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"),
    "nodes_truenodeids": (1, 0, 0, 1, 0, 0), "nodes_falsenodeids": (2, 0, 0, 2, 0, 0),
}


@operator("ai.onnx.ml.TreeEnsembleRegressor")
class TreeEnsembleRegressor(Operator):
    """Joined votes of regression trees.

    Shapes: x [n, f] -> y f32 [n, targets].
    Source: ai.onnx.ml TreeEnsembleRegressor-3.
    """

    aggregate_function: str = "SUM"
    base_values: tuple[float, ...] = ()
    base_values_as_tensor: Array | None = None
    n_targets: int = 1
    nodes_falsenodeids: tuple[int, ...] = ()
    nodes_featureids: tuple[int, ...] = ()
    nodes_hitrates: tuple[float, ...] = ()
    nodes_hitrates_as_tensor: Array | None = None
    nodes_missing_value_tracks_true: tuple[int, ...] = ()
    nodes_modes: tuple[str, ...] = ()
    nodes_nodeids: tuple[int, ...] = ()
    nodes_treeids: tuple[int, ...] = ()
    nodes_truenodeids: tuple[int, ...] = ()
    nodes_values: tuple[float, ...] = ()
    nodes_values_as_tensor: Array | None = None
    post_transform: str = "NONE"
    target_ids: tuple[int, ...] = ()
    target_nodeids: tuple[int, ...] = ()
    target_treeids: tuple[int, ...] = ()
    target_weights: tuple[float, ...] = ()
    target_weights_as_tensor: Array | None = None

    def infer(self, x: TensorType) -> TensorType:
        check_transform(self.post_transform)
        return TensorType(f32, None if x.shape is None else (rows_of(x), self.n_targets))

    def reference(self, x: Array) -> Array:
        forest = make_forest(self, "target")
        scores = forest.scores(as_rows(x), self.n_targets, self.aggregate_function)
        if (base := _base(self)).size:
            scores = scores + base
        return transform_scores(scores, self.post_transform).astype(np.float32)

    samples = (
        sample("f32[7,2]", **_STUMPS, target_treeids=(0, 0, 1, 1), target_nodeids=(1, 2, 1, 2),
               target_ids=(0, 0, 0, 0), target_weights=(0.5, 1.5, -1.0, 2.0)),
        sample("f64[7,2]", **_STUMPS, target_treeids=(0, 0, 1, 1), target_nodeids=(1, 2, 1, 2),
               target_ids=(0, 1, 0, 1), target_weights=(0.5, 1.5, -1.0, 2.0), n_targets=2,
               aggregate_function="MAX", base_values=(0.125, 0.25)),
    )


@operator("ai.onnx.ml.TreeEnsembleClassifier")
class TreeEnsembleClassifier(Operator):
    """The class that the trees vote for, and the votes.

    Shapes: x [n, f] -> labels [n], scores f32 [n, e].
    Source: ai.onnx.ml TreeEnsembleClassifier-3.
    """

    base_values: tuple[float, ...] = ()
    base_values_as_tensor: Array | None = None
    class_ids: tuple[int, ...] = ()
    class_nodeids: tuple[int, ...] = ()
    class_treeids: tuple[int, ...] = ()
    class_weights: tuple[float, ...] = ()
    class_weights_as_tensor: Array | None = None
    classlabels_int64s: tuple[int, ...] = ()
    classlabels_strings: tuple[str, ...] = ()
    nodes_falsenodeids: tuple[int, ...] = ()
    nodes_featureids: tuple[int, ...] = ()
    nodes_hitrates: tuple[float, ...] = ()
    nodes_hitrates_as_tensor: Array | None = None
    nodes_missing_value_tracks_true: tuple[int, ...] = ()
    nodes_modes: tuple[str, ...] = ()
    nodes_nodeids: tuple[int, ...] = ()
    nodes_treeids: tuple[int, ...] = ()
    nodes_truenodeids: tuple[int, ...] = ()
    nodes_values: tuple[float, ...] = ()
    nodes_values_as_tensor: Array | None = None
    post_transform: str = "NONE"

    def _classes(self) -> int:
        return max(len(self.classlabels_int64s), len(self.classlabels_strings))

    def _is_binary(self) -> bool:
        """True if all votes go to one class, so the other one gets the rest."""
        return len(set(self.class_ids)) == 1 and self._classes() <= 2

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        check_transform(self.post_transform)
        labels = string if self.classlabels_strings else i64
        if x.shape is None:
            return TensorType(labels, None), TensorType(f32, None)
        columns = 2 if self._is_binary() else self._classes()
        return TensorType(labels, (rows_of(x),)), TensorType(f32, (rows_of(x), columns))

    def reference(self, x: Array) -> tuple[Array, Array]:
        classes = max(self._classes(), max(self.class_ids, default=0) + 1)
        scores = make_forest(self, "class").scores(as_rows(x), classes, "SUM")
        base = _base(self)
        if self._is_binary():
            single = scores[:, self.class_ids[0]] + (base[-1] if base.size else 0)
            complement = self.post_transform in ("NONE", "PROBIT")
            scores = binary_scores(single, self.post_transform, complement)
        else:
            scores = transform_scores(scores + base if base.size else scores, self.post_transform)
        best = scores.argmax(axis=1)
        if self._classes() == 1:
            labels = np.where(best == 1, (self.classlabels_int64s or (1,))[0], 0).astype(np.int64)
        else:
            labels = label_array(best, self.classlabels_int64s, self.classlabels_strings)
        return labels, scores.astype(np.float32)

    samples = (
        sample("f32[7,2]", **_STUMPS, class_treeids=(0, 0, 1, 1), class_nodeids=(1, 2, 1, 2),
               class_ids=(0, 1, 2, 0), class_weights=(0.5, 1.5, 1.0, 0.25),
               classlabels_int64s=(4, 5, 6), post_transform="SOFTMAX", outputs=2),
        sample("f32[7,2]", **_STUMPS, class_treeids=(0, 0, 1, 1), class_nodeids=(1, 2, 1, 2),
               class_ids=(0, 0, 0, 0), class_weights=(0.5, -1.5, 1.0, 0.25),
               classlabels_strings=("a", "b"), post_transform="LOGISTIC", outputs=2),
    )


@operator("ai.onnx.ml.TreeEnsemble")
class TreeEnsemble(Operator):
    """Joined votes of trees, in the newest encoding: inner nodes and leaves apart.

    Shapes: x [n, f] -> y [n, targets].
    Source: ai.onnx.ml TreeEnsemble-5.
    """

    aggregate_function: int = 1
    leaf_targetids: tuple[int, ...] = ()
    leaf_weights: Array | None = None
    membership_values: Array | None = None
    n_targets: int = 1
    nodes_falseleafs: tuple[int, ...] = ()
    nodes_falsenodeids: tuple[int, ...] = ()
    nodes_featureids: tuple[int, ...] = ()
    nodes_hitrates: Array | None = None
    nodes_missing_value_tracks_true: tuple[int, ...] = ()
    nodes_modes: Array | None = None
    nodes_splits: Array | None = None
    nodes_trueleafs: tuple[int, ...] = ()
    nodes_truenodeids: tuple[int, ...] = ()
    post_transform: int = 0
    tree_roots: tuple[int, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        if self.nodes_modes is None or self.nodes_splits is None or self.leaf_weights is None:
            raise ShapeError("nodes_modes, nodes_splits and leaf_weights must be given")
        return x.with_shape(None if x.shape is None else (rows_of(x), self.n_targets))

    def _forest(self) -> Forest:
        assert self.nodes_modes is not None
        assert self.nodes_splits is not None
        assert self.leaf_weights is not None
        inner, leaves = len(self.nodes_featureids), len(self.leaf_targetids)
        pad = np.zeros(leaves, np.int64)

        def children(ids: tuple[int, ...], is_leaf: tuple[int, ...]) -> Array:
            """Children as positions, leaves after the inner nodes."""
            place = np.asarray(ids, np.int64) + inner * np.asarray(is_leaf, np.int64)
            return np.concatenate([place, pad])

        modes = self.nodes_modes.astype(np.int64)
        missing = self.nodes_missing_value_tracks_true or (0,) * inner
        return Forest(
            np.concatenate([np.asarray(self.nodes_featureids, np.int64), pad]),
            np.concatenate([modes, pad + _LEAF]),
            np.concatenate([self.nodes_splits.astype(np.float64), pad]),
            children(self.nodes_truenodeids, self.nodes_trueleafs),
            children(self.nodes_falsenodeids, self.nodes_falseleafs),
            np.concatenate([np.asarray(missing, np.int64), pad]), list(self.tree_roots),
            [(inner + k, target, float(weight)) for k, (target, weight) in enumerate(
                zip(self.leaf_targetids, self.leaf_weights, strict=True))],
            self._members(modes),
        )

    def _members(self, modes: Array) -> dict[int, Array]:
        """The set of each membership node; NaN ends a set."""
        if self.membership_values is None:
            return {}
        ends = np.flatnonzero(np.isnan(self.membership_values))
        sets = np.split(self.membership_values, ends)
        nodes = np.flatnonzero(modes == _MEMBER).tolist()
        return {node: part[~np.isnan(part)] for node, part in zip(nodes, sets, strict=False)}

    def reference(self, x: Array) -> Array:
        aggregate = ("AVERAGE", "SUM", "MIN", "MAX")[self.aggregate_function]
        scores = self._forest().scores(as_rows(x), self.n_targets, aggregate)
        return transform_scores(scores, TRANSFORMS[self.post_transform]).astype(x.dtype)

    samples = (
        sample(
            "f32[7,2]", tree_roots=(0,), nodes_featureids=(0, 1),
            nodes_modes=np.array([0, 6], np.uint8), nodes_splits=np.array([0.5, 0], np.float32),
            nodes_truenodeids=(1, 0), nodes_trueleafs=(0, 1), nodes_falsenodeids=(2, 1),
            nodes_falseleafs=(1, 1), leaf_targetids=(0, 1, 0), n_targets=2,
            leaf_weights=np.array([1.5, 2.5, -1], np.float32),
            membership_values=np.array([1, 2, np.nan], np.float32),
        ),
    )
