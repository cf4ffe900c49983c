"""Values of symbols, found in the inputs and in results of host steps, and checked there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError, ExecutionError, InputError
from bessemer.core.formula import Evaluate, compile_formulas, formula_symbols
from bessemer.engine.plan import Condition, Extent, HostStep, Plan, SymbolRecord
from bessemer.runtime.operators import describe


class Formulas:
    """Some formulas over the symbols of a plan, compiled when first used."""

    def __init__(self, plan: Plan, formulas: Sequence[Extent]) -> None:
        self._formulas = formulas
        self._names = [symbol.name for symbol in plan.symbols]
        self._function: Evaluate | None = None

    def values(self, values: Sequence[int]) -> list[int | None]:
        """Their values; None for all if a division by zero is in one of them."""
        if self._function is None:
            self._function = compile_formulas(self._formulas, self._names)
        try:
            return list(self._function(values))
        except ZeroDivisionError:
            return [None] * len(self._formulas)


class Shapes:
    """Expected shapes of some arrays, as formulas."""

    def __init__(self, plan: Plan, shapes: Sequence[tuple[Extent | None, ...]]) -> None:
        self._plan = plan
        self._shapes = shapes
        self._formulas = Formulas(plan, [e or 0 for shape in shapes for e in shape])

    def check(self, found: Sequence[tuple[int, ...]], values: Sequence[int], names: Sequence[str],
              kind: type[BessemerError], label: str) -> None:
        """Raises an error of that kind, naming the first array of another shape."""
        wanted = iter(self._formulas.values(values))
        for shape, actual, name in zip(self._shapes, found, names, strict=True):
            numbers = [next(wanted) for _ in shape]
            if len(actual) == len(shape) and all(
                    extent is None or number == size
                    for extent, number, size in zip(shape, numbers, actual, strict=True)):
                continue
            expected = ", ".join(
                "?" if extent is None else str(extent) if isinstance(extent, int)
                or str(number) == extent else f"{extent}={number}"
                for extent, number in zip(shape, numbers, strict=True)
            )
            known = ", ".join(
                f"{symbol.name}={value}"
                for symbol, value in zip(self._plan.symbols, values, strict=True)
                if any(symbol.name in formula_symbols(extent or 0) for extent in shape)
            )
            where = f" where {known}" if known else ""
            raise kind(
                f"{label}: {name} has shape {list(actual)}, expected [{expected}]{where}"
            )


class UnusualShapesError(InputError):
    """Valid inputs for which the plan takes too much for granted: another engine must run them."""


_WORDS = {
    "equal": "equal to", "equal or 1": "1 or equal to", "broadcast": "equal to (or one of both 1)",
    "at most": "at most",
}


class Conditions:
    """What must hold of some symbols for the steps to be right."""

    def __init__(self, plan: Plan, conditions: Sequence[Condition]) -> None:
        # The usual ones first: where they do not hold, others need not.
        self._plan = plan
        self._conditions = sorted(conditions, key=lambda condition: not condition.is_usual)
        self._formulas = Formulas(
            plan, [side for c in self._conditions for side in (c.left, c.right)])
        usual = [c for c in conditions if c.is_usual]
        self._more = plan.takes_for_granted and any(
            part.conditions and (part is not plan or c not in usual)
            for part in (plan, *plan.inner_plans) for c in part.conditions if c.is_usual)

    def check(self, values: Sequence[int], kind: type[BessemerError], label: str) -> None:
        """Raises an error of that kind naming the first condition that does not hold.

        UnusualShapesError if it is one that valid inputs may break.
        """
        if not self._conditions:
            return
        sides = self._formulas.values(values)
        for condition, left, right in zip(
                self._conditions, sides[::2], sides[1::2], strict=True):
            if left is None or right is None or _holds(condition.relation, left, right):
                continue
            names = condition_symbols(condition)
            known = ", ".join(
                f"{symbol.name}={value}"
                for symbol, value in zip(self._plan.symbols, values, strict=True)
                if symbol.name in names
            )
            where = f"node {condition.source!r}" if condition.source else "the engine"
            words = _WORDS[condition.relation.removeprefix("usually ")]
            text = (f"{label}: {where} needs {condition.left} to be {words} {condition.right}, "
                    f"but {known}: they are {left} and {right}; ")
            if condition.is_usual or self._more:
                raise UnusualShapesError(
                    f"{text}it was built for usual shapes: build it with a profile of which the "
                    "usual shape is like these, or with these shapes")
            raise kind(f"{text}these shapes do not fit the model")


def _holds(relation: str, left: int, right: int) -> bool:
    """True if the relation holds of two numbers."""
    match relation.removeprefix("usually "):
        case "equal or 1":
            return left in (1, right)
        case "broadcast":
            return left == right or 1 in (left, right)
        case "at most":
            return left <= right
    return left == right


def condition_symbols(condition: Condition) -> frozenset[str]:
    """The symbols in both sides."""
    return formula_symbols(condition.left) | formula_symbols(condition.right)


class InputRules:
    """What the inputs say of the symbols, and what their shapes must then be."""

    def __init__(self, plan: Plan, label: str) -> None:
        self._plan, self._label = plan, label
        numbered = list(enumerate(plan.symbols))
        self._extents = [(i, s) for i, s in numbered if s.source[0] == "input"]
        self._contents = [(i, s) for i, s in numbered if s.source[0] == "content"]
        self.reads_content = bool(self._contents)
        self._shaped = [i for i, binding in enumerate(plan.inputs) if binding.shape is not None]
        self._shapes = Shapes(plan, [plan.inputs[i].shape or () for i in self._shaped])
        self._names = [f"input {plan.inputs[i].name!r}" for i in self._shaped]
        given = {s.name for _, s in (*self._extents, *self._contents)}
        self._conditions = Conditions(
            plan, [c for c in plan.conditions if condition_symbols(c) <= given])

    def contents(self, arrays: Sequence[Any]) -> tuple[int, ...]:
        """The values of symbols that are elements of inputs. Raises: InputError."""
        return tuple(self._element(symbol, arrays) for _, symbol in self._contents)

    def _element(self, symbol: SymbolRecord, arrays: Sequence[Any]) -> int:
        binding, element = int(symbol.source[1]), int(symbol.source[2])
        array = arrays[binding]
        if element >= array.size:
            raise InputError(
                f"{self._label}: input {self._plan.inputs[binding].name!r} has {array.size} "
                f"elements, but element {element} is the extent {symbol.name!r}"
            )
        return int(array.reshape(-1)[element])

    def values(self, arrays: Sequence[Any]) -> list[int]:
        """The values of all symbols, 0 for those that steps will give.

        Raises: InputError if a value is out of its limits or a shape does not fit.
        """
        values = [0] * len(self._plan.symbols)
        for index, symbol in self._extents:
            values[index] = arrays[int(symbol.source[1])].shape[int(symbol.source[2])]
        for (index, _), value in zip(self._contents, self.contents(arrays), strict=True):
            values[index] = value
        for index, symbol in (*self._extents, *self._contents):
            name = self._plan.inputs[int(symbol.source[1])].name
            kind = "extent" if symbol.source[0] == "input" else "element"
            where = f"{kind} {symbol.source[2]} of input {name!r}"
            check_limits(symbol, values[index], where, InputError, self._label)
        found = [arrays[i].shape for i in self._shaped]
        self._shapes.check(found, values, self._names, InputError, self._label)
        self._conditions.check(values, InputError, self._label)
        return values


class StepRules:
    """What the results of a host step say of the symbols, and what their shapes must then be."""

    def __init__(self, plan: Plan, number: int, label: str) -> None:
        step = plan.steps[number]
        assert isinstance(step, HostStep)
        self._where = f"{label}: host step {step.name!r}"
        self._binds = [
            (i, symbol) for i, symbol in enumerate(plan.symbols)
            if symbol.source[0] in ("step", "value") and symbol.source[1] == number
        ]
        known = {
            symbol.name for symbol in plan.symbols
            if symbol.source[0] in ("input", "content") or int(symbol.source[1]) <= number
        }
        self._checked = [
            i for i, ref in enumerate(step.outputs) if ref is not None and ref.shape is not None
            and all(formula_symbols(extent) <= known for extent in ref.shape)
        ]
        shapes = [(ref.shape or ()) if (ref := step.outputs[i]) else () for i in self._checked]
        self._shapes = Shapes(plan, shapes)
        self._names = [f"result {i}" for i in self._checked]
        own = {symbol.name for _, symbol in self._binds}
        self._conditions = Conditions(plan, [
            c for c in plan.conditions
            if condition_symbols(c) & own and condition_symbols(c) <= known])
        self.is_empty = not self._binds and not self._checked

    def apply(self, results: Sequence[Any], values: list[int]) -> None:
        """Sets the values that these results decide. Raises: ExecutionError."""
        for index, symbol in self._binds:
            kind, _, output, position = symbol.source
            values[index] = self._value(str(kind), results[int(output)], int(position), symbol)
            where = f"{'extent' if kind == 'step' else 'element'} {position} of result {output}"
            check_limits(symbol, values[index], where, ExecutionError, self._where)
        self._conditions.check(values, ExecutionError, self._where)
        found = [np.shape(results[i]) for i in self._checked]
        self._shapes.check(found, values, self._names, ExecutionError, self._where)

    def _value(self, kind: str, result: Any, position: int, symbol: SymbolRecord) -> int:
        if isinstance(result, np.ndarray | np.generic):
            array = np.asarray(result)
            if kind == "step" and position < array.ndim:
                return int(array.shape[position])
            if kind == "value" and position < array.size and array.dtype.kind in "iu":
                return int(array.reshape(-1)[position])
        raise ExecutionError(
            f"{self._where} gave {describe(result)}, which has no "
            f"{'extent' if kind == 'step' else 'integer element'} {position} for {symbol.name!r}"
        )


def check_limits(
    symbol: SymbolRecord, value: int, where: str, kind: type[BessemerError], label: str
) -> None:
    """Raises an error of that kind for a value that the plan excludes."""
    if value >= symbol.low and (symbol.high is None or value <= symbol.high):
        return
    allowed = f"{symbol.low} or more" if symbol.high is None else f"{symbol.low} to {symbol.high}"
    raise kind(
        f"{label}: {symbol.name} ({where}) is {value}, but the engine was built for {allowed}; "
        "build it for a wider range of shapes"
    )


def output_rules(plan: Plan) -> tuple[list[int], Shapes]:
    """Outputs of which the shape is known as formulas, and their shapes."""
    shaped = [i for i, binding in enumerate(plan.outputs) if binding.shape is not None]
    return shaped, Shapes(plan, [plan.outputs[i].shape or () for i in shaped])
