"""Assembling a model by hand: Builder, Network, BuilderConfig, OptimizationProfile; and plugins.

The same graph and the same build serve this and model files.
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bessemer.core.dtypes import DTYPES, DType, dtype_from_numpy
from bessemer.core.errors import SettingsError, ShapeError, UnsupportedOperatorError, VerifyError
from bessemer.core.registry import OPERATORS
from bessemer.core.shapes import Dim, Sym, symbol
from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.operator import Operator, operator
from bessemer.ir.types import TensorType
from bessemer.tune.levels import LEVELS

if TYPE_CHECKING:
    from bessemer.runtime.engine import Engine

Array = np.ndarray[Any, Any]
C = TypeVar("C", bound=type)


def plugin(name: str) -> Callable[[C], C]:
    """Makes a user's class an operator, under a name with a domain such as `my.domain.Foo`.

    The class derives from `Operator` and gives `infer` and `reference`. With `lower` (a tensor
    expression) and a `fusion` class it is fused and compiled like Bessemer's own operators; with
    only a `reference` it runs on the host and is reported. ONNX nodes of domain `my.domain` and
    type `Foo` use it.

    Raises: SettingsError if the name has no domain or is taken, or the class is no operator.
    """
    if "." not in name.strip(".") or name.startswith("bessemer."):
        raise SettingsError(
            f"plugin name {name!r} needs a domain of its own, such as 'my.domain.{name}'"
        )

    def decorate(cls: C) -> C:
        if not issubclass(cls, Operator):
            raise SettingsError(f"plugin {name!r}: {cls.__name__} must derive from Operator")
        for method in ("infer", "reference"):
            if getattr(cls, method) is getattr(Operator, method):
                raise SettingsError(f"plugin {name!r}: {cls.__name__} has no {method} method")
        if OPERATORS.find(name) is not None:
            raise SettingsError(f"plugin {name!r} is registered already")
        return operator(name)(cls)

    return decorate


def check_plugins(plugins: Iterable[object]) -> None:
    """Raises SettingsError unless every plugin is a registered operator class."""
    for entry in plugins:
        if not (isinstance(entry, type) and issubclass(entry, Operator)):
            raise SettingsError(f"plugins: {entry!r} is no operator class")
        if not entry.op_name or OPERATORS.find(entry.op_name) is not entry:
            raise SettingsError(
                f"plugins: {entry.__name__} is not registered; put @bessemer.plugin('my.domain."
                f"{entry.__name__}') on the class"
            )


class OptimizationProfile:
    """The shapes that an input with symbolic dimensions takes: smallest, usual, largest.

    Never required: an engine serves every shape; the usual one is what schedules are chosen for.
    """

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}

    def set_shape(
        self, name: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> "OptimizationProfile":
        """Sets the three shapes of an input; returns itself so that calls chain.

        Raises: SettingsError unless min <= opt <= max holds in every dimension.
        """
        low, usual, high = tuple(min), tuple(opt), tuple(max)
        ordered = len(low) == len(usual) == len(high) and all(
            0 <= a <= b <= c for a, b, c in zip(low, usual, high, strict=True)
        )
        if not ordered:
            raise SettingsError(
                f"profile of {name!r}: min {low}, opt {usual}, max {high} must have one rank and "
                "grow in every dimension"
            )
        self.shapes[name] = (low, usual, high)
        return self

    @property
    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        """The usual shape of every input that has one."""
        return {name: usual for name, (_, usual, _) in self.shapes.items()}


PRECISIONS = ("fp32",)


class BuilderConfig(BaseModel):
    """The options of a build, checked when set. The names are those of `bessemer.build`."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, arbitrary_types_allowed=True
    )

    precision: str = "fp32"
    target: str | tuple[str, ...] | None = None
    threads: int | None = Field(default=None, ge=1)
    tune: str | None = None
    budget_s: float | None = Field(default=None, gt=0)
    shapes: dict[str, int | tuple[int, ...]] | None = None
    profiles: list[OptimizationProfile] | None = None
    plugins: tuple[type, ...] = ()
    strict: bool = True
    verify: bool | dict[str, Any] = False  # or arrays by input name to verify with
    disable: tuple[str, ...] = ()
    name: str | None = None
    allow_fallback: tuple[str, ...] = ()
    fallback_nodes: tuple[str, ...] = ()
    keep_inputs: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:  # Any: pydantic checks each option by its type
        unknown = [name for name in options if name not in type(self).model_fields]
        if unknown:
            raise SettingsError(_unknown_option(unknown[0], list(type(self).model_fields)))
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error

    def __setattr__(self, name: str, value: Any) -> None:  # Any: as above
        if name not in type(self).model_fields:
            raise SettingsError(_unknown_option(name, list(type(self).model_fields)))
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, value: str) -> str:
        return _one_of(value, PRECISIONS, "precision")

    @field_validator("tune")
    @classmethod
    def _known_tune(cls, value: str | None) -> str | None:
        return None if value is None else _one_of(value, LEVELS, "tune")

    def build_options(self) -> dict[str, Any]:
        """The options that differ from the default, as arguments of `build`."""
        return {
            name: getattr(self, name) for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        }


