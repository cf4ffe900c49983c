"""Tree ensembles as arrays over all nodes: walking them with numpy, and as tensor expressions."""

from dataclasses import dataclass, field

import numpy as np

from bessemer import te
from bessemer.core.dtypes import f64, i64
from bessemer.core.errors import InputError
from bessemer.ir.operator import Unlowerable
from bessemer.ops.dims import Array
from bessemer.ops.ml_expressions import Rows
from bessemer.te import Expr, Tensor

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
         "BRANCH_MEMBER", "LEAF")
LEAF = MODES.index("LEAF")
MEMBER = MODES.index("BRANCH_MEMBER")

_DEEPEST = 64
_LARGEST_SET = 64


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
            inner = self.mode[place] != LEAF
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
        found = self._weights(targets)[self.leaves(x)]
        if aggregate in ("SUM", "AVERAGE"):
            total = np.nansum(found, axis=1)
            return np.asarray(total / max(len(self.roots), 1) if aggregate == "AVERAGE" else total)
        pick = np.fmin if aggregate == "MIN" else np.fmax
        return np.asarray(np.nan_to_num(pick.reduce(found, axis=1)))

    def _weights(self, targets: int) -> Array:
        """The vote of each node for each target [nodes, targets]; NaN where it has none."""
        table = np.full((len(self.mode), targets), np.nan)
        for node, target, weight in self.votes:
            table[node, target] = np.nan_to_num(table[node, target]) + weight
        return table

    # -- tensor expressions -----------------------------------------------------------------------

    def depth(self) -> int:
        """Decisions on the longest path. Raises: Unlowerable if that is too long, or a cycle."""
        places = np.unique(np.asarray(self.roots, np.int64))
        for depth in range(_DEEPEST + 1):
            inner = places[self.mode[places] != LEAF]
            if not inner.size:
                return depth
            places = np.unique(np.concatenate([self.yes[inner], self.no[inner]]))
        raise Unlowerable(f"trees of more than {_DEEPEST} levels are walked on the host")

    def score_tensor(self, rows: Rows, targets: int, aggregate: str) -> Tensor:
        """What `scores` computes, [n, targets] in f64."""
        leaves, votes = self._leaf_tensor(rows), self._weights(targets)
        sums = aggregate in ("SUM", "AVERAGE")
        none = 0.0 if sums else np.inf if aggregate == "MIN" else -np.inf
        table = te.table(np.where(np.isnan(votes), none, votes), "votes")
        k = te.reduce_axis(len(self.roots))
        fold = te.sum_ if sums else te.min_ if aggregate == "MIN" else te.max_
        total = te.compute(f64, (rows.count, targets),
                           lambda r, t: fold(table[leaves[r, k], t], k), "votes")

        def body(*i: Expr) -> Expr:
            if aggregate == "AVERAGE":
                return total[i] / float(len(self.roots))
            return total[i] if sums else te.where(te.equal(total[i], none), 0.0, total[i])

        return te.compute(f64, total.shape, body, "scores")

    def _leaf_tensor(self, rows: Rows) -> Tensor:
        """What `leaves` computes, [n, trees]: one compute for each level, leaves stay."""
        depth = self.depth()
        step = _Step(self)
        roots = te.table(np.asarray(self.roots, np.int64), "roots")
        shape = (rows.count, len(self.roots))
        place = te.compute(i64, shape, lambda r, t: roots[t], "place")
        for _ in range(depth):
            place = step.next(rows, place)
        return place


class _Step:
    """One decision in each tree."""

    def __init__(self, forest: Forest) -> None:
        nodes = np.arange(len(forest.mode))
        leaf = forest.mode == LEAF
        self.forest = forest
        self.feature = te.table(np.where(leaf, 0, forest.feature), "feature")
        self.split = te.table(forest.split.astype(np.float64), "split")
        self.mode = te.table(forest.mode.astype(np.int64), "mode")
        self.missing = te.table(forest.missing != 0, "missing")
        children = [np.where(leaf, nodes, forest.no), np.where(leaf, nodes, forest.yes)]
        self.children = te.table(np.stack(children, axis=1), "children")
        self.modes = sorted(set(forest.mode.tolist()) - {LEAF, MEMBER})
        size = max(map(len, forest.members.values()), default=0)
        if size > _LARGEST_SET:
            raise Unlowerable(f"a set of {size} members is searched on the host")
        sets = np.full((len(nodes), size), np.nan)
        for node, values in forest.members.items():
            sets[node, : len(values)] = values
        self.sets = te.table(sets, "sets")

    def next(self, rows: Rows, place: Tensor) -> Tensor:
        """The nodes after one decision."""

        def body(r: Expr, t: Expr) -> Expr:
            at = place[r, t]
            value = te.cast(rows.at(r, self.feature[at]), f64)
            taken = self._test(value, at)
            if self.forest.missing.any():
                taken = taken | (te.isnan(value) & self.missing[at])
            return self.children[at, te.cast(taken, i64)]

        return te.compute(i64, place.shape, body, "place")

    def _test(self, value: Expr, at: Expr) -> Expr:
        limit = self.split[at]
        tests = [value <= limit, value < limit, value >= limit, value > limit,
                 te.equal(value, limit), te.not_equal(value, limit)]
        first, *others = self.modes or [0]
        result: Expr = tests[first]
        for mode in others:
            result = _pick(te.equal(self.mode[at], mode), tests[mode], result)
        if self.forest.members:
            found = te.equal(value, self.sets[at, 0])
            for k in range(1, int(self.sets.shape[1])):  # type: ignore[arg-type]
                found = found | te.equal(value, self.sets[at, k])
            result = _pick(te.equal(self.mode[at], MEMBER), found, result)
        return result


def _pick(condition: Expr, a: Expr, b: Expr) -> Expr:
    """`a` where the condition holds, else `b`, for conditions."""
    return (condition & a) | (~condition & b)
