"""Infers the result types of a node and words its errors with names, shapes and file."""

import inspect
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from bessemer.core.errors import BessemerError, ShapeError
from bessemer.core.shapes import Dim, Sym, symbol
from bessemer.ir.operator import Operator, outputs_of
from bessemer.ir.types import MapType, OptionalType, SequenceType, TensorType, ValueType

if TYPE_CHECKING:
    from bessemer.ir.graph import Node, Value


INFERENCE_ERRORS = (ShapeError, ValueError, IndexError, AssertionError, TypeError, KeyError,
                    ZeroDivisionError, OverflowError, MemoryError, AttributeError)
"""What `infer` may raise where inputs do not fit; callers see a ShapeError that names the node."""
_FRESH = "?fresh."
_MOST_KNOWN = 64
"""Contents of tensors with more elements are not computed while types are inferred."""


def fresh_symbol(op_name: str, position: int) -> Dim:
    """The symbol of an extent that depends on data, for `Operator.infer`.

    Inference of a node puts the node's name in it, so that no two nodes share one and the same
    model always gives the same names.
    """
    return symbol(f"{_FRESH}{op_name}.{str(position).replace('-', 'm')}")


def is_fresh(name: str) -> bool:
    """True for the name of a symbol that `fresh_symbol` made and no node has been put in."""
    return name.startswith(_FRESH)


def _named_after(type: ValueType, name: str) -> ValueType:
    """The type with fresh symbols named after the node."""
    if isinstance(type, SequenceType | OptionalType | MapType):
        return type if type.element is None else replace(
            type, element=_named_after(type.element, name))
    if type.shape is None:
        return type
    dims = [dim for dim in type.shape if isinstance(dim, Sym)]
    fresh = {text for dim in dims for text in dim.symbols() if text.startswith(_FRESH)}
    if not fresh:
        return type
    stem = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    if stem != name or not stem[0].isalpha():
        stem = f"_{stem}_{zlib.crc32(name.encode()):08x}"
    return type.subs({text: symbol(f"?{stem}.{text.rpartition('.')[2]}") for text in fresh})


@cache
def _required_inputs(infer: Callable[..., object]) -> int:
    """How many leading inputs `infer` takes that may not be None."""
    parameters = list(inspect.signature(infer).parameters.values())[1:]
    plain = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return sum(p.default is p.empty and type(None) not in get_args(p.annotation) for p in plain)


def _check_present(op: Operator, types: Sequence[ValueType | None]) -> None:
    needed = types[: _required_inputs(type(op).infer)]
    if None in needed:
        raise ShapeError(f"input {needed.index(None)} is required and left out")


def infer_node_types(
    op: Operator, inputs: Sequence["Value | None"], name: str, source: str = "",
    sources: tuple[str, ...] = (),
) -> list[ValueType]:
    """Result types of `op` on those values.

    Raises: ShapeError naming the node, its inputs' types and the file.
    """
    types = [value.known_type() if value is not None else None for value in inputs]
    try:
        _check_present(op, types)
        results = _with_values(op, types, outputs_of(op.infer(*types)))
        return [_named_after(type, name) for type in results]
    except INFERENCE_ERRORS as error:
        where = f" ({source})" if source else ""
        shown = ", ".join(repr(v) if v is not None else "none" for v in inputs)
        label = sources[0] if sources else name
        raise ShapeError(f'{op} "{label}"{where}: {error}; inputs: {shown}') from error


def _with_values(
    op: Operator, inputs: Sequence[ValueType | None], results: Sequence[ValueType]
) -> Sequence[ValueType]:
    """The result types with their contents, where all inputs are known and everything is small.

    So shapes computed from constants and from other shapes are known while they are inferred.
    """
    arrays: list[np.ndarray[Any, Any] | None] = []
    for type in inputs:
        array = type.value if isinstance(type, TensorType) else None
        if type is not None and (array is None or array.size > _MOST_KNOWN):
            return results
        arrays.append(array)
    if all(array is None for array in arrays) or not op.deterministic or op.subgraphs():
        return results
    if not all(isinstance(type, TensorType) and type.is_static
               and math.prod(type.static_shape) <= _MOST_KNOWN for type in results):
        return results
    try:
        with np.errstate(all="ignore"):
            made = outputs_of(op.reference(*arrays))
    except (*INFERENCE_ERRORS, BessemerError, ArithmeticError, NotImplementedError):
        return results  # the node has no result on these values, which matters if it runs
    return [
        replace(type, value=array)
        if isinstance(type, TensorType) and isinstance(array, np.ndarray)
        and array.shape == type.shape and array.dtype == type.dtype.numpy else type
        for type, array in zip(results, (*made, *[None] * len(results)), strict=False)
    ]


def infer_again(node: "Node", source: str = "") -> bool:
    """Recomputes the types of a node's outputs; True if one changed."""
    types = infer_node_types(node.op, node.inputs, node.name, source, node.sources)
    changed = False
    for value, known in zip(node.outputs, types, strict=False):
        if value.type != known:
            value.type = known
            changed = True
    return changed
