"""Older opsets mean today what they meant then; no change of ONNX is left without an adapter."""

from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model, run

from bessemer.core.errors import ModelFormatError
from bessemer.frontends import import_model
from bessemer.frontends.onnx.versions.table import steps

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 10


def default_of(attribute):
    default = attribute.default_value
    return helper.get_attribute_value(default) if default.name else None


def histories():
    found = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name].append(schema)
    return {key: sorted(all_, key=lambda s: s.since_version) for key, all_ in found.items()}


@pytest.mark.parametrize(("domain", "name"), sorted(histories()), ids=lambda v: v or "onnx")
def test_every_change_has_an_adapter(domain, name):
    """An attribute that is gone or has another type or default needs an adapter."""
    *older, newest = histories()[domain, name]
    for schema in older:
        changed = [
            key for key, attribute in schema.attributes.items()
            if key != "consumed_inputs" and (
                key not in newest.attributes
                or newest.attributes[key].type != attribute.type
                or default_of(newest.attributes[key]) != default_of(attribute)
            )
        ]
        if changed:
            last = min(s.since_version for s in [*older, newest]
                       if s.since_version > schema.since_version) - 1
            assert any(step.until >= last for step in steps(domain, name)), (schema.since_version,
                                                                             changed)


def one(op_type, inputs, expected, opset, constants=None, outputs=("y",), **attributes):
    """Runs one node at an opset; `inputs` are arrays, `constants` further inputs by name."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op_type, [*names, *(constants or {})], list(outputs), name="n",
                            **attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    proto = model([node], [(n, a.shape, k) for n, a, k in zip(names, inputs, kinds, strict=True)],
                  [(outputs[0], None)], constants, opset=opset)
    found = run(proto, *inputs)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_broadcast_along_axis():
    b = np.array([1, 2, 3], np.float32)
    one("Add", [X, b], X + b[:, None], 6, broadcast=1, axis=1)
    one("Mul", [X, b], X * b[:, None], 1, broadcast=1, axis=-2)
    one("Sub", [X, X[0, 0]], X - X[0, 0], 6, broadcast=1)
    one("PRelu", [X, b], np.where(X < 0, X * b[:, None], X), 6)
    one("Gemm", [X[0], X[0].T, b], X[0] @ X[0].T + b, 6, broadcast=1)


@pytest.mark.parametrize("opset", [1, 11])
def test_axes_attribute(opset):
    one("Unsqueeze", [X], X[:, None], opset, axes=[1])
    one("Squeeze", [X[:1]], X[0], opset, axes=[0])
    one("Squeeze", [X[:1]], X[0], opset)
    one("ReduceSum", [X], X.sum(1), opset, axes=[1], keepdims=0)
    one("ReduceMean", [X], X.mean().reshape(1, 1, 1), opset)


def test_attributes_that_became_inputs():
    one("Reshape", [X], X.reshape(6, 4), 1, shape=[6, 4])
    one("Slice", [X], X[:, 1:3, -2:], 1, starts=[1, -2], ends=[3, 100], axes=[1, 2])
    one("Slice", [X], X[1:, 1:], 9, starts=[1, 1], ends=[9, 9])
    padded = np.pad(X, [(0, 0), (1, 2), (0, 1)], constant_values=3)
    one("Pad", [X], padded, 2, pads=[0, 1, 0, 0, 2, 1], value=3.0)
    one("Pad", [X], padded, 1, paddings=[0, 1, 0, 0, 2, 1], value=3.0)
    one("Clip", [X], X.clip(-2, 5), 6, min=-2.0, max=5.0)
    one("Clip", [X], X.clip(-2), 10, min=-2.0)
    one("Split", [X], X[:, :, :1], 11, split=[1, 3], axis=2, outputs=("y", "z"))
    one("Split", [X], X[:, :, :2], 2, axis=2, outputs=("y", "z"))
    one("Split", [X], X[:, :, :2], 13, axis=2, outputs=("y", "z"))
    one("TopK", [X], np.sort(X)[..., :1:-1], 1, k=2, outputs=("y", "i"))
    one("Dropout", [X], X, 1, ratio=0.3)
    one("Dropout", [X], X, 10, ratio=0.3)
    one("Tile", [X], np.tile(X, (1, 2, 1)), 1,
        {"tiles": np.array(2, np.float32), "axis": np.array(1, np.float32)})
    one("Tile", [X, np.array([2.0], np.float32), np.array([1.0], np.float32)],
        np.tile(X, (1, 2, 1)), 1)
    one("Tile", [X, np.array([3], np.int64)], np.tile(X, (1, 1, 3)), 5, {"axis": np.array([2])})


def test_other_changes():
    one("Concat", [X, X], np.concatenate([X, X], 1), 1)
    one("Cast", [X + 0.7], (X + 0.7).astype(np.int32), 1, to="INT32")
    one("Selu", [X], np.where(X > 0, 1.0507 * X, 1.0507 * 1.6732 * np.expm1(X)), 1)
    index = np.array([[[1, 0, 1, 0]]])
    scattered = X.copy()
    scattered[index[0, 0], 0, np.arange(4)] = 5
    one("Scatter", [X, index, np.full((1, 1, 4), 5, np.float32)], scattered, 9)
    image = X.reshape(1, 2, 3, 4)
    pooled = np.abs(image).sum((2, 3), keepdims=True)
    one("GlobalLpPool", [image], pooled, 1, p=1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_flattened(axis):
    flat = X.reshape(int(np.prod(X.shape[:axis])), -1).astype(np.float64)
    powers = np.exp(flat - flat.max(-1, keepdims=True))
    expected = (powers / powers.sum(-1, keepdims=True)).reshape(X.shape)
    one("Softmax", [X], expected, 12, axis=axis)
    one("LogSoftmax", [X], np.log(expected), 1, axis=axis)
    best = np.zeros_like(flat)
    best[np.arange(len(flat)), flat.argmax(-1)] = 1
    one("Hardmax", [X], best.reshape(X.shape), 11, axis=axis)


def test_softmax_flattened_with_symbols():
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    proto = model([node], [("x", ["N", 3, "W"])], [("y", None)], opset=9)
    powers = np.exp(X - X.max((1, 2), keepdims=True))
    found = run(proto, X)[0]
    np.testing.assert_allclose(found, powers / powers.sum((1, 2), keepdims=True), rtol=1e-5)


def test_upsample():
    image = X.reshape(1, 2, 3, 4)
    twice = image.repeat(2, 2).repeat(3, 3)
    one("Upsample", [image], twice, 1, height_scale=2.0, width_scale=3.0)
    one("Upsample", [image], twice, 7, scales=[1.0, 1.0, 2.0, 3.0])
    scales = np.array([1, 1, 2, 3], np.float32)
    one("Upsample", [image], twice, 9, {"s": scales})
    one("Resize", [image], twice, 10, {"s": scales})
    # 0/0.6 and 1/0.6, rounded up
    down = np.array([1, 1, 2, 0.6], np.float32)
    one("Resize", [image], image.repeat(2, 2)[..., [0, 2]], 10, {"s": down})


def test_batch_norm():
    image = X.reshape(1, 2, 3, 4)
    p = [np.array(v, np.float32) for v in ([1, 2], [0, 1], [0.5, 0.25], [1, 4])]
    s, b, m, v = (q.reshape(1, 2, 1, 1) for q in p)
    expected = (image - m) / np.sqrt(v + 1e-5) * s + b
    one("BatchNormalization", [image, *p], expected, 1, is_test=1, consumed_inputs=[0, 0, 0, 1, 1])
    one("BatchNormalization", [image, *p], expected, 7)
    e = [np.broadcast_to(q.reshape(2, 1, 1), (2, 3, 4)).copy() for q in p]
    one("BatchNormalization", [image, *e], expected, 8, spatial=0)


def test_group_norm():
    image = X.reshape(1, 4, 3, 2)
    scale, bias = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    groups = image.reshape(1, 2, -1)
    normal = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(
        groups.var(-1, keepdims=True) + 1e-5)
    expected = (normal * scale[:, None] + bias[:, None]).reshape(image.shape)
    one("GroupNormalization", [image, scale, bias], expected, 18, num_groups=2)
    one("GroupNormalization", [image], expected, 18, {"s": scale, "b": bias}, num_groups=2)


def test_experimental():
    image = X.reshape(1, 2, 3, 4)
    one("Affine", [X], 2 * X + 1, 1, alpha=2.0, beta=1.0)
    one("Scale", [X], 2 * X, 1, scale=2.0)
    one("ParametricSoftplus", [X], 2 * np.log1p(np.exp(0.5 * X)), 1, alpha=2.0, beta=0.5)
    one("ScaledTanh", [X], 2 * np.tanh(0.5 * X), 1, alpha=2.0, beta=0.5)
    one("ImageScaler", [image], 2 * image + np.array([1, 3]).reshape(2, 1, 1), 1, scale=2.0,
        bias=[1.0, 3.0])
    one("Crop", [image], image[:, :, 1:-1, :-1], 1, border=[0, 1, 1, 1])
    one("Crop", [image], image[:, :, 1:3, 1:2], 1, border=[1, 1, 0, 0], scale=[2, 1])


def test_scan_over_batch():
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        "body", [info("s", [2]), info("v", [2])], [info("t", [2]), info("o", [2])])
    node = helper.make_node("Scan", ["", "init", "x"], ["final", "all"], num_scan_inputs=1,
                            body=body)
    proto = model([node], [("init", [1, 2]), ("x", [1, 3, 2])], [("final", None), ("all", None)],
                  opset=8)
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    final, every = run(proto, np.zeros((1, 2), np.float32), x)
    assert every.tolist() == x.cumsum(1).tolist()
    assert final.tolist() == x.sum(1).tolist()


@pytest.mark.parametrize("backwards", [0, 1])
def test_scan_over_batch_of_other_lengths(backwards):
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        "body", [info("s", [2]), info("v", [2])], [info("t", [2]), info("o", [2])])
    node = helper.make_node("Scan", ["lens", "init", "x"], ["final", "all"], num_scan_inputs=1,
                            body=body, directions=[backwards])
    proto = model([node], [("lens", [2], TensorProto.INT64), ("init", [2, 2]), ("x", [2, 4, 2])],
                  [("final", None), ("all", None)], opset=8)
    x = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    final, every = run(proto, np.array([3, 1]), np.ones((2, 2), np.float32), x)
    expected = np.zeros_like(x)
    for entry, length in enumerate((3, 1)):
        part = x[entry, :length][:: -1 if backwards else 1]
        expected[entry, :length] = 1 + part.cumsum(0)
        assert final[entry].tolist() == (1 + part.sum(0)).tolist()
    assert every.tolist() == expected.tolist()


def test_old_models_say_what_is_missing():
    bad = model([helper.make_node("Cast", ["x"], ["y"], to="FLOOT")], [("x", [2])], [("y", [2])],
                opset=1)
    with pytest.raises(ModelFormatError, match="'FLOOT' is not the name"):
        import_model(bad)
