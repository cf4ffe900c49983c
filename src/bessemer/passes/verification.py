"""Compares a graph before and after a pass on data."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.core.shapes import Dim, substitute
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_graph
from bessemer.ir.types import TensorType

log = logging.getLogger("bessemer.passes")

TOLERANCE = {"f64": 1e-9, "f32": 1e-4, "f16": 1e-2, "bf16": 5e-2}
"""Largest difference relative to the largest magnitude; other dtypes must be equal."""

Arrays = list[np.ndarray[Any, Any]]


def random_inputs(graph: Graph, *, extent: int = 2, seed: int = 0) -> Arrays | None:
    """Seeded data for every graph input, symbols set to `extent`; None if an input is no tensor.

    Integers are 0 or 1, which are legal as indices nearly everywhere.
    """
    rng = np.random.default_rng(seed)
    arrays: Arrays = []
    for value in graph.inputs:
        known = value.type
        if not isinstance(known, TensorType) or known.shape is None or known.dtype.kind == "string":
            return None
        dims = [_bind(dim, extent) for dim in known.shape]
        if known.dtype.is_float:
            drawn = rng.uniform(-1, 1, dims)
        else:
            drawn = rng.integers(0, 2, dims).astype(np.float64)
        arrays.append(np.asarray(drawn).astype(known.dtype.numpy))
    return arrays


def _bind(dim: Dim, extent: int) -> int:
    if isinstance(dim, int):
        return dim
    bound = substitute(dim, dict.fromkeys(dim.symbols(), extent))
    return max(int(bound), 0) if isinstance(bound, int) else extent


def choose_inputs(graph: Graph, verify: Mapping[str, Any] | bool | None) -> Arrays | None:
    """The arrays to verify with: those given by name, or random ones; None for no verification."""
    if verify is None or verify is False:
        return None
    if verify is True:
        arrays = random_inputs(graph)
        if arrays is None:
            log.warning("verify: inputs of %r are not all tensors of known rank", graph.name)
        return arrays
    missing = [value.name for value in graph.inputs if value.name not in verify]
    if missing:
        log.warning("verify: no data for input(s) %s", ", ".join(missing))
        return None
    return [np.asarray(verify[value.name]) for value in graph.inputs]


def run_quietly(graph: Graph, inputs: Arrays) -> list[Any] | str:
    """The outputs, or why the references could not run."""
    try:
        return run_graph(graph, inputs)
    except (*REFERENCE_ERRORS, BessemerError) as error:
        return f"{type(error).__name__}: {error}"


def find_difference(graph: Graph, before: Sequence[Any], after: Sequence[Any]) -> str:
    """The first output that differs beyond its dtype's tolerance, in words; empty if none does."""
    for value, old, new in zip(graph.outputs, before, after, strict=True):
        reason = _differs(old, new)
        if reason:
            return f"output {value.name!r} {reason}"
    return ""


def _differs(old: Any, new: Any) -> str:
    if isinstance(old, list) or isinstance(new, list):
        if not isinstance(new, list) or not isinstance(old, list) or len(old) != len(new):
            return "has another number of elements"
        return next((text for a, b in zip(old, new, strict=True) if (text := _differs(a, b))), "")
    if old is None or new is None:
        return "" if old is new else "is present only once"
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"was {old.dtype}{list(old.shape)} and is {new.dtype}{list(new.shape)}"
    known = TensorType.of(old, keep_value=False)
    if not known.dtype.is_float:
        return "" if np.array_equal(old, new) else "has other elements"
    return _float_difference(old, new, TOLERANCE.get(known.dtype.name, 0.1))


def _float_difference(old: Any, new: Any, tolerance: float) -> str:
    a, b = old.astype(np.float64), new.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return "has NaN or infinity in other places"
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return "has other NaN or infinite elements"
    if not finite.any():
        return ""
    worst = float(np.abs(a[finite] - b[finite]).max())
    scale = max(float(np.abs(a[finite]).max()), 1e-6)
    if worst <= tolerance * scale:
        return ""
    return f"differs by {worst:.3g} where the largest element is {scale:.3g}"
