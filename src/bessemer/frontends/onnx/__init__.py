"""ONNX: every opset from 1 to the newest one is translated to the one operator set.

In: a path, bytes or a ModelProto. Out: a Graph. `read_onnx` is the entry, `check_model` reports
without importing. Start with importer.py (graphs and nodes), then versions/ (older opsets).
proto.py, tensors.py and structure.py distrust what they read: sizes, paths, names, order.
"""

from bessemer.frontends.onnx.check import CheckReport, check_model
from bessemer.frontends.onnx.reader import read_onnx

__all__ = ["CheckReport", "check_model", "read_onnx"]
