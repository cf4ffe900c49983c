"""Tests generated from the operator table: infer, reference and lower agree on every sample."""

import re
import zlib
from typing import Any

import numpy as np
import pytest

from bessemer import te
from bessemer.core.dtypes import COMPILED, DTYPES, dtype_from_numpy
from bessemer.core.errors import ShapeError
from bessemer.core.registry import OPERATORS
from bessemer.core.shapes import Sym, substitute, symbol
from bessemer.ir.operator import Operator, Sample, Unlowerable, infer_types, outputs_of
from bessemer.ir.types import SequenceType, TensorType

Array = np.ndarray[Any, Any]

TOLERANCE = {"f64": 1e-9, "f32": 1e-5, "f16": 2e-3, "bf16": 1.6e-2, "c64": 1e-5, "c128": 1e-9}
"""Relative tolerance by dtype; absolute where values are near zero (0.1 of it)."""


def random_array(text: str, low: float, high: float, rng: np.random.Generator) -> Array:
    """Random data for a text such as f32[2,3]: uniform floats, integers in [low, high]."""
    match = re.fullmatch(r"(\w+)\[([\d,]*)\]", text)
    assert match is not None, f"bad sample input {text!r}"
    dtype = DTYPES[match[1]]
    shape = [int(part) for part in match[2].split(",") if part]
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        start = max(int(low), 0) if dtype.kind == "uint" else int(low)
        return np.asarray(rng.integers(start, int(high) + 1, shape)).astype(dtype.numpy)
    if dtype.kind == "string":
        return np.asarray(rng.integers(0, 9, shape)).astype(str).astype(object)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype.numpy)


class Case:
    """One sample of an operator, with its data."""

    def __init__(self, name: str, number: int) -> None:
        cls = OPERATORS.get(name)
        self.sample: Sample = cls.samples[number]
        self.op: Operator = cls(**self.sample.attributes)
        rng = np.random.default_rng(zlib.crc32(f"{name}.{number}".encode()))
        low, high = self.sample.low, self.sample.high
        self.inputs: list[Array | None] = [
            random_array(item, low, high, rng) if isinstance(item, str) else item
            for item in self.sample.inputs
        ]
        self.types = [
            None if array is None else TensorType.of(array, keep_value=not isinstance(item, str))
            for array, item in zip(self.inputs, self.sample.inputs)
        ]
        self.known = tuple(
            array if not isinstance(item, str) else None
            for array, item in zip(self.inputs, self.sample.inputs)
        )

    def results(self) -> tuple[Any, ...]:
        copies = [None if array is None else array.copy() for array in self.inputs]
        result = outputs_of(self.op.reference(*copies))
        for before, after in zip(self.inputs, copies):
            if before is not None:
                np.testing.assert_array_equal(before, after, "reference changed an input")
        return result


def _describe(name: str, number: int, item: Sample) -> str:
    inputs = ",".join(
        "none" if x is None else x if isinstance(x, str) else str(TensorType.of(x))
        for x in item.inputs
    )
    attributes = ",".join(f"{k}={v}".replace(" ", "")[:24] for k, v in item.attributes.items())
    return f"{name}-{number}-{inputs}" + (f"-{attributes}" if attributes else "")


def _cases() -> list[Any]:
    cases = []
    for name in OPERATORS.names():
        if name.startswith("test."):
            continue
        for number, item in enumerate(OPERATORS.get(name).samples):
            marks = [pytest.mark.skip(reason=item.skip)] if item.skip else []
            label = _describe(name, number, item)
            cases.append(pytest.param(name, number, id=label, marks=marks))
    return cases


CASES = _cases()


def is_random(case: Case) -> bool:
    return not case.op.deterministic


def assert_close(got: Array, expected: Array, tolerance: float, message: str) -> None:
    """Equal for exact dtypes, within the tolerance for floats; NaN equals NaN."""
    assert got.shape == expected.shape, f"{message}: shape {got.shape} != {expected.shape}"
    if tolerance == 0:
        if dtype_from_numpy(expected.dtype).is_small:  # numpy does not know their NaN
            got, expected = got.astype(np.float32), expected.astype(np.float32)
        np.testing.assert_array_equal(got, expected, message)
        return
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = got.astype(kind), expected.astype(kind)
    scale = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
    np.testing.assert_allclose(
        a, b, rtol=tolerance, atol=0.1 * tolerance * max(1.0, float(scale)), err_msg=message
    )


def tolerance_of(op: Operator, name: str) -> float:
    return op.tolerance.get(name, TOLERANCE.get(name, 0.0))


