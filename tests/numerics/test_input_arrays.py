"""Arrays as callers have them: strided, reversed, transposed, repeated, read-only, byte-swapped."""

import numpy as np
import pytest
from both_ways import BothWays, values
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from bessemer.core.errors import InputError


@pytest.fixture(scope="module")
def engine():
    nodes = [helper.make_node("Add", ["x", "b"], ["sum"]),
             helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
             helper.make_node("MatMul", ["x", "turned"], ["square"])]
    return BothWays(nodes, {"x": np.zeros((6, 8), np.float32)},
                    {"b": np.arange(8, dtype=np.float32)})


def everywhere(shape):
    """Views of that shape with all kinds of strides, and what they hold."""
    rows, columns = shape
    base = np.random.default_rng(0).uniform(-2, 2, (4 * rows, 4 * columns)).astype(np.float32)
    yield "contiguous", base[:rows, :columns].copy()
    yield "a part", base[1 : rows + 1, 2 : columns + 2]
    yield "every other", base[: 2 * rows : 2, : 3 * columns : 3]
    yield "rows reversed", base[:rows, :columns][::-1]
    yield "both reversed", base[:rows, :columns][::-1, ::-1]
    yield "columns first", np.asfortranarray(base[:rows, :columns])
    yield "turned", base[:columns, :rows].T
    yield "one row repeated", np.broadcast_to(base[0, :columns], shape)
    yield "one number repeated", np.broadcast_to(np.float32(1.5), shape)
    locked = base[:rows, :columns].copy()
    locked.flags.writeable = False
    yield "read-only", locked
    raw = bytearray(4 * rows * columns + 1)
    askew = np.frombuffer(raw, np.float32, rows * columns, 1).reshape(shape)
    askew[...] = base[:rows, :columns]
    yield "not aligned", askew


VIEWS = dict(everywhere((6, 8)))


@pytest.mark.parametrize("name", list(VIEWS))
def test_views(engine, name):
    x = VIEWS[name]
    before = x.copy()
    engine.check({"x": x}, ulps=64.0, absolute=64.0)
    np.testing.assert_array_equal(x, before, "an input was changed")


def test_swapped_bytes_are_read_or_refused(engine):
    x = VIEWS["contiguous"]
    swapped = x.astype(x.dtype.newbyteorder())
    try:
        found = engine.engine.run({"x": swapped})
    except InputError:
        return
    np.testing.assert_array_equal(np.array(found["sum"]), np.array(
        engine.engine.run({"x": x})["sum"]))


def test_subclasses_and_lists(engine):
    x = VIEWS["contiguous"]
    want = np.array(engine.engine.run({"x": x})["sum"])
    masked = np.ma.masked_array(x)
    np.testing.assert_array_equal(np.array(engine.engine.run({"x": masked})["sum"]), want)


@pytest.mark.parametrize("bad", [
    np.zeros((6, 8), np.float64), np.zeros((6, 7), np.float32), np.zeros(48, np.float32),
    np.zeros((6, 8), np.int32), np.zeros((6, 8), object), np.zeros((6, 8), "S4")])
def test_what_does_not_fit_is_refused(engine, bad):
    with pytest.raises(InputError):
        engine.engine.run({"x": bad})


@values
@given(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_steps(engine, a, b, turn, flip):
    base = np.arange(40 * 40, dtype=np.float32).reshape(40, 40) / 100
    x = base.T if turn else base
    x = x[: 6 * a : a, : 8 * b : b]
    engine.check({"x": x[::-1] if flip else x}, ulps=64.0, absolute=64.0)


def test_scalars_and_empty_arrays():
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Neg", ["e"], ["z"])]
    feed = {"x": np.array(2.5, np.float32), "e": np.zeros((0, 3), np.float32)}
    graph = BothWays(nodes, feed)
    graph.check(feed)
    graph.check({"x": np.float32(2.5), "e": np.zeros((3, 0), np.float32).T})
