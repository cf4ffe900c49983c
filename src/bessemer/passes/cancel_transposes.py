"""Moves transposes down until they meet their inverses, and merges or absorbs them."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    attribute,
    constant,
    ints,
    is_op,
    make,
    merge_sources,
    producer,
    rank,
    shape,
    used_once,
    with_attributes,
)

UNARY = frozenset((
    "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Celu", "Selu", "Softplus",
    "Softsign", "Mish", "Swish", "Gelu", "ThresholdedRelu", "Shrink", "Tanh", "Exp", "Log", "Sqrt",
    "Erf", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Not", "Cast", "Identity",
    "Clip",
))
BINARY = frozenset((
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "Greater", "And", "Or",
    "LessOrEqual", "GreaterOrEqual",
))
_REDUCTIONS = frozenset((
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
))
Perm = tuple[int, ...]


@graph_pass("cancel-transposes")
class CancelTransposes(RewritePass):
    """Transpose chains merge; they sink below element-wise nodes, reductions, Concat, into Gemm.

    Before: Transpose(Relu(Transpose(x, p)), inverse p). After: Relu(x).
    A Transpose that moves only extents of 1 becomes a Reshape.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if is_op(node, "Transpose"):
            return self._merge(node, graph)
        if is_op(node, "Gemm"):
            return self._into_gemm(node, graph)
        name = node.op.op_name
        if name in UNARY or (name == "Softmax" and len(node.inputs) == 1):
            return self._below_unary(node, graph)
        if name in BINARY and len(node.inputs) == 2:
            return self._below_binary(node, graph)
        if name in _REDUCTIONS and len(node.inputs) == 2:
            return self._below_reduction(node, graph)
        if name == "Concat":
            return self._below_concat(node, graph)
        return None

    def _merge(self, node: Node, graph: Graph) -> Value | None:
        x, perm = node.inputs[0], perm_of(node)
        if x is None or perm is None:
            return None
        inner = producer(x, "Transpose")
        first = perm_of(inner) if inner is not None else None
        if inner is not None and first is not None:
            both = tuple(first[axis] for axis in perm)
            sources = merge_sources(inner, node)
            if both == tuple(range(len(both))):
                return inner.inputs[0]
            op = make("Transpose", perm=both)
            return self.build(graph, node, op, inner.inputs[:1], sources=sources).output
        extents, result = shape(x), shape(node.output)
        if extents is None or result is None or 0 in extents:
            return None
        moved = [axis for axis in perm if extents[axis] != 1]
        if moved != sorted(moved) or perm == tuple(range(len(perm))):
            return None
        target = graph.add_constant(f"{node.name}.shape", np.array(result, np.int64))
        return self.build(graph, node, "Reshape", [x, target]).output

    def _below_unary(self, node: Node, graph: Graph) -> Value | None:
        above = self._sinkable(graph, node.inputs[0])
        if above is None or len(node.outputs) != 1:
            return None
        perm = perm_of(above)
        assert perm is not None
        op = node.op
        if is_op(node, "Softmax"):
            op = with_attributes(op, axis=perm[int(attribute(node, "axis")) % len(perm)])
        inner = self.build(graph, node, op, [above.inputs[0], *node.inputs[1:]])
        return self._transposed(graph, node, inner.output, perm, above)

    def _below_binary(self, node: Node, graph: Graph) -> Value | None:
        a, b = node.inputs
        left, right = self._sinkable(graph, a), self._sinkable(graph, b)
        if a is None or b is None or (left is None and right is None):
            return None
        above = left or right
        assert above is not None
        perm = perm_of(above)
        assert perm is not None
        operands: list[Value | None] = []
        for value, found in ((a, left), (b, right)):
            if found is not None and perm_of(found) == perm:
                operands.append(found.inputs[0])
                continue
            data = constant(value)
            if data is None or data.ndim > len(perm):
                return self.no(node, f"{value.name} is not transposed the same way") if (
                    left is not None and right is not None) else None
            operands.append(self._permuted(graph, value, perm))
        inner = self.build(graph, node, node.op, operands)
        return self._transposed(graph, node, inner.output, perm, above)

    def _permuted(self, graph: Graph, value: Value, perm: Perm) -> Value:
        data = value.constant
        assert data is not None
        if data.size == 1 and data.ndim == 0:
            return value
        full = data.reshape((1,) * (len(perm) - data.ndim) + data.shape)
        inverse = tuple(int(axis) for axis in np.argsort(perm))
        moved = np.ascontiguousarray(full.transpose(inverse))
        return graph.add_constant(f"{value.name}.transposed", moved)

    def _below_reduction(self, node: Node, graph: Graph) -> Value | None:
        above, axes = self._sinkable(graph, node.inputs[0]), ints(node.inputs[1])
        if above is None or not axes:
            return None
        perm = perm_of(above)
        assert perm is not None
        reduced = {perm[axis % len(perm)] for axis in axes}
        moved = graph.add_constant(f"{node.name}.axes", np.array(sorted(reduced), np.int64))
        inner = self.build(graph, node, node.op, [above.inputs[0], moved])
        if not attribute(node, "keepdims"):
            # The axes that remain, numbered among themselves.
            left = [axis for axis in perm if axis not in reduced]
            perm = tuple(sorted(left).index(axis) for axis in left)
            if not perm:
                return inner.output
        return self._transposed(graph, node, inner.output, perm, above)

    def _below_concat(self, node: Node, graph: Graph) -> Value | None:
        found = [self._sinkable(graph, value) for value in node.inputs]
        if any(item is None for item in found) or not found:
            return None
        nodes = [item for item in found if item is not None]
        perm = perm_of(nodes[0])
        if perm is None or any(perm_of(item) != perm for item in nodes):
            return self.no(node, "its inputs are transposed in different ways")
        axis = perm[int(attribute(node, "axis")) % len(perm)]
        op = with_attributes(node.op, axis=axis)
        inner = self.build(graph, node, op, [item.inputs[0] for item in nodes])
        return self._transposed(graph, node, inner.output, perm, *nodes)

    def _transposed(
        self, graph: Graph, node: Node, value: Value, perm: Perm, *above: Node
    ) -> Value:
        op = make("Transpose", perm=perm)
        return self.build(graph, node, op, [value], sources=merge_sources(*above)).output

    def _sinkable(self, graph: Graph, value: Value | None) -> Node | None:
        made = producer(value, "Transpose")
        if made is None or value is None or perm_of(made) is None or not used_once(graph, value):
            return None
        return made

    def _into_gemm(self, node: Node, graph: Graph) -> Value | None:
        changes: dict[str, int] = {}
        operands = list(node.inputs)
        for index, name in ((0, "transA"), (1, "transB")):
            above = self._sinkable(graph, operands[index])
            if above is not None and perm_of(above) == (1, 0):
                operands[index] = above.inputs[0]
                changes[name] = 1 - int(attribute(node, name))
        if not changes:
            return None
        return self.build(graph, node, with_attributes(node.op, **changes), operands).output


def perm_of(node: Node) -> Perm | None:
    """The permutation of a Transpose, default resolved; None if the rank is unknown."""
    count = rank(node.inputs[0])
    if count is None:
        return None
    return tuple(attribute(node, "perm")) or tuple(reversed(range(count)))


