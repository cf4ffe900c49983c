"""com.microsoft: products, activations and normalisations with something fused in."""

import numpy as np
import pytest
from contrib_node import case, compare, feeds, floats, node_model, small
from onnx_models import model, run

from bessemer.core.errors import ModelFormatError, UnsupportedOperatorError
from bessemer.frontends import import_model

PRODUCTS = [
    case("FusedMatMul", floats(2, 3, 4), floats(2, 4, 5)),
    case("FusedMatMul", floats(2, 4, 3), floats(2, 4, 5), transA=1, alpha=0.5, compiled=True),
    case("FusedMatMul", floats(2, 3, 4), floats(2, 5, 4), transB=1),
    case("FusedMatMul", floats(2, 4, 3), floats(5, 4), transA=1, transB=1, alpha=2.0),
    case("FusedMatMul", floats(3, 2, 4), floats(2, 4, 5), transBatchA=1, compiled=True),
    case("FusedMatMul", floats(4, 2, 3), floats(2, 4, 5), transBatchA=1, transA=1),
    case("FusedMatMul", floats(3, 2, 6, 4), floats(4, 2, 6, 5), transBatchA=1, transBatchB=1),
    case("FusedMatMul", floats(3, 2, 6, 4), floats(5, 2, 6, 4), transBatchA=1, transBatchB=1,
         transB=1),
    case("TransposeMatMul", floats(4, 3), floats(4, 5), transA=1),
    case("FusedGemm", floats(3, 4), floats(4, 5), floats(5), activation="Relu", alpha=0.5, beta=2.0,
         compiled=True),
    case("FusedGemm", floats(3, 4), floats(4, 5), floats(5), activation="LeakyRelu",
         activation_alpha=0.1),
    case("FusedGemm", floats(4, 3), floats(5, 4), activation="Sigmoid", transA=1, transB=1),
    case("MatMulInteger16", small(-999, 999, 3, 4, dtype=np.int16),
         small(-999, 999, 4, 5, dtype=np.int16), compiled=True),
]
ACTIVATIONS = [
    case("Gelu", floats(3, 50)),
    case("FastGelu", floats(3, 50)),
    case("FastGelu", floats(3, 50), floats(50), compiled=True),
    case("QuickGelu", floats(3, 50), compiled=True),
    case("QuickGelu", floats(3, 50), alpha=0.5),
    case("BiasGelu", floats(3, 50), floats(50), compiled=True),
    case("FusedConv", floats(1, 3, 8, 8), floats(4, 3, 3, 3), floats(4), floats(1, 4, 8, 8),
         activation="Relu", pads=(1, 1, 1, 1), compiled=True),
    case("FusedConv", floats(1, 3, 8, 8), floats(4, 3, 3, 3), activation="LeakyRelu",
         activation_params=(0.2,), strides=(2, 2)),
    case("FusedConv", floats(1, 3, 8, 8), floats(4, 3, 3, 3), floats(4), activation="Clip",
         activation_params=(-0.5, 0.5)),
    case("FusedConv", floats(1, 4, 8, 8), floats(4, 2, 3, 3), floats(4), activation="HardSigmoid",
         activation_params=(0.3, 0.4), group=2),
    case("FusedConv", floats(1, 3, 8, 8), floats(4, 3, 3, 3), activation="Tanh", dilations=(2, 2)),
    case("FusedConv", floats(1, 3, 8, 8), floats(4, 3, 3, 3), activation="Sigmoid",
         auto_pad="SAME_UPPER"),
]
_X, _H = (2, 3, 8), (8,)
NORMALISATIONS = [
    case("SkipLayerNormalization", floats(*_X), floats(*_X), floats(*_H)),
    case("SkipLayerNormalization", floats(*_X), floats(*_X), floats(*_H), floats(*_H), floats(*_H),
         outputs=("y0", "", "", "y3"), epsilon=1e-5, compiled=True),
    case("SkipLayerNormalization", floats(*_X), floats(3, 8), floats(*_H), floats(*_H),
         outputs=("y0", "", "", "y3")),
    case("SkipLayerNormalization", floats(*_X), floats(1, 3, 8), floats(*_H), None, floats(*_H),
         outputs=("y0", "y1", "y2", "y3")),
    case("SkipSimplifiedLayerNormalization", floats(*_X), floats(*_X), floats(*_H), floats(*_H),
         outputs=("y0", "", "", "y3"), compiled=True),
    case("SkipSimplifiedLayerNormalization", floats(6, 8), floats(6, 8), floats(*_H), epsilon=0.1),
    case("SkipSimplifiedLayerNormalization", floats(*_X), floats(*_X), floats(*_H),
         outputs=("y0", "", "y2", "y3")),
    case("SimplifiedLayerNormalization", floats(*_X), floats(*_H), domain="",
         outputs=("y0", "y1"), compiled=True),
    case("SimplifiedLayerNormalization", floats(*_X), floats(3, 8), domain="", axis=1, epsilon=0.1),
]
_IDS, _SEGMENTS = small(0, 9, 2, 5), small(0, 2, 2, 5)
_MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
_PLACES = np.array([[0, 2, 1, 3, 5], [5, 4, 3, 2, 1]], np.int32)
EMBEDDINGS = [
    case("EmbedLayerNormalization", _IDS, _SEGMENTS, floats(9, 8), floats(6, 8), floats(2, 8),
         floats(8), floats(8), _MASK, outputs=("y0", "y1", "y2"), compiled=True),
    case("EmbedLayerNormalization", _IDS, None, floats(9, 8), floats(6, 8), None, floats(8),
         floats(8), None, _PLACES, outputs=("y0", "y1", "y2")),
    case("EmbedLayerNormalization", _IDS, None, floats(9, 8), floats(6, 8), None, floats(8),
         floats(8), _MASK, epsilon=0.1, outputs=("y0", "y1")),
    case("EmbedLayerNormalization", _IDS, None, floats(9, 8), floats(6, 8), None, floats(8),
         floats(8), outputs=("y0", "", "y2")),
]


