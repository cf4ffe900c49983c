"""Operators of ai.onnx on numbers."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.deviations import Case, known


def _has_special(items: Sequence[Array]) -> bool:
    return any(item.dtype.kind in "fV" and not bool(np.isfinite(item.astype(np.float64)).all())
               for item in items)


def _same(case: Case) -> bool:
    return str(case.attribute("auto_pad", "")).startswith("SAME")


@known("transposed-same", "ConvTranspose")
def _transposed_same(case: Case) -> bool:
    """Strides beyond the kernel: zeros after the last window are left out."""
    kernel, strides = case.attribute("kernel_shape", []), case.attribute("strides", [])
    dilations = case.attribute("dilations") or [1] * len(kernel)
    return _same(case) and case.differs is None and (not kernel or any(
        s > (k - 1) * d + 1 for k, s, d in zip(kernel, strides, dilations)))


@known("pool-same-dilated", "AveragePool", "MaxPool", "LpPool")
def _pool_same_dilated(case: Case) -> bool:
    """SAME pads computed without the dilation, or negative where a stride exceeds the kernel."""
    strides, kernel = case.attribute("strides", []), case.attribute("kernel_shape", [])
    return _same(case) and (max(case.attribute("dilations", [1])) > 1 or any(
        s > k for s, k in zip(strides, kernel)))


@known("resize-crop", "Resize")
def _resize_crop(case: Case) -> bool:
    """The region is left out of the output's extents and of the scale."""
    # The evaluator itself leaves the region out of extents that scales give.
    return bool(case.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
                and (case.operand(3) is None or case.evaluated()))


@known("mean-variance-nan", "MeanVarianceNormalization")
def _mean_variance(case: Case) -> bool:
    """0 / 0 where all numbers are equal."""
    return case.differs is not None and bool(
        np.isnan(case.got[case.differs]).all() and not np.isnan(case.want[case.differs]).any())


@known("lstm-clip", "LSTM", "GRU", "RNN")
def _lstm_clip(case: Case) -> bool:
    """The input of the last activation is not clipped."""
    return case.attribute("clip") is not None


@known("quantize-nan", "QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul")
def _quantize_nan(case: Case) -> bool:
    """NaN has no quantised number."""
    x = case.operand(0)
    if x is None or not _has_special([x]):
        return False
    # Elsewhere all numbers depend on the largest.
    return case.node.op_type != "QuantizeLinear" or (
        case.differs is not None and not bool(np.isfinite(x[case.differs]).all()))


@known("quantize-half", "QuantizeLinear")
def _quantize_half(case: Case) -> bool:
    """Quotients of f16 are not rounded to f16; the spec divides in the type of the scale."""
    x, scale = case.operand(0), case.operand(1)
    if x is None or scale is None or x.dtype != np.float16 or scale.ndim > 1:
        return False
    axis = int(case.attribute("axis", 1)) % max(x.ndim, 1)
    steps = scale if scale.size == 1 else scale.reshape(-1, *(1,) * (x.ndim - axis - 1))
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64) / steps.astype(np.float64)
        half, wide = np.rint(exact.astype(np.float16).astype(np.float64)), np.rint(exact)
    return case.close(1.0) and case.differs is not None and bool(
        (half != wide)[case.differs].all())


@known("normalisation-rounding", "InstanceNormalization", "GroupNormalization",
       "LayerNormalization", "BatchNormalization", "RMSNormalization")
def _normalisation(case: Case) -> bool:
    """Forms such as x * a + b with rounded a and b, E[x^2] - E[x]^2; f32 inside for f64."""
    x, scale = case.operand(0), case.operand(1)
    if x is None or scale is None or x.dtype.kind != "f" or case.differs is None:
        return False
    rows = _rows(case, x.astype(np.float64))
    with np.errstate(all="ignore"):
        # Where the sum of squares overflows, anything may come of it.
        spoilt = ~(np.square(rows).sum(axis=-1, keepdims=True) <= np.finfo(x.dtype).max)
        variance = _variance(case, rows) + float(case.attribute("epsilon", 1e-5))
        reach = np.abs(rows).max(axis=-1, keepdims=True, initial=0) / np.sqrt(variance)
        rounding = 8 * np.finfo(np.float16 if x.dtype == np.float16 else np.float32).eps
        largest = np.abs(scale.astype(np.float64)).max(initial=0)
        room = rounding * largest * np.maximum(1, reach) ** 2
        want, got = case.want.astype(np.float64), case.got.astype(np.float64)
        room, spoilt = (_spread(item, rows, x, want) for item in (room, spoilt))
        near = np.abs(want - got) <= room + rounding * np.abs(want)
    return bool((near | spoilt)[case.differs].all())


