"""`@contrib`: a function that writes what a com.microsoft operator means; it is also the schema.

Positional parameters are the inputs in order, annotated `Value` or, where they may be left out,
`Value | None`; `*rest` takes any number. Keyword-only parameters are the attributes, with defaults.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin

import numpy as np

from bessemer.core.dtypes import DType
from bessemer.core.errors import ModelFormatError, UnsupportedOperatorError
from bessemer.core.shapes import Dim, Shape
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.types import number_of
from bessemer.frontends.onnx.versions.table import EVERY, until
from bessemer.ir.graph import Value
from bessemer.ir.types import TensorType

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Draft:
    """What a translation writes with: nodes and constants on behalf of one source node."""

    node: SourceNode
    writer: Writer
    outputs: tuple[str, ...]
    """The names of the source node's outputs, "" for those nobody asks for."""

    # Attributes are of every kind that ONNX has.
    def op(self, op_type: str, *inputs: Value | None, name: str = "", **attributes: Any) -> Value:
        """A node with one output; attributes that are None are left out.

        The output gets that name of the source model if there is one.
        """
        return self.writer.add(self.node, op_type, inputs, (name,), **_given(attributes))

    def ops(
        self, op_type: str, *inputs: Value | None, names: Sequence[str], **attributes: Any
    ) -> list[Value]:
        """A node with several outputs; "" stands for a value without a name.

        Outputs at the end that have no name are left out, except where all have none.
        """
        kept = list(names)
        while any(kept) and not kept[-1]:
            kept.pop()
        return self.writer.add_all(self.node, op_type, inputs, kept, **_given(attributes))

    def constant(self, content: Any, dtype: DType | Any = np.int64) -> Value:
        """A constant: anything that numpy makes an array of."""
        numpy = dtype.numpy if isinstance(dtype, DType) else dtype
        return self.writer.constant(self.node, "constant", np.asarray(content, numpy))

    def result(self, value: Value, index: int = 0) -> None:
        """Makes a value an output of the source node, if it is asked for."""
        if self.outputs[index]:
            self.op("Identity", value, name=self.outputs[index])

    def type(self, value: Value) -> TensorType:
        """The type of a tensor of known rank. Raises ModelFormatError where it is unknown."""
        if not isinstance(value.type, TensorType) or value.type.shape is None:
            raise ModelFormatError(
                f"{self.node.where}: input {value.name!r} is {value.type}, but its rank must be "
                "known; run shape inference on the model or give its shapes"
            )
        return value.type

    def dims(self, value: Value, *ranks: int) -> Shape:
        """The extents of a tensor of one of those ranks. Raises ModelFormatError otherwise."""
        dims = self.type(value).dims
        if ranks and len(dims) not in ranks:
            allowed = " or ".join(str(rank) for rank in ranks)
            raise ModelFormatError(
                f"{self.node.where}: input {value.name!r} is {value.type}; rank {allowed} expected"
            )
        return dims

    def size(self, value: Value, axis: int) -> int:
        """An extent that must be a known integer. Raises ModelFormatError otherwise."""
        extent = self.type(value).dims[axis]
        if not isinstance(extent, int):
            raise ModelFormatError(
                f"{self.node.where}: extent {axis} of {value.name!r} ({value.type}) must be known"
            )
        return extent

    def extent(self, value: Value, axis: int) -> Value:
        """An extent as an i64 scalar; a constant where it is known."""
        known: Dim = self.type(value).dims[axis]
        if isinstance(known, int):
            return self.constant(known)
        part = self.op("Shape", value, start=axis, end=axis + 1)
        return self.op("Squeeze", part, self.constant([0]))

    def arange(self, end: Value) -> Value:
        """The i64 numbers from 0 to before an i64 scalar; a constant where it is one."""
        if end.constant is not None:
            return self.constant(np.arange(int(end.constant)))
        return self.op("Range", self.constant(0), end, self.constant(1))

    def plus(self, a: Value, b: Value) -> Value:
        """The sum of two i64 scalars; a constant where both are."""
        if a.constant is not None and b.constant is not None:
            return self.constant(a.constant + b.constant)
        return self.op("Add", a, b)

    def unnamed(self, *roles: str) -> tuple[str, ...]:
        """Names for outputs that the source model does not have."""
        return tuple(f"{self.node.name}.{role}" for role in roles)

    def cast(self, x: Value, dtype: DType) -> Value:
        """The value in another element type."""
        return x if x.tensor.dtype == dtype else self.op("Cast", x, to=number_of(dtype))

    def transpose(self, value: Value, *order: int, name: str = "") -> Value:
        """The axes in another order."""
        return self.op("Transpose", value, perm=order, name=name)

    def refuse(self, what: str) -> NoReturn:
        """Raises UnsupportedOperatorError that names the node and the option."""
        raise UnsupportedOperatorError(
            f"{self.node.where}: {what} is not supported; export the model without it"
        )

    def invalid(self, what: str) -> NoReturn:
        """Raises ModelFormatError that names the node."""
        raise ModelFormatError(f"{self.node.where}: {what}")


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


