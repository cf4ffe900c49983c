"""Inputs of a graph whose contents decide the form of results, and graphs with contents fixed.

Axes, sizes, pads and repeats are usually constants of a model. Where they are inputs, shapes are
unknown until they are given; a graph in which they are fixed is as static as any other.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.core.errors import InputError
from bessemer.ir.graph import Graph, Value
from bessemer.ir.inference import infer_again
from bessemer.ir.types import TensorType

_MOST_ELEMENTS = 64
"""A tensor with more elements is data, whatever reads it."""


def form_inputs(graph: Graph) -> list[Value]:
    """The inputs of the graph on which the `form_inputs` of its nodes depend, in order.

    What depends on large tensors or random numbers too is left out: no input fixes it.
    """
    known: dict[int, frozenset[int] | None] = {}
    for value in graph.inputs:
        known[id(value)] = frozenset([id(value)]) if _is_small(value) else None
    wanted: set[int] = set()
    for node in graph.nodes:
        for position in node.op.form_inputs:
            operand = node.inputs[position] if position < len(node.inputs) else None
            wanted |= known.get(id(operand)) or frozenset()
        present = [v for v in node.inputs if v is not None]
        origins = [known.get(id(v), frozenset()) for v in present]
        settled = node.op.deterministic and None not in origins
        joined = frozenset().union(*filter(None, origins)) if settled else None
        for out in node.outputs:
            # The content of Shape, for one, is known whatever it is the shape of.
            known[id(out)] = frozenset() if _has_content(out) else joined
    return [value for value in graph.inputs if id(value) in wanted]


def _is_small(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.is_static \
        and value.type.rank <= 1 and math.prod(value.type.static_shape) <= _MOST_ELEMENTS


def _has_content(value: Value) -> bool:
    """True if inference knows the content."""
    return isinstance(value.type, TensorType) and value.type.value is not None


def fix_contents(graph: Graph, contents: Mapping[str, np.ndarray[Any, Any]]) -> Graph:
    """A copy of the graph in which those inputs are constants, with all types inferred again.

    Raises: InputError for an array that does not fit its input; ShapeError for contents that no
    node can take.
    """
    result = graph.clone()
    for value in list(result.inputs):
        array = contents.get(value.name)
        if array is None:
            continue
        found = TensorType(dtype_from_numpy(array.dtype), array.shape)
        if found != value.type:
            raise InputError(f"input {value.name!r}: expected {value.type}, found {found}")
        result.inputs.remove(value)
        constant = result.add_constant(result.unique_name(value.name), array)
        result.replace_uses(value, constant)
    for node in result.nodes:
        infer_again(node, result.source)
    return result
