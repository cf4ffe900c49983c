"""Shapes with 0 and 1 in them, every kind of broadcasting, negative axes, odd slices and pads."""

import numpy as np
import pytest
from both_ways import BothWays, shapes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from onnx import helper

extents = st.sampled_from([0, 1, 1, 2, 3, 5, 17])
small_shapes = st.lists(extents, min_size=1, max_size=4)


def data(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, shape).astype(dtype)


@shapes
@given(mutually_broadcastable_shapes(num_shapes=3, min_dims=0, max_dims=4, min_side=0, max_side=5))
def test_broadcasting(found):
    a, b, c = (data(*shape, seed=k) for k, shape in enumerate(found.input_shapes))
    nodes = [helper.make_node("Less", ["a", "b"], ["less"]),
             helper.make_node("Where", ["less", "b", "c"], ["chosen"]),
             helper.make_node("Max", ["a", "b", "c"], ["most"]),
             helper.make_node("Sub", ["most", "a"], ["rest"]),
             helper.make_node("Clip", ["c", "low"], ["clipped"])]
    feed = {"a": a, "b": b, "c": c}
    BothWays(nodes, feed, {"low": np.array(-1, np.float32)}).check(feed)


@shapes
@given(small_shapes, st.data())
def test_reductions(shape, draw):
    x = data(*shape)
    rank = len(shape)
    axes = draw.draw(st.lists(st.integers(-rank, rank - 1), unique_by=lambda a: a % rank))
    keep = draw.draw(st.integers(0, 1))
    chosen = [axis % rank for axis in axes] or range(rank)
    empty = any(shape[axis] == 0 for axis in chosen)
    names = ["Sum", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "Mean"]
    # The largest of nothing: ONNX gives the ends of the type.
    names += ["Max", "Min"]
    nodes = [helper.make_node(f"Reduce{n}", ["x", "axes"], [n], keepdims=keep) for n in names]
    for node in nodes:
        node.attribute.append(helper.make_attribute("noop_with_empty_axes", keep))
    graph = BothWays(nodes, {"x": x}, {"axes": np.array(axes, np.int64)})
    graph.check({"x": x}, ulps=64.0, absolute=64.0)
    if empty and axes:
        found = {name: got for name, got, _ in graph({"x": x})}
        assert not found["Sum"].any()
        assert (found["Prod"] == 1).all()
        assert np.isneginf(found["LogSumExp"]).all()


@shapes
@given(small_shapes, st.data())
def test_softmax_and_running_sums(shape, draw):
    x = data(*shape)
    axis = draw.draw(st.integers(-len(shape), len(shape) - 1))
    nodes = [helper.make_node(op, ["x"], [op], axis=axis) for op in ("Softmax", "LogSoftmax")]
    nodes.append(helper.make_node("CumSum", ["x", "axis"], ["sums"],
                                  exclusive=draw.draw(st.integers(0, 1)),
                                  reverse=draw.draw(st.integers(0, 1))))
    graph = BothWays(nodes, {"x": x}, {"axis": np.array(axis)})
    graph.check({"x": x}, ulps=64.0, absolute=64.0)


@shapes
@given(small_shapes, st.data())
def test_slices(shape, draw):
    x = data(*shape)
    rank = len(shape)
    axes = draw.draw(st.lists(st.integers(-rank, rank - 1), unique_by=lambda a: a % rank,
                              min_size=1))
    bound = st.integers(-20, 20) | st.sampled_from([-(1 << 63), (1 << 63) - 1])
    step = st.sampled_from([1, 2, -1, -3, 1 << 40, -(1 << 40), (1 << 63) - 1, -(1 << 63)])
    numbers = {
        name: np.array([draw.draw(item) for _ in axes], np.int64)
        for name, item in (("starts", bound), ("ends", bound), ("steps", step))
    }
    nodes = [helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])]
    graph = BothWays(nodes, {"x": x}, {**numbers, "axes": np.array(axes, np.int64)})
    graph.check({"x": x}, ulps=0.0)


@shapes
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_pads(shape, draw):
    x = data(*shape)
    mode = draw.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    low = -2 if mode == "constant" else 0
    most = {"reflect": -1, "wrap": 0}
    pads = [draw.draw(st.integers(max(low, -(extent // 2)), max(
        0, min(7, extent + most.get(mode, 7))))) for extent in (*shape, *shape)]
    nodes = [helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)]
    BothWays(nodes, {"x": x}, {"pads": np.array(pads, np.int64)}).check({"x": x}, ulps=0.0)


