"""com.microsoft: DynamicQuantizeLSTM."""

import numpy as np
import pytest
from contrib_node import case, f32, floats, small

T, B, D, H = 5, 2, 6, 8


def _lstm(directions, *, dtype=np.int8, columns=False, bias=True, states=False, peepholes=False,
          lengths=None, **attributes):
    count = 2 if directions == "bidirectional" else 1
    low, high = (0, 255) if dtype == np.uint8 else (-127, 127)
    w, r = (small(low, high, count, rows, 4 * H, dtype=dtype) for rows in (D, H))
    shape = (count, 4 * H) if columns else (count,)
    middle = 128 if dtype == np.uint8 else 0
    return case(
        "DynamicQuantizeLSTM", floats(T, B, D), w, r, floats(count, 8 * H) if bias else None,
        lengths, *(floats(count, B, H) if states else None for _ in range(2)),
        floats(count, 3 * H) if peepholes else None, f32(np.full(shape, 0.005)),
        np.full(shape, middle, dtype), f32(np.full(shape, 0.004)), np.full(shape, middle, dtype),
        outputs=("y0", "y1", "y2"), constants=(1, 2, 3, 8, 9, 10, 11), atol=2e-4,
        direction=directions, hidden_size=H, **attributes,
    )


@pytest.mark.rivals
@pytest.mark.parametrize("given", [
    _lstm("forward"),
    _lstm("forward", dtype=np.uint8, bias=False),
    _lstm("reverse", columns=True),
    _lstm("bidirectional", states=True),
    _lstm("forward", states=True, peepholes=True),
    _lstm("forward", lengths=np.array([5, 3], np.int32)),
    _lstm("bidirectional", lengths=np.array([2, 4], np.int32), states=True),
    _lstm("forward", input_forget=1),
    _lstm("forward", clip=0.5),
    _lstm("forward", activations=("Sigmoid", "Relu", "Tanh")),
])
def test_agrees_with_onnxruntime(given):
    given.check()