@pytest.mark.rivals
@pytest.mark.parametrize("given", [*PRODUCTS, *ACTIVATIONS, *NORMALISATIONS, *EMBEDDINGS])
def test_agrees_with_onnxruntime(given):
    given.check()


def _one(op_type, *inputs, **attributes):
    return run(node_model(op_type, inputs, **attributes), *feeds(inputs).values())[0]


def test_operators_without_a_kernel_there():
    """What ONNX Runtime has on other devices only, against numpy."""
    x, bias, skip = floats(2, 3, 8), floats(8), floats(2, 3, 8)
    compare(_one("BiasAdd", x, bias, skip), x + bias + skip)
    left, right = np.split(x + bias, 2, axis=-1)
    compare(_one("BiasSplitGelu", x, bias), left * _one("Gelu", right))
    weight = floats(8, 5)
    compare(_one("GemmFastGelu", x, weight, floats(5) * 0), _one("FastGelu", x @ weight))
    image, kernel = floats(1, 6, 6, 3), floats(4, 3, 3, 3)
    first = image.transpose(0, 3, 1, 2)
    expected = _one("FusedConv", first, kernel, activation="Relu", pads=(1, 1, 1, 1))
    found = _one("NhwcFusedConv", image, kernel, activation="Relu", pads=(1, 1, 1, 1))
    compare(found, expected.transpose(0, 2, 3, 1))
    compare(_one("FusedMatMulActivation", x, weight, activation="Relu", alpha=2.0),
            np.maximum(2 * (x @ weight), 0))


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "words"),
    [
        ("FusedMatMul", (floats(2, 3),), {}, "input 1 is missing"),
        ("Gelu", (floats(3), floats(3)), {}, "has 2 inputs; Gelu has at most 1"),
        ("Gelu", (floats(3),), {"alpha": 1.0}, "no attribute 'alpha'"),
        ("QuickGelu", (floats(3),), {"alpha": "x"}, "must be float, not str"),
        ("FusedConv", (floats(1, 1, 4, 4), floats(1, 1, 2, 2)), {"activation": "Cube"}, "Cube"),
        ("FusedConv", (floats(1, 1, 4, 4), floats(1, 1, 2, 2)),
         {"activation": "Clip", "activation_params": [0.5]}, "min and max"),
        ("FusedConv", (floats(1, 1, 4, 4), floats(1, 1, 2, 2)),
         {"activation": "Relu", "activation_params": [0.5]}, "has 0 parameters"),
        ("FusedGemm", (floats(2, 2), floats(2, 2)), {"activation_gamma": 1.0}, "activation_gamma"),
        ("QLinearConcat", (f := floats(1), f, f), {"axis": 0}, "are not tensors with their scales"),
        ("MultiHeadAttention", (floats(1, 2, 4),) * 3, {}, "needs the attribute 'num_heads'"),
    ],
)
def test_misfits_are_refused_by_name(op_type, inputs, attributes, words):
    with pytest.raises((ModelFormatError, UnsupportedOperatorError), match=words) as caught:
        import_model(node_model(op_type, inputs, **attributes))
    assert f"it ({op_type})" in str(caught.value)


def test_an_output_too_many_is_refused():
    with pytest.raises(ModelFormatError, match="has 2 outputs; Gelu has at most 1"):
        import_model(node_model("Gelu", (floats(3),), outputs=("y0", "y1")))


def test_unknown_rank_is_named():
    from onnx import helper

    node = helper.make_node("FusedMatMul", ["x", "x"], ["y"], transA=1, domain="com.microsoft")
    proto = model([node], [("x", None)], [("y", None)], domains=[("com.microsoft", 1)])
    with pytest.raises(ModelFormatError, match="its rank must be known"):
        import_model(proto)


def test_a_near_name_is_suggested():
    from onnx import helper

    from bessemer.frontends.onnx.check import check_model

    node = helper.make_node("FusedMatmul", ["x", "x"], ["y"], domain="com.microsoft")
    proto = model([node], [("x", [2, 2])], [("y", [2, 2])], domains=[("com.microsoft", 1)])
    (found,) = check_model(proto).unsupported
    assert found.reason.endswith("did the exporter mean FusedMatMul?")
