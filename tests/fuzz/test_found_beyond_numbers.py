"""Graphs of text, ai.onnx.ml and com.microsoft on which the fuzzer once found Bessemer wrong."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from bessemer.debug.random_graphs.models import MICROSOFT, ML, model_of
from bessemer.debug.random_graphs.oracles import Rival, reference_values, run_engine
from bessemer.debug.random_graphs.verdict import Judge


def check(nodes, arrays, outputs, rival=False):
    """An engine gives what the references give, and ONNX Runtime too if it is asked."""
    infos = [helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    model = model_of(helper.make_graph(nodes, "g", infos, results), 20)
    graph, values = reference_values(model, arrays)
    judge, found = Judge(graph, arrays, values), run_engine(model, arrays)
    assert judge.compare(found) == []
    if rival:
        pytest.importorskip("onnxruntime")
        theirs = Rival().run(model, arrays, values)
        assert set(theirs) == set(outputs)
        assert judge.compare(theirs, flushes=True) == []
    return found


def test_the_text_of_a_number_that_was_another_one():
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("Cast", ["f"], ["y"], to=TensorProto.STRING)]
    found = check(nodes, {"x": np.array([True, False])}, {"y": TensorProto.STRING})
    assert found["y"].tolist() == ["1.0", "0.0"]


def test_labels_of_scores_that_the_transform_makes_equal():
    node = helper.make_node(
        "LinearClassifier", ["x"], ["l", "s"], domain=ML, classlabels_ints=[4, 7],
        coefficients=[20.0, 40.0], intercepts=[0.0, 0.0], post_transform="LOGISTIC")
    found = check([node], {"x": np.ones((1, 1), np.float32)},
                  {"l": TensorProto.INT64, "s": TensorProto.FLOAT}, rival=True)
    assert found["l"].tolist() == [7]


def test_sigmoid_of_numbers_far_below_zero():
    nodes = [helper.make_node("FusedGemm", ["a", "b"], ["y"], domain=MICROSOFT,
                              activation="Sigmoid")]
    a = np.array([[-90.0, -100.0, 0.0, 95.0]], np.float32).T
    found = check(nodes, {"a": a, "b": np.ones((1, 1), np.float32)}, {"y": TensorProto.FLOAT})
    assert (found["y"] > 0).all()


def test_single_strings_of_a_split_line():
    nodes = [helper.make_node("SplitToSequence", ["x"], ["s"], keepdims=0),
             helper.make_node("SequenceInsert", ["s", "w"], ["t"]),
             helper.make_node("ConcatFromSequence", ["t"], ["y"], axis=0, new_axis=1)]
    found = check(nodes, {"x": np.array(["b", "", "a,b"], object), "w": np.array("c", object)},
                  {"y": TensorProto.STRING})
    assert found["y"].tolist() == ["b", "", "a,b", "c"]
