"""Tensors of every element type and storage, and lies about their size."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.tensors import TensorReader
from bessemer.frontends.onnx.types import dtype_of, number_of

READER = TensorReader("m.onnx", None)
NUMERIC = [d for d in DTYPES.values() if d.kind != "string"]


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
def test_round_trip(dtype, raw):
    values = np.array([0, 1, -1, 1, 0, 1, 0], np.float32)
    if dtype.kind in ("uint", "bool"):
        values = np.abs(values)
    if dtype.name == "f8e8m0":
        values = np.array([1, 2, 4, 8, 1, 2, 4], np.float32)
    array = values.astype(dtype.numpy)
    if raw:
        proto = numpy_helper.from_array(array, "w")
    else:
        proto = helper.make_tensor("w", number_of(dtype), array.shape, array)
    found = READER.read(proto, "w")
    assert found.dtype == dtype.numpy
    assert not found.flags.writeable
    assert found.astype(np.complex64).tolist() == array.astype(np.complex64).tolist()
    assert dtype_of(number_of(dtype), "") is dtype


def test_strings():
    proto = helper.make_tensor("w", TensorProto.STRING, [2], [b"a", "\u00e9".encode()])
    assert READER.read(proto, "w").tolist() == ["a", "\u00e9"]


def test_four_bits():
    proto = numpy_helper.from_array(np.array([-8, 7, 3], ml_dtypes.int4), "w")
    assert READER.read(proto, "w").astype(int).tolist() == [-8, 7, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": [3]}, "takes 12 bytes, but the file has 8"),
        ({"dims": [-2]}, "negative dimension"),
        ({"dims": [1 << 40, 1 << 40]}, "not a possible size"),
        ({"dims": [1] * 65}, "65 dimensions"),
        ({"data_type": 99}, "element type 99"),
        ({"data_type": 0}, "element type 0"),
        ({"data_type": TensorProto.STRING}, "string tensor cannot have raw data"),
        ({"data_type": TensorProto.DOUBLE}, "takes 16 bytes"),
    ],
)
def test_lies(fields, message):
    proto = TensorProto(dims=[2], data_type=TensorProto.FLOAT, raw_data=bytes(8))
    for name, value in fields.items():
        if name == "dims":
            proto.ClearField("dims")
            proto.dims.extend(value)
        else:
            setattr(proto, name, value)
    with pytest.raises(ModelFormatError, match=message):
        READER.read(proto, "initializer 'w'")


def test_wrong_field():
    proto = TensorProto(dims=[2], data_type=TensorProto.FLOAT, int64_data=[1, 2])
    with pytest.raises(ModelFormatError, match="its data is in int64_data"):
        READER.read(proto, "w")


def sparse(dims, values, indices):
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "w"),
        numpy_helper.from_array(np.array(indices, np.int64)), dims,
    )


def test_sparse():
    assert READER.read_sparse(sparse([2, 2], [5], [3]), "w").tolist() == [[0, 0], [0, 5]]
    assert READER.read_sparse(sparse([2, 2], [5], [[1, 0]]), "w").tolist() == [[0, 0], [5, 0]]
    for bad, message in (
        (sparse([2, 2], [5], [4]), "outside"),
        (sparse([2, 2], [5], [[0, 2]]), "outside"),
        (sparse([2, 2], [5], [[-1, 0]]), "outside"),
        (sparse([2, 2], [5, 6], [1]), "1 indices for 2"),
        (sparse([2, 2], [5], [[0, 0, 0]]), "3 columns"),
        (sparse([1 << 20, 1 << 20], [5], [1]), "store it dense"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            READER.read_sparse(bad, "w")
