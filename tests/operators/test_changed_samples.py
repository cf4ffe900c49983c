"""Samples with one thing changed are refused by inference, or all meanings still agree.

What a damaged model asks of an operator must not reach a kernel that disagrees with its type.
"""

import dataclasses
import random
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from test_generated import CASES, Array, Case, assert_close, tolerance_of

from bessemer import te
from bessemer.core.dtypes import COMPILED, DTYPES
from bessemer.core.errors import BessemerError
from bessemer.core.registry import OPERATORS
from bessemer.ir.inference import INFERENCE_ERRORS
from bessemer.ir.interpreter import REFERENCE_ERRORS
from bessemer.ir.operator import Operator, infer_types, outputs_of
from bessemer.ir.types import TensorType

NUMBERS = (-(2**63), -(2**31), -100, -3, -2, -1, 0, 1, 2, 3, 4, 7, 100, 2**31 - 1, 2**63 - 1)
EXTENTS = (0, 1, 2, 3, 5)
OTHER_DTYPES = ("f32", "i64", "bool", "f16", "u8", "i32")
LARGEST = 100_000


def change_shape(array: Array, rng: random.Random) -> Array:
    shape = list(array.shape)
    kind = rng.randrange(3)
    if kind == 0 and shape:
        shape.pop(rng.randrange(len(shape)))
    elif kind == 1:
        shape.insert(rng.randrange(len(shape) + 1), rng.choice(EXTENTS))
    elif shape:
        shape[rng.randrange(len(shape))] = rng.choice(EXTENTS)
    return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)


def change_dtype(array: Array, rng: random.Random) -> Array:
    if array.dtype.kind == "O":
        return array
    with np.errstate(all="ignore"):
        return array.astype(DTYPES[rng.choice(OTHER_DTYPES)].numpy)


def change_element(array: Array, rng: random.Random) -> Array:
    if array.dtype.kind not in "iu" or not array.size:
        return array
    limits = np.iinfo(array.dtype)
    changed = array.copy()
    number = min(max(rng.choice(NUMBERS), limits.min), limits.max)
    changed.reshape(-1)[rng.randrange(array.size)] = number
    return changed


def change_attribute(op: Operator, rng: random.Random) -> Operator:
    names = [f.name for f in dataclasses.fields(op)]  # type: ignore[arg-type]
    dtypes = getattr(op, "dtype_attributes", ())
    names = [n for n in names if n not in dtypes and isinstance(getattr(op, n), int | str | tuple)]
    if not names:
        return op
    name = rng.choice(names)
    old = getattr(op, name)
    new: Any = rng.choice(NUMBERS)
    if isinstance(old, str):
        new = "unheard-of"
    elif isinstance(old, tuple):
        new = tuple(rng.choice(NUMBERS) for _ in range(rng.randrange(4)))
    return dataclasses.replace(op, **{name: new})  # type: ignore[type-var]


def changed_case(name: str, number: int) -> Case:
    case = Case(name, number)
    rng = random.Random(zlib.crc32(f"{name}.{number}".encode()))
    places = [k for k, array in enumerate(case.inputs) if array is not None]
    known = [array is not None for array in case.known]
    changes = rng.choice(
        (
            [change_shape],
            [change_dtype],
            [change_element],
            [change_attribute],
            [change_shape, change_attribute],
        )
    )
    for change in changes:
        if change is change_attribute:
            case.op = change_attribute(case.op, rng)
        elif places:
            place = rng.choice(places)
            array = case.inputs[place]
            assert array is not None
            case.inputs[place] = change(array, rng)
    case.types = [
        None if array is None else TensorType.of(array, keep_value=k)
        for array, k in zip(case.inputs, known)
    ]
    case.known = tuple(array if k else None for array, k in zip(case.inputs, known))
    return case


def is_small(type: Any) -> bool:
    if not isinstance(type, TensorType) or not type.is_static:
        return True
    return 0 <= int(np.prod(type.static_shape, dtype=object)) <= LARGEST


@pytest.mark.parametrize(("name", "number"), CASES)
def test_refused_or_consistent(name: str, number: int) -> None:
    case = changed_case(name, number)
    try:
        types = infer_types(case.op, case.types)
    except INFERENCE_ERRORS:
        return
    tensors = [type for type in types if isinstance(type, TensorType)]
    assert all(n >= 0 for t in tensors if t.is_static for n in t.static_shape), "negative extent"
    if not all(map(is_small, types)):
        return
    try:
        with warnings.catch_warnings():
            # Means of nothing and divisions by zero are no failures.
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = case.results()
    except (*REFERENCE_ERRORS, BessemerError):
        expected = None
    if expected is not None:
        for type, result in zip(types, expected):
            if isinstance(type, TensorType) and isinstance(result, np.ndarray):
                found = TensorType.of(result)
                assert type.dtype == found.dtype
                assert not type.is_static or type.shape == found.shape
    operands = [type for type in case.types if type is not None]
    compiled = all(t.is_static and t.dtype in COMPILED for t in (*operands, *tensors))
    if not compiled or not case.op.has_lowering() or not case.op.deterministic:
        return
    places = [
        None if type is None else te.placeholder(type.dtype, type.dims, f"x{k}")
        for k, type in enumerate(case.types)
    ]
    try:
        lowered = outputs_of(case.op.lower(*places, known=case.known, types=types))
    except BessemerError:
        return
    if expected is None:
        return
    feed = {p: a for p, a in zip(places, case.inputs) if p is not None and a is not None}
    wanted = [k for k, tensor in enumerate(lowered) if tensor is not None]
    for k, got in zip(wanted, te.evaluate(tuple(lowered[k] for k in wanted), feed)):
        if expected[k] is not None:
            tolerance = tolerance_of(case.op, types[k].dtype.name)
            assert_close(got, expected[k], 4 * tolerance, f"output {k}")


def test_the_changed_samples_cover_every_operator_family() -> None:
    modules = {OPERATORS.get(case.values[0]).__module__ for case in CASES}
    assert len(modules) > 30
