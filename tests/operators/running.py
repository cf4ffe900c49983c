"""Runs one operator on arrays by its reference and by its expression."""

from typing import Any

import numpy as np

from bessemer import te
from bessemer.ir.operator import Operator, infer_types, outputs_of
from bessemer.ir.types import TensorType

Array = np.ndarray[Any, Any]


def lowered(op: Operator, *inputs: Array | None, known: tuple[int, ...] = ()) -> list[Array]:
    """The results of the expression; the inputs at the positions `known` are constants."""
    types = [
        None if x is None else TensorType.of(x, keep_value=k in known) for k, x in enumerate(inputs)
    ]
    places = [
        None if type is None else te.placeholder(type.dtype, type.dims, f"x{k}")
        for k, type in enumerate(types)
    ]
    constants = tuple(x if k in known else None for k, x in enumerate(inputs))
    results = outputs_of(op.lower(*places, known=constants, types=infer_types(op, types)))
    feed = {place: x for place, x in zip(places, inputs) if place is not None and x is not None}
    return te.evaluate(results, feed)


def both(op: Operator, *inputs: Array | None, known: tuple[int, ...] = ()) -> Array:
    """The first result, after checking that reference and expression agree on it."""
    expected = outputs_of(op.reference(*inputs))[0]
    found = lowered(op, *inputs, known=known)[0]
    assert found.dtype == expected.dtype
    # Sums in another order differ by the size of their terms, not of the result.
    atol = 1e-7
    if expected.dtype.kind == "f":
        atol = 1e-6 * float(np.max(np.abs(expected), initial=1.0, where=np.isfinite(expected)))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=atol)
    return np.asarray(expected)