# The parameters differ from function to function.
Translation = Callable[..., None]


def contrib(
    *op_types: str, becomes: tuple[str, ...], outputs: int = 1, domain: str = MICROSOFT
) -> Callable[[Translation], Translation]:
    """Registers a translation for operators of a domain.

    `becomes` names the operators that it may write, `outputs` is how many outputs there can be.
    """

    def decorate(translation: Translation) -> Translation:
        signature = _Signature.of(translation)

        def adapter(node: SourceNode, writer: Writer) -> None:
            inputs, attributes = signature.bind(node)
            if len(node.outputs) > outputs:
                raise ModelFormatError(f"{node.where}: has {len(node.outputs)} outputs; "
                                       f"{node.op_type} has at most {outputs}")
            names = (*node.outputs, *("",) * (outputs - len(node.outputs)))
            translation(Draft(node, writer, names), *inputs, **attributes)

        until(EVERY, *op_types, domain=domain, becomes=becomes)(adapter)
        return translation

    return decorate


@dataclass(frozen=True)
class _Signature:
    """What a translation's parameters say about inputs and attributes."""

    needed: tuple[int, ...]
    """Positions of the inputs that must be there."""
    most: int | None
    """None: any number."""
    attributes: dict[str, inspect.Parameter]

    @classmethod
    def of(cls, translation: Translation) -> "_Signature":
        parameters = list(inspect.signature(translation).parameters.values())[1:]
        plain = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        return cls(
            tuple(k for k, p in enumerate(plain) if p.annotation is Value),
            None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(plain),
            {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY},
        )

    # Attributes are of every kind that ONNX has.
    def bind(self, node: SourceNode) -> tuple[list[Value | None], dict[str, Any]]:
        """The arguments that a node gives. Raises ModelFormatError where they do not fit."""
        count = len(node.inputs)
        if self.most is not None and count > self.most:
            raise ModelFormatError(f"{node.where}: has {count} inputs; {node.op_type} has at most "
                                   f"{self.most}")
        for index in self.needed:
            node.needed(index)
        for name in node.attributes:
            if name not in self.attributes:
                raise ModelFormatError(
                    f"{node.where}: {node.op_type} has no attribute {name!r}; known are "
                    f"{', '.join(sorted(self.attributes)) or 'none'}"
                )
        missing = (self.most or count) - count
        attributes = {name: _attribute(node, p) for name, p in self.attributes.items()}
        return [*node.inputs, *[None] * missing], attributes


def _attribute(node: SourceNode, parameter: inspect.Parameter) -> Any:
    value = node.attributes.get(parameter.name, parameter.default)
    if value is parameter.empty:
        raise ModelFormatError(f"{node.where}: needs the attribute {parameter.name!r}")
    if value is None:
        return None
    wanted = get_origin(parameter.annotation) or parameter.annotation
    if wanted is UnionType:
        wanted = get_args(parameter.annotation)[0]
    if wanted is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, wanted):
        raise ModelFormatError(f"{node.where}: attribute {parameter.name!r} must be "
                               f"{wanted.__name__}, not {type(value).__name__}")
    return value
