"""The operator base class, its decorator and samples: one class holds all that is known of one."""

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from bessemer.core.errors import LowerError
from bessemer.core.registry import OPERATORS
from bessemer.ir.types import ValueType


class FusionClass(enum.Enum):
    """How an operator may be fused (the four classes and three merge rules of the fuser)."""

    INJECTIVE = "injective"
    REDUCTION = "reduction"
    COMPLEX_OUT = "complex-out-fusable"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class Sample:
    """One test case of an operator.

    `inputs` are texts such as "f32[2,3]" (random data), arrays (that data, constant), or None
    (an optional input left out).
    """

    inputs: tuple[str | np.ndarray[Any, Any] | None, ...]
    attributes: dict[str, Any]
    low: float = -2.0
    high: float = 2.0
    skip: str = ""
    outputs: int = 1


def sample(
    *inputs: str | np.ndarray[Any, Any] | None,
    low: float = -2.0,
    high: float = 2.0,
    skip: str = "",
    outputs: int = 1,
    **attributes: Any,
) -> Sample:
    """A test case: inputs as "f32[2,3]" (uniform in low..high), arrays or None; then attributes."""
    return Sample(inputs, attributes, low, high, skip, outputs)


class Unlowerable(LowerError):
    """A use of an operator without tensor expression; it runs by its reference on the host."""


class Operator:
    """Base of all operators. Subclasses declare attributes as typed fields with defaults.

    `infer`, `reference` and `lower` take the inputs in ONNX order (None for an absent optional
    input, variadic ones spread) and return one result or a tuple of all results that the
    operator can produce; a node uses as many of them as it has outputs.
    """

    op_name: ClassVar[str] = ""
    fusion: ClassVar[FusionClass] = FusionClass.OPAQUE
    samples: ClassVar[tuple[Sample, ...]] = ()
    tolerance: ClassVar[dict[str, float]] = {}
    """Relative tolerance by dtype name where the tests' default is too strict; comment why."""
    deterministic: ClassVar[bool] = True
    """False for operators whose result is random; they are never folded or merged."""
    form_inputs: ClassVar[tuple[int, ...]] = ()
    """Positions of inputs whose contents decide the form of the result: axes, sizes, pads ..."""

    # The inputs of each operator differ, so the base declares them loosely (Any).
    def infer(self, *inputs: Any, **_: Any) -> Any:
        """Result type(s) from input types (`TensorType` or None). Raises ShapeError on misfit."""
        raise NotImplementedError

    def reference(self, *inputs: Any, **_: Any) -> Any:
        """Result array(s) in plain numpy: the meaning of the operator."""
        raise NotImplementedError

    def lower(self, *inputs: Any, **_: Any) -> Any:
        """Result tensor expression(s) from `te.Tensor` inputs. Raises Unlowerable if none."""
        raise Unlowerable(f"{self.op_name} has no tensor expression")

    def prepare(self, threads: int) -> None:
        """Called when an engine loads the operator as a host step, which may use so many threads.

        Raises: MissingExtraError if a package is missing that only this operator needs.
        """
        for body in self.subgraphs().values():
            for node in body.nodes:
                node.op.prepare(threads)

    def subgraphs(self) -> dict[str, Any]:
        """The attributes that are graphs, by name."""
        return {}

    @classmethod
    def has_lowering(cls) -> bool:
        """True if the operator defines a tensor expression (it may still refuse some uses)."""
        return cls.lower is not Operator.lower

    def attributes(self) -> dict[str, Any]:
        """Attribute values by name, in order of declaration."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def non_default_attributes(self) -> dict[str, Any]:
        """Attribute values that differ from their defaults."""
        result = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.default is dataclasses.MISSING or not _same(value, f.default):
                result[f.name] = value
        return result

    def __str__(self) -> str:
        return self.op_name


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is b
    return bool(a == b) and type(a) is type(b)


O = TypeVar("O", bound=type[Operator])  # noqa: E741


@dataclass_transform(frozen_default=True, eq_default=True)
def operator(name: str) -> Callable[[O], O]:
    """Makes a class a frozen dataclass and registers it as the operator of that name."""

    def decorate(cls: O) -> O:
        # A dataclass decorator without slots gives back the class itself.
        dataclass(frozen=True, eq=True)(cls)
        cls.op_name = name
        OPERATORS.add(name, cls)
        return cls

    return decorate


def operator_class(name: str) -> type[Operator]:
    """The operator class of that name."""
    return OPERATORS.get(name)


def outputs_of(result: Any) -> tuple[Any, ...]:
    """The results of infer, reference or lower as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def infer_types(op: Operator, inputs: list[ValueType | None]) -> tuple[ValueType, ...]:
    """All result types of an operator."""
    return outputs_of(op.infer(*inputs))
