"""com.microsoft: operators on quantised tensors, and those the standard took over."""

import numpy as np
import pytest
from contrib_node import (
    bytes_of,
    case,
    compare,
    f32,
    feeds,
    floats,
    node_model,
    signed,
    small,
    zero,
)
from onnx_models import run

from bessemer.core.errors import UnsupportedOperatorError
from bessemer.frontends import import_model


def _elementwise(values, at, compiled):
    """The operators with zero points `at` and a little beside, for u8 or i8 values."""
    def near(offset):
        return zero(at + offset, values(1).dtype)

    scales = (1, 2, 3, 4)
    return [
        case("QLinearAdd", values(3, 40), f32(0.02), near(0), values(40), f32(0.03), near(4),
             f32(0.045), near(2), steps=1, compiled=compiled),
        case("QLinearMul", values(3, 40), f32(0.02), near(0), values(3, 40), f32(0.03), near(4),
             f32(0.07), near(2), steps=1, compiled=compiled),
        case("QLinearSigmoid", values(3, 40), f32(0.05), near(0), f32(1 / 256), near(-at),
             constants=scales, steps=1, compiled=compiled),
        case("QLinearLeakyRelu", values(3, 40), f32(0.05), near(0), f32(0.04), near(1), alpha=0.1,
             constants=scales, steps=1, compiled=compiled),
        case("QLinearAveragePool", values(1, 3, 9, 9), f32(0.05), near(0), f32(0.043), near(1),
             kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), constants=scales, steps=1,
             compiled=compiled),
        case("QLinearGlobalAveragePool", values(2, 3, 9, 9), f32(0.05), near(0), f32(0.02), near(1),
             steps=1, compiled=compiled),
        case("QLinearSoftmax", values(2, 5, 7), f32(0.05), near(0), f32(1 / 256), near(-at),
             opset=13, constants=scales, steps=1, compiled=compiled),
    ]


_POOL = (f32(0.05), zero(3), f32(0.043), zero(4))
_SCALES = (1, 2, 3, 4)
SHAPED = [
    case("QLinearSigmoid", bytes_of(3, 40), f32(0.05), None, f32(1 / 256), None,
         constants=(1, 3), steps=1),
    case("QLinearAveragePool", bytes_of(1, 9, 9, 3), *_POOL, kernel_shape=(3, 3), channels_last=1,
         constants=_SCALES, steps=1),
    case("QLinearAveragePool", bytes_of(1, 3, 9, 9), *_POOL, kernel_shape=(2, 2), strides=(2, 2),
         pads=(1, 1, 0, 0), count_include_pad=1, ceil_mode=1, constants=_SCALES, steps=1),
    case("QLinearAveragePool", bytes_of(1, 3, 9, 9), *_POOL, kernel_shape=(3, 3),
         auto_pad="SAME_UPPER", constants=_SCALES, steps=1),
    case("QLinearGlobalAveragePool", signed(2, 9, 9, 3), f32(0.05), zero(3, np.int8), f32(0.02),
         zero(4, np.int8), channels_last=1, steps=1),
    *[
        case("QLinearSoftmax", bytes_of(2, 5, 7), f32(0.05), zero(3), f32(1 / 256), zero(0),
             opset=opset, axis=axis, constants=_SCALES, steps=1)
        for opset in (12, 13) for axis in (-1, 1, 2)
    ],
    case("QLinearWhere", small(0, 2, 3, 5).astype(bool), bytes_of(3, 5), f32(0.05), zero(3),
         bytes_of(5), f32(0.02), zero(4), f32(0.04), zero(7), steps=1, compiled=True),
    case("QLinearConcat", f32(0.05), zero(7), bytes_of(2, 3), f32(0.05), zero(7), bytes_of(2, 4),
         f32(0.02), zero(9), axis=1, constants=(0, 1, 3, 4, 6, 7), steps=1, compiled=True),
    case("NhwcMaxPool", bytes_of(1, 7, 7, 4), kernel_shape=(2, 2), strides=(2, 2), compiled=True),
    case("NhwcMaxPool", signed(1, 7, 7, 4), kernel_shape=(3, 3), pads=(1, 1, 1, 1),
         dilations=(2, 2)),
]
_ALL = tuple(range(1, 9))
CONVOLUTIONS = [
    part for last in (0, 1) for part in (
        case("QLinearConv", bytes_of(*((1, 7, 7, 4) if last else (1, 4, 7, 7))), f32(0.02),
             zero(110), signed(6, 4, 3, 3), f32([0.01] * 6), zero([0] * 6, np.int8), f32(0.1),
             zero(120), small(-900, 900, 6), channels_last=last, pads=(1, 1, 1, 1), constants=_ALL,
             steps=1, compiled=True),
        case("QLinearConv", bytes_of(*((1, 7, 7, 4) if last else (1, 4, 7, 7))), f32(0.02),
             zero(110), bytes_of(4, 2, 3, 3), f32(0.01), zero(100), f32(0.1), zero(120),
             channels_last=last, group=2, strides=(2, 2), constants=_ALL, steps=1),
    )
]


