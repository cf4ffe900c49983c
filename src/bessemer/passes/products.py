"""Flattens products spelled out with Mul, Div, Pow and constants, for the recognisers."""

from bessemer.ir.graph import Value
from bessemer.passes.match import is_number, producer, scalar

_DEPTH = 8
"""Activations are spelled out in fewer operators than this."""


def factors(value: Value, stop: Value | None = None, depth: int = _DEPTH
            ) -> tuple[float, list[Value]]:
    """(coefficient, values) whose product is `value`; `stop` is never taken apart.

    x * 0.5 * y -> (0.5, [x, y]); x ** 3 / 2 -> (0.5, [x, x, x]).
    """
    number = scalar(value)
    if number is not None:
        return number, []
    node = producer(value, "Mul", "Div", "Pow")
    if value is stop or node is None or depth == 0:
        return 1.0, [value]
    a, b = node.inputs
    assert a is not None
    assert b is not None
    if node.op.op_name == "Mul":
        (p, left), (q, right) = factors(a, stop, depth - 1), factors(b, stop, depth - 1)
        return p * q, left + right
    if node.op.op_name == "Div":
        divisor = scalar(b)
        if divisor:
            p, left = factors(a, stop, depth - 1)
            return p / divisor, left
        return 1.0, [value]
    for power in (2, 3):
        if is_number(b, power, 0.0):
            p, left = factors(a, stop, depth - 1)
            return p**power, left * power
    return 1.0, [value]


def candidates(value: Value, depth: int = _DEPTH) -> list[Value]:
    """Every value that occurs in the product, inner products included."""
    found: dict[int, Value] = {}

    def visit(item: Value, left: int) -> None:
        if item.is_constant or id(item) in found:
            return
        found[id(item)] = item
        node = producer(item, "Mul", "Div", "Pow")
        if node is not None and left:
            for operand in node.inputs:
                if operand is not None:
                    visit(operand, left - 1)

    visit(value, depth)
    return list(found.values())


def near(a: float, b: float, tolerance: float = 1e-3) -> bool:
    """True if two coefficients are equal up to the digits models write them with."""
    return abs(a - b) <= tolerance * abs(b)


def plus_number(value: Value, number: float) -> Value | None:
    """X where `value` is x + number (either order), else None."""
    node = producer(value, "Add", "Sub")
    if node is None:
        return None
    if node.op.op_name == "Sub":
        return node.inputs[0] if is_number(node.inputs[1], -number) else None
    for x, other in (node.inputs, node.inputs[::-1]):
        if x is not None and not x.is_constant and is_number(other, number):
            return x
    return None
