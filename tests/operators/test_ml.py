"""Operators of ai.onnx.ml: corner cases, and agreement with other implementations."""

from typing import Any

import numpy as np
import pytest

from bessemer.core.errors import InputError, ShapeError
from bessemer.core.registry import OPERATORS
from bessemer.ir.operator import Operator, outputs_of
from bessemer.ir.types import TensorType
from bessemer.ops.ml_features import OneHotEncoder
from bessemer.ops.ml_labels import LabelEncoder
from bessemer.ops.ml_linear import LinearRegressor, transform_scores
from bessemer.ops.ml_svm import SVMRegressor
from bessemer.ops.ml_tree import TreeEnsembleRegressor

Array = np.ndarray[Any, Any]
MODELS = ("LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor", "TreeEnsemble", "Scaler",
          "Binarizer", "OneHotEncoder", "LabelEncoder", "LinearClassifier",
          "TreeEnsembleClassifier", "SVMClassifier", "Imputer", "Normalizer")


def _rival(op: Operator, inputs: list[Array]) -> list[Array]:
    """What onnxruntime gives for the operator."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    kind = op.op_name.removeprefix("ai.onnx.ml.")
    attributes = {
        k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v
        for k, v in op.attributes().items()
        if v is not None and not (isinstance(v, tuple) and not v)
    }
    if kind.startswith("SVM"):
        attributes.setdefault("kernel_params", (0.0, 0.0, 0.0))
    types = op.infer(*[TensorType.of(x) for x in inputs])
    types = types if isinstance(types, tuple) else (types,)
    outs, names = [f"y{k}" for k in range(len(types))], [f"x{k}" for k in range(len(inputs))]
    node = onnx.helper.make_node(kind, names, outs, domain="ai.onnx.ml", **attributes)
    make = onnx.helper.make_tensor_value_info
    number = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [node], "g", [make(n, number(x.dtype), x.shape) for n, x in zip(names, inputs)],
        [make(n, number(t.dtype.numpy), None) for n, t in zip(outs, types)],
    )
    version = 3 if kind.startswith("TreeEnsemble") and kind != "TreeEnsemble" else 5
    if kind == "LabelEncoder":
        version = 4
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", version)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: list[Array] = session.run(None, dict(zip(names, inputs)))
    return found


def _cases() -> list[Any]:
    """Samples of one random input of floats, or of given data."""
    cases = []
    for name in MODELS:
        for number, item in enumerate(OPERATORS.get("ai.onnx.ml." + name).samples):
            if not isinstance(item.inputs[0], str) or item.inputs[0].startswith("f32"):
                cases.append((name, number))
    return cases


@pytest.mark.rivals
@pytest.mark.parametrize(("name", "number"), _cases())
def test_like_another_runtime(name: str, number: int) -> None:
    cls = OPERATORS.get("ai.onnx.ml." + name)
    item = cls.samples[number]
    op, given = cls(**item.attributes), item.inputs[0]
    if isinstance(given, str):
        shape = [int(n) for n in given[4:-1].split(",")]
        given = np.random.default_rng(number).uniform(-2, 2, shape).astype(np.float32)
    for ours, theirs in zip(outputs_of(op.reference(given)), _rival(op, [given])):
        if ours.dtype == object:
            assert ours.tolist() == np.asarray(theirs).tolist()
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def _tree(model: Any) -> dict[str, Any]:
    """A scikit-learn regression tree as attributes."""
    tree = model.tree_
    inner = tree.children_left >= 0
    count = tree.node_count
    leaves = np.flatnonzero(~inner)
    return {
        "nodes_treeids": (0,) * count, "nodes_nodeids": tuple(range(count)),
        "nodes_featureids": tuple(np.maximum(tree.feature, 0).tolist()),
        "nodes_values": tuple(tree.threshold.tolist()),
        "nodes_modes": tuple("BRANCH_LEQ" if i else "LEAF" for i in inner),
        "nodes_truenodeids": tuple(np.maximum(tree.children_left, 0).tolist()),
        "nodes_falsenodeids": tuple(np.maximum(tree.children_right, 0).tolist()),
        "target_treeids": (0,) * len(leaves), "target_nodeids": tuple(leaves.tolist()),
        "target_ids": (0,) * len(leaves),
        "target_weights": tuple(tree.value[leaves, 0, 0].tolist()),
    }


def test_a_tree_of_scikit_learn() -> None:
    trees = pytest.importorskip("sklearn.tree")
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 4)).astype(np.float32)
    model = trees.DecisionTreeRegressor(max_depth=6).fit(x, x[:, 0] * x[:, 1] + x[:, 2])
    fresh = rng.uniform(-1, 1, (50, 4)).astype(np.float32)
    found = TreeEnsembleRegressor(**_tree(model)).reference(fresh)
    np.testing.assert_allclose(found[:, 0], model.predict(fresh), rtol=1e-5, atol=1e-6)


def test_a_cycle_of_nodes_is_an_error() -> None:
    attributes: dict[str, Any] = {
        "nodes_treeids": (0, 0, 0), "nodes_nodeids": (0, 1, 2), "nodes_featureids": (0, 0, 0),
        "nodes_values": (0.0, 0.0, 0.0), "nodes_modes": ("BRANCH_LEQ", "BRANCH_LEQ", "LEAF"),
        "nodes_falsenodeids": (2, 2, 0), "target_treeids": (0,), "target_nodeids": (2,),
        "target_ids": (0,), "target_weights": (1.0,),
    }
    x = np.array([[-1.0]], np.float32)
    with pytest.raises(InputError, match="cycle"):
        TreeEnsembleRegressor(**attributes, nodes_truenodeids=(1, 1, 0)).reference(x)
    with pytest.raises(InputError, match="missing"):
        TreeEnsembleRegressor(**attributes, nodes_truenodeids=(1, 7, 0)).reference(x)


def test_transforms() -> None:
    scores = np.array([[0.0, 2.0], [0.0, 0.0]], np.float32)
    zero = transform_scores(scores, "SOFTMAX_ZERO")
    np.testing.assert_allclose(zero, [[0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(transform_scores(np.array([[0.975]]), "PROBIT"), 1.959964, rtol=1e-5)
    with pytest.raises(ShapeError, match="post_transform"):
        LinearRegressor(post_transform="SQUARE").infer(TensorType.of(scores))


def test_kernels() -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    common: dict[str, Any] = {
        "n_supports": 1, "support_vectors": (1.0, 2.0), "coefficients": (1.0,), "rho": (0.0,),
    }
    rbf = SVMRegressor(**common, kernel_type="RBF", kernel_params=(0.5, 0.0, 0.0))
    assert rbf.reference(x)[0, 0] == 1
    poly = SVMRegressor(**common, kernel_type="POLY", kernel_params=(1.0, 1.0, 2.0))
    assert poly.reference(x)[0, 0] == 36


def test_unknown_categories() -> None:
    with pytest.raises(InputError, match="none of the categories"):
        OneHotEncoder(cats_int64s=(1, 2), zeros=0).reference(np.array([3]))
    with pytest.raises(ShapeError, match="2 keys for 1 values"):
        LabelEncoder(keys_int64s=(1, 2), values_int64s=(1,)).infer(TensorType.of(np.array([1])))