def _one_of(value: str, allowed: Sequence[str], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(allowed)}")
    return value


def _unknown_option(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"
    return f"unknown build option {name!r}{hint}"


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"build option {'.'.join(map(str, item['loc']))!r}: {item['msg']} (got {item['input']!r})"
        for item in error.errors()
    )


class Network:
    """A graph under construction; layers (nodes) and tensors (values) are found by name."""

    def __init__(self, name: str = "network") -> None:
        self.graph = Graph(name)
        self._tensors: dict[str, Value] = {}

    @property
    def layers(self) -> tuple[Node, ...]:
        """All nodes in order."""
        return tuple(self.graph.nodes)

    @property
    def tensors(self) -> tuple[Value, ...]:
        """All inputs, constants and node outputs, in order of creation."""
        return tuple(self._tensors.values())

    def add_input(
        self, name: str, dtype: str | DType, shape: Sequence[int | str | Dim]
    ) -> Value:
        """A new input; a text in the shape is a symbol: `("N", 3, 224, 224)`."""
        self._check_free(name)
        dims = tuple(symbol(dim) if isinstance(dim, str) else dim for dim in shape)
        for dim in dims:
            if not isinstance(dim, Sym) and (not isinstance(dim, int) or dim < 0):
                raise ShapeError(f"input {name!r}: {dim!r} is no extent (an int or a symbol)")
        return self._keep(self.graph.add_input(name, TensorType(_dtype(dtype), dims)))

    def add_constant(self, name: str, array: Any) -> Value:  # Any: whatever numpy takes
        """A constant with that content; its dtype is the array's."""
        self._check_free(name)
        data = np.asarray(array)
        try:
            dtype_from_numpy(data.dtype)
        except KeyError:
            raise ShapeError(f"constant {name!r}: dtype {data.dtype} has no counterpart") from None
        return self._keep(self.graph.add_constant(name, data))

    def add(
        self, op_name: str, *inputs: Value | Array | float | int | None, name: str = "",
        outputs: int | Sequence[str] = 1, **attributes: Any,  # Any: each operator has its own
    ) -> Any:
        """Adds an operator by name; returns its output value, or a tuple if it has several.

        Arrays and numbers become constants; a plain number takes the dtype of the first tensor.
        `outputs` is how many outputs are wanted, or their names.

        Raises: UnsupportedOperatorError for an unknown operator; SettingsError for an attribute
            it does not have; ShapeError if the inputs do not fit.
        """
        op = _make_operator(op_name, attributes)
        if name:
            self._check_free(name)
        label = name or self.graph.unique_name(op_name)
        operands = self._operands(label, inputs)
        wished = self._output_names(label, outputs)
        self.graph._names.discard(label)
        node = self.graph.add_node(op, operands, name=label, outputs=wished)
        for value in node.outputs:
            self._keep(value)
        return node.outputs[0] if len(node.outputs) == 1 else tuple(node.outputs)

    def mark_output(self, value: Value, name: str = "") -> Value:
        """Makes a value an output of the network, renamed if a name is given."""
        if self._tensors.get(value.name) is not value:
            raise VerifyError(f"value {value.name!r} is not of this network")
        if name and name != value.name:
            self._check_free(name)
            del self._tensors[value.name]
            self.graph.rename_value(value, name)
            self._keep(value)
        if not self.graph.is_output(value):
            self.graph.outputs.append(value)
        return value

    def find_layer(self, name: str) -> Node:
        """The node of that name. Raises: VerifyError with near names."""
        node = self.graph.find_node(name)
        if node is None:
            raise VerifyError(_not_found("layer", name, [n.name for n in self.graph.nodes]))
        return node

    def find_tensor(self, name: str) -> Value:
        """The value of that name. Raises: VerifyError with near names."""
        if name not in self._tensors:
            raise VerifyError(_not_found("tensor", name, list(self._tensors)))
        return self._tensors[name]

    def _keep(self, value: Value) -> Value:
        self._tensors[value.name] = value
        return value

    def _check_free(self, name: str) -> None:
        if name in self._tensors or any(node.name == name for node in self.graph.nodes):
            raise VerifyError(f"the name {name!r} is taken in network {self.graph.name!r}")

    def _operands(
        self, label: str, inputs: Sequence[Value | Array | float | int | None]
    ) -> list[Value | None]:
        first = next((v for v in inputs if isinstance(v, Value)), None)
        operands: list[Value | None] = []
        for position, item in enumerate(inputs):
            if item is None or isinstance(item, Value):
                operands.append(item)
                continue
            number = isinstance(item, (int, float)) and first is not None
            dtype = first.tensor.dtype.numpy if number and first is not None else None
            name = self.graph.unique_name(f"{label}.{position}")
            self.graph._names.discard(name)
            operands.append(self.add_constant(name, np.asarray(item, dtype)))
        return operands

    def _output_names(self, label: str, outputs: int | Sequence[str]) -> list[str]:
        if isinstance(outputs, int):
            return [f"{label}_out{i or ''}" for i in range(outputs)]
        for name in outputs:
            self._check_free(name)
        return list(outputs)


