"""Computes convolutions of one input together, as one wider convolution."""

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.ir.printer import hash_of, print_attribute
from bessemer.passes.graph_pass import GraphPass, graph_pass, label, remove_dead, replace_value
from bessemer.passes.match import Array, attribute, constant, is_op, make, merge_sources, used_once

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh",
                "Elu", "Gelu", "Mish", "Softplus")


@graph_pass("merge-horizontal-convolutions")
class MergeHorizontalConvolutions(GraphPass):
    """Conv(x, w1), Conv(x, w2) -> Split(Conv(x, [w1; w2])), with an activation common to all.

    Before: a = Relu(Conv(x, wa)); b = Relu(Conv(x, wb)).
    After: a, b = Split(Relu(Conv(x, concat(wa, wb))), axis=1).
    """

    multiple: int = 16
    """Output channels of every merged convolution are a multiple of this, so that its piece of
    the result starts at a whole block of a blocked layout."""

    def run(self, graph: Graph) -> bool:
        groups: dict[tuple[object, ...], list[tuple[Node, Node]]] = {}
        for node in graph.nodes:
            if is_op(node, "Conv"):
                found = self._key(graph, node)
                if found is not None:
                    groups.setdefault(found[0], []).append((node, found[1]))
        changed = False
        for pairs in groups.values():
            if len(pairs) > 1:
                self._merge(graph, pairs)
                changed = True
        return changed

    def _key(self, graph: Graph, node: Node) -> tuple[tuple[object, ...], Node] | None:
        """(what merged nodes must share, the last node of the branch: the Conv or activation)."""
        x, weights = node.inputs[0], constant(node.inputs[1])
        if x is None or sum(is_op(user, "Conv") for user, _ in x.users) < 2:
            return None
        bias_value = node.inputs[2] if len(node.inputs) > 2 else None
        if weights is None or (bias_value is not None and bias_value.constant is None):
            self.no(node, "its weights are not constant")
            return None
        if attribute(node, "group") != 1:
            self.no(node, "it is a grouped convolution")
            return None
        if weights.shape[0] % self.multiple:
            self.no(node, f"{weights.shape[0]} output channels are no multiple of {self.multiple}")
            return None
        last, act = _activation(graph, node)
        if last is node and used_once(graph, node.output) and _joins(node.output.users[0][0]):
            self.no(node, f"{node.output.users[0][0].op} behind it is fused with it instead")
            return None
        return (id(x), _window_text(node), weights.shape[1:], weights.dtype.str, act), last

    def _merge(self, graph: Graph, pairs: list[tuple[Node, Node]]) -> None:
        first = pairs[0][0]
        # A piece that begins a Concat goes last: then both can share memory (place-concats).
        pairs = sorted(pairs, key=lambda pair: _begins_concat(pair[1].output))
        convs, lasts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        weights = [item for conv in convs if (item := constant(conv.inputs[1])) is not None]
        stem = "+".join(conv.name for conv in convs)
        inputs = [
            first.inputs[0], graph.add_constant(f"{stem}.weight", np.concatenate(weights)),
        ]
        if any(len(conv.inputs) > 2 and conv.inputs[2] is not None for conv in convs):
            biases = [_bias(conv, data) for conv, data in zip(convs, weights, strict=True)]
            inputs.append(graph.add_constant(f"{stem}.bias", np.concatenate(biases)))
        wide = graph.add_node(
            first.op, inputs, name=stem, sources=merge_sources(*convs), before=first
        )
        if lasts[0] is not convs[0]:
            wide = graph.add_node(
                lasts[0].op, [wide.output, *lasts[0].inputs[1:]], before=first,
                name="+".join(last.name for last in lasts), sources=merge_sources(*lasts),
            )
        sizes = np.array([len(item) for item in weights], np.int64)
        split = graph.add_node(
            make("Split", axis=1), [wide.output, graph.add_constant(f"{stem}.sizes", sizes)],
            name=f"{stem}.split", sources=merge_sources(*convs, *lasts), before=first,
            outputs=[f"{last.output.name}.piece" for last in lasts],
        )
        for last, piece in zip(lasts, split.outputs, strict=True):
            replace_value(graph, last.output, piece, keep_name=True)
            remove_dead(graph, last)
        self.note(f"joined {', '.join(label(conv) for conv in convs)} over one input")


def _window_text(conv: Node) -> str:
    """The attributes of a convolution; defaults that are spelled out are left out."""
    kept = []
    for name, item in conv.op.attributes().items():
        default = (0,) if name == "pads" else (1,)
        spelled_out = name == "kernel_shape" or (
            isinstance(item, tuple) and set(item) <= set(default))
        if not spelled_out:
            kept.append(f"{name}={print_attribute(item)}")
    return " ".join(kept)


def _activation(graph: Graph, conv: Node) -> tuple[Node, str]:
    """(last node of the branch, text of the activation), or the Conv itself and no text."""
    if not used_once(graph, conv.output):
        return conv, ""
    user = conv.output.users[0][0]
    rest = user.inputs[1:]
    if not is_op(user, *_ACTIVATIONS) or any(v is not None and not v.is_constant for v in rest):
        return conv, ""
    bounds = [hash_of(v.constant) if v is not None and v.constant is not None else "" for v in rest]
    attributes = [f"{k}={print_attribute(v)}" for k, v in user.op.attributes().items()]
    return user, " ".join((user.op.op_name, *attributes, *bounds))


def _begins_concat(value: Value) -> bool:
    return any(is_op(user, "Concat") and index == 0 for user, index in value.users)


def _joins(user: Node) -> bool:
    """True for element-wise nodes that fuse into a convolution, which a Split would prevent."""
    return is_op(user, "Add", "Mul", "Sub", "Div", *_ACTIVATIONS)


def _bias(conv: Node, weights: Array) -> Array:
    found = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
    return found if found is not None else np.zeros(weights.shape[0], weights.dtype)


