"""Real trained models: the recorded accuracy, and agreement with ONNX Runtime."""

import numpy as np
import pytest
from against_onnxruntime import assert_agree, expected_outputs, relative_error, session
from labelled_images import cifar10, data_folder, faces, luma, mnist

import bessemer
from bessemer.zoo import digits_path
from bessemer.zoo.digits import load_digits

pytestmark = pytest.mark.models

# Images on which the outputs are compared; the accuracy is taken on all.
_COMPARED = 50


def scores_of(engine, input_name, output_name, images):
    """The outputs for each image, one at a time."""
    with engine.create_context() as context:
        return np.concatenate(
            [context.run({input_name: image[None]})[output_name].copy() for image in images]
        )


def check_classifier(model, input_name, output_name, images, labels, recorded_percent):
    engine = bessemer.build(model)
    scores = scores_of(engine, input_name, output_name, images)
    percent = 100 * float((scores.argmax(1) == labels).mean())
    assert percent == pytest.approx(recorded_percent, abs=0.1)
    reference = session(str(model))
    expected = np.concatenate(
        [reference.run(None, {input_name: image[None]})[0] for image in images[:_COMPARED]]
    )
    assert relative_error(expected, scores[:_COMPARED]) <= 1e-4


def test_digits():
    pytest.importorskip("sklearn")
    data = load_digits()
    check_classifier(
        digits_path(), "input", "scores", data.test_images, data.test_labels, 98.33
    )


def test_mnist_cntk():
    model = data_folder() / "models" / "onnx" / "mnist_cntk" / "opt-mnist.onnx"
    images, labels = mnist()
    check_classifier(model, "Input3", "Plus214_Output_0", images, labels, 98.94)


def test_cifar10_resnet20():
    model = data_folder() / "models" / "onnx" / "cifar10_resnet20" / "resnet20.onnx"
    images, labels = cifar10()
    check_classifier(model, "input.1", "208", images, labels, 80.55)


@pytest.mark.parametrize("suffix", ["", "_simplified", "_without_postprocessing"])
def test_ultraface(suffix):
    folder = data_folder() / "models" / "onnx" / "ultraface_rfb320"
    model = folder / f"version-RFB-320{suffix}.onnx"
    engine = bessemer.build(model)
    reference = session(str(model))
    name = reference.get_inputs()[0].name
    for image in faces():
        inputs = {name: image[None]}
        assert_agree(expected_outputs(reference, inputs), engine.run(inputs))


def test_super_resolution():
    model = data_folder() / "models" / "onnx" / "super_resolution" / "super_resolution.onnx"
    engine = bessemer.build(model, shapes={"batch_size": 1})
    reference = session(str(model))
    for image in luma(4):
        inputs = {"input": image[None]}
        assert_agree(expected_outputs(reference, inputs), engine.run(inputs))
