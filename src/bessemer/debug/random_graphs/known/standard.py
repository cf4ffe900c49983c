"""Operators of ai.onnx on numbers."""

import numpy as np

from bessemer.debug.random_graphs.deviations import Case, known


def _same(case: Case) -> bool:
    return str(case.attribute("auto_pad", "")).startswith("SAME")


@known("transposed-same", "ConvTranspose")
def _transposed_same(case: Case) -> bool:
    """Strides beyond the kernel: zeros after the last window are left out."""
    kernel, strides = case.attribute("kernel_shape", []), case.attribute("strides", [])
    dilations = case.attribute("dilations") or [1] * len(kernel)
    return _same(case) and (not kernel or any(
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
    return bool(case.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


@known("mean-variance-nan", "MeanVarianceNormalization")
def _mean_variance(case: Case) -> bool:
    """0 / 0 where all numbers are equal."""
    return bool(np.isnan(case.got).any() and not np.isnan(case.want).any())


@known("grid-cubic-border", "GridSample")
def _grid_cubic_border(case: Case) -> bool:
    """Cubic taps of a position that is clipped first."""
    return bool(str(case.attribute("mode")).endswith("cubic")
                and case.attribute("padding_mode") in ("border", "reflection"))


@known("lstm-clip", "LSTM", "GRU", "RNN")
def _lstm_clip(case: Case) -> bool:
    """The input of the last activation is not clipped."""
    return case.attribute("clip") is not None


@known("quantize-nan", "QuantizeLinear", "DynamicQuantizeLinear")
def _quantize_nan(case: Case) -> bool:
    """NaN has no quantised number."""
    x = case.operand(0)
    return x is not None and not bool(np.isfinite(x.astype(np.float64)).all())


@known("normalisation-rounding", "InstanceNormalization", "GroupNormalization",
       "LayerNormalization", "BatchNormalization", "RMSNormalization")
def _normalisation(case: Case) -> bool:
    """Forms such as x * a + b with rounded a and b; f32 inside for f64."""
    return case.close(2e-3)


@known("sigmoid-absolute", "Sigmoid", "Loop", "If", "Scan", "SequenceMap", "FusedGemm",
       "FusedConv", "LinearClassifier", "LinearRegressor", "SVMClassifier",
       "TreeEnsembleClassifier", "TreeEnsembleRegressor")
def _sigmoid(case: Case) -> bool:
    """Small results carry an error of the size of 1's last place."""
    bodies = "".join(str(a.g) for a in case.node.attribute if a.HasField("g"))
    fused = case.attribute("activation", case.attribute("post_transform", ""))
    inside = "Sigmoid" in (case.node.op_type, fused) or "Sigmoid" in bodies
    inside |= fused == "LOGISTIC" or case.attribute("prob_a") is not None
    eps = float(np.finfo(case.want.dtype).eps) if case.want.dtype.kind == "f" else 0.0
    distance = np.abs(case.want.astype(np.float64) - case.got.astype(np.float64))
    return inside and bool(distance.max() <= 16 * eps)


@known("resize-nonfinite", "Resize", "GridSample", "RoiAlign")
def _resize_nonfinite(case: Case) -> bool:
    """Taps of weight 0 are multiplied, so that an infinity gives NaN."""
    x = case.operand(0)
    return x is not None and not bool(np.isfinite(x.astype(np.float64)).all())


@known("reduce-empty", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
       "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax",
       "ArgMin")
def _reduce_empty(case: Case) -> bool:
    """The axes of an empty tensor are not reduced."""
    return 0 in case.inputs.get(case.node.input[0], np.ones(1)).shape


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


@known("nan-order", "ArgMax", "ArgMin", "TopK", "Max", "Min", "ReduceMax", "ReduceMin", "MaxPool",
       "GlobalMaxPool", "Clip", "Sign", "Hardmax", "Relu", "LeakyRelu", "PRelu", "Unique",
       "ThresholdedRelu", "HardSigmoid", "HardSwish", "Softmax", "LogSoftmax", "NonMaxSuppression",
       "Elu", "Selu", "Celu", "Shrink", "ScatterElements", "ScatterND", "MaxRoiPool")
def _nan_order(case: Case) -> bool:
    """NaN is neither larger nor smaller than a number; ONNX does not say which wins."""
    return any(item.dtype.kind == "f" and bool(np.isnan(item).any()) for item in case.operands)


@known("hardswish-double", "HardSwish")
def _hardswish_double(case: Case) -> bool:
    """1/6 is rounded to f32 in f64."""
    return case.want.dtype == np.float64 and case.close(1e-6)


@known("recurrent-nonfinite", "LSTM", "GRU", "RNN")
def _recurrent_nonfinite(case: Case) -> bool:
    """Sigmoid and tanh limit their inputs, so that NaN is lost."""
    return any(not bool(np.isfinite(item.astype(np.float64)).all()) for item in case.operands)


@known("affine-grid-one", "AffineGrid")
def _affine_grid(case: Case) -> bool:
    """One position along an axis lies at 1 instead of -1."""
    size = case.operand(1)
    return size is not None and case.attribute("align_corners", 0) == 1 and 1 in size[2:]


@known("resize-aligned-scales", "Resize")
def _resize_aligned(case: Case) -> bool:
    """Output extents are rounded before the positions are computed from them."""
    return bool(case.attribute("coordinate_transformation_mode") == "align_corners"
                or case.attribute("keep_aspect_ratio_policy", "stretch") != "stretch")


@known("product-of-nothing", "Gemm", "MatMul")
def _product_of_nothing(case: Case) -> bool:
    """A sum over no elements leaves the bias unscaled, or the result unwritten."""
    return any(item.size == 0 for item in case.operands)


@known("scale-zero", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear")
def _scale_zero(case: Case) -> bool:
    """X / 0 has no quantised number."""
    return any(item.dtype.kind == "f" and bool((item == 0).any()) for item in case.operands[1:])


@known("float-attributes-in-f64", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "ThresholdedRelu",
       "Attention", "LRN", "GlobalLpPool", "LpPool")
def _float_attributes(case: Case) -> bool:
    """f64 is computed with constants, or altogether, in f32."""
    return case.want.dtype == np.float64 and case.close(1e-5)


@known("exponentials-nonfinite", "ReduceLogSumExp", "LogSoftmax", "Softmax", "Elu", "Selu",
       "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "MaxPool", "LpPool", "LRN", "DFT")
def _exponentials_nonfinite(case: Case) -> bool:
    """Infinity minus infinity on the way."""
    return any(item.dtype.kind == "f" and not bool(np.isfinite(item.astype(np.float64)).all())
               for item in case.operands)


@known("integers-by-double", "Mod", "ReduceProd", "ReduceSum", "Pow", "Einsum")
def _integers_by_double(case: Case) -> bool:
    """Integers pass through f64: large ones lose digits, overflow saturates."""
    return case.want.dtype.kind in "iu" and (
        case.node.op_type.startswith("Reduce") or any(
            item.size and float(np.abs(item.astype(np.float64)).max()) > 2.0**53
            for item in case.operands))
