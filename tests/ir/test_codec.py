"""Operators and graphs survive JSON; malformed data is refused."""

import json

import numpy as np
import pytest

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import EngineFormatError
from bessemer.core.registry import OPERATORS
from bessemer.ir.codec import (
    _decode,
    _encode,
    decode_array,
    decode_graph,
    decode_operator,
    encode_array,
    encode_graph,
    encode_operator,
)
from bessemer.ir.operator import operator_class
from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import print_graph


def through_json(data):
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("name", OPERATORS.names())
def test_every_sample_operator(name):
    for sample in operator_class(name).samples:
        op = operator_class(name)(**sample.attributes)
        data = encode_operator(op)
        assert through_json(encode_operator(decode_operator(through_json(data)))) == (
            through_json(data))


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_arrays(name):
    dtype = DTYPES[name]
    array = np.array([["a"], ["b"]], object) if dtype.kind == "string" else (
        np.ones((2, 1)).astype(dtype.numpy))
    found = decode_array(through_json(encode_array(array)))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("item", [
    (1, ("a", None)), [1.5, float("-inf")], b"\x00", {"a": (1,)}, DTYPES["f16"], True,
])
def test_attribute_values(item):
    assert _decode(through_json(_encode(item))) == item


def test_graph():
    graph = parse_graph(
        "graph g(%x: f32[40]) -> (%y) {\n @w : f32[40] = random(3)\n %y = Add(%x, @w)\n}"
    )
    assert print_graph(decode_graph(through_json(encode_graph(graph)))) == print_graph(graph)


@pytest.mark.parametrize("data", [
    {}, {"op": 3}, {"op": "Nonsense"}, {"op": "Relu", "attributes": {"x": 1}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$array": {}}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$array": {
        "dtype": "f32", "shape": [-1], "data": ""}}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$array": {
        "dtype": "f32", "shape": [9], "data": "AAAA"}}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$bytes": "*"}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$what": 1}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$type": "f32[(((("}}},
    {"op": "LeakyRelu", "attributes": {"alpha": {"$graph": {"text": "graph"}}}},
])
def test_malformed_data_is_refused(data):
    with pytest.raises(EngineFormatError):
        decode_operator(data)
