"""A node of the source model on its way to the graph, and what adapters may do with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bessemer.core.errors import ModelFormatError
from bessemer.ir.graph import Value
from bessemer.ir.types import TensorType


@dataclass
class SourceNode:
    """One node: inputs are already values of the graph, attributes plain Python values."""

    name: str
    op_type: str
    domain: str
    opset: int
    inputs: list[Value | None]
    outputs: list[str]
    # Attribute values are of every kind that ONNX has; a GraphProto stays as it is.
    attributes: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    """The file and node, for messages."""

    def input(self, index: int) -> Value | None:
        """The input, or None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def needed(self, index: int) -> Value:
        """The input; raises ModelFormatError if it is left out."""
        value = self.input(index)
        if value is None:
            raise ModelFormatError(f"{self.where}: input {index} is missing")
        return value

    def tensor(self, index: int) -> TensorType:
        """The type of an input that must be a tensor of known rank. Raises ModelFormatError."""
        value = self.needed(index)
        if not isinstance(value.type, TensorType) or value.type.shape is None:
            raise ModelFormatError(
                f"{self.where}: input {value.name!r} is {value.type}, but opset {self.opset} of "
                f"{self.op_type} needs a tensor of known rank; export the model with a newer opset"
            )
        return value.type

    def known(self, index: int) -> np.ndarray[Any, Any] | None:
        """The content of an input if it is a constant."""
        value = self.input(index)
        return value.constant if value is not None else None

    # The default is of the attribute's own kind.
    def pop(self, name: str, default: Any = None) -> Any:
        """Takes an attribute out of the node."""
        return self.attributes.pop(name, default)

    def set_input(self, index: int, value: Value | None) -> None:
        """Puts a value at an input position, leaving out those before it that are missing."""
        while len(self.inputs) <= index:
            self.inputs.append(None)
        self.inputs[index] = value


class Writer(Protocol):
    """What an adapter may do besides changing the node: write constants and newest-opset nodes."""

    def constant(self, node: SourceNode, role: str, array: np.ndarray[Any, Any]) -> Value:
        """A new constant named after the node and its role."""

    # Attributes are of every kind that ONNX has.
    def add(
        self, node: SourceNode, op_type: str, inputs: Sequence[Value | None],
        outputs: Iterable[str] = ("",), **attributes: Any,
    ) -> Value:
        """A node of the newest opset on behalf of `node`; returns its first output.

        An output that is named is bound to that name of the source model. Operators of another
        domain have it in front of their name.
        """

    def add_all(
        self, node: SourceNode, op_type: str, inputs: Sequence[Value | None],
        outputs: Sequence[str], **attributes: Any,
    ) -> list[Value]:
        """Like `add`, for as many outputs as there are names, empty ones included."""