def test_every_operator_has_samples() -> None:
    # Operators that other tests register are named "test.".
    own = [n for n in OPERATORS.names() if not n.startswith("test.")]
    without = [n for n in own if not OPERATORS.get(n).samples]
    assert not without, f"operators without samples: {without}"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_infer_equals_type_of_reference(name: str, number: int) -> None:
    case = Case(name, number)
    inferred = infer_types(case.op, case.types)
    results = case.results()
    assert len(inferred) >= len([r for r in results if r is not None])
    bound: dict[str, int] = {}
    for position, (type, result) in enumerate(zip(inferred, results)):
        if result is None:
            continue
        if isinstance(type, SequenceType) or not isinstance(type, TensorType):
            continue
        assert isinstance(result, np.ndarray), f"output {position} is {result!r}, not an array"
        found = TensorType.of(result)
        assert type.dtype == found.dtype, f"output {position}: inferred {type}, got {found}"
        if type.shape is None:
            continue
        assert len(type.shape) == result.ndim, f"output {position}: inferred {type}, got {found}"
        for dim, extent in zip(type.shape, result.shape):
            if isinstance(dim, Sym):
                assert str(dim).startswith("?"), f"output {position}: {type} has a stray symbol"
                assert bound.setdefault(str(dim), extent) == extent
            else:
                assert dim == extent, f"output {position}: inferred {type}, got {found}"
        if type.value is not None:
            np.testing.assert_array_equal(type.value, result)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_lower_equals_reference(name: str, number: int) -> None:
    case = Case(name, number)
    if not case.op.has_lowering() or is_random(case):
        return
    arrays = [array for array in case.inputs if array is not None]
    types = infer_types(case.op, case.types)
    tensors = [type for type in (*types, *case.types) if isinstance(type, TensorType)]
    if not all(type.is_static and type.dtype in COMPILED for type in tensors):
        return
    places = [
        None if type is None else te.placeholder(type.dtype, type.dims, f"x{position}")
        for position, type in enumerate(case.types)
    ]
    try:
        lowered = outputs_of(case.op.lower(*places, known=case.known, types=types))
    except Unlowerable:
        return
    wanted = [position for position, tensor in enumerate(lowered) if tensor is not None]
    feed = dict(zip([place for place in places if place is not None], arrays))
    outputs = te.evaluate(tuple(lowered[position] for position in wanted), feed)
    expected = case.results()
    for position, got in zip(wanted, outputs):
        if expected[position] is None:
            continue
        type = types[position]
        assert lowered[position].dtype == type.dtype
        assert tuple(lowered[position].shape) == type.dims
        assert got.dtype == type.dtype.numpy
        tolerance = tolerance_of(case.op, type.dtype.name)
        assert_close(got, expected[position], tolerance, f"output {position}")


def _same_dim(dim: Any, expected: Any, values: dict[str, int]) -> bool:
    """Whether a dimension, N known, is the expected one; data-dependent ones may be anything."""
    found = substitute(dim, values)
    return isinstance(found, Sym) or isinstance(expected, Sym) or found == expected


@pytest.mark.parametrize(("name", "number"), CASES)
def test_infer_with_one_symbolic_dimension(name: str, number: int) -> None:
    case = Case(name, number)
    static = infer_types(case.op, case.types)
    for position, item in enumerate(case.sample.inputs):
        type = case.types[position]
        if not isinstance(item, str) or type is None:
            continue
        for axis, extent in enumerate(type.static_shape):
            if extent <= 1:
                continue
            shape = tuple(symbol("N") if k == axis else d for k, d in enumerate(type.dims))
            types: list[Any] = list(case.types)
            types[position] = TensorType(type.dtype, shape)
            try:
                inferred = infer_types(case.op, types)
            except ShapeError as error:
                if "must be known" in str(error):
                    continue  # an operator may refuse an unknown extent if it says so
                raise
            for found, expected in zip(inferred, static):
                if not isinstance(found, TensorType) or found.shape is None:
                    continue
                assert isinstance(expected, TensorType)
                assert found.dtype == expected.dtype
                if expected.shape is None:
                    continue
                assert len(found.shape) == len(expected.shape)
                for dim, known in zip(found.shape, expected.shape):
                    assert _same_dim(dim, known, {"N": extent}), f"{found} against {expected}"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_infer_with_unknown_rank(name: str, number: int) -> None:
    case = Case(name, number)
    static = infer_types(case.op, case.types)
    for position, item in enumerate(case.sample.inputs):
        type = case.types[position]
        if not isinstance(item, str) or type is None:
            continue
        types: list[Any] = list(case.types)
        types[position] = TensorType(type.dtype, None)
        for found, expected in zip(infer_types(case.op, types), static):
            if isinstance(found, TensorType) and isinstance(expected, TensorType):
                assert found.dtype == expected.dtype
                if found.shape is not None and expected.shape is not None:
                    assert len(found.shape) == len(expected.shape)
