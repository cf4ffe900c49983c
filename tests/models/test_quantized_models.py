"""Networks quantised by ONNX Runtime's tools: weights only, as operators, and as QDQ pairs."""

import numpy as np
import onnx
import pytest

import bessemer
from bessemer.zoo import ZooOptions, make_model, sample_inputs

pytestmark = [pytest.mark.rivals, pytest.mark.filterwarnings("ignore")]

MODELS = {
    "mlp": ZooOptions(width=0.25),
    "resnet18": ZooOptions(width=0.125, size=32),
    "squeezenet1_1": ZooOptions(width=0.125, size=64),
    "bert_base": ZooOptions(width=0.125, layers=1, size=8),
}


def _operators(path):
    return {node.op_type for node in onnx.load(path).graph.node}


def _compare(path, inputs, atol):
    """Bessemer against ONNX Runtime, whose optimiser is off: it computes QDQ pairs in i8."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    engine = bessemer.build(path)
    found = engine.run(inputs)
    for value, expected in zip(session.get_outputs(), session.run(None, inputs)):
        assert np.ptp(expected) > 0
        scale = np.abs(expected).max()
        distance = np.abs(found[value.name] - expected) / scale
        assert distance.max() <= atol
        assert distance.mean() <= atol / 4


@pytest.fixture(params=[
    "mlp", "resnet18", "bert_base", pytest.param("squeezenet1_1", marks=pytest.mark.slow)
])
def network(request, tmp_path):
    """The path of a network and inputs for it."""
    model = make_model(request.param, MODELS[request.param])
    path = str(tmp_path / "float.onnx")
    onnx.save(model, path)
    return path, sample_inputs(model)


def test_dynamic(network, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    path, inputs = network
    target = str(tmp_path / "quantised.onnx")
    quantization.quantize_dynamic(path, target, per_channel=True)
    assert _operators(target) & {"MatMulInteger", "ConvInteger"}
    _compare(target, inputs, 1e-4)


@pytest.mark.parametrize(("form", "activations"), [
    ("QOperator", "QUInt8"), ("QOperator", "QInt8"), ("QDQ", "QInt8"),
])
def test_static(network, tmp_path, form, activations):
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Samples(quantization.CalibrationDataReader):
        def __init__(self, feeds):
            self.feeds = iter(feeds)

        def get_next(self):
            return next(self.feeds, None)

    path, inputs = network
    target = str(tmp_path / "quantised.onnx")
    quantization.quantize_static(
        path, target, Samples([inputs]), quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
    )
    products = {"QGemm", "QLinearConv", "QLinearMatMul"}
    assert _operators(target) & (products if form == "QOperator" else {"QuantizeLinear"})
    # One step of the result may be decided by a tie anywhere before it.
    _compare(target, inputs, 0.02)
