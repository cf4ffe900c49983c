"""What ONNX leaves open with infinities, NaN and overflow: our compiled code may differ too."""

import math

import numpy as np

from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.deviations import Case, known


def _is_special(item: Array) -> Array:
    """Where numbers are not finite, or so large that their squares are not."""
    if item.dtype.kind != "f" and item.dtype.kind != "V":
        return np.zeros(item.shape, bool)
    with np.errstate(all="ignore"):
        return np.asarray(~np.isfinite(np.square(item)))


@known("transform-nonfinite", "DFT", "STFT", undefined=True)
def _transform(case: Case) -> bool:
    """A sum of infinities times sines: fast transforms leave other terms out. Elsewhere equal."""
    x = case.operand(0)
    if x is None or case.differs is None:
        return False
    special = _is_special(x)
    if case.node.op_type == "STFT":
        return _frames_hit(case, special.reshape(*x.shape[:2], -1), case.differs)
    axis = case.operand(2)
    place = int(axis.reshape(-1)[0]) if axis is not None else case.attribute("axis", -2)
    line = special.any(axis=(place, -1), keepdims=True)
    return not (case.differs & ~line).any()


def _frames_hit(case: Case, special: Array, differs: Array) -> bool:
    """Whether all differences lie in frames [n, frames] of a signal [n, t, parts]."""
    step, window, length = (case.operand(k) for k in (1, 2, 3))
    if step is None or (window is not None and _is_special(window).any()):
        return False
    size = int(length) if length is not None else len(window) if window is not None else 0
    frames = np.lib.stride_tricks.sliding_window_view(
        special, size or special.shape[1], axis=1)
    lines = frames[:, :: int(step)].any(axis=(-2, -1))
    return not (differs.any(axis=(-2, -1)) & ~lines).any()


@known("einsum-nonfinite", "Einsum", undefined=True)
def _einsum(case: Case) -> bool:
    """Some sums come before products: infinity minus infinity may not occur, or may."""
    if not any(_is_special(item).any() for item in case.operands):
        return False
    if case.differs is None or case.want.dtype.kind != "f":
        return False
    a, b = case.want[case.differs], case.got[case.differs]
    return bool((~np.isfinite(a) | ~np.isfinite(b)).all())


@known("normalisation-of-one", "LayerNormalization", "InstanceNormalization",
       "GroupNormalization", undefined=True)
def _one_element(case: Case) -> bool:
    """One number minus itself: a product before it may be rounded once or twice."""
    x = case.operand(0)
    if x is None or x.dtype.kind != "f" or case.node.op_type != "LayerNormalization":
        return False
    axis = case.attribute("axis", -1)
    if math.prod(x.shape[axis:]) != 1:
        return False
    eps = np.finfo(x.dtype).eps
    unit = np.abs(x).max(initial=0) * eps / math.sqrt(case.attribute("epsilon", 1e-5))
    scale = max((float(np.abs(item).max(initial=0)) for item in case.operands[1:2]), default=1.0)
    return bool(np.abs(case.want - case.got).max() <= 4 * unit * scale)
