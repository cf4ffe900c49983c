"""What exporters write around the arithmetic: computed shapes, masks, detection, open sizes."""

import numpy as np
import onnx.parser
import pytest

import bessemer
from bessemer.core.shapes import Sym
from bessemer.engine.plan import HostStep
from bessemer.frontends import import_model
from bessemer.ir.types import TensorType

ort = pytest.importorskip("onnxruntime")

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'

SPLIT_HEADS = """
g (float[N,S,16] x) => (float[a,b,c,d] y, float[e,f] z) {
  zero = Constant<value_int = 0>()
  one = Constant<value_int = 1>()
  axis = Constant<value_ints = [0]>()
  four = Constant<value_ints = [4]>()
  shape = Shape(x)
  n = Gather(shape, zero)
  s = Gather(shape, one)
  nv = Unsqueeze(n, axis)
  sv = Unsqueeze(s, axis)
  wide = Concat<axis = 0>(nv, sv, four, four)
  heads = Reshape(x, wide)
  y = Transpose<perm = [0, 2, 1, 3]>(heads)
  rows = Mul(n, s)
  rv = Unsqueeze(rows, axis)
  minus = Constant<value_ints = [-1]>()
  flat = Concat<axis = 0>(rv, minus)
  z = Reshape(x, flat)
}"""

EXPAND = """
g (float[N,S,4] x, float[1,1,4] w) => (float[a,b,c] y) {
  shape = Shape(x)
  ones = ConstantOfShape<value = int64[1] {1}>(rank)
  rank = Shape(shape)
  minus = Constant<value_int = -1>()
  scaled = Mul(ones, minus)
  given = Equal(shape, scaled)
  target = Where(given, ones, shape)
  big = Expand(w, target)
  y = Add(x, big)
}"""

CAUSAL = """
g (float[N,S,8] q, int64[N,S] ids) => (float[a,b,c] y) {
  zero = Constant<value_int = 0>()
  one = Constant<value_int = 1>()
  shape = Shape(q)
  s = Gather(shape, one)
  places = Range(zero, s, one)
  second = Constant<value_ints = [1]>()
  first = Constant<value_ints = [0]>()
  column = Unsqueeze(places, second)
  row = Unsqueeze(places, first)
  later = Greater(row, column)
  padding = Equal(ids, zero)
  wide = Unsqueeze(padding, second)
  hidden = Or(later, wide)
  low = Constant<value_float = -10000.0>()
  none = Constant<value_float = 0.0>()
  bias = Where(hidden, low, none)
  k = Transpose<perm = [0, 2, 1]>(q)
  scores = MatMul(q, k)
  biased = Add(scores, bias)
  weights = Softmax<axis = -1>(biased)
  y = MatMul(weights, q)
}"""

HALVES = """
g (float[N,S,6] x) => (float[a,b,c] front, float[d,e,f] back, float[h] ramp) {
  shape = Shape(x)
  one = Constant<value_int = 1>()
  two = Constant<value_int = 2>()
  axis = Constant<value_ints = [0]>()
  axes = Constant<value_ints = [1]>()
  s = Gather(shape, one)
  half = Div(s, two)
  end = Unsqueeze(half, axis)
  start = Constant<value_ints = [0]>()
  far = Constant<value_ints = [9223372036854775807]>()
  front = Slice(x, start, end, axes)
  back = Slice(x, end, far, axes)
  limit = Cast<to = 1>(s)
  zero_f = Constant<value_float = 0.0>()
  one_f = Constant<value_float = 1.0>()
  ramp = Range(zero_f, limit, one_f)
}"""

PAD_TO_MULTIPLE = """
g (float[N,S,4] x) => (float[a,b,c] y) {
  shape = Shape(x)
  one = Constant<value_int = 1>()
  four = Constant<value_int = 4>()
  axis = Constant<value_ints = [0]>()
  s = Gather(shape, one)
  over = Mod(s, four)
  open = Sub(four, over)
  missing = Mod(open, four)
  missing_v = Unsqueeze(missing, axis)
  zeros4 = Constant<value_ints = [0, 0, 0, 0]>()
  zeros1 = Constant<value_ints = [0]>()
  pads = Concat<axis = 0>(zeros4, missing_v, zeros1)
  padded = Pad(x, pads)
  target = Constant<value_ints = [0, -1, 16]>()
  y = Reshape(padded, target)
}"""

RESIZE = """
g (float[N,3,H,W] x) => (float[a,b,c,d] y) {
  shape = Shape(x)
  start = Constant<value_ints = [2]>()
  end = Constant<value_ints = [4]>()
  head_end = Constant<value_ints = [2]>()
  head_start = Constant<value_ints = [0]>()
  spatial = Slice(shape, start, end)
  wide = Cast<to = 1>(spatial)
  factor = Constant<value_floats = [1.5, 0.5]>()
  scaled = Mul(wide, factor)
  floored = Floor(scaled)
  sizes = Cast<to = 7>(floored)
  head = Slice(shape, head_start, head_end)
  all_sizes = Concat<axis = 0>(head, sizes)
  y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
             nearest_mode = "floor">(x, , , all_sizes)
}"""

DETECTOR = """
g (float[N,K,4] boxes, float[N,3,K] scores)
  => (float[a,b] best_boxes, float[c] best, int64[d] cls) {
  most = Constant<value_ints = [5]>()
  overlap = Constant<value_floats = [0.5]>()
  least = Constant<value_floats = [0.3]>()
  kept = NonMaxSuppression(boxes, scores, most, overlap, least)
  flat = Constant<value_ints = [-1]>()
  found = GatherND(scores, kept)
  two = Constant<value_ints = [0, 2]>()
  places = Gather<axis = 1>(kept, two)
  corners = GatherND(boxes, places)
  limit = Constant<value_ints = [7]>()
  count = Shape(found)
  k = Min(count, limit)
  best, order = TopK(found, k)
  best_boxes = Gather(corners, order)
  one = Constant<value_int = 1>()
  classes = Gather<axis = 1>(kept, one)
  cls = Gather(classes, order)
}"""

