"""Finds layer and root-mean-square normalisation spelled out in small operators."""

from dataclasses import dataclass

import numpy as np

from bessemer.ir.graph import Graph, Node, Value
from bessemer.passes.graph_pass import RewritePass, graph_pass
from bessemer.passes.match import (
    Array,
    attribute,
    constant,
    ints,
    is_number,
    is_op,
    make,
    producer,
    rank,
    same_type,
    scalar,
    sources_between,
    split_constant,
    used_once,
)


@dataclass(frozen=True)
class _Normalized:
    """d / sqrt(mean(d * d) + epsilon); d is x, or x - mean(x) if `centred`."""

    x: Value
    axis: int
    epsilon: float
    centred: bool


@graph_pass("recognise-layer-norm")
class RecogniseLayerNorm(RewritePass):
    """(x - mean(x)) / sqrt(var(x) + e) * gamma + beta -> LayerNormalization(x, gamma, beta).

    Without the mean and beta -> RMSNormalization(x, gamma). Means over the last axes.
    Source: Ba et al. 2016, equation 4; Zhang and Sennrich 2019, equation 4.
    """

    def rewrite(self, node: Node, graph: Graph) -> Value | None:
        if not is_op(node, "Div", "Mul", "Add"):
            return None
        gamma: Array | None = None
        beta: Array | None = None
        root = node
        if is_op(root, "Add"):
            found = _peel(graph, root)
            if found is None:
                return None
            root, beta = found
        if is_op(root, "Mul"):
            found = _peel(graph, root)
            if found is not None:
                root, gamma = found
        normal = _match_normal(root)
        if normal is None:
            return None
        if self._is_followed(graph, node, normal, gamma is not None, beta is not None):
            return None  # the Mul or Add behind it is offered later and takes it all
        return self._emit(graph, node, root, normal, gamma, beta)

    def _is_followed(
        self, graph: Graph, node: Node, normal: _Normalized, has_gamma: bool, has_beta: bool
    ) -> bool:
        if not used_once(graph, node.output) or has_beta:
            return False
        user = node.output.users[0][0]
        wanted = ("Add",) if has_gamma else ("Mul", "Add")
        if not is_op(user, *wanted) or split_constant(user) is None:
            return False
        if is_op(user, "Add") and not normal.centred:
            return False
        data = constant(user.inputs[0]) if user.inputs[0] is not node.output else constant(
            user.inputs[1])
        return data is not None and _fit(data, normal) is not None

    def _emit(
        self, graph: Graph, node: Node, root: Node, normal: _Normalized,
        gamma: Array | None, beta: Array | None,
    ) -> Value | None:
        extents = shape_tail(normal)
        scale = _fit(gamma, normal) if gamma is not None else None
        shift = _fit(beta, normal) if beta is not None else None
        if extents is None or (gamma is not None and scale is None) or (
            beta is not None and (shift is None or not normal.centred)
        ):
            return self.no(node, "scale or shift do not have the normalised extents")
        dtype = normal.x.tensor.dtype.numpy
        if scale is None:
            scale = np.ones(extents, dtype)
        inputs: list[Value | None] = [
            normal.x, graph.add_constant(f"{node.name}.gamma", scale.astype(dtype))
        ]
        if shift is not None:
            inputs.append(graph.add_constant(f"{node.name}.beta", shift.astype(dtype)))
        name = "LayerNormalization" if normal.centred else "RMSNormalization"
        op = make(name, axis=normal.axis, epsilon=normal.epsilon)
        sources = sources_between(node, normal.x)
        made = self.build(graph, node, op, inputs, sources=sources)
        if not same_type(made.output, node.output):
            graph.remove_node(made)
            return self.no(node, f"{name} would give {made.output.type}")
        return made.output


def _peel(graph: Graph, node: Node) -> tuple[Node, Array] | None:
    """(producer of the computed operand, the constant) of a binary node."""
    operands = split_constant(node)
    if operands is None:
        return None
    inner, data = producer(operands[0], "Mul", "Div"), constant(operands[1])
    if inner is None or data is None or not used_once(graph, operands[0]):
        return None
    return inner, data


