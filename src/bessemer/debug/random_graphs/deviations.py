"""Recognises where ONNX Runtime is known to differ from what ONNX says.

Each entry of the folder `known` looks at a shortened model, mostly of one node, and says whether it
is that case; docs/fuzzing.md has the sentences.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from bessemer.core.errors import BessemerError
from bessemer.core.registry import Registry
from bessemer.debug.random_graphs.data import Array


@dataclass(frozen=True)
class Case:
    """A shortened model that disagrees: its last node, and the two results."""

    model: Any
    node: Any
    inputs: Mapping[str, Array]
    want: Array
    got: Array

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute of the last node."""
        for item in self.node.attribute:
            if item.name == name:
                value = onnx.helper.get_attribute_value(item)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def operand(self, position: int) -> Array | None:
        """An input of the last node, if it is one of the graph or a constant."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        for tensor in self.model.graph.initializer:
            if tensor.name == name:
                return np.asarray(onnx.numpy_helper.to_array(tensor))
        return self.inputs.get(name)

    @property
    def operands(self) -> list[Array]:
        """The inputs of the last node that are known."""
        found = [self.operand(k) for k in range(len(self.node.input))]
        return [item for item in found if item is not None]

    def close(self, share: float) -> bool:
        """True if the results differ by no more than a share of the largest number."""
        if self.want.shape != self.got.shape:
            return False
        a, b = self.want.astype(np.float64), self.got.astype(np.float64)
        return bool(np.abs(a - b).max() <= share * np.abs(a).max())


Known = Callable[[Case], bool]
KNOWN: Registry[tuple[tuple[str, ...], Known]] = Registry(
    "known deviation", "bessemer.debug.random_graphs.known", BessemerError)


def known(section: str, *operators: str) -> Callable[[Known], Known]:
    """Registers a predicate for models that end in an operator."""

    def decorate(function: Known) -> Known:
        KNOWN.add(section, (operators, function))
        return function

    return decorate


def known_deviation(model: Any, inputs: Mapping[str, Array], want: Array, got: Array) -> str:
    """The section of docs/fuzzing.md that explains a disagreement; empty if none does."""
    case = Case(model, model.graph.node[-1], inputs, want, got)
    for section in KNOWN.names():
        operators, applies = KNOWN.get(section)
        if case.node.op_type in operators and applies(case):
            return section
    return ""
