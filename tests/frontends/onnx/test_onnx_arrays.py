"""Arrays as older releases of onnx make them."""

import ml_dtypes
import numpy as np
import pytest

from bessemer.core.dtypes import DTYPES
from bessemer.frontends.onnx import arrays
from bessemer.ir.types import OptionalType, SequenceType, TensorType

OLD = {
    "bf16": np.dtype((np.uint16, {"bfloat16": (np.uint16, 0)})),
    "f8e5m2": np.dtype((np.uint8, {"e5m2": (np.uint8, 0)})),
    "i4": np.dtype((np.int8, {"int4": (np.int8, 0)})),
    "f8e4m3fn": np.dtype(np.float32),
}
"""How releases up to 1.18 (the first three) and 1.14 (the last) show these types."""


@pytest.fixture
def old_onnx(monkeypatch):
    monkeypatch.setattr(arrays, "shown_as", lambda dtype: OLD.get(dtype.name, dtype.numpy))


@pytest.mark.parametrize(("name", "shown", "ours"), [
    ("bf16", np.array([0x3F80, 0xC000], np.uint16), [1, -2]),
    ("f8e5m2", np.array([0x3C, 0xC0], np.uint8), [1, -2]),
    ("i4", np.array([7, -8], np.int8), [7, -8]),
    ("f8e4m3fn", np.array([1, -2], np.float32), [1, -2]),
])  # fmt: skip
def test_both_ways(old_onnx, name, shown, ours):
    known = TensorType(DTYPES[name], (2,))
    found = arrays.from_onnx(shown, known)
    assert found.dtype == DTYPES[name].numpy
    assert found.astype(np.float32).tolist() == ours
    back = arrays.to_onnx(found, known)
    assert back.dtype == OLD[name]
    assert back.tolist() == shown.tolist()
    listed = arrays.from_onnx([shown, shown], SequenceType(known))
    assert [item.dtype for item in listed] == [DTYPES[name].numpy] * 2
    assert arrays.to_onnx(listed, OptionalType(SequenceType(known)))[1].dtype == OLD[name]


def test_the_nan_of_old_releases(old_onnx):
    known = TensorType(DTYPES["f8e5m2"], (2,))
    data = np.array([np.nan, 1], ml_dtypes.float8_e5m2)
    assert arrays.to_onnx(data, known).tolist() == [0x7F, 0x3C]


def test_others_stay():
    known = TensorType(DTYPES["f32"], (1,))
    data = np.zeros(1, np.float32)
    assert arrays.from_onnx(data, known) is data
    assert arrays.to_onnx(data, known) is data
    assert arrays.from_onnx(None, OptionalType(known)) is None
    wrong = np.zeros(1, np.int16)
    assert arrays.from_onnx(wrong, known) is wrong
    assert arrays.from_onnx(7, known) == 7


def test_the_installed_onnx_agrees_with_ours():
    for dtype in DTYPES.values():
        assert arrays.shown_as(dtype).itemsize >= dtype.numpy.itemsize