def _dtype(dtype: str | DType) -> DType:
    if isinstance(dtype, DType):
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    try:
        return dtype_from_numpy(dtype)
    except (KeyError, TypeError):
        raise ShapeError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}") from None


def _make_operator(op_name: str, attributes: Mapping[str, Any]) -> Operator:
    cls = OPERATORS.find(op_name)
    if cls is None:
        near = difflib.get_close_matches(op_name, OPERATORS.names(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnsupportedOperatorError(f"unknown operator {op_name!r}{hint}")
    known = [f.name for f in fields(cls)]
    for name in attributes:
        if name not in known:
            raise SettingsError(
                f"{op_name} has no attribute {name!r}; it has {', '.join(known) or 'none'}"
            )
    made: Operator = cls(**{name: _frozen(value) for name, value in attributes.items()})
    return made


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _not_found(kind: str, name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    return f"no {kind} is named {name!r}" + (f"; near: {', '.join(near)}" if near else "")


class Builder:
    """Makes networks and builds engines from them.

    `logger` receives what the build tells (default: the logger `bessemer.compiler`).
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger

    def create_network(self, name: str = "network") -> Network:
        """An empty network."""
        return Network(name)

    def create_config(self, **options: Any) -> BuilderConfig:  # Any: checked by BuilderConfig
        """Build options with the given ones set."""
        return BuilderConfig(**options)

    def create_profile(self) -> OptimizationProfile:
        """A profile without shapes."""
        return OptimizationProfile()

    def build(self, network: Network | Graph, config: BuilderConfig | None = None) -> "Engine":
        """Builds an engine; the network stays as it is.

        Raises: VerifyError if the network has no outputs; what `bessemer.build` raises.
        """
        graph = network.graph if isinstance(network, Network) else network
        if not graph.outputs:
            raise VerifyError(f"network {graph.name!r} has no outputs; call mark_output first")
        from bessemer.compiler.build import build

        options = (config or BuilderConfig()).build_options()
        return build(graph.clone(), logger=self.logger, **options)