def _products(weights):
    def offset(value):
        return zero(value, weights(1).dtype)

    columns = f32([0.01, 0.02, 0.01, 0.03, 0.01])
    made = [
        case("MatMulIntegerToFloat", bytes_of(3, 16), weights(16, 5), f32(0.02), f32(0.01),
             zero(100), offset(3), floats(5), compiled=True),
        case("MatMulIntegerToFloat", bytes_of(2, 3, 16), weights(16, 5), f32(0.02), columns, None,
             offset([1, 2, 3, 4, 5])),
        case("MatMulIntegerToFloat", bytes_of(2, 3, 16), weights(16, 5), f32([0.02]), columns),
        case("DynamicQuantizeMatMul", floats(3, 16), weights(16, 5), f32(0.01), offset(3),
             floats(5), compiled=True),
        case("DynamicQuantizeMatMul", floats(2, 3, 16), weights(16, 5), columns, offset([3] * 5)),
        case("DynamicQuantizeMatMul", floats(2, 3, 16), weights(16, 5), columns),
    ]
    for left in (0, 1):
        for right in (0, 1):
            a = bytes_of(16, 3) if left else bytes_of(3, 16)
            b = weights(5, 16) if right else weights(16, 5)
            made += [
                case("QGemm", a, f32(0.02), zero(100), b, f32(0.01), offset(3),
                     small(-99, 99, 5), transA=left, transB=right, alpha=0.5,
                     compiled=left == right),
                case("QGemm", a, f32(0.02), zero(100), b, columns, offset([3] * 5), None, f32(0.1),
                     zero(100), transA=left, transB=right, steps=1),
            ]
    return made


BATCHED = [
    case("MatMulIntegerToFloat", signed(3, 16), signed(16, 5), f32(0.02), f32(0.01),
         zero(100, np.int8), zero(3, np.int8), floats(5)),
    case("MatMulIntegerToFloat", bytes_of(2, 3, 16), bytes_of(2, 16, 5), f32(0.02), f32(0.01)),
]
_IDS, _SEGMENTS = small(0, 9, 2, 5), small(0, 2, 2, 5)
_MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)


def _embedding(segments):
    def maybe(x):
        return x if segments else None

    return case(
        "QEmbedLayerNormalization", _IDS, maybe(_SEGMENTS), bytes_of(9, 8), bytes_of(6, 8),
        maybe(bytes_of(2, 8)), bytes_of(8), bytes_of(8), maybe(_MASK), f32(0.1), f32(0.2),
        maybe(f32(0.3)), f32(0.01), f32(0.02), zero(3), zero(4), maybe(zero(5)), zero(6), zero(7),
        outputs=("y0", "y1"), constants=tuple(range(8, 18)), compiled=segments,
    )


