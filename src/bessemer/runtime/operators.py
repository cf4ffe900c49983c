"""Host steps: operators that run by their numpy reference, found by name when the engine loads."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import (
    BessemerError,
    EngineFormatError,
    ExecutionError,
    MissingExtraError,
)
from bessemer.core.frozen import dataclass
from bessemer.engine.plan import HostStep
from bessemer.runtime.places import Place


@dataclass(frozen=True)
class Operation:
    """A decoded operator of a host step."""

    step: HostStep
    label: str
    reference: Callable[..., Any]
    drive: Callable[..., Any] | None = None
    """Runs control flow on bodies that the step holds compiled."""

    def run(
        self, inputs: list[Any], bodies: Mapping[str, Any] | None = None
    ) -> tuple[Any, ...]:
        """The results, as many as the step has outputs; `bodies` are those of the step, if any.

        Raises: ExecutionError naming the step, its source nodes and its inputs.
        """
        try:
            if bodies and self.drive is not None:
                results = self.drive(bodies, *inputs)
            else:
                results = self.reference(*inputs)
        except BessemerError:
            raise
        # A reference is numpy code on data that nobody checked: any of these says "bad data".
        except (
            ValueError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError,
            AssertionError, MemoryError, RuntimeError, NotImplementedError, LookupError,
        ) as error:
            raise ExecutionError(
                f"{self.where()} failed: {type(error).__name__}: {error}; "
                f"inputs: {', '.join(map(describe, inputs))}"
            ) from error
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(self.step.outputs):
            raise ExecutionError(
                f"{self.where()} gave {len(results)} results, not {len(self.step.outputs)}"
            )
        return results

    def fit(self, result: Any, place: Place) -> np.ndarray[Any, Any]:
        """The result as the array that the plan promises.

        Raises: ExecutionError if dtype or shape differ.
        """
        array = np.asarray(result)
        if array.dtype != DTYPES[place.dtype].numpy or array.shape != place.shape:
            raise ExecutionError(
                f"{self.where()} gave {describe(array)} where the plan has "
                f"{place.dtype}{list(place.shape or ())}"
            )
        return array

    def where(self) -> str:
        """The step in words, with the source nodes it stems from."""
        sources = f" (from {', '.join(self.step.sources)})" if self.step.sources else ""
        return f"{self.label}: host step {self.step.name!r}{sources}"


def describe(value: Any) -> str:
    """Dtype and shape of an array, the type of anything else."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return "none" if value is None else type(value).__name__


def make_operation(step: HostStep, label: str, threads: int) -> Operation:
    """Decodes the operator of a host step; `threads` are those that it may use.

    Raises: EngineFormatError for an unknown operator or malformed attributes; MissingExtraError
    if it needs a package that is not installed.
    """
    # Imported only here: engines without host steps load in half the time without the graph IR.
    codec = importlib.import_module("bessemer.ir.codec")
    try:
        operator = codec.decode_operator(step.operator)
        operator.prepare(threads)
    except MissingExtraError as error:
        raise MissingExtraError(f"{label}: host step {step.name!r}: {error}") from error
    except BessemerError as error:
        raise EngineFormatError(f"{label}: host step {step.name!r}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
            RecursionError, MemoryError, AssertionError) as error:
        raise EngineFormatError(
            f"{label}: host step {step.name!r} has a malformed operator: "
            f"{type(error).__name__}: {error}"
        ) from error
    drive = getattr(operator, "drive", None)
    if step.bodies and drive is None:
        raise EngineFormatError(f"{label}: host step {step.name!r}: {operator} runs no bodies")
    return Operation(step, label, operator.reference, drive)


def own(value: Any) -> Any:
    """The value with every array copied that is a view of other memory or lies in another order."""
    if isinstance(value, np.ndarray):
        return value if value.flags.owndata and value.flags.c_contiguous else value.copy()
    if isinstance(value, list):
        return [own(item) for item in value]
    if isinstance(value, tuple):
        return tuple(own(item) for item in value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    return value
