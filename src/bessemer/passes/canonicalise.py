"""Brings nodes that say the same in different ways into one form, so that other passes see one."""

import numpy as np

from bessemer.core.shapes import Sym
from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    constant,
    ints,
    is_float,
    is_number,
    is_op,
    make,
    rank,
    same_type,
    scalar,
    shape,
)


@graph_pass("canonicalise")
class Canonicalise(RewritePass):
    """One spelling for each meaning.

    Sum of many -> Add chain; Squeeze, Unsqueeze, Flatten and computed shapes -> Reshape by a
    constant; Gather of one index -> Slice; c+x -> x+c; x**2 -> x*x; Clip from 0 and Max with 0
    -> Relu; x/c -> x*(1/c) where that is exact; means over the image -> GlobalAveragePool.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        match node.op.op_name:
            case "Sum" if len(node.inputs) > 1:
                return self._chain(node, graph, "Add")
            case "Squeeze" | "Unsqueeze" | "Flatten":
                return self._as_reshape(node, graph)
            case "Reshape" | "Expand" if not _is_constant(node.inputs[1]):
                return self._with_known_shape(node, graph)
            case "Add" | "Mul" if _is_constant(node.inputs[0]) and not _is_constant(node.inputs[1]):
                return self.build(
                    graph, node, node.op, [node.inputs[1], node.inputs[0]]
                ).output
            case "Pow":
                return self._power(node, graph)
            case "Clip" if len(node.inputs) > 1 and not any(node.inputs[2:]):
                zero = is_float(node.inputs[0]) and is_number(node.inputs[1], 0.0, 0.0)
                return self.build(graph, node, "Relu", node.inputs[:1]).output if zero else None
            case "Max" if len(node.inputs) == 2:
                return self._max_with_zero(node, graph)
            case "ReduceMean":
                return self._as_pool(node, graph)
            case "AveragePool" if _covers_all(node):
                return self.build(graph, node, "GlobalAveragePool", node.inputs).output
            case "Gather":
                return self._as_slice(node, graph)
            case "Div":
                return self._exact_division(node, graph)
        return None

    def _chain(self, node: Node, graph: Graph, op: str) -> Value | None:
        total = node.inputs[0]
        for value in node.inputs[1:]:
            total = self.build(graph, node, op, [total, value]).output
        return total

    def _as_reshape(self, node: Node, graph: Graph) -> Value | None:
        x = node.inputs[0]
        target = _reshape_target(x, node.output)
        if target is None or x is None:
            return self.no(node, "its result has several symbolic extents")
        return self._reshaped(node, graph, x, target)

    def _reshaped(self, node: Node, graph: Graph, x: Value, target: list[int]) -> Value | None:
        wanted = graph.add_constant(f"{node.name}.shape", np.array(target, np.int64))
        made = self.build(graph, node, make("Reshape"), [x, wanted])
        if same_type(made.output, node.output):
            return made.output
        graph.remove_node(made)
        return self.no(node, f"as Reshape its type would be {made.output.type}")

    def _with_known_shape(self, node: Node, graph: Graph) -> Value | None:
        x = node.inputs[0]
        if node.op.op_name == "Reshape":
            target = _reshape_target(x, node.output)
            return self._reshaped(node, graph, x, target) if target and x is not None else None
        if not node.output.tensor.is_static:
            return None
        extents = np.array(node.output.tensor.static_shape, np.int64)
        wanted = graph.add_constant(f"{node.name}.shape", extents)
        return self.build(graph, node, node.op, [x, wanted]).output

    def _as_pool(self, node: Node, graph: Graph) -> Value | None:
        """ReduceMean over all spatial axes -> GlobalAveragePool, which knows blocked layouts."""
        x, result = node.inputs[0], shape(node.output)
        axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
        dims = rank(x)
        if axes is None or dims != 4 or x is None or not is_float(x):
            return None
        if sorted(axis % dims for axis in axes) != [2, 3]:
            return None
        if not attribute(node, "keepdims") and result is None:
            return None
        if any(is_op(user, "Sub", "Add") for user, _ in node.output.users):
            return None  # a mean or variance of a normalisation, which recognisers look for
        pool = self.build(graph, node, "GlobalAveragePool", [x])
        if attribute(node, "keepdims"):
            return pool.output
        wanted = graph.add_constant(f"{node.name}.shape", np.array(result, np.int64))
        return self.build(graph, node, make("Reshape"), [pool.output, wanted]).output

    def _as_slice(self, node: Node, graph: Graph) -> Value | None:
        """Gather of one constant index -> Slice and Reshape, which can be views."""
        data, index = node.inputs[0], ints(node.inputs[1])
        extents, result = shape(data), shape(node.output)
        if index is None or len(index) != 1 or extents is None or result is None or 0 in result:
            return None
        axis = int(attribute(node, "axis")) % len(extents)
        start = index[0] % extents[axis]
        bounds = [
            graph.add_constant(f"{node.name}.{what}", np.array([number], np.int64))
            for what, number in (("start", start), ("end", start + 1), ("axis", axis))
        ]
        piece = self.build(graph, node, make("Slice"), [data, *bounds])
        wanted = graph.add_constant(f"{node.name}.shape", np.array(result, np.int64))
        return self.build(graph, node, make("Reshape"), [piece.output, wanted]).output

    def _power(self, node: Node, graph: Graph) -> Value | None:
        x = node.inputs[0]
        if x is None or not is_number(node.inputs[1], 2.0, 0.0) or not same_type(x, node.output):
            return None
        return self.build(graph, node, "Mul", [x, x]).output

    def _max_with_zero(self, node: Node, graph: Graph) -> Value | None:
        for x, other in (node.inputs, node.inputs[::-1]):
            if x is not None and is_float(x) and is_number(other, 0.0, 0.0):
                same = same_type(x, node.output) and not x.is_constant
                return self.build(graph, node, "Relu", [x]).output if same else None
        return None

    def _exact_division(self, node: Node, graph: Graph) -> Value | None:
        number = scalar(node.inputs[1])
        if number is None or not is_float(node.inputs[1]) or not np.isfinite(number):
            return None
        fraction, exponent = np.frexp(number)
        # Only for powers of two is the product exactly the quotient.
        if abs(fraction) != 0.5 or abs(int(exponent)) > 10:
            return None
        data = constant(node.inputs[1])
        assert data is not None
        inverse = graph.add_constant(f"{node.name}.factor", (1.0 / data).astype(data.dtype))
        return self.build(graph, node, "Mul", [node.inputs[0], inverse]).output


def _covers_all(node: Node) -> bool:
    """True for pooling whose one window is the whole input."""
    extents, result = shape(node.inputs[0]), shape(node.output)
    kernel = tuple(attribute(node, "kernel_shape"))
    if extents is None or result is None or kernel != extents[2:] or set(result[2:]) != {1}:
        return False
    return not any(attribute(node, "pads")) and set(attribute(node, "dilations")) <= {1}


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.is_constant


def _reshape_target(x: Value | None, result: Value) -> list[int] | None:
    """The constant that reshapes x to the result's type: 0 copies an extent, -1 at most once."""
    if x is None or rank(x) is None or rank(result) is None:
        return None
    given, target, free = x.tensor.dims, [], 0
    for axis, dim in enumerate(result.tensor.dims):
        if dim == 0:
            return None
        if not isinstance(dim, Sym):
            target.append(dim)
        elif axis < len(given) and given[axis] == dim:
            target.append(0)
        else:
            free += 1
            target.append(-1)
    return target if free <= 1 else None
