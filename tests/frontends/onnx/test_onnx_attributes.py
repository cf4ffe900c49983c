"""The operator table has the attributes of ONNX, so that import needs no code for them."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model

from bessemer.core.errors import ModelFormatError
from bessemer.core.registry import OPERATORS
from bessemer.frontends import import_model


def known_schemas():
    for schema in onnx.defs.get_all_schemas():
        name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        if OPERATORS.find(name) is not None:
            yield pytest.param(schema, OPERATORS.get(name), id=name)


@pytest.mark.parametrize(("schema", "cls"), list(known_schemas()))
def test_attributes_are_those_of_onnx(schema, cls):
    fields = {field.name: field for field in dataclasses.fields(cls)}
    assert set(schema.attributes) <= set(fields)
    assert set(fields) <= set(schema.attributes) | {"captured", "dtype"}
    for name, attribute in schema.attributes.items():
        if not attribute.default_value.name or name in getattr(cls, "dtype_attributes", ()):
            continue
        wanted = helper.get_attribute_value(attribute.default_value)
        if isinstance(wanted, list):
            # RNN's activations depend on the direction, which the operator fills in.
            continue
        wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
        assert fields[name].default == (pytest.approx(wanted) if isinstance(wanted, float)
                                        else wanted), name


def constant(**attributes):
    node = helper.make_node("Constant", [], ["c"], **attributes)
    return import_model(model([node], [("x", [1])], [("c", None)])).outputs[0].constant


def test_constants_of_every_kind():
    assert constant(value_float=1.5) == np.float32(1.5)
    assert constant(value_floats=[1.5, 2.0]).dtype == np.float32
    assert constant(value_int=3).dtype == np.int64
    assert constant(value_ints=[3, 4]).tolist() == [3, 4]
    assert constant(value_string="a").tolist() == "a"
    assert constant(value_strings=["a", "b"]).tolist() == ["a", "b"]
    with pytest.raises(ModelFormatError, match="one output and one attribute"):
        constant(value_int=1, value_float=2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.attribute.append(helper.make_attribute("alpha", 1.0)), "given twice"),
        (lambda n: setattr(n.attribute[0], "type", 99), "no known type"),
        (lambda n: n.attribute[0].CopyFrom(helper.make_attribute("alpha", 3)), "must be FLOAT"),
        (lambda n: setattr(n, "op_type", "Conv"), "no attribute 'alpha'"),
        (lambda n: n.CopyFrom(helper.make_node("Cast", ["x"], ["y"])), "needs the attribute"),
    ],
)
def test_bad_attributes(change, message):
    node = helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.5)
    try:
        change(node)
    except ValueError:
        pytest.skip("this protobuf refuses such an enumerator")
    if node.op_type == "Conv":
        node.input.append("x")
    with pytest.raises(ModelFormatError, match=message):
        import_model(model([node], [("x", [1, 1, 2])], [("y", None)]))


def test_first_format_leaves_out_the_kind_of_an_attribute():
    node = helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.5)
    node.attribute[0].ClearField("type")
    graph = import_model(model([node], [("x", [2])], [("y", [2])], opset=1, ir=1))
    assert graph.nodes[0].op.alpha == 0.5
