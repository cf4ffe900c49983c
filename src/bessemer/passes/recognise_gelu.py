"""Finds the Gaussian error linear unit spelled out in small operators."""

import math

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import is_op, make, producer, same_type, sources_between
from bessemer.passes.products import candidates, factors, near, plus_number


@graph_pass("recognise-gelu")
class RecogniseGelu(RewritePass):
    """0.5*x*(1+erf(x/sqrt(2))) and 0.5*x*(1+tanh(sqrt(2/pi)*(x+0.044715*x**3))) -> Gelu(x).

    Source: Hendrycks and Gimpel 2016, section 2.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Mul", "Div"):
            return None
        for x in candidates(node.output):
            coefficient, values = factors(node.output, x)
            if len(values) != 2 or not any(value is x for value in values):
                continue
            gate = values[1] if values[0] is x else values[0]
            inner = plus_number(gate, 1.0)
            if inner is None or not same_type(x, node.output):
                continue
            kind = _kind(inner, x)
            if kind is None:
                continue
            if not near(coefficient, 0.5):
                return self.no(node, f"its factor is {coefficient}, not 0.5")
            op = make("Gelu", approximate=kind)
            sources = sources_between(node, x)
            return self.build(graph, node, op, [x], sources=sources).output
        return None


def _kind(inner: Value, x: Value) -> str | None:
    """`none` for erf(x / sqrt(2)), `tanh` for the approximation, None for neither."""
    erf, tanh = producer(inner, "Erf"), producer(inner, "Tanh")
    node = erf or tanh
    if node is None or node.inputs[0] is None:
        return None
    if erf is not None:
        coefficient, values = factors(node.inputs[0], x)
        is_erf = len(values) == 1 and values[0] is x and near(coefficient, math.sqrt(0.5))
        return "none" if is_erf else None
    return "tanh" if _is_tanh_argument(node.inputs[0], x) else None


def _is_tanh_argument(value: Value, x: Value) -> bool:
    """sqrt(2/pi) * (x + 0.044715 x^3), or with x taken out: sqrt(2/pi) * x * (1 + 0.044715 x^2)."""
    coefficient, values = factors(value, x)
    if not near(coefficient, math.sqrt(2 / math.pi)):
        return False
    if len(values) == 2 and any(item is x for item in values):
        rest = values[1] if values[0] is x else values[0]
        square = plus_number(rest, 1.0)
        return square is not None and _is_power(square, x, 2)
    total = producer(values[0], "Add") if len(values) == 1 else None
    if total is None:
        return False
    a, b = total.inputs
    cubic = b if a is x else (a if b is x else None)
    return cubic is not None and _is_power(cubic, x, 3)


def _is_power(value: Value, x: Value, power: int) -> bool:
    coefficient, values = factors(value, x)
    return near(coefficient, 0.044715) and len(values) == power and all(v is x for v in values)
