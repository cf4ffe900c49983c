"""Control flow with small bodies: If, Loop, Scan."""

from typing import Any

import numpy as np
from onnx import helper

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.single import run_alone
from bessemer.debug.random_graphs.values import Value


def _info(name: str, dtype: str, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, onnx_dtype(dtype), shape)


def _add(maker: Maker, op: str, inputs: list[Value | None], captured: list[Value],
         outputs: int, **attributes: Any) -> list[Value]:
    names = [v.name if v is not None else "" for v in inputs]
    node = helper.make_node(op, names, [f"r{k}" for k in range(outputs)], **attributes)
    known = dict.fromkeys(v for v in (*inputs, *captured) if v is not None)
    results = run_alone(node, known, (), maker.opset)
    made = maker.append(op, inputs, [np.asarray(r) for r in results], attributes)
    for value in captured:
        value.uses += 1
        maker.captured.add(value.name)
    return made


def _steps(maker: Maker, source: str, other: str, target: str, prefix: str) -> list[Any]:
    """A chain of element-wise nodes from one or two names to a target of the same shape."""
    nodes = []
    current = source
    for k in range(maker.integer(1, 3)):
        made = f"{prefix}{k}"
        if maker.chance(0.5):
            op = maker.choose("Add", "Sub", "Mul", "Max")
            nodes.append(helper.make_node(op, [current, other], [made]))
            if op == "Mul":
                nodes.append(helper.make_node("Tanh", [made], [made + "t"]))
                made += "t"
        else:
            nodes.append(helper.make_node(maker.choose("Tanh", "Sigmoid", "Neg", "Abs"),
                                          [current], [made]))
        current = made
    nodes.append(helper.make_node("Identity", [current], [target]))
    return nodes


@rule("If", weight=0.8)
def branch(maker: Maker) -> None:
    """Two branches over values of the outer graph; their shapes may differ."""
    x = maker.pick(("f32", "f64"), (1, 4), lambda v: bool(v.data.size))
    flag = maker.given(np.asarray(maker.chance(0.5)), maker.chance(0.3))
    tag = maker.counter

    def body(name: str) -> Any:
        nodes = _steps(maker, x.name, x.name, f"{name}{tag}o", f"{name}{tag}_")
        return helper.make_graph(nodes, name, [], [_info(f"{name}{tag}o", x.dtype, None)])

    _add(maker, "If", [flag], [x], 1, then_branch=body("yes"), else_branch=body("no"))


@rule("Loop", weight=0.8)
def loop(maker: Maker) -> None:
    """A carried value, a scan output, a trip count known or not, and a condition."""
    x = maker.pick(("f32", "f64"), (0, 3), lambda v: bool(v.data.size))
    y = maker.fresh(x.dtype, x.shape)
    tag = maker.counter
    least = int(maker.symbolic)  # what no iteration stacks has no known extents
    trips = maker.given(np.asarray(maker.integer(least, 4), np.int64), maker.chance(0.6))
    stops = maker.chance(0.3)
    first = maker.given(np.asarray(True), True) if maker.chance(0.5) else None
    nodes = _steps(maker, f"s{tag}", y.name, f"o{tag}", f"l{tag}_")
    if stops:
        limit = helper.make_tensor(f"lim{tag}", 7, [], [maker.integer(least, 4)])
        nodes.append(helper.make_node("Constant", [], [f"m{tag}"], value=limit))
        nodes.append(helper.make_node("Less", [f"i{tag}", f"m{tag}"], [f"d{tag}"]))
    else:
        nodes.append(helper.make_node("Identity", [f"k{tag}"], [f"d{tag}"]))
    nodes.append(helper.make_node("Mul", [f"o{tag}", f"s{tag}"], [f"z{tag}"]))
    body = helper.make_graph(
        nodes, "body", [_info(f"i{tag}", "i64", []), _info(f"k{tag}", "bool", []),
                        _info(f"s{tag}", x.dtype, x.shape)],
        [_info(f"d{tag}", "bool", []), _info(f"o{tag}", x.dtype, x.shape),
         _info(f"z{tag}", x.dtype, x.shape)])
    _add(maker, "Loop", [trips, first, x], [y], 2, body=body)


@rule("Scan", weight=0.8)
def scan(maker: Maker) -> None:
    """A state and one scanned input, in both directions."""
    x = maker.pick(("f32", "f64"), (1, 4), lambda v: bool(v.data.size))
    state = maker.fresh(x.dtype, x.shape[1:])
    tag = maker.counter
    nodes = [*_steps(maker, f"s{tag}", f"e{tag}", f"t{tag}", f"q{tag}_"),
             helper.make_node("Add", [f"t{tag}", f"e{tag}"], [f"u{tag}"])]
    element = list(x.shape[1:])
    body = helper.make_graph(
        nodes, "body", [_info(f"s{tag}", x.dtype, element), _info(f"e{tag}", x.dtype, element)],
        [_info(f"t{tag}", x.dtype, element), _info(f"u{tag}", x.dtype, element)])
    attributes: dict[str, Any] = {"num_scan_inputs": 1}
    if maker.chance(0.4):
        attributes["scan_input_directions"] = [maker.integer(0, 1)]
        attributes["scan_output_directions"] = [maker.integer(0, 1)]
    _add(maker, "Scan", [state, x], [], 2, body=body, **attributes)
