"""Runs a model in Bessemer and in ONNX Runtime and tells how far the outputs are apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

LIMIT = 1e-4


def session(model: bytes | str) -> Any:
    """An ONNX Runtime session on one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def expected_outputs(reference: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime answers, by output name."""
    names = [output.name for output in reference.get_outputs()]
    return dict(zip(names, reference.run(None, dict(inputs))))


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """Norm of the difference over norm of the expected tensor."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    difference = np.linalg.norm((found.astype(np.float64) - expected).ravel())
    return float(difference / max(np.linalg.norm(expected.ravel().astype(np.float64)), 1e-30))


def assert_agree(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], limit: float = LIMIT
) -> None:
    """Fails unless both have the same outputs, each within the limit."""
    assert list(found) == list(expected)
    errors = {name: relative_error(expected[name], found[name]) for name in expected}
    assert max(errors.values()) <= limit, errors