DATA = """
g (float[N,S] x) => (float[a] positive, int64[b,c] places, float[d] spread) {
  zero = Constant<value_float = 0.0>()
  above = Greater(x, zero)
  positive = Compress(x, above_flat)
  flat = Constant<value_ints = [-1]>()
  above_flat = Reshape(above, flat)
  turned = NonZero(above)
  places = Transpose(turned)
  axis = Constant<value_ints = [0]>()
  shape = Shape(positive)
  filled = ConstantOfShape<value = float[1] {2.0}>(shape)
  spread = Mul(filled, positive)
}"""

MASKED = """
g (float[2,3,10,8] q, float[2,3,8,12] kt, float[2,3,12,8] v, float[2,1,10,12] mask)
  => (float[2,3,10,8] y) {
  size = Constant<value_float = 2.5>()
  scores = MatMul(q, kt)
  scaled = Div(scores, size)
  biased = Add(scaled, mask)
  weights = Softmax<axis = -1>(biased)
  y = MatMul(weights, v)
}"""


def boxes(rng, sizes):
    corner = rng.uniform(0, 50, (sizes["N"], sizes["K"], 2))
    extent = rng.uniform(5, 30, (sizes["N"], sizes["K"], 2))
    return np.concatenate([corner, corner + extent], -1).astype(np.float32)


PATTERNS = {
    "split-heads": (SPLIT_HEADS, [{"N": 2, "S": 3}, {"N": 1, "S": 7}, {"N": 4, "S": 1}]),
    "expand": (EXPAND, [{"N": 2, "S": 3}, {"N": 1, "S": 1}, {"N": 5, "S": 4}]),
    "causal": (CAUSAL, [{"N": 2, "S": 5}, {"N": 1, "S": 9}, {"N": 3, "S": 1}]),
    "halves": (HALVES, [{"N": 2, "S": 7}, {"N": 1, "S": 4}, {"N": 3, "S": 1}]),
    "pad-to-multiple": (PAD_TO_MULTIPLE, [{"N": 2, "S": 7}, {"N": 1, "S": 8}, {"N": 3, "S": 1}]),
    "resize": (RESIZE, [{"N": 1, "H": 8, "W": 8}, {"N": 2, "H": 5, "W": 11}]),
    "detector": (DETECTOR, [{"N": 1, "K": 30}, {"N": 2, "K": 12}, {"N": 3, "K": 60}]),
    "data": (DATA, [{"N": 3, "S": 5}, {"N": 1, "S": 1}, {"N": 4, "S": 9}]),
}
OPEN = {"detector", "data"}  # their extents depend on data


def feed_of(proto, sizes, rng):
    feed = {}
    for value in proto.graph.input:
        shape = [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim]
        if value.name == "boxes":
            feed[value.name] = boxes(rng, sizes)
        elif value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feed[value.name] = rng.integers(0, 4, shape)
        elif value.name == "scores":
            feed[value.name] = rng.uniform(size=shape).astype(np.float32)
        else:
            feed[value.name] = rng.normal(size=shape).astype(np.float32)
    return feed


def parsed(name):
    text, sizes = PATTERNS[name]
    proto = onnx.parser.parse_model(HEAD + text)
    return proto, sizes


@pytest.mark.parametrize("name", PATTERNS)
def test_one_engine_gives_right_answers_for_every_shape(name):
    proto, sizes = parsed(name)
    engine = bessemer.build(proto)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for size in (*sizes, *sizes):
        feed = feed_of(proto, size, rng)
        found = engine.run(feed)
        for output, expected in zip(proto.graph.output, session.run(None, feed)):
            assert found[output.name].dtype == expected.dtype
            np.testing.assert_allclose(
                found[output.name], expected, rtol=1e-4, atol=1e-4, err_msg=f"{output.name} {size}")


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - OPEN))
def test_computed_shapes_are_known_by_their_symbols(name):
    proto, _ = parsed(name)
    graph = import_model(proto)
    given = {d.dim_param for v in proto.graph.input for d in v.type.tensor_type.shape.dim}
    for node in graph.nodes:
        for value in node.outputs:
            assert isinstance(value.type, TensorType)
            assert value.type.shape is not None, value
            for dim in value.type.shape:
                assert not isinstance(dim, Sym) or dim.symbols() <= given, value


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - OPEN))
def test_computed_shapes_need_no_steps(name):
    proto, _ = parsed(name)
    steps = bessemer.build(proto).plan.steps
    shape_operators = {"Shape", "Gather", "Unsqueeze", "Concat", "Mod", "Div", "Mul", "Sub"}
    ran = {step.operator["op"] for step in steps if isinstance(step, HostStep)}
    assert not ran & shape_operators


def test_a_row_of_spelled_out_attention_that_is_all_masked_is_nan():
    proto = onnx.parser.parse_model(HEAD + MASKED)
    rng = np.random.default_rng(0)
    feed = feed_of(proto, {}, rng)
    feed["mask"] = np.where(rng.random((2, 1, 10, 12)) < 0.3, np.float32(-np.inf), np.float32(0))
    feed["mask"][1, :, 4] = -np.inf
    engine = bessemer.build(proto)
    assert "attention" in {step.rule for step in engine.plan.steps}
    (expected,) = ort.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)
    assert np.isnan(expected[1, :, 4]).all()
    np.testing.assert_allclose(engine.run(feed)["y"], expected, rtol=1e-5, atol=1e-5)
