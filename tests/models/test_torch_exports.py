"""Models exported from PyTorch with open axes and control flow: one engine, many shapes."""

import inspect
import io
import warnings

import numpy as np
import pytest

import bessemer

torch = pytest.importorskip("torch", reason="torch is not installed")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="torch's exporters need onnxscript")

from torch_exports import CASES  # noqa: E402  (it imports torch)


def exported(case, module, how):
    """The bytes of the ONNX file that an exporter writes."""
    example = case.feed(**case.sizes[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "dynamo":
            dynamic = {
                name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
                for name, axes in case.axes.items()
            }
            program = torch.onnx.export(
                module, example, dynamo=True, input_names=list(case.axes),
                dynamic_shapes=dynamic, verbose=False)
            return program.model_proto.SerializeToString()
        file = io.BytesIO()
        torch.onnx.export(
            torch.jit.script(module) if case.scripted else module, example, file, dynamo=False,
            input_names=list(case.axes), dynamic_axes=case.axes, opset_version=17)
        return file.getvalue()


@pytest.mark.parametrize(
    ("name", "how"), [(name, how) for name, case in CASES.items() for how in case.exporters])
def test_export(name, how):
    case = CASES[name]
    torch.manual_seed(0)
    module = case.module().eval()
    model = exported(case, module, how)
    engine = bessemer.build(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert list(inspect.signature(module.forward).parameters) == list(case.axes)
    for sizes in case.sizes:
        inputs = case.feed(**sizes)
        feed = {name: tensor.numpy() for name, tensor in zip(case.axes, inputs)}
        found = list(engine.run(feed).values())
        expected = [session.run(None, feed)]
        if case.runnable:
            with torch.no_grad():
                results = module(*inputs)
            results = results if isinstance(results, tuple) else (results,)
            expected.append([result.numpy() for result in results])
        for wanted in expected:
            for got, want in zip(found, wanted, strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_allclose(
                    got, want, rtol=case.tolerance, atol=case.tolerance, err_msg=str(sizes))
