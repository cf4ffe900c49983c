"""Sequences and optionals: made, changed, mapped, and opened again."""

from typing import Any

import numpy as np
from onnx import helper

from bessemer.debug.random_graphs.maker import ALL, Maker, rule
from bessemer.debug.random_graphs.models import model_of, onnx_dtype, schema_check
from bessemer.debug.random_graphs.values import Reject, Value
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph

_TYPES = (*ALL, "string")


def _sequence(
    maker: Maker, op: str, inputs: list[Value | None], element: str, **attributes: Any
) -> Value:
    made = maker.emit(op, inputs, **attributes)[0]
    made.kind, made.element = "sequence", element
    return made


def _some(maker: Maker, filled: bool = False) -> Value:
    """A sequence of the graph, or a new one."""
    known = [v for v in maker.values if v.kind == "sequence" and (v.data or not filled)]
    unread = [v for v in known if not v.uses]
    if known and maker.chance(0.8):
        value: Value = maker.random.choice(unread or known)
        return value
    return _construct(maker)


def _construct(maker: Maker) -> Value:
    x = maker.pick(_TYPES, (0, 4))
    items: list[Value | None] = [x]
    for _ in range(maker.integer(0, 2)):
        same = [v for v in maker.values if v.dtype == x.dtype and v.rank == x.rank]
        items.append(maker.random.choice(same) if maker.chance(0.5)
                     else maker.fresh(x.dtype, x.shape))
    return _sequence(maker, "SequenceConstruct", items, x.dtype)


def _place(maker: Maker, count: int, end: int) -> Value | None:
    """A position in a sequence of `count`, or none: the end."""
    if maker.chance(0.3):
        return None
    place = np.asarray(maker.integer(-count, end - 1), maker.choose(np.int64, np.int32))
    return maker.given(place, maker.chance(0.6))


@rule("SequenceConstruct", weight=0.8)
def construct(maker: Maker) -> None:
    """Tensors of one type; their shapes may differ, not their ranks."""
    _construct(maker)


@rule("SequenceEmpty", weight=0.3)
def empty(maker: Maker) -> None:
    """Filled at once: what is never in it has no shape."""
    x = maker.pick(_TYPES, (0, 4))
    made = _empty(maker, x.dtype)
    for _ in range(maker.integer(1, 2)):
        made = _sequence(maker, "SequenceInsert", [made, x], x.dtype)


def _empty(maker: Maker, dtype: str) -> Value:
    kind = onnx_dtype(dtype)
    schema_check("SequenceEmpty", maker.opset, [], {"dtype": kind})
    made = maker.append("SequenceEmpty", [], [[]], {"dtype": kind})[0]
    made.kind, made.element = "sequence", dtype
    return made


@rule("SplitToSequence", weight=0.8)
def split(maker: Maker) -> None:
    """Into slices, parts of one length, or parts of given lengths."""
    x = maker.pick(("f32", "f64", "i32", "i64", "bool", "string"), (1, 4))
    axis = maker.axis(x.rank)
    extent = x.shape[axis]
    if extent == 0:
        raise Reject
    form = maker.integer(0, 2)
    attributes: dict[str, Any] = {"axis": axis}
    parts = None
    if form == 0:
        attributes["keepdims"] = maker.integer(0, 1)
    elif form == 1:
        parts = maker.given(np.asarray(maker.integer(1, extent), np.int64))
    else:
        first = maker.integer(0, extent)
        parts = maker.ints([first, extent - first], open_=0.3)
    _sequence(maker, "SplitToSequence", [x, parts], x.dtype, **attributes)


@rule("SequenceInsert", weight=0.8)
def insert(maker: Maker) -> None:
    """One more tensor of the type."""
    value = _some(maker)
    ranks = {item.ndim for item in value.data}
    rank = ranks.pop() if len(ranks) == 1 else maker.integer(0, 3)
    x = maker.pick(value.element, (rank, rank))
    place = _place(maker, len(value.data), len(value.data) + 1)
    _sequence(maker, "SequenceInsert", [value, x, place], value.element)


