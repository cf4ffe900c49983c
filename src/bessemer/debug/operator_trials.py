"""Tries operators with every element type: what is compiled, what runs on the host, and why.

Each sample of an operator is taken as it is, with other element types, and with its constants
computed at run time; the graph passes and the fuser then say what would become of it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, DType
from bessemer.core.errors import BessemerError
from bessemer.ir.graph import Graph, Value
from bessemer.ir.operator import Operator, Sample, operator_class
from bessemer.ir.types import TensorType
from bessemer.lower.fuse import partition
from bessemer.passes.pipelines import run_pipeline

Array = np.ndarray[Any, Any]

_MISFITS = (BessemerError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError,
            ValueError)
"""What operators raise on element types that an importer would have refused."""


@dataclass
class Findings:
    """What trying an operator has shown."""

    compiled: set[str] = field(default_factory=set)
    """Names of the element types with which some sample is compiled."""
    host: set[str] = field(default_factory=set)
    """Those with which samples run, but only by the reference."""
    reasons: dict[str, None] = field(default_factory=dict)
    """Why samples run on the host, in order."""


def try_operator(
    name: str, dtypes: Sequence[DType], varies: Callable[[int], bool] | None
) -> Findings:
    """Tries every sample with every element type at the inputs for which `varies` holds.

    `varies` None: the element types that attributes name change instead.
    """
    cls, found = operator_class(name), Findings()
    samples = [sample for sample in cls.samples if not sample.skip]
    for dtype in dtypes:
        variants = [_with_dtype(cls, sample, varies, dtype) for sample in samples]
        if any(_refusal(cls, sample) == "" for sample in variants):
            found.compiled.add(dtype.name)
        elif any(_runs(cls, sample) for sample in variants):
            found.host.add(dtype.name)
    for sample in samples:
        for variant in (sample, _computed(sample)):
            reason = _refusal(cls, variant)
            if reason:
                found.reasons.setdefault(reason)
    return found


def _with_dtype(
    cls: type[Operator], sample: Sample, varies: Callable[[int], bool] | None, dtype: DType
) -> Sample:
    """The sample with another element type where it may vary."""
    if varies is not None:
        return replace(sample, inputs=tuple(
            _converted(item, dtype) if varies(k) else item for k, item in enumerate(sample.inputs)
        ))
    attributes = dict(sample.attributes)
    for key in getattr(cls, "dtype_attributes", ()):
        attributes[key] = dtype.name
    for key, value in attributes.items():
        if isinstance(value, np.ndarray):
            attributes[key] = _cast(value, dtype)
    return replace(sample, attributes=attributes)


def _converted(item: str | Array | None, dtype: DType) -> str | Array | None:
    if isinstance(item, str):
        return dtype.name + item[item.index("["):]
    return item if item is None else _cast(item, dtype)


def _cast(array: Array, dtype: DType) -> Array:
    if dtype.kind == "string":
        return array.astype(str).astype(object)
    if array.dtype == object:
        array = np.ones(array.shape)
    if dtype.kind == "uint":
        array = np.abs(array)
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy)


def _computed(sample: Sample) -> Sample:
    """The sample with its constants computed at run time."""
    return replace(sample, inputs=tuple(
        str(TensorType.of(item, False)) if isinstance(item, np.ndarray) else item
        for item in sample.inputs
    ))


def _refusal(cls: type[Operator], sample: Sample) -> str | None:
    """Why the sample runs on the host; "" if it is compiled, None if it cannot be tried."""
    try:
        graph = _graph_of(cls, sample)
        reasons = _host_reasons(graph)
        if reasons and graph.inputs:
            run_pipeline(graph)
            reasons = _host_reasons(graph)
    except _MISFITS:
        return None
    return reasons[0] if reasons else ""


def _graph_of(cls: type[Operator], sample: Sample) -> Graph:
    graph = Graph("trial")
    operands: list[Value | None] = []
    for k, item in enumerate(sample.inputs):
        if item is None:
            operands.append(None)
        elif isinstance(item, str):
            operands.append(graph.add_input(f"x{k}", type_of(item)))
        else:
            operands.append(graph.add_constant(f"c{k}", item))
    node = graph.add_node(
        cls(**sample.attributes), operands, outputs=[f"y{k}" for k in range(sample.outputs)]
    )
    graph.outputs = list(node.outputs)
    return graph


def type_of(text: str) -> TensorType:
    """The type of a sample's input, such as f32[2,3]."""
    name, _, extents = text.rstrip("]").partition("[")
    return TensorType(DTYPES[name], tuple(int(extent) for extent in extents.split(",") if extent))


def _host_reasons(graph: Graph) -> list[str]:
    return [group.reason for group in partition(graph).groups if group.kind == "host"]


def _runs(cls: type[Operator], sample: Sample) -> bool:
    """True if the reference takes such data."""
    rng = np.random.default_rng(0)
    arrays = [
        _random(type_of(item), sample, rng) if isinstance(item, str) else item
        for item in sample.inputs
    ]
    types = [None if array is None else TensorType.of(array) for array in arrays]
    op = cls(**sample.attributes)
    try:
        with np.errstate(all="ignore"):
            op.infer(*types)
            op.reference(*arrays)
    except _MISFITS:
        return False
    return True


def _random(known: TensorType, sample: Sample, rng: np.random.Generator) -> Array:
    shape, dtype = known.static_shape, known.dtype
    if dtype.kind == "string":
        return rng.integers(0, 9, shape).astype(str).astype(object)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low, high = sample.low, sample.high
    if dtype.is_float or dtype.kind == "complex":
        return rng.uniform(low, high, shape).astype(dtype.numpy)
    first = max(int(low), 0) if dtype.kind == "uint" else int(low)
    last = max(min(int(high), (1 << (dtype.bits - 1)) - 1), first)
    return rng.integers(first, last + 1, shape).astype(dtype.numpy)


def plain(reason: str) -> str:
    """The reason without the names and extents of a trial."""
    return re.sub(r"\b[xy]\d+ is (\w+)\[[^\]]*\]", r"a tensor of \1", reason)
