"""Well-known networks with seeded weights, written as ONNX files without any training framework.

Comes in: a model's name and `ZooOptions`. Goes out: an `onnx.ModelProto`, or a file.
One file per family in models/; start with builder.py, then models/resnet.py.
The packaged data/digits.onnx is a real trained model (examples/digits/train.py made it).
"""

from bessemer.zoo.catalogue import ZooOptions, digits_path, make_model, model_names, sample_inputs

__all__ = ["ZooOptions", "digits_path", "make_model", "model_names", "sample_inputs"]
