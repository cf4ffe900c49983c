"""Finds the hard sigmoid and hard swish spelled out."""

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    is_number,
    is_op,
    make,
    producer,
    same_type,
    sources_between,
)
from bessemer.passes.products import candidates, factors, near, plus_number


@graph_pass("recognise-hard-swish")
class RecogniseHardSwish(RewritePass):
    """x*Clip(x+3, 0, 6)/6 and x*HardSigmoid(x) -> HardSwish(x); without x* -> HardSigmoid(x).

    Source: Howard et al. 2019, section 5.2.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Mul", "Div"):
            return None
        for x in candidates(node.output):
            coefficient, values = factors(node.output, x)
            if len(values) != 2 or not any(value is x for value in values):
                continue
            gate = values[1] if values[0] is x else values[0]
            height = _gate_height(gate, x)
            if height is not None and near(coefficient * height, 1.0):
                if not same_type(x, node.output):
                    continue
                sources = sources_between(node, x)
                return self.build(graph, node, "HardSwish", [x], sources=sources).output
        return self._hard_sigmoid(node, graph)

    def _hard_sigmoid(self, node: Node, graph: Graph) -> Value | None:
        coefficient, values = factors(node.output)
        if len(values) != 1 or not near(coefficient, 1 / 6):
            return None
        if self._feeds_product(node):
            return None  # the product that reads it becomes a HardSwish
        clip = producer(values[0], "Clip")
        x = plus_number(clip.inputs[0], 3.0) if clip is not None and clip.inputs[0] else None
        if x is None or _gate_height(values[0], x) is None or not same_type(x, node.output):
            return None
        op, sources = make("HardSigmoid", alpha=1 / 6, beta=0.5), sources_between(node, x)
        return self.build(graph, node, op, [x], sources=sources).output

    def _feeds_product(self, node: Node) -> bool:
        clip = producer(factors(node.output)[1][0], "Clip")
        x = plus_number(clip.inputs[0], 3.0) if clip is not None and clip.inputs[0] else None
        return any(
            is_op(user, "Mul") and any(value is x for value in user.inputs)
            for user, _ in node.output.users
        )


def _gate_height(gate: Value, x: Value) -> float | None:
    """6 for Clip(x + 3, 0, 6), 1 for HardSigmoid(x, 1/6, 1/2), else None."""
    clip = producer(gate, "Clip")
    if clip is not None and len(clip.inputs) == 3 and clip.inputs[0] is not None:
        bounds = is_number(clip.inputs[1], 0.0) and is_number(clip.inputs[2], 6.0)
        return 6.0 if bounds and plus_number(clip.inputs[0], 3.0) is x else None
    hard = producer(gate, "HardSigmoid")
    if hard is not None and hard.inputs[0] is x:
        slope = near(float(attribute(hard, "alpha")), 1 / 6)
        return 1.0 if slope and near(float(attribute(hard, "beta")), 0.5) else None
    return None