@rule("SequenceErase", weight=0.4)
def erase(maker: Maker) -> None:
    """One tensor less, of two or more."""
    value = _some(maker, filled=True)
    if len(value.data) < 2:
        raise Reject
    place = _place(maker, len(value.data), len(value.data))
    _sequence(maker, "SequenceErase", [value, place], value.element)


@rule("SequenceAt", "SequenceLength", "ConcatFromSequence", weight=0.5)
def read(maker: Maker) -> None:
    """One tensor, the number of tensors, or all of them joined."""
    value = _some(maker, filled=True)
    form = maker.integer(0, 3)
    if form == 0:
        maker.emit("SequenceLength", [value])
    elif form == 1:
        place = np.asarray(maker.integer(-len(value.data), len(value.data) - 1))
        maker.emit("SequenceAt", [value, maker.given(place)])
    else:
        stacked = int(form == 3)
        axis = maker.axis(value.data[0].ndim + stacked)
        maker.emit("ConcatFromSequence", [value], axis=axis, new_axis=stacked)


@rule("SequenceMap", weight=0.5)
def mapped(maker: Maker) -> None:
    """A body over the tensors of a sequence, with another tensor beside."""
    value = _some(maker, filled=True)
    if value.element not in ("f32", "f64"):
        raise Reject
    schema_check("SequenceMap", maker.opset, [value.dtype], {})
    rank = value.data[0].ndim
    if any(item.ndim != rank for item in value.data):
        raise Reject
    kind, tag = onnx_dtype(value.element), maker.counter
    # A size of its own would have to fit all tensors.
    other = maker.fresh(value.element, []) if maker.chance(0.5) else None
    names = [f"a{tag}", f"b{tag}"][: 1 if other is None else 2]
    nodes = [
        helper.make_node(maker.choose("Tanh", "Abs", "Sigmoid"), [names[0]], [f"t{tag}"]),
        helper.make_node(maker.choose("Add", "Mul", "Max"), [f"t{tag}", names[-1]], [f"o{tag}"]),
    ]
    infos = [
        helper.make_tensor_value_info(name, kind, dims)
        for name, dims in zip(names, ([None] * rank, []), strict=False)
    ]
    result = helper.make_tensor_value_info(f"o{tag}", kind, [None] * rank)
    body = helper.make_graph(nodes, "each", infos, [result])
    graph = import_model(model_of(body, maker.opset))
    beside = [] if other is None else [other.data]
    results = [run_graph(graph, [item, *beside])[0] for item in value.data]
    inputs = [value] if other is None else [value, other]
    made = maker.append("SequenceMap", inputs, [results], {"body": body})[0]
    made.kind, made.element = "sequence", value.element


@rule("Optional", "OptionalHasElement", "OptionalGetElement", weight=0.35)
def optional(maker: Maker) -> None:
    """A tensor or a sequence in an optional, or nothing; then asked for, or taken out."""
    form = maker.integer(0, 2)
    x = _some(maker) if form == 0 else maker.pick(_TYPES, (0, 4))
    if form == 2:
        nothing = helper.make_optional_type_proto(
            helper.make_tensor_type_proto(onnx_dtype(x.dtype), None)
        ).optional_type.elem_type
        schema_check("Optional", maker.opset, [], {"type": nothing})
        made = maker.append("Optional", [], [None], {"type": nothing})[0]
        made.data, made.kind, made.element = None, "optional", x.dtype  # type: ignore[assignment]
        maker.emit("OptionalHasElement", [made])
        return
    schema_check("Optional", maker.opset, [x.dtype], {})
    made = maker.append("Optional", [x], [x.data], {})[0]
    made.kind, made.element = "optional", x.dtype
    if maker.chance(0.4):
        maker.emit("OptionalHasElement", [made])
    if made.uses and maker.chance(0.5):
        return
    opened = maker.emit("OptionalGetElement", [made])[0]
    opened.kind, opened.element = x.kind, x.element
