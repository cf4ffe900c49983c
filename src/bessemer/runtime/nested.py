"""Bodies of control flow inside an engine: nested plans as what an operator's `drive` calls."""

import importlib
from typing import Any, Protocol

from bessemer.core.dtypes import DTYPES
from bessemer.engine.plan import Binding, Plan


class Runner(Protocol):
    """A context that runs a body's plan."""

    def run(self, inputs: Any) -> dict[str, Any]:
        """The outputs by name, for inputs in order."""


def make_body(plan: Plan, runner: Runner) -> Any:
    """The `ops.control.Body` that runs a plan in that context.

    Operators know it as one that gives lists of results and can say their types.
    """
    # Imported only here: engines without control flow load without the operators.
    control = importlib.import_module("bessemer.ops.control")

    def run(operands: list[Any]) -> list[Any]:
        return list(runner.run(operands).values())

    return control.Body(run, tuple(map(_type_of, plan.outputs)))


def _type_of(binding: Binding) -> Any:
    """The type of a body's result, as far as an empty stack of such results needs it."""
    types = importlib.import_module("bessemer.ir.types")
    if not binding.dtype:
        return types.OptionalType(None)
    shape = None
    if binding.shape is not None:
        # An extent that is known only when running counts as 0 where nothing ran.
        shape = tuple(extent if isinstance(extent, int) else 0 for extent in binding.shape)
    return types.TensorType(DTYPES[binding.dtype], shape)
