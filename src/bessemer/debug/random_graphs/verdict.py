"""Compares two results of one graph with tolerances taken from the graph's own conditioning.

The reference is run again with noise: every rounded result, and every operand of an operator that
sums or interpolates, is moved by a few units in the last place. How far the outputs move is how
far any correct implementation may be away. An element that jumps (an index, a rounded number, a
comparison) is unstable and not compared; all others are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.noise import last_place, noisy_values, wide_values
from bessemer.ir.graph import Graph

_RUNS = 6
_SLACK = 4.0
_BASE_ULPS = 32.0


@dataclass(frozen=True)
class Disagreement:
    """An output on which two sides differ by more than its conditioning allows."""

    name: str
    text: str
    want: Array
    got: Array
    differs: Array | None = None
    """Where they differ; None if their shapes or types do."""


class Judge:
    """Compares results with the reference's on one graph and its inputs."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Array], values: Mapping[str, Any],
                 seed: int = 0) -> None:
        self.graph = graph
        self.inputs = inputs
        self.values = values
        self.seed = seed
        self.unstable = 0
        self._noisy: list[dict[str, Any]] | None = None

    def compare(self, found: Mapping[str, Any], flushes: bool = False) -> list[Disagreement]:
        """What of the found outputs is wrong; `flushes` allows subnormals to be inexact."""
        result = []
        for name, data in found.items():
            want, got = np.asarray(self.values[name]), np.asarray(data)
            text, differs = self._difference(name, want, got, flushes)
            if text:
                result.append(Disagreement(name, text, want, got, differs))
        return result

    def _difference(self, name: str, want: Array, got: Array, flushes: bool
                    ) -> tuple[str, Array | None]:
        if want.dtype != got.dtype:
            return f"dtype {got.dtype} instead of {want.dtype}", None
        kind = dtype_from_numpy(want.dtype)
        if want.shape != got.shape:
            if self._shapes_vary(name, want.shape):
                self.unstable += 1
                return "", None
            return f"shape {got.shape} instead of {want.shape}", None
        if want.size == 0:
            return "", None
        if not kind.is_float:
            differs = want != got
            if differs.any():
                differs &= ~self._jumps(name, want)
            error = np.zeros(want.shape)
        else:
            differs, error = self._float_difference(name, want, got, flushes)
        if not differs.any():
            return "", None
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        return (f"{kind.name}{list(want.shape)}: {int(differs.sum())} of {want.size} differ, first "
                f"at {at}: {got[at]!r} instead of {want[at]!r} (allowed {error[at]:.3g})"), differs

    def _float_difference(
        self, name: str, want: Array, got: Array, flushes: bool
    ) -> tuple[Array, Array]:
        wide, other = want.astype(np.float64), got.astype(np.float64)
        eps, smallest = last_place(want)
        if flushes and eps < 1e-6:
            smallest /= eps  # the smallest normal number
        with np.errstate(all="ignore"):
            allowed = _BASE_ULPS * eps * np.abs(wide) + 4 * smallest
            differs = _beyond(wide, other, allowed)
            if differs.any():
                moves = self._deviation(name, wide)
                # The first term is NaN where a NaN is wanted.
                allowed = np.where(np.isinf(moves), np.inf, allowed + _SLACK * moves)
                differs = _beyond(wide, other, allowed)
                self.unstable += int(np.isinf(allowed).any())
        return differs, allowed

    # -- noise ------------------------------------------------------------------------------

    def _runs(self) -> list[dict[str, Any]]:
        if self._noisy is None:
            rng = np.random.default_rng(self.seed)
            signs = (1.0, -1.0, *[0.0] * (_RUNS - 2))
            self._noisy = [noisy_values(self.graph, self.inputs, rng, sign) for sign in signs]
            wide = wide_values(self.graph, self.inputs)
            self._noisy += [wide] if wide else []
        return self._noisy

    def _shapes_vary(self, name: str, shape: tuple[int, ...]) -> bool:
        return any(np.shape(np.asarray(run.get(name))) != shape for run in self._runs())

    def _jumps(self, name: str, want: Array) -> Array:
        """Where some run with noise gives another number."""
        result = np.zeros(want.shape, bool)
        for run in self._runs():
            data = run.get(name)
            if data is None or np.shape(data) != want.shape:
                return np.ones(want.shape, bool)
            result |= data != want
        return result

    def _deviation(self, name: str, wide: Array) -> Array:
        """How far the runs with noise are away at most; infinite where a number appears or goes."""
        result = np.zeros(wide.shape)
        for run in self._runs():
            data = run.get(name)
            if data is None or np.shape(data) != wide.shape:
                return np.full(wide.shape, np.inf)
            other = np.asarray(data).astype(np.float64)
            same = (other == wide) | (np.isnan(other) & np.isnan(wide))
            distance = np.where(same, 0.0, np.abs(other - wide))
            result = np.maximum(result, np.where(np.isnan(distance), np.inf, distance))
        return result


def _beyond(want: Array, got: Array, allowed: Array) -> Array:
    same = (want == got) | (np.isnan(want) & np.isnan(got)) | np.isinf(allowed)
    distance = np.abs(want - got)
    wrong: Array = ~same & ~(distance <= allowed)
    return wrong