def _rows(case: Case, x: Array) -> Array:
    """The numbers in rows that are normalised together; by given variances each for itself."""
    kind = case.node.op_type
    if kind == "BatchNormalization":
        return x.reshape(-1, 1)
    if kind == "GroupNormalization":
        return x.reshape(x.shape[0], case.attribute("num_groups", 1), -1)
    if kind == "InstanceNormalization":
        return x.reshape(*x.shape[:2], -1)
    return x.reshape(*x.shape[: case.attribute("axis", -1)], -1)


def _variance(case: Case, rows: Array) -> Array:
    given = case.operand(4) if case.node.op_type == "BatchNormalization" else None
    if given is not None:
        return np.asarray(given.astype(np.float64).min(initial=np.inf))
    return np.asarray(rows.var(axis=-1, keepdims=True))


def _spread(item: Array, rows: Array, x: Array, want: Array) -> Array:
    """What is known of each row, for all elements; the most of it for means and deviations."""
    if want.shape == x.shape:
        return np.broadcast_to(item, rows.shape).reshape(x.shape)
    return np.broadcast_to(item.max(initial=0), want.shape)


@known("sigmoid-absolute", "Sigmoid", "Loop", "If", "Scan", "SequenceMap", "FusedGemm",
       "GatedRMSNorm", "ScaledSiLU", "FusedConv", "LinearClassifier", "LinearRegressor",
       "SVMClassifier", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
def _sigmoid(case: Case) -> bool:
    """Small results carry an error of the size of 1's last place."""
    bodies = "".join(str(a.g) for a in case.node.attribute if a.HasField("g"))
    fused = case.attribute("activation", case.attribute("post_transform", ""))
    inside = case.node.op_type in ("Sigmoid", "ScaledSiLU") or "Sigmoid" in bodies + fused
    inside |= fused in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "sigmoid", "silu")
    inside |= case.attribute("prob_a") is not None
    if case.want.dtype.kind != "f":
        return False
    eps = float(np.finfo(case.want.dtype).eps)
    distance = np.abs(case.want.astype(np.float64) - case.got.astype(np.float64))
    return inside and case.differs is not None and bool(
        (distance[case.differs] <= 16 * eps).all())


@known("resize-nonfinite", "Resize", "GridSample", "RoiAlign", "DeformConv")
def _resize_nonfinite(case: Case) -> bool:
    """Taps of weight 0 are multiplied, so that an infinity gives NaN."""
    return _has_special(case.operands[:3]) and case.differs_by(np.isfinite)


@known("resize-nearest-ties", "Resize")
def _resize_ties(case: Case) -> bool:
    """Positions between two elements, or on one: where rounding of positions decides."""
    return case.attribute("mode", "nearest") == "nearest" and case.evaluated()


@known("resize-integers", "Resize")
def _resize_integers(case: Case) -> bool:
    """Interpolated integers are cut off, or rounded and not saturated."""
    return case.want.dtype.kind in "iu" and case.evaluated(room=1.0)


@known("masked-nan", "Attention")
def _masked_nan(case: Case) -> bool:
    """A key that is left out makes a row NaN: -inf is added to its score."""
    return _has_special(case.operands[:3]) and case.differs is not None and bool(
        np.isnan(case.got[case.differs].astype(np.float64)).all())


@known("narrow-integers-rounded", "Cast")
def _narrow_integers(case: Case) -> bool:
    """Floats are rounded, not cut off, on their way to integers of four or two bits."""
    kinds = {item.i for node in case.model.graph.node if node.op_type == "Cast"
             for item in node.attribute if item.name == "to"}
    narrow = kinds & {TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2}
    return bool(narrow) and case.close(1.0) and case.evaluated(room=0.0)


@known("cosine-in-f64", "Sin", "Cos", "Tan")
def _cosine(case: Case) -> bool:
    """Near a zero, an error of the last place of 1."""
    return case.want.dtype == np.float64 and bool(
        (np.abs(case.want - case.got)[case.differs] <= 4 * np.finfo(np.float64).eps).all())


@known("elu-absolute", "Elu", "Selu", "Celu")
def _elu(case: Case) -> bool:
    """exp(x) - 1 of a small x: an error of the last place of 1."""
    eps = float(np.finfo(case.want.dtype).eps) if case.want.dtype.kind == "f" else 0.0
    distance = np.abs(case.want.astype(np.float64) - case.got.astype(np.float64))
    return bool((distance[case.differs] <= 4 * eps).all())


@known("reduce-empty", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
       "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax",
       "ArgMin")
def _reduce_empty(case: Case) -> bool:
    """The axes of an empty tensor are not reduced."""
    x = case.operand(0)
    return x is not None and 0 in x.shape and case.differs is None