@shapes
@given(small_shapes, st.data())
def test_moves(shape, draw):
    """Transpose, Flatten, Concat with an empty piece, Split into pieces, Gather, Tile."""
    x = data(*shape)
    rank = len(shape)
    axis = draw.draw(st.integers(-rank, rank - 1))
    order = draw.draw(st.permutations(range(rank)))
    gone = list(shape)
    gone[axis] = 0
    extent = shape[axis]
    cut = draw.draw(st.integers(0, extent))
    nodes = [helper.make_node("Transpose", ["x"], ["turned"], perm=order),
             helper.make_node("Flatten", ["x"], ["flat"], axis=axis),
             helper.make_node("Concat", ["x", "none", "x"], ["joined"], axis=axis),
             helper.make_node("Split", ["x", "cuts"], ["first", "second"], axis=axis),
             helper.make_node("Tile", ["x", "times"], ["tiled"]),
             helper.make_node("Unsqueeze", ["x", "new"], ["wider"])]
    constants = {"none": data(*gone), "cuts": np.array([cut, extent - cut]),
                 "times": np.array(draw.draw(st.lists(st.integers(0, 2), min_size=rank,
                                                      max_size=rank)), np.int64),
                 "new": np.array([-1, 0])}
    if extent:
        nodes.append(helper.make_node("Gather", ["x", "at"], ["picked"], axis=axis))
        constants["at"] = np.array([[0, -1], [extent - 1, -extent]])
    BothWays(nodes, {"x": x}, constants).check({"x": x}, ulps=0.0)


@shapes
@given(st.lists(extents, min_size=0, max_size=2), extents, extents, extents)
def test_products(batch, m, k, n):
    a, b = data(*batch, m, k), data(k, n, seed=1)
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"]),
             helper.make_node("Einsum", ["a", "b"], ["z"], equation="...mk,kn->...nm")]
    graph = BothWays(nodes, {"a": a, "b": b})
    graph.check({"a": a, "b": b}, ulps=64.0, absolute=200.0)


@shapes
@given(st.data())
def test_windows_with_huge_strides_and_dilations(draw):
    one = st.integers(1, 4)
    kernel = [draw.draw(one), draw.draw(one)]
    big = st.sampled_from([1, 2, 3, 50, 1000])
    strides = [draw.draw(big), draw.draw(big)]
    dilations = [draw.draw(st.sampled_from([1, 2, 7, 40])) for _ in kernel]
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    pads = [draw.draw(st.integers(0, min(s - 1, 9))) for s in (*span, *span)]
    shape = [max(1, s - a - b) + draw.draw(st.integers(0, 5))
             for s, a, b in zip(span, pads[:2], pads[2:])]
    x, w = data(1, 2, *shape), data(3, 2, *kernel, seed=1)
    common = {"strides": strides, "dilations": dilations, "pads": pads}
    nodes = [helper.make_node("Conv", ["x", "w"], ["conv"], **common)]
    if all(p < k for p, k in zip(pads, kernel + kernel)):
        nodes += [helper.make_node(op, ["x"], [op], kernel_shape=kernel, **common)
                  for op in ("MaxPool", "AveragePool", "LpPool")]
    feed = {"x": x, "w": w}
    BothWays(nodes, feed).check(feed, ulps=64.0, absolute=200.0)


def test_transposed_convolution_with_a_stride_beyond_the_kernel():
    x, w = data(1, 1, 2, 3), data(1, 1, 2, 2, seed=1)
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[7, 1],
                              dilations=[5, 3])]
    BothWays(nodes, {"x": x, "w": w}).check({"x": x, "w": w}, ulps=64.0)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 4, 4)])
def test_an_empty_batch_goes_through_a_network(shape):
    x = data(*shape)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("GlobalAveragePool", ["p"], ["g"]),
             helper.make_node("Flatten", ["g"], ["f"]),
             helper.make_node("MatMul", ["f", "m"], ["y"])]
    constants = {"w": data(5, 3, 3, 3, seed=1), "m": data(5, 2, seed=2)}
    BothWays(nodes, {"x": x}, constants).check({"x": x}, ulps=256.0, absolute=64.0)


def test_an_empty_batch_in_every_operator_of_windows_and_channels():
    x, c = data(0, 4, 5, 5), data(4, seed=1)
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["a"]),
             helper.make_node("AveragePool", ["x"], ["b"], kernel_shape=[2, 2]),
             helper.make_node("LpPool", ["x"], ["c"], kernel_shape=[2, 2]),
             helper.make_node("BatchNormalization", ["x", "s", "s", "s", "v"], ["d"]),
             helper.make_node("InstanceNormalization", ["x", "s", "s"], ["e"]),
             helper.make_node("GroupNormalization", ["x", "s", "s"], ["f"], num_groups=2),
             helper.make_node("LayerNormalization", ["x", "last"], ["g"]),
             helper.make_node("LRN", ["x"], ["h"], size=3),
             helper.make_node("GlobalMaxPool", ["x"], ["i"]),
             helper.make_node("Resize", ["x", "", "twice"], ["j"]),
             helper.make_node("DepthToSpace", ["x"], ["k"], blocksize=2)]
    constants = {"w": data(4, 2, 2, 2), "s": c, "v": np.abs(c), "last": data(5),
                 "twice": np.array([1, 1, 2, 2], np.float32)}
    BothWays(nodes, {"x": x}, constants).check({"x": x})