STEPS = [
    case("QuantizeLinear", floats(3, 4), f32(0.02), zero(3)),
    case("QuantizeLinear", floats(3, 4), f32(0.02)),
    case("QuantizeLinear", floats(3, 4), f32([0.02, 0.03, 0.04, 0.01]),
         zero([3, 4, 5, 6], np.uint16), axis=1),
    case("DequantizeLinear", bytes_of(3, 4), f32(0.02), zero(3)),
    case("DequantizeLinear", small(-9, 9, 3, 4, dtype=np.int16), f32([0.02, 0.03, 0.04]),
         zero([3, 4, 5], np.int16), axis=0),
    case("DequantizeLinear", small(-99, 99, 3, 4), f32(0.02)),
    _embedding(True), _embedding(False),
]
ADOPTED = [
    case("Trilu", floats(2, 4, 5)),
    case("Trilu", floats(2, 4, 5), np.array(-1), upper=0, constants=(1,)),
    case("GatherND", floats(3, 4, 5), np.array([[0, 1], [2, 3]], np.int32), compiled=True),
    case("GatherND", floats(3, 4, 5), np.array([[[0], [2]]], np.int64)),
    case("Range", f32(1), f32(9), f32(2), constants=(0, 1, 2)),
    case("Range", np.array([3]), np.array([7]), constants=(0, 1)),
    case("Range", np.array([3]), np.array([7]), None),
    case("Pad", floats(2, 3), np.array([0, 1, 2, 0]), constants=(1,)),
    case("Pad", floats(2, 3), np.array([[0, 1, 2, 0]]), f32([3.0]), constants=(1, 2),
         compiled=True),
    case("Pad", floats(4, 5), np.array([0, 1, 2, 0]), mode="reflect", constants=(1,)),
    case("ExpandDims", floats(2, 3), np.array(1, np.int32), constants=(1,)),
    case("ExpandDims", floats(2, 3), np.array(-1, np.int32), constants=(1,)),
    case("Unique", f32([2, 1, 1, 3, 4, 3]), outputs=("y0", "y1", "y2"), compiled=True),
    case("GridSample", floats(2, 3, 5, 5), floats(2, 4, 6, 2), padding_mode="reflection"),
    case("GridSample", floats(2, 3, 5, 5), floats(2, 4, 6, 2), mode="nearest", align_corners=1),
    case("GridSample", floats(2, 3, 5, 5), floats(2, 4, 6, 2), mode="bicubic"),
    case("Inverse", floats(2, 3, 3) + 3 * np.eye(3, dtype=np.float32), atol=1e-4),
    case("CDist", floats(4, 3), floats(5, 3), compiled=True),
    case("CDist", floats(4, 3), floats(5, 3), metric="euclidean"),
    case("ConvTransposeWithDynamicPads", floats(1, 3, 5, 5), floats(3, 4, 3, 3),
         np.array([1, 0, 1, 0]), floats(4), strides=(2, 2), output_padding=(1, 1), constants=(2,),
         compiled=True),
]


@pytest.mark.rivals
@pytest.mark.parametrize("given", [
    *_elementwise(bytes_of, 120, True), *_elementwise(signed, -3, False), *SHAPED, *CONVOLUTIONS,
    *_products(signed), *_products(bytes_of), *BATCHED, *STEPS, *ADOPTED,
])
def test_agrees_with_onnxruntime(given):
    given.check()


def test_zero_points_may_be_left_out():
    """ONNX Runtime's type inference refuses what its kernels would accept."""
    a, b = bytes_of(3, 40), bytes_of(3, 40)
    none = [a, f32(0.02), None, b, f32(0.03), None, f32(0.045), None]
    zeros = [a, f32(0.02), zero(0), b, f32(0.03), zero(0), f32(0.045), zero(0)]
    for op_type in ("QLinearAdd", "QLinearMul"):
        found, expected = (
            run(node_model(op_type, inputs), *feeds(inputs).values())[0]
            for inputs in (none, zeros)
        )
        compare(found, expected)


def test_mean_of_quantised_tensor():
    x = bytes_of(2, 3, 4)
    inputs = [x, f32(0.1), zero(10), f32(0.05), zero(20)]
    model = node_model("QLinearReduceMean", inputs, axes=[1], keepdims=0)
    real = ((x.astype(np.float32) - 10) * 0.1).mean(axis=1)
    expected = np.clip(np.rint(real / 0.05) + 20, 0, 255).astype(np.uint8)
    compare(run(model, *inputs)[0], expected, steps=1)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "words"),
    [
        ("CDist", (floats(4, 3), floats(5, 3)), {"metric": "cosine"}, "metric 'cosine'"),
        ("MatMulIntegerToFloat", (bytes_of(3, 4), bytes_of(4, 5), f32([0.1] * 3), f32(0.1)), {},
         "a scale f32.3. of the left factor"),
        ("ConvTransposeWithDynamicPads", (floats(1, 1, 4, 4), floats(1, 1, 2, 2), np.zeros(4, int)),
         {}, "pads that are computed at run time"),
    ],
)
def test_options_that_are_not_supported_are_named(op_type, inputs, attributes, words):
    with pytest.raises(UnsupportedOperatorError, match=words):
        import_model(node_model(op_type, inputs, **attributes))
