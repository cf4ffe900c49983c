"""Computes matrix products of one input together, as one wider product (Q, K and V)."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value
from bessemer.passes.match import (
    Array,
    constant,
    is_op,
    make,
    merge_sources,
    rank,
    split_constant,
    used_once,
)


@graph_pass("merge-horizontal-matmuls")
class MergeHorizontalMatmuls(GraphPass):
    """MatMul(x, w1) + b1, MatMul(x, w2) + b2 -> Split(MatMul(x, [w1 w2]) + [b1 b2]).

    Weights are constant [k, n_i]; all branches have a bias [n_i] or none has.
    """

    multiple: int = 16
    """Columns of every merged weight are a multiple of this: pieces start at whole vectors."""

    def run(self, graph: Graph) -> bool:
        groups: dict[tuple[object, ...], list[tuple[Node, Node]]] = {}
        for node in graph.nodes:
            if is_op(node, "MatMul"):
                found = self._key(graph, node)
                if found is not None:
                    groups.setdefault(found[0], []).append((node, found[1]))
        merged = [pairs for pairs in groups.values() if len(pairs) > 1]
        for pairs in merged:
            self._merge(graph, pairs)
        return bool(merged)

    def _key(self, graph: Graph, node: Node) -> tuple[tuple[object, ...], Node] | None:
        x, weights = node.inputs[0], constant(node.inputs[1])
        if x is None or sum(is_op(user, "MatMul") for user, _ in x.users) < 2:
            return None
        if weights is None or weights.ndim != 2 or (rank(x) or 0) < 2:
            self.no(node, "its second operand is no constant matrix, or its first no matrix")
            return None
        if weights.shape[1] % self.multiple:
            self.no(node, f"{weights.shape[1]} columns are no multiple of {self.multiple}")
            return None
        bias = _bias_node(graph, node, weights.shape[1])
        return (id(x), weights.dtype.str, bias is not None), bias or node

    def _merge(self, graph: Graph, pairs: list[tuple[Node, Node]]) -> None:
        products, lasts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        first = products[0]
        weights = [item for node in products if (item := constant(node.inputs[1])) is not None]
        stem = "+".join(node.name for node in products)
        wide = graph.add_node(
            first.op,
            [first.inputs[0], graph.add_constant(f"{stem}.weight", np.concatenate(weights, 1))],
            name=stem, sources=merge_sources(*products), before=first,
        )
        if lasts[0] is not first:
            bias = np.concatenate([_bias_of(last) for last in lasts])
            wide = graph.add_node(
                make("Add"), [wide.output, graph.add_constant(f"{stem}.bias", bias)],
                name="+".join(last.name for last in lasts), sources=merge_sources(*lasts),
                before=first,
            )
        sizes = np.array([item.shape[1] for item in weights], np.int64)
        split = graph.add_node(
            make("Split", axis=-1), [wide.output, graph.add_constant(f"{stem}.sizes", sizes)],
            name=f"{stem}.split", sources=merge_sources(*products, *lasts), before=first,
            outputs=[f"{last.output.name}.piece" for last in lasts],
        )
        for last, piece in zip(lasts, split.outputs, strict=True):
            replace_value(graph, last.output, piece, keep_name=True)
            remove_dead(graph, last)
        self.note(f"joined {', '.join(label(node) for node in products)} over one input")


def _bias_node(graph: Graph, node: Node, columns: int) -> Node | None:
    """The Add of a constant [columns] behind a product, if that is its only use."""
    if not used_once(graph, node.output):
        return None
    user = node.output.users[0][0]
    operands = split_constant(user) if is_op(user, "Add") else None
    if operands is None or operands[1].tensor.shape != (columns,):
        return None
    return user


def _bias_of(node: Node) -> Array:
    operands = split_constant(node)
    assert operands is not None
    value: Value = operands[1]
    assert value.constant is not None
    return value.constant