@known("shrink-double", "Shrink")
def _shrink_double(case: Case) -> bool:
    """f64 is computed in f32."""
    return case.want.dtype == np.float64 and case.close(1e-6)


@known("reduce-wide-integers", "ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1",
       "ReduceSumSquare")
def _reduce_wide(case: Case) -> bool:
    """Integers of more than 53 bits pass through f64."""
    return case.want.dtype.kind in "iu" and case.want.dtype.itemsize >= 4 and any(
        item.size and np.abs(item.astype(np.float64)).max() > 2.0**24 for item in case.operands)


_CHOOSE = ("ArgMax", "ArgMin", "TopK", "Hardmax", "Unique", "NonMaxSuppression", "SVMClassifier")
"""They tell which number is the largest, so that no NaN need come out."""


@known("nan-order", "ArgMax", "ArgMin", "TopK", "Max", "Min", "ReduceMax", "ReduceMin", "MaxPool",
       "GlobalMaxPool", "Clip", "Sign", "Hardmax", "Relu", "LeakyRelu", "PRelu", "Unique",
       "ThresholdedRelu", "HardSigmoid", "HardSwish", "Softmax", "LogSoftmax", "NonMaxSuppression",
       "Elu", "Selu", "Celu", "Shrink", "ScatterElements", "ScatterND", "MaxRoiPool",
       "SVMClassifier", "Normalizer")
def _nan_order(case: Case) -> bool:
    """NaN is neither larger nor smaller than a number; ONNX does not say which wins."""
    # The products of infinities among the scores of a classifier are NaN.
    spoils = np.isfinite if case.node.op_type == "SVMClassifier" else lambda item: ~np.isnan(item)
    if not any(item.dtype.kind == "f" and not bool(spoils(item).all()) for item in case.operands):
        return False
    return case.node.op_type in _CHOOSE or case.differs_by(lambda item: ~np.isnan(item))


@known("hardswish-double", "HardSwish")
def _hardswish_double(case: Case) -> bool:
    """1/6 is rounded to f32 in f64."""
    return case.want.dtype == np.float64 and case.close(1e-6)


@known("recurrent-nonfinite", "LSTM", "GRU", "RNN")
def _recurrent_nonfinite(case: Case) -> bool:
    """Sigmoid and tanh limit their inputs, so that NaN is lost."""
    return _has_special(case.operands) and case.differs_by(lambda item: ~np.isnan(item))


@known("affine-grid-one", "AffineGrid")
def _affine_grid(case: Case) -> bool:
    """One position along an axis lies at 1 instead of -1."""
    size = case.operand(1)
    return (size is not None and case.attribute("align_corners", 0) == 1 and 1 in size[2:]
            and case.evaluated())


@known("resize-aligned-scales", "Resize")
def _resize_aligned(case: Case) -> bool:
    """Output extents are rounded before the positions are computed from them."""
    other = (case.attribute("coordinate_transformation_mode") == "align_corners"
             or case.attribute("keep_aspect_ratio_policy", "stretch") != "stretch")
    return other and case.evaluated()


@known("product-of-nothing", "Gemm", "MatMul")
def _product_of_nothing(case: Case) -> bool:
    """A sum over no elements leaves the bias unscaled, or the result unwritten."""
    return any(item.size == 0 for item in case.operands)


@known("scale-zero", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear")
def _scale_zero(case: Case) -> bool:
    """X / 0 has no quantised number."""
    return any(item.dtype.kind == "f" and bool((item == 0).any()) for item in case.operands[1:])


@known("float-attributes-in-f64", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "ThresholdedRelu",
       "Attention", "LRN", "GlobalLpPool", "LpPool", "DFT")
def _float_attributes(case: Case) -> bool:
    """f64 is computed with constants, or altogether, in f32."""
    return case.want.dtype == np.float64 and case.close(1e-5)


@known("exponentials-nonfinite", "ReduceLogSumExp", "LogSoftmax", "Softmax", "Elu", "Selu",
       "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "MaxPool", "LpPool", "LRN", "DFT")
def _exponentials_nonfinite(case: Case) -> bool:
    """Infinity minus infinity on the way."""
    return _has_special(case.operands) and case.differs_by(np.isfinite)


@known("integers-by-double", "Mod", "ReduceProd", "ReduceSum", "Pow", "Einsum")
def _integers_by_double(case: Case) -> bool:
    """Integers pass through f64: large ones lose digits, overflow saturates."""
    if case.want.dtype.kind not in "iu":
        return False
    most = [float(np.abs(item.astype(np.float64)).max(initial=0)) for item in case.operands]
    if case.node.op_type == "Einsum":
        return max(*most, float(np.prod(most))) > min(2.0**53, np.iinfo(case.want.dtype).max)
    return case.node.op_type.startswith("Reduce") or max(most, default=0.0) > 2.0**53
