"""Files that are missing, empty, damaged or of another kind give one clear error."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model, relu_model, run

from bessemer.core.errors import ModelFormatError, ShapeError, UnsupportedOperatorError
from bessemer.core.shapes import symbol
from bessemer.frontends import FORMATS, import_model
from bessemer.frontends.onnx import check_model


def test_reads_path_bytes_and_proto(tmp_path):
    proto = relu_model()
    path = tmp_path / "relu.onnx"
    onnx.save(proto, path)
    odd = tmp_path / "relu.model"
    onnx.save(proto, odd)
    for source in (path, str(path), odd, proto, proto.SerializeToString()):
        graph = import_model(source)
        assert [v.name for v in graph.inputs] == ["x"]
        assert [v.name for v in graph.outputs] == ["y"]
        assert [n.name for n in graph.nodes] == ["relu"]
    assert import_model(graph) is graph


def test_missing_directory_empty(tmp_path):
    with pytest.raises(ModelFormatError, match=r"nothere\.onnx: no such file"):
        import_model(tmp_path / "nothere.onnx")
    with pytest.raises(ModelFormatError, match="is a directory"):
        import_model(tmp_path)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(ModelFormatError, match="the file is empty"):
        import_model(empty)
    with pytest.raises(ModelFormatError, match="no data"):
        import_model(b"")
    with pytest.raises(ModelFormatError, match="cannot import an object of type int"):
        import_model(3)


def test_not_a_model(tmp_path):
    text = tmp_path / "text.onnx"
    text.write_text("this is not a model, but a text")
    with pytest.raises(ModelFormatError, match=r"text\.onnx"):
        import_model(text)
    other = tmp_path / "model.bin"
    other.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ModelFormatError, match="known are: onnx"):
        import_model(other)


def test_every_truncation_is_an_error():
    data = relu_model().SerializeToString()
    for length in range(1, len(data)):
        with pytest.raises((ModelFormatError, UnsupportedOperatorError)):
            import_model(data[:length])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 9999), "uses opset 9999"),
        (lambda m: setattr(m, "ir_version", 99), "file format version"),
        (lambda m: m.ClearField("opset_import"), "imports no opset"),
        (lambda m: m.ClearField("graph"), "no graph"),
        (lambda m: m.graph.ClearField("output"), "no outputs"),
        (lambda m: m.graph.output.append(info("y", [2, 3])), "listed twice"),
        (lambda m: m.graph.output.append(info("z", [2, 3])), "'z' is not defined"),
        (lambda m: m.graph.input.append(info("x", [2, 3])), "'x' is defined twice"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "q"), "uses 'q'"),
        (lambda m: m.graph.node[0].input.append("x"), "has 2 inputs"),
        (lambda m: m.graph.node[0].attribute.append(helper.make_attribute("a", 1)),
         "no attribute 'a'"),
    ],
)
def test_inconsistent_models(change, message):
    proto = relu_model()
    change(proto)
    with pytest.raises(ModelFormatError, match=message):
        import_model(proto)


def test_cycle_duplicates_and_order():
    a = helper.make_node("Add", ["x", "b"], ["a"], name="first")
    b = helper.make_node("Relu", ["a"], ["b"], name="second")
    with pytest.raises(ModelFormatError, match=r"'first', 'second'.*cycle"):
        import_model(model([a, b], [("x", [2])], [("b", [2])]))
    twice = [helper.make_node("Relu", ["x"], ["y"], name=n) for n in ("one", "two")]
    with pytest.raises(ModelFormatError, match=r"'y' is defined twice: by node 'one'"):
        import_model(model(twice, [("x", [2])], [("y", [2])]))
    late = [helper.make_node("Relu", ["t"], ["y"]), helper.make_node("Abs", ["x"], ["t"])]
    graph = import_model(model(late, [("x", [2])], [("y", [2])]))
    assert [n.name for n in graph.nodes] == ["Abs_1", "Relu_0"]


def test_all_unsupported_nodes_are_listed():
    body = helper.make_graph([helper.make_node("Warp", ["x"], ["t"], name="deep", domain="my.own")],
                             "body", [], [info("t", [2])])
    nodes = [
        helper.make_node("Relux", ["x"], ["a"], name="typo"),
        helper.make_node("If", ["c"], ["b"], name="choice", then_branch=body, else_branch=body),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    proto = model(nodes, [("x", [2]), ("c", [], TensorProto.BOOL)], [("y", [2])],
                  domains=[("my.own", 3)])
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_model(proto)
    text = str(caught.value)
    for part in ("typo", "Relu", "choice/then_branch/deep", "my.own", "opset 3"):
        assert part in text
    report = check_model(proto)
    assert not report.ok
    assert {node.path for node in report.unsupported} >= {
        "typo", "choice/then_branch/deep", "choice/else_branch/deep"
    }


def test_check_report():
    report = check_model(relu_model())
    assert report.ok
    assert report.histogram() == [("Relu", "compiled", 1)]
    assert report.inputs == (("x", "f32[2,3]"),)
    assert report.as_dict()["opsets"] == {"ai.onnx": 21}


def test_nan_weights_warn(caplog):
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", [2])], [("y", [2])],
                  {"w": np.array([1, np.nan], np.float32)})
    with caplog.at_level(logging.WARNING, "bessemer.frontends"):
        import_model(proto)
    assert "initializer 'w' holds NaN" in caplog.text
    assert "NaN" in check_model(proto).warnings[0]


def test_initializer_listed_as_input_is_constant():
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", [2]), ("w", [2])],
                  [("y", [2])], {"w": np.ones(2, np.float32)}, ir=3)
    graph = import_model(proto)
    assert [v.name for v in graph.inputs] == ["x"]
    assert run(proto, np.zeros(2, np.float32))[0].tolist() == [1, 1]


def test_symbols():
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [("x", ["batch size", None, 3])],
                  [("y", [None, None, None])])
    graph = import_model(proto)
    assert graph.inputs[0].type.shape == (symbol("batch_size"), symbol("?x.1"), 3)
    assert graph.outputs[0].type == graph.inputs[0].type
    fixed = import_model(proto, shapes={"batch size": 4, "?x.1": 2})
    assert fixed.outputs[0].type.shape == (4, 2, 3)
    assert import_model(proto, shapes={"x": (5, 6, 3)}).outputs[0].type.shape == (5, 6, 3)
    assert import_model(graph, shapes={"x": (5, 6, 3)}).outputs[0].type.shape == (5, 6, 3)
    with pytest.raises(ModelFormatError, match="only symbolic dimensions"):
        import_model(proto, shapes={"x": (5, 6, 4)})


def test_names_of_values_win_over_names_of_nodes():
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="y"),
             helper.make_node("Abs", ["y"], ["z"], name="y")]
    graph = import_model(model(nodes, [("x", [2])], [("z", [2])]))
    assert [n.output.name for n in graph.nodes] == ["y", "z"]
    assert graph.find_node("y") is graph.nodes[0]
    assert [n.sources for n in graph.nodes] == [("y",), ("y",)]


def test_external_data(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", [2, 3])], [("y", [2, 3])],
                  {"w": weight})
    (tmp_path / "w.bin").write_bytes(b"head" * 4 + weight.tobytes())
    tensor = proto.graph.initializer[0]

    def place(location, offset=16, length=24):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        path = tmp_path / "m.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    assert run(place("w.bin"), np.zeros((2, 3), np.float32))[0].tolist() == weight.tolist()
    outside = tmp_path.parent / "outside.bin"
    outside.write_bytes(bytes(64))
    (tmp_path / "link.bin").symlink_to(outside)
    for location in ("../outside.bin", str(outside), "nothere.bin", "", "link.bin", "w\0.bin"):
        with pytest.raises(ModelFormatError, match="is not a file inside"):
            import_model(place(location))
    for offset, length in ((20, 24), (-8, 24), (0, 1 << 62)):
        with pytest.raises(ModelFormatError, match="wants bytes"):
            import_model(place("w.bin", offset, length))
    with pytest.raises(ModelFormatError, match="takes 24 bytes"):
        import_model(place("w.bin", 0, 8))
    with pytest.raises(ModelFormatError, match="no number"):
        import_model(place("w.bin", "abc", 8))
    with pytest.raises(ModelFormatError, match="give the model's path"):
        import_model(proto)


def test_formats_are_registered():
    assert FORMATS.get("onnx").suffixes == (".onnx",)


def test_wrong_element_type_and_shape():
    proto = relu_model()
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ShapeError, match=r"g: relu \(Relu\): input 0 \('x'\) is string\[2,3\]"):
        import_model(proto)
    misfit = model([helper.make_node("MatMul", ["x", "x"], ["y"], name="fc")], [("x", [2, 3])],
                   [("y", None)])
    with pytest.raises(ShapeError, match=r'MatMul "fc" \(g\)'):
        import_model(misfit)
