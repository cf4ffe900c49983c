"""Operators over open extents: one engine answers several shapes as ONNX Runtime does, compiled."""

import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from against_onnxruntime import assert_agree, expected_outputs, session

import bessemer
from bessemer.core.errors import InputError
from bessemer.engine.plan import HostStep
from bessemer.ops.resize import Resize

HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'
PICTURES = [(1, 4, 1, 1), (2, 4, 3, 5), (1, 4, 7, 13), (3, 4, 16, 17)]

TRANSPOSED = """
g (float[N,4,H,W] x) => (float[N,2,a,b] y, float[N,2,c,d] z) {
  up = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
  y = Relu(up)
  z = ConvTranspose<strides = [2, 2], auto_pad = "SAME_LOWER">(x, v)
}"""

SAME = """
g (float[N,4,H,W] x) => (float[N,6,a,b] y, float[N,6,a,b] z) {
  c = Conv<strides = [3, 3], auto_pad = "SAME_UPPER">(x, w)
  y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER">(c)
  z = AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER">(c)
}"""

RESIZE = """
g (float[N,4,H,W] x) => (float[N,4,a,b] y, float[N,4,c,d] z, float[N,4,8,11] v, float[N,4,e,f] u)
<float[4] s = {1, 1, 3, 1.5}, int64[2] twice = {2, 3}, int64[2] fixed = {8, 11},
 int64[1] start = {0}, int64[1] middle = {2}, int64[1] end = {4}> {
  y = Resize<mode = "linear">(x, , s)
  u = Resize<mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel">(x, , s)
  shape = Shape(x)
  front = Slice(shape, start, middle)
  back = Slice(shape, middle, end)
  more = Mul(back, twice)
  sizes = Concat<axis = 0>(front, more)
  z = Resize<mode = "nearest">(x, , , sizes)
  target = Concat<axis = 0>(front, fixed)
  v = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , , target)
}"""

RUNNING = """
g (float[N,M] x) => (float[N,M] y, float[N,M] z) <int64 last = {1}, int64 first = {0}> {
  y = CumSum(x, last)
  z = CumSum<exclusive = 1, reverse = 1>(x, first)
}"""

ATTENTION = """
g (float[B,4,S,8] q, float[B,2,S,8] k, float[B,2,S,8] v, float[S,T] m, float[B,2,P,8] pk,
   float[B,2,P,8] pv) => (float[B,4,S,8] y, float[B,2,a,8] ok, float[B,2,a,8] ov) {
  y, ok, ov = Attention(q, k, v, m, pk, pv)
}"""

FOLDED = """
g (float[B,S,32] q, float[B,S,16] k, float[B,S,16] v) => (float[B,S,32] y) {
  y = Attention<is_causal = 1, q_num_heads = 4, kv_num_heads = 2>(q, k, v)
}"""

WEIGHTS = {"transposed": {"w": (4, 2, 4, 4), "v": (4, 2, 3, 3)}, "same": {"w": (6, 4, 2, 2)}}


def _attention(b, s, p):
    keys = {name: (b, 2, n, 8) for name, n in (("k", s), ("v", s), ("pk", p), ("pv", p))}
    return {"q": (b, 4, s, 8), "m": (s, p + s), **keys}


CASES = {
    "transposed": (TRANSPOSED, [{"x": shape} for shape in PICTURES]),
    "same": (SAME, [{"x": shape} for shape in PICTURES]),
    "resize": (RESIZE, [{"x": shape} for shape in PICTURES]),
    "running": (RUNNING, [{"x": s} for s in ((1, 1), (3, 127), (2, 129), (131, 300), (257, 3))]),
    "attention": (ATTENTION, [_attention(*n) for n in ((1, 1, 1), (2, 3, 5), (1, 7, 13))]),
    "folded": (FOLDED, [{"q": (b, s, 32), "k": (b, s, 16), "v": (b, s, 16)}
                        for b, s in ((1, 1), (2, 3), (3, 17))]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_shape_agrees(case):
    text, shapes = CASES[case]
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(HEAD + text)
    for name, shape in WEIGHTS.get(case, {}).items():
        data = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    engine = bessemer.build(model)
    assert not [step for step in engine.plan.steps if isinstance(step, HostStep)]
    reference = session(model.SerializeToString())
    with engine.create_context() as context:
        for chosen in shapes:
            feed = {name: rng.standard_normal(shape).astype(np.float32)
                    for name, shape in chosen.items()}
            assert_agree(expected_outputs(reference, feed), context.run(feed))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners", "asymmetric"])
def test_nothing_spreads_along_an_axis_that_keeps_its_extent(mode, transformation):
    model = onnx.parser.parse_model(HEAD + f"""
    g (float[1,2,H,W] x, float[1,1,P,Q] z) => (float[1,2,P,Q] y) {{
      s = Shape<start = 2>(z)
      y = Resize<mode = "{mode}", axes = [2, 3],
                 coordinate_transformation_mode = "{transformation}">(x, , , s)
    }}""")
    engine = bessemer.build(model)
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
    x[0, 0, 2, 3], x[0, 1, 0, 5] = np.nan, np.inf
    op = Resize(mode=mode, axes=(2, 3), coordinate_transformation_mode=transformation)
    for extents in ((5, 6), (5, 12), (7, 6), (10, 9)):
        got = engine.run({"x": x, "z": np.zeros((1, 1, *extents), np.float32)})["y"]
        with np.errstate(invalid="ignore"):
            want = op.reference(x, None, None, np.array(extents))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("text", "wrong", "right"), [
    ("g (float[1,1,H,4] x) => (float[1,1,9,8] y) <int64[4] s = {1, 1, 9, 8}>"
     ' { y = Resize<mode = "cubic">(x, , , s) }', {"x": (1, 1, 0, 4)}, {"x": (1, 1, 2, 4)}),
    ("g (float[N,M] x, float[A,B] s) => (float[N,M] y) { y = PRelu(x, s) }",
     {"x": (2, 1), "s": (2, 3)}, {"x": (2, 3), "s": (2, 1)}),
])
def test_shapes_that_do_not_fit_are_refused(text, wrong, right):
    engine = bessemer.build(onnx.parser.parse_model(HEAD + text))
    engine.run({name: np.zeros(shape, np.float32) for name, shape in right.items()})
    with pytest.raises(InputError, match="do not fit the model"):
        engine.run({name: np.zeros(shape, np.float32) for name, shape in wrong.items()})