def shape_tail(normal: _Normalized) -> tuple[int, ...] | None:
    """The extents of the normalised axes, if they are static."""
    tail = normal.x.tensor.dims[normal.axis :]
    return tuple(int(dim) for dim in tail if isinstance(dim, int)) if all(
        isinstance(dim, int) for dim in tail
    ) else None


def _fit(data: Array, normal: _Normalized) -> Array | None:
    """The constant as [normalised extents], if it varies along those axes alone."""
    extents = shape_tail(normal)
    if extents is None:
        return None
    trimmed = data
    while trimmed.ndim > len(extents) and trimmed.shape[0] == 1:
        trimmed = trimmed[0]
    if trimmed.ndim > len(extents):
        return None
    try:
        return np.broadcast_to(trimmed, extents)
    except ValueError:
        return None


def _match_normal(node: Node) -> _Normalized | None:
    """Matches d / Sqrt(v), d * Reciprocal(Sqrt(v)), d * v ** -0.5, v = ReduceMean(d * d) + e."""
    if is_op(node, "Div"):
        pairs = [node.inputs]
    elif is_op(node, "Mul"):
        pairs = [node.inputs, node.inputs[::-1]]
    else:
        return None
    for d, other in pairs:
        variance = _variance_of(other, inverted=is_op(node, "Mul"))
        if variance is not None and d is not None:
            found = _match_variance(d, variance)
            if found is not None:
                return found
    return None


def _variance_of(value: Value | None, inverted: bool) -> Value | None:
    """V where value is sqrt(v), or 1 / sqrt(v) if `inverted`."""
    node = producer(value, "Sqrt", "Pow", "Reciprocal", "Div")
    if node is None:
        return None
    match node.op.op_name:
        case "Pow":
            exponent = -0.5 if inverted else 0.5
            return node.inputs[0] if is_number(node.inputs[1], exponent) else None
        case "Sqrt":
            return None if inverted else node.inputs[0]
        case "Div" if not is_number(node.inputs[0], 1.0):
            return None
    return _variance_of(node.inputs[-1], inverted=False) if inverted else None


def _match_variance(d: Value, variance: Value) -> _Normalized | None:
    total = producer(variance, "Add")
    if total is None:
        return None
    for mean, epsilon in (total.inputs, total.inputs[::-1]):
        reduce, number = producer(mean, "ReduceMean"), scalar(epsilon)
        if reduce is None or number is None:
            continue
        axis, base = _last_axes(reduce), _square_root(reduce.inputs[0])
        if axis is None or base is None:
            return None
        centred = _centre_of(d, axis)
        if centred is not None and _centre_of(base, axis) is centred:
            return _Normalized(centred, axis, number, True)
        return _Normalized(d, axis, number, False) if base is d else None
    return None


def _square_root(value: Value | None) -> Value | None:
    """D where value is d * d or d ** 2."""
    node = producer(value, "Mul", "Pow")
    if node is None:
        return None
    same = node.inputs[1] is node.inputs[0] if is_op(node, "Mul") else is_number(node.inputs[1], 2)
    return node.inputs[0] if same else None


def _centre_of(d: Value, axis: int) -> Value | None:
    """X where d is x - ReduceMean(x) over the axes from `axis` on."""
    minus = producer(d, "Sub")
    mean = producer(minus.inputs[1], "ReduceMean") if minus is not None else None
    if minus is None or mean is None or minus.inputs[0] is None:
        return None
    fits = mean.inputs[0] is minus.inputs[0] and _last_axes(mean) == axis
    return minus.inputs[0] if fits else None


def _last_axes(node: Node) -> int | None:
    """The first of the reduced axes if they are the last ones and kept, else None."""
    dims = rank(node.inputs[0])
    axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if dims is None or not axes or not attribute(node, "keepdims"):
        return None
    sorted_axes = sorted(axis % dims for axis in axes)
    first = sorted_axes[0]
    return first if sorted_axes == list(range(first, dims)) else None


