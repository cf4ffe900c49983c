"""Bodies of control flow inside an engine: nested plans as what an operator's `drive` calls."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bessemer.core.dtypes import DTYPES
from bessemer.core.formula import parse_dim
from bessemer.core.shapes import Dim
from bessemer.engine.plan import Binding
from bessemer.runtime.cycle import Cycle, can_cycle

if TYPE_CHECKING:
    from bessemer.runtime.runner import Runner


def make_body(runner: "Runner") -> Any:
    """The `ops.control.Body` that a runner of a nested plan runs.

    Operators know it as one that gives lists of results and can say their types.
    """
    # Imported only here: engines without control flow load without the operators.
    control = importlib.import_module("bessemer.ops.control")
    program = runner.program

    def run(operands: list[Any]) -> list[Any]:
        return list(runner.run(operands).values())

    cycles: dict[bool, Callable[..., Any]] = {}

    def cycle(counts: bool) -> Callable[..., Any] | None:
        if counts not in cycles and can_cycle(program.plan, program.segments, counts):
            cycles[counts] = Cycle(runner, counts).run
        return cycles.get(counts)

    plan = program.plan
    return control.Body(
        run, tuple(map(_type_of, plan.inputs)), tuple(map(_type_of, plan.outputs)), cycle)


def _type_of(binding: Binding) -> Any:
    """The type of a binding, as far as an empty stack of such values needs it."""
    types = importlib.import_module("bessemer.ir.types")
    if not binding.dtype:
        return types.OptionalType(None)
    shape = None
    if binding.shape is not None:
        shape = tuple(map(_extent, binding.shape))
    return types.TensorType(DTYPES[binding.dtype], shape)


def _extent(extent: int | str | None) -> Dim:
    # One that is known only when running counts as 0 where nothing ran; so does a mere name.
    try:
        return parse_dim(extent) if isinstance(extent, str) else extent or 0
    except ValueError:
        return 0
