"""Runs the reference again with noise at every rounding, and in wider arithmetic.

How far the results move says how well conditioned a graph is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import BessemerError
from bessemer.debug.random_graphs.data import Array
from bessemer.ir.graph import Graph, Node
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_node
from bessemer.ir.operator import FusionClass, outputs_of
from bessemer.ops.control import Loop, Scan

NOISE_ULPS = 16.0
_FEWEST_BITS = 16
"""Narrower floats only store what wider ones are rounded to, and do not move on their own."""
_MOST_TIMES = 1000

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


def noisy_values(graph: Graph, inputs: Mapping[str, Array], rng: np.random.Generator,
                 sign: float) -> dict[str, Any]:
    """The graph's outputs with noise at every rounding; nothing where the reference then fails.

    All results move in one direction, or by random amounts if `sign` is 0.
    """
    def step(node: Node, operands: list[Any]) -> list[Any]:
        name, form = node.op.op_name, node.op.form_inputs
        if name == "Resize" and operands[0].dtype.kind in "iu":
            return [_resized(node, operands, rng, sign)]
        if name in _INNER or node.op.fusion is not FusionClass.INJECTIVE:
            # Inputs that say what the output's shape is are the same for everybody.
            operands = [item if position in form else _moved(item, rng, sign)
                        for position, item in enumerate(operands)]
        with np.errstate(all="ignore"):
            results = run_node(node, operands)
        if name in _EXACT:
            return results
        times = _iterations(node, operands)
        return [_moved(item, rng, sign, _ABSOLUTE.get(name), times) for item in results]

    return _evaluated(graph, inputs, step)


def _resized(node: Node, operands: list[Any], rng: np.random.Generator, sign: float) -> Array:
    """Interpolated integers: numbers half way between two may be rounded either way."""
    exact = run_node(node, operands)[0]
    with np.errstate(all="ignore"):
        (wide,) = outputs_of(node.op.reference(operands[0].astype(np.float64), *operands[1:]))
        info = np.iinfo(exact.dtype)
        moved = _moved(wide.astype(np.float32), rng, sign)
        near = np.clip(np.rint(moved), info.min, info.max).astype(exact.dtype)
    # Whole numbers of many digits are not what this is about.
    return np.asarray(np.where(np.abs(wide) < 2.0**22, near, exact))


def wide_values(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Any]:
    """The graph's outputs with every node computed in f64; nothing where the reference then fails.

    Whether a product inside a sum overflows depends on how the sum is made: a fused multiply-add
    rounds only once. An infinity that is gone here is nobody's fault.
    """
    def step(node: Node, operands: list[Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            results = run_node(node, operands)
            exact = node.op.op_name in _EXACT
            return results if exact else _widened_results(node, operands, results)

    return _evaluated(graph, inputs, step)


def _evaluated(graph: Graph, inputs: Mapping[str, Array],
               step: Callable[[Node, list[Any]], list[Any]]) -> dict[str, Any]:
    """The graph's outputs with `step` for every node; nothing where that fails."""
    data: dict[int, Any] = {id(v): np.asarray(inputs[v.name]) for v in graph.inputs}

    def fetch(value: Any) -> Any:
        if value is None:
            return None
        return value.constant if value.constant is not None else data[id(value)]

    try:
        for node in graph.nodes:
            results = step(node, [fetch(value) for value in node.inputs])
            for value, item in zip(node.outputs, results, strict=True):
                data[id(value)] = item
        return {value.name: fetch(value) for value in graph.outputs}
    except (BessemerError, *REFERENCE_ERRORS):
        return {}


def _iterations(node: Node, operands: Sequence[Any]) -> int:
    """How often a body runs at most: errors of what it carries add up."""
    op = node.op
    if isinstance(op, Loop) and operands[0] is not None:
        return max(1, min(int(operands[0].reshape(-1)[0]), _MOST_TIMES))
    if isinstance(op, Scan):
        last = len(operands) - op.captured
        read = operands[last - op.num_scan_inputs : last]
        return max(1, *(int(extent) for item in read for extent in item.shape))
    return 1


def _widened_results(node: Node, operands: list[Any], results: Sequence[Any]) -> list[Any]:
    """The node's results from operands in f64, rounded to what they are; unchanged if it fails."""
    def is_narrow(item: Any) -> bool:
        if not isinstance(item, np.ndarray) or item.dtype == object:
            return False
        kind = dtype_from_numpy(item.dtype)
        return kind.is_float and _FEWEST_BITS <= kind.bits < 64

    try:
        wide = outputs_of(node.op.reference(*(
            item.astype(np.float64) if is_narrow(item) else item for item in operands)))
    except (BessemerError, *REFERENCE_ERRORS):
        return list(results)
    return [made.astype(item.dtype) if is_narrow(item) and np.shape(made) == item.shape else item
            for made, item in zip(wide, results, strict=False)]


def _moved(item: Any, rng: np.random.Generator, sign: float, least: float | None = None,
           times: int = 1) -> Any:
    """An array moved by up to NOISE_ULPS: in one direction, or by random amounts if `sign` is 0.

    With `least`, all elements move by units of the largest, or of `least` if that is larger.
    """
    if not isinstance(item, np.ndarray) or item.dtype == object:
        return item
    kind = dtype_from_numpy(item.dtype)
    if not kind.is_float or kind.bits < _FEWEST_BITS:
        return item
    step = rng.uniform(-1, 1, item.shape) if sign == 0 else sign
    with np.errstate(all="ignore"):
        wide = item.astype(np.float64)
        unit = wide
        if least is not None:
            unit = np.abs(wide).max(initial=least, where=np.isfinite(wide))
        reach = NOISE_ULPS * last_place(item)[0] * times
        moved: Array = (wide + unit * (reach * step)).astype(item.dtype)
        return moved


def last_place(array: Array) -> tuple[float, float]:
    """The unit in the last place of 1, and the smallest number."""
    import ml_dtypes

    info = ml_dtypes.finfo(array.dtype)
    return float(info.eps), float(info.smallest_subnormal)
