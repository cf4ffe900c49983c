"""Tree ensembles of ai.onnx.ml: TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f32, i64, string
from bessemer.core.errors import InputError, ShapeError
from bessemer.ir.operator import FusionClass, Operator, Unlowerable, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array
from bessemer.ops.ml_expressions import (
    Rows,
    as_f32,
    best_of,
    label_of,
    shifted_by,
    transformed,
    two_columns,
)
from bessemer.ops.ml_forest import LEAF, MEMBER, MODES, Forest
from bessemer.ops.ml_linear import (
    TRANSFORMS,
    as_rows,
    binary_scores,
    check_transform,
    label_array,
    rows_of,
    transform_scores,
)
from bessemer.te import Expr, Tensor


def make_forest(op: Any, prefix: str) -> Forest:
    """The forest of the older operators, whose attributes describe one node each.

    `prefix` is class or target. Raises InputError if a node is missing.
    """
    count = len(op.nodes_nodeids)
    number = {key: k for k, key in enumerate(zip(op.nodes_treeids, op.nodes_nodeids, strict=True))}
    values = op.nodes_values_as_tensor
    split = np.asarray(op.nodes_values if values is None else values, np.float64)
    modes = np.asarray([MODES.index(mode) for mode in op.nodes_modes], np.int64)
    children: list[Array] = []
    for ids in (op.nodes_truenodeids, op.nodes_falsenodeids):
        place = [
            0 if mode == LEAF else number.get((tree, child), -1)
            for tree, child, mode in zip(op.nodes_treeids, ids, modes.tolist(), strict=True)
        ]
        if -1 in place:
            raise InputError(f"node {place.index(-1)} of the trees has a child that is missing")
        children.append(np.asarray(place, np.int64))
    targets = set(children[0][modes != LEAF]) | set(children[1][modes != LEAF])
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


_COMB: dict[str, Any] = {
    # One tree of three levels that tests by two modes and sends NaN both ways.
    "nodes_treeids": (0,) * 7, "nodes_nodeids": tuple(range(7)),
    "nodes_featureids": (2, 0, 0, 0, 1, 0, 0), "nodes_values": (0.5, 0, -0.25, 0, 0.75, 0, 0),
    "nodes_modes": ("BRANCH_LEQ", "LEAF", "BRANCH_GTE", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"),
    "nodes_truenodeids": (1, 0, 3, 0, 5, 0, 0), "nodes_falsenodeids": (2, 0, 4, 0, 6, 0, 0),
    "nodes_missing_value_tracks_true": (0, 0, 1, 0, 0, 0, 0),
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

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        check_transform(self.post_transform)
        return TensorType(f32, None if x.shape is None else (rows_of(x), self.n_targets))

    def reference(self, x: Array) -> Array:
        forest = make_forest(self, "target")
        scores = forest.scores(as_rows(x), self.n_targets, self.aggregate_function)
        if (base := _base(self)).size:
            scores = scores + base
        return transform_scores(scores, self.post_transform).astype(np.float32)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        forest = make_forest(self, "target")
        scores = forest.score_tensor(Rows(x), self.n_targets, self.aggregate_function)
        if (base := _base(self)).size:
            scores = shifted_by(scores, base)
        return as_f32(transformed(scores, self.post_transform))

    samples = (
        sample("f32[37,3]", **_COMB, target_treeids=(0, 0, 0, 0), target_nodeids=(1, 3, 5, 6),
               target_ids=(0, 0, 0, 0), target_weights=(0.5, 1.5, -1.0, 2.0),
               aggregate_function="MIN"),
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

    fusion = FusionClass.REDUCTION

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
            best = scores.argmax(axis=1)
        else:
            # Before the transform, which may round different scores to the same number.
            scores = scores + base if base.size else scores
            best = scores.argmax(axis=1)
            scores = transform_scores(scores, self.post_transform)
        if self._classes() == 1:
            labels = np.where(best == 1, (self.classlabels_int64s or (1,))[0], 0).astype(np.int64)
        else:
            labels = label_array(best, self.classlabels_int64s, self.classlabels_strings)
        return labels, scores.astype(np.float32)

    def lower(self, x: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        if self.classlabels_strings:
            raise Unlowerable("class labels that are strings")
        classes = max(self._classes(), max(self.class_ids, default=0) + 1)
        scores = make_forest(self, "class").score_tensor(Rows(x), classes, "SUM")
        base, transform = _base(self), self.post_transform
        if self._is_binary():
            votes, column = scores, self.class_ids[0]
            single = te.compute(votes.dtype, (votes.shape[0], 1),
                                lambda r, _: votes[r, column], "single")
            scores = shifted_by(single, base[-1:]) if base.size else single
            scores = two_columns(scores, complement=transform in ("NONE", "PROBIT"))
        elif base.size:
            scores = shifted_by(scores, base)
        untransformed = scores
        scores = transformed(scores, transform)
        best = best_of(scores if self._is_binary() else untransformed)

        def body(r: Expr) -> Expr:
            if self._classes() != 1:
                return label_of(best[r], self.classlabels_int64s, ())
            label = te.const((self.classlabels_int64s or (1,))[0], i64)
            return te.where(te.equal(best[r], 1), label, 0)

        return te.compute(i64, best.shape, body, "labels"), as_f32(scores)

    samples = (
        sample("f32[37,3]", **_COMB, class_treeids=(0, 0, 0, 0), class_nodeids=(1, 3, 5, 6),
               class_ids=(0, 0, 0, 0), class_weights=(0.5, -0.5, 0.25, 0.1), outputs=2,
               classlabels_int64s=(4, 7), base_values=(0.125,), post_transform="LOGISTIC"),
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

    fusion = FusionClass.REDUCTION

    def infer(self, x: TensorType) -> TensorType:
        if self.nodes_modes is None or self.nodes_splits is None or self.leaf_weights is None:
            raise ShapeError("nodes_modes, nodes_splits and leaf_weights must be given")
        for name, most in (("aggregate_function", 3), ("post_transform", len(TRANSFORMS) - 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ShapeError(f"{name} is {getattr(self, name)}; 0 to {most} expected")
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
            np.concatenate([modes, pad + LEAF]),
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
        nodes = np.flatnonzero(modes == MEMBER).tolist()
        return {node: part[~np.isnan(part)] for node, part in zip(nodes, sets, strict=False)}

    def reference(self, x: Array) -> Array:
        aggregate = ("AVERAGE", "SUM", "MIN", "MAX")[self.aggregate_function]
        scores = self._forest().scores(as_rows(x), self.n_targets, aggregate)
        return transform_scores(scores, TRANSFORMS[self.post_transform]).astype(x.dtype)

    def lower(self, x: Tensor, **_: Any) -> Tensor:
        aggregate = ("AVERAGE", "SUM", "MIN", "MAX")[self.aggregate_function]
        scores = self._forest().score_tensor(Rows(x), self.n_targets, aggregate)
        result = transformed(scores, TRANSFORMS[self.post_transform])
        return te.compute(x.dtype, result.shape, lambda *i: te.cast(result[i], x.dtype), "result")

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
