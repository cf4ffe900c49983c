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
from bessemer.core.errors import BessemerError
from bessemer.debug.random_graphs.data import Array
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_node
from bessemer.ir.operator import FusionClass

NOISE_ULPS = 16.0
_RUNS = 6
_SLACK = 4.0
_BASE_ULPS = 32.0

# Results of these are exact, so they carry no noise of their own.
_EXACT = frozenset([
    "Relu", "Abs", "Neg", "Max", "Min", "Clip", "Floor", "Ceil", "Round", "Sign", "Where",
    "Identity", "Cast", "CastLike", "BitCast", "Gather", "GatherElements", "GatherND",
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Concat",
    "Split", "Slice", "Pad", "DepthToSpace", "SpaceToDepth", "Trilu", "EyeLike",
    "ReverseSequence", "CenterCropPad", "OneHot", "Compress", "Unique", "TopK", "MaxPool",
    "GlobalMaxPool", "ReduceMax", "ReduceMin", "Hardmax", "Dropout", "MaxUnpool", "MaxRoiPool",
    "ThresholdedRelu", "Shape", "Size", "ConstantOfShape", "SequenceConstruct", "SequenceAt",
    "ConcatFromSequence", "TensorScatter",
])
# Their insides round in places that depend on the implementation.
_INNER = frozenset([
    "Resize", "GridSample", "AffineGrid", "Attention", "RotaryEmbedding", "If", "Loop", "Scan",
    "Gelu", "Mish", "Swish", "SwiGLU", "Selu", "Elu", "Celu", "Softplus", "Mean", "Sum",
    "HardSwish", "HardSigmoid", "QuantizeLinear", "DequantizeLinear", "Range", "ScatterElements",
    "ScatterND", "BatchNormalization",
])


# Their insides add numbers of the size of the largest result, so small results carry its error.
# The number is the least size of what they add.
_ABSOLUTE = {
    **dict.fromkeys(["Gelu", "Mish", "Swish", "SwiGLU", "Selu", "Elu", "Celu", "Softplus", "DFT",
                     "STFT", "Range", "RotaryEmbedding", "MelWeightMatrix", "Resize", "GridSample",
                     "RoiAlign", "DeformConv", "If", "Loop", "Scan"], 0.0),
    **dict.fromkeys(["HannWindow", "HammingWindow", "BlackmanWindow", "LogSoftmax",
                     "SoftmaxCrossEntropyLoss", "ReduceLogSumExp", "LSTM", "GRU", "RNN"], 1.0),
}


@dataclass(frozen=True)
class Disagreement:
    """An output on which two sides differ by more than its conditioning allows."""

    name: str
    text: str
    want: Array
    got: Array


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
            text = self._difference(name, want, got, flushes)
            if text:
                result.append(Disagreement(name, text, want, got))
        return result

    def _difference(self, name: str, want: Array, got: Array, flushes: bool) -> str:
        if want.dtype != got.dtype:
            return f"dtype {got.dtype} instead of {want.dtype}"
        kind = dtype_from_numpy(want.dtype)
        if want.shape != got.shape:
            if self._shapes_vary(name, want.shape):
                self.unstable += 1
                return ""
            return f"shape {got.shape} instead of {want.shape}"
        if want.size == 0:
            return ""
        if not kind.is_float:
            differs = want != got
            if differs.any():
                differs &= ~self._jumps(name, want)
            error = np.zeros(want.shape)
        else:
            differs, error = self._float_difference(name, want, got, flushes)
        if not differs.any():
            return ""
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        return (f"{kind.name}{list(want.shape)}: {int(differs.sum())} of {want.size} differ, first "
                f"at {at}: {got[at]!r} instead of {want[at]!r} (allowed {error[at]:.3g})")

    def _float_difference(
        self, name: str, want: Array, got: Array, flushes: bool
    ) -> tuple[Array, Array]:
        wide, other = want.astype(np.float64), got.astype(np.float64)
        eps, smallest = _finfo(want)
        if flushes and eps < 1e-6:
            smallest /= eps  # the smallest normal number
        with np.errstate(all="ignore"):
            allowed = _BASE_ULPS * eps * np.abs(wide) + 4 * smallest
            differs = _beyond(wide, other, allowed)
            if differs.any():
                allowed = allowed + _SLACK * self._deviation(name, wide)
                differs = _beyond(wide, other, allowed)
                self.unstable += int(np.isinf(allowed).any())
        return differs, allowed

    # -- noise ------------------------------------------------------------------------------

    def _runs(self) -> list[dict[str, Any]]:
        if self._noisy is None:
            rng = np.random.default_rng(self.seed)
            signs = (1.0, -1.0, *[0.0] * (_RUNS - 2))
            self._noisy = [noisy_values(self.graph, self.inputs, rng, sign) for sign in signs]
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


def _finfo(array: Array) -> tuple[float, float]:
    """The unit in the last place of 1, and the smallest number."""
    import ml_dtypes

    info = ml_dtypes.finfo(array.dtype)
    return float(info.eps), float(info.smallest_subnormal)


def noisy_values(graph: Graph, inputs: Mapping[str, Array], rng: np.random.Generator,
                 sign: float) -> dict[str, Any]:
    """The graph's outputs with noise at every rounding; nothing where the reference then fails."""
    data: dict[int, Any] = {id(v): np.asarray(inputs[v.name]) for v in graph.inputs}

    def fetch(value: Any) -> Any:
        if value is None:
            return None
        return value.constant if value.constant is not None else data[id(value)]

    try:
        for node in graph.nodes:
            operands = [fetch(value) for value in node.inputs]
            name = node.op.op_name
            if name in _INNER or node.op.fusion is not FusionClass.INJECTIVE:
                operands = [_moved(item, rng, sign) for item in operands]
            with np.errstate(all="ignore"):
                results = run_node(node, operands)
            if name not in _EXACT:
                results = [_moved(item, rng, sign, _ABSOLUTE.get(name)) for item in results]
            for value, item in zip(node.outputs, results, strict=True):
                data[id(value)] = item
        return {value.name: fetch(value) for value in graph.outputs}
    except (BessemerError, *REFERENCE_ERRORS):
        return {}


def _moved(item: Any, rng: np.random.Generator, sign: float, least: float | None = None
           ) -> Any:
    """An array moved by up to NOISE_ULPS: in one direction, or by random amounts if `sign` is 0.

    With `least`, all elements move by units of the largest, or of `least` if that is larger.
    """
    if not isinstance(item, np.ndarray) or item.dtype == object:
        return item
    kind = dtype_from_numpy(item.dtype)
    if not kind.is_float:
        return item
    eps, _ = _finfo(item)
    step = rng.uniform(-1, 1, item.shape) if sign == 0 else sign
    with np.errstate(all="ignore"):
        wide = item.astype(np.float64)
        unit = wide
        if least is not None:
            unit = np.abs(wide).max(initial=least, where=np.isfinite(wide))
        moved: Array = (wide + unit * (NOISE_ULPS * eps * step)).astype(item.dtype)
        return moved
