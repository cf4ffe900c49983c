"""com.microsoft: MatMulNBits and GatherBlockQuantized, whose weights have a few bits each."""

import ml_dtypes
import numpy as np
import pytest
from contrib_node import bytes_of, case, compare, floats, node_model, rival, signed, small

import bessemer
from bessemer.core.errors import ShapeError, UnsupportedOperatorError
from bessemer.frontends import import_model

COLUMNS = 6


def _product(depth, size, bits, zeros, rows, bias=False, flat=False, compiled=False,
             columns=COLUMNS):
    blocks = -(-depth // size)
    scales = np.abs(floats(columns, blocks)) * np.float32(0.1)
    packed = bytes_of(columns, -(-blocks * bits // 8))
    offset = {"": None, "packed": packed, "float": floats(columns, blocks)}[zeros]
    if flat:
        scales, offset = scales.reshape(-1), offset.reshape(-1)
    return case(
        "MatMulNBits", floats(*rows, depth), bytes_of(columns, blocks, size * bits // 8), scales,
        offset, None, floats(columns) if bias else None, K=depth, N=columns, bits=bits,
        block_size=size, constants=(1, 2, 3, 5), atol=1e-4, compiled=compiled,
    )


PRODUCTS = [
    _product(depth, size, bits, zeros, rows)
    for depth, size in ((64, 16), (40, 16), (128, 32)) for bits in (2, 4, 8)
    for zeros, rows in (("", (2,)), ("packed", (3, 4)))
] + [
    _product(128, 32, 4, "packed", (1,), compiled=True),
    _product(40, 16, 4, "", (2,), bias=True, compiled=True),
    _product(128, 64, 8, "packed", (2,), compiled=True),
    _product(48, 16, 4, "packed", (300,), compiled=True),
    # Columns for whole vectors: the rows of a tile share the floats.
    _product(64, 16, 4, "packed", (1,), columns=40, compiled=True),
    _product(40, 16, 4, "", (2, 17), columns=70, bias=True, compiled=True),
    _product(64, 32, 2, "float", (5,), columns=33, compiled=True),
    _product(64, 32, 8, "packed", (64,), columns=128, compiled=True),
    _product(48, 16, 4, "packed", (300,), columns=40, compiled=True),
    _product(64, 16, 4, "float", (2,), compiled=True),
    _product(64, 16, 2, "packed", (2,), flat=True),
]
_INDICES, _OUTSIDE = np.array([[1, 4], [0, -2]]), np.array([[1, 9], [0, -12]], np.int32)


def _rows(data, indices, scales, zeros=None, compiled=False, **attributes):
    return case("GatherBlockQuantized", data, indices, np.abs(scales), zeros, block_size=16,
                constants=(0, 2, 3), compiled=compiled, **attributes)


def _fours(dtype, *shape):
    low, high = (0, 16) if dtype == ml_dtypes.uint4 else (-8, 8)
    return small(low, high, *shape).astype(dtype)


TABLES = [
    *[_rows(bytes_of(6, 40 * bits // 8), _INDICES, floats(6, 3), zeros, bits=bits)
      for bits in (2, 4, 8) for zeros in (None, bytes_of(6, -(-3 * bits // 8)))],
    _rows(bytes_of(6, 20), _OUTSIDE, floats(6, 3), bits=4, compiled=True),
    *[
        part for dtype in (ml_dtypes.uint4, ml_dtypes.int4) for part in (
            _rows(_fours(dtype, 6, 40), _INDICES, floats(6, 3)),
            _rows(_fours(dtype, 6, 40), _INDICES, floats(6, 3), _fours(dtype, 6, 3), compiled=True),
            _rows(_fours(dtype, 32, 6), _INDICES, floats(2, 6), _fours(dtype, 2, 6), gather_axis=1,
                  quantize_axis=0),
            _rows(_fours(dtype, 6, 3, 40), np.array(2), floats(6, 3, 3), quantize_axis=-1),
            _rows(_fours(dtype, 6, 32, 4), _INDICES, floats(6, 2, 4)),
        )
    ],
]


@pytest.mark.rivals
@pytest.mark.parametrize("given", [*PRODUCTS, *TABLES])
def test_agrees_with_onnxruntime(given):
    given.check()


_GOOD = {"K": 32, "N": 2, "block_size": 16}


@pytest.mark.parametrize(("inputs", "attributes", "error", "words"), [
    ((None, small(0, 2, 32)), {}, UnsupportedOperatorError, "group_idx"),
    ((), {"weight_prepacked": 1}, UnsupportedOperatorError, "weight_prepacked"),
    ((), {"bits": 3}, UnsupportedOperatorError, "bits 3"),
    ((), {"block_size": 24}, ShapeError, "a power of two from 16 on"),
    ((), {"N": 3}, ShapeError, r"weights are u8\[2,2,8\]; the shape \[3, 2, 8\]"),
])
def test_products_that_are_refused(inputs, attributes, error, words):
    given = (floats(3, 32), bytes_of(2, 2, 8), floats(4).reshape(2, 2), *inputs)
    with pytest.raises(error, match=words):
        import_model(node_model("MatMulNBits", given, **{**_GOOD, **attributes}))


def test_tables_that_are_refused():
    table = signed(4, 32).astype(ml_dtypes.float8_e4m3fn)
    inputs = (table, np.array([1]), floats(4, 2))
    with pytest.raises(UnsupportedOperatorError, match="a table of f8e4m3fn"):
        import_model(node_model("GatherBlockQuantized", inputs, block_size=16))
    inputs = (bytes_of(4, 16), np.array([1]), floats(4, 2))
    with pytest.raises(UnsupportedOperatorError, match="gather_axis that is the quantize_axis"):
        import_model(node_model("GatherBlockQuantized", inputs, block_size=16, quantize_axis=0))


@pytest.mark.rivals
def test_any_number_of_rows():
    model = _product(64, 32, 4, "packed", (3,), columns=48).values[0].model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    engine = bessemer.build(model)
    assert any("computed-matmul" in str(step) for step in engine.plan.steps)
    for rows in (1, 5, 40, 300):
        data = {"x0": floats(rows, 64)}
        compare(engine.run(data)["y0"], rival(model, data)[0], atol=1e-4)
