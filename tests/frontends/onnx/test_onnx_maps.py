"""Maps: what scikit-learn's pipelines put in and take out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bessemer
from bessemer.core.errors import InputError, ShapeError
from bessemer.frontends import import_model

ML = "ai.onnx.ml"
FLOAT, INT, TEXT, DOUBLE = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.DOUBLE
)


def tensor(kind, shape):
    return helper.make_tensor_type_proto(kind, shape)


def map_of(key, value):
    made = onnx.TypeProto()
    made.map_type.key_type = key
    made.map_type.value_type.CopyFrom(tensor(value, []))
    return made


def maps_of(key, value):
    made = onnx.TypeProto()
    made.sequence_type.elem_type.CopyFrom(map_of(key, value))
    return made


def one(op_type, taken, given, **attributes):
    """A model of one node of ai.onnx.ml."""
    node = helper.make_node(op_type, ["x"], ["y"], domain=ML, **attributes)
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", taken)],
                              [helper.make_value_info("y", given)])
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid(ML, 1), helper.make_opsetid("", 15)])


def run(model, x):
    return bessemer.build(model, strict=False).run({"x": x})["y"]


@pytest.mark.parametrize(("labels", "values"), [
    ({"classlabels_int64s": [3, 4]}, [[0.5, 0.25], [1, 2]]),
    ({"classlabels_strings": ["a", "b", "c"]}, [[1, 2, 3]]),
])  # fmt: skip
def test_zip_map(labels, values):
    keys = next(iter(labels.values()))
    kind = INT if isinstance(keys[0], int) else TEXT
    x = np.array(values, np.float32)
    model = one("ZipMap", tensor(FLOAT, x.shape), maps_of(kind, FLOAT), **labels)
    assert run(model, x) == [dict(zip(keys, row, strict=True)) for row in values]
    # A model without its engine is the same.
    graph = import_model(model)
    assert str(graph.outputs[0].type) == f"seq<map<{'i64' if kind == INT else 'string'}, f32[]>>"


def test_zip_map_of_one_row():
    x = np.array([1, 2], np.float32)
    model = one("ZipMap", tensor(FLOAT, [2]), maps_of(INT, FLOAT), classlabels_int64s=[5, 6])
    assert run(model, x) == [{5: 1.0, 6: 2.0}]


def test_engines_with_maps_are_saved(tmp_path):
    model = one("DictVectorizer", map_of(TEXT, FLOAT), tensor(FLOAT, [1, 2]),
                string_vocabulary=["a", "b"])
    bessemer.build(model, strict=False).save(tmp_path / "m.plan")
    y = bessemer.load(tmp_path / "m.plan").run({"x": {"b": 2.5}})["y"]
    assert y.tolist() == [[0, 2.5]]


@pytest.mark.parametrize(("key", "value", "vocabulary", "x", "expected"), [
    (TEXT, FLOAT, ["a", "b", "c"], {"b": 2.5, "z": 1.0, "c": np.float32(3)}, [0, 2.5, 3]),
    (TEXT, INT, ["a", "b"], {"b": 2}, [0, 2]),
    (TEXT, DOUBLE, ["a", "b"], {}, [0, 0]),
    (INT, FLOAT, [1, 5], {5: np.array([2.5], np.float32), 7: 1.0}, [0, 2.5]),
    (INT, TEXT, [1, 5], {5: "p"}, ["", "p"]),
])  # fmt: skip
def test_dict_vectorizer(key, value, vocabulary, x, expected):
    name = "int64_vocabulary" if key == INT else "string_vocabulary"
    model = one("DictVectorizer", map_of(key, value), tensor(value, [1, len(vocabulary)]),
                **{name: vocabulary})
    found = run(model, x)
    assert found.tolist() == [expected]
    assert found.dtype == helper.tensor_dtype_to_np_dtype(value)


@pytest.mark.parametrize(("cast_to", "form", "expected"), [
    ("TO_FLOAT", "DENSE", [-1.25, 2.5]), ("TO_FLOAT", "SPARSE", [-1.25, 0, 0, 2.5]),
    ("TO_INT64", "DENSE", [-1, 2]), ("TO_INT64", "SPARSE", [-1, 0, 0, 2]),
    ("TO_STRING", "DENSE", ["-1.250000", "2.500000"]),
    ("TO_STRING", "SPARSE", ["-1.250000", "", "", "2.500000"]),
])  # fmt: skip
def test_cast_map(cast_to, form, expected):
    kind = {"TO_FLOAT": FLOAT, "TO_INT64": INT, "TO_STRING": TEXT}[cast_to]
    options = {"cast_to": cast_to, "map_form": form, "max_map": 4}
    model = one("CastMap", map_of(INT, FLOAT), tensor(kind, None), **options)
    assert run(model, {3: 2.5, 0: -1.25}).tolist() == [expected]
    if kind != TEXT:
        model = one("CastMap", map_of(INT, TEXT), tensor(kind, None), **options)
        assert run(model, {3: "2.5", 0: "-1.25"}).tolist() == [expected]


def test_misfits():
    with pytest.raises(ShapeError, match="2 labels, which do not fit"):
        import_model(one("ZipMap", tensor(FLOAT, [2, 3]), maps_of(INT, FLOAT),
                         classlabels_int64s=[1, 2]))
    with pytest.raises(ShapeError, match="classlabels_int64s or classlabels_strings"):
        import_model(one("ZipMap", tensor(FLOAT, [2, 3]), maps_of(INT, FLOAT)))
    model = one("CastMap", map_of(INT, FLOAT), tensor(FLOAT, None), map_form="SPARSE")
    with pytest.raises(InputError, match="negative"):
        run(model, {-1: 2.0})
