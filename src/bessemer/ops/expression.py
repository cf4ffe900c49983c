"""Tensor expressions of graph nodes: what fusion, layout choice and lowering look at."""

from dataclasses import dataclass

from bessemer.core.dtypes import COMPILED
from bessemer.core.shapes import Shape
from bessemer.ir.graph import Node, Value
from bessemer.ir.inference import infer_node_types
from bessemer.ir.operator import Unlowerable, outputs_of
from bessemer.ir.types import TensorType
from bessemer.ops.dims import known_dims
from bessemer.te.expr import Binary, Load, Reduce, Unary
from bessemer.te.tensor import Tensor, placeholder, stages
from bessemer.te.walk import walk


@dataclass(frozen=True)
class NodeExpression:
    """Placeholders for the inputs of a node (None where one is absent) and its output tensors."""

    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def loads_of(self, tensor: Tensor) -> list[tuple[Tensor, Load]]:
        """Every load of a placeholder, with the compute it stands in."""
        found = []
        for stage in stages(self.outputs):
            assert stage.body is not None
            found += [(stage, node) for node in walk(stage.body)
                      if isinstance(node, Load) and node.tensor is tensor]
        return found


def expression_of(node: Node) -> NodeExpression:
    """The tensor expression of a node over fresh placeholders.

    Raises: Unlowerable with the reason.
    """
    inputs: list[Tensor | None] = []
    for k, value in enumerate(node.inputs):
        if value is None:
            inputs.append(None)
            continue
        if not isinstance(value.type, TensorType) or value.type.shape is None:
            raise Unlowerable(f"input {value.name} is {value.type}: its rank is not known")
        inputs.append(placeholder(value.type.dtype, value.type.shape, f"x{k}"))
    return NodeExpression(tuple(inputs), lower_node(node, tuple(inputs)))


def _check_small(outputs: tuple[Tensor | None, ...]) -> None:
    """Raises Unlowerable where an expression computes with a type that kernels only convert."""
    for stage in stages(tuple(tensor for tensor in outputs if tensor is not None)):
        assert stage.body is not None
        for node in walk(stage.body):
            if isinstance(node, (Binary, Unary, Reduce)):
                for child in node.children():
                    if child.dtype.is_small:
                        raise Unlowerable(f"arithmetic with {child.dtype}: kernels only convert it")


def _content_of(value: Value | None) -> Shape | None:
    """The integers or dimensions in a tensor, where they are known."""
    known = value.known_type() if value is not None else None
    return known_dims(known) if isinstance(known, TensorType) else None


def lower_node(node: Node, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """The output tensors of a node on given input tensors, one for each of its outputs.

    Raises: Unlowerable with the reason.
    """
    if not node.op.has_lowering():
        raise Unlowerable(f"{node.op} has no tensor expression")
    symbolic = False
    for value in (*node.inputs, *node.outputs):
        if value is None:
            continue
        if not isinstance(value.type, TensorType) or value.type.shape is None:
            raise Unlowerable(f"{value.name} is {value.type}: its rank is not known")
        symbolic |= not value.type.is_static
        if value.type.dtype not in COMPILED:
            raise Unlowerable(f"{value.name} is {value.type}: kernels do not compute with it")
    types = infer_node_types(node.op, node.inputs, node.name, sources=node.sources)
    known = tuple(value.constant if value is not None else None for value in node.inputs)
    contents = tuple(_content_of(value) for value in node.inputs)
    try:
        results = outputs_of(
            node.op.lower(*inputs, known=known, types=tuple(types), contents=contents))
    except TypeError as error:
        if not symbolic:
            raise
        # Its expression compares extents, which only integers allow.
        raise Unlowerable(f"{node.op} on symbolic extents: {error}") from error
    chosen: tuple[Tensor, ...] = results[: len(node.outputs)]
    _check_small(chosen)
    for value, tensor in zip(node.outputs, chosen, strict=True):
        if tensor is None:
            raise Unlowerable(f"{node.op} gives no expression for {value.name}")
        if tuple(tensor.shape) != value.tensor.dims or tensor.dtype != value.tensor.dtype:
            raise Unlowerable(
                f"{node.op} lowers {value.name} to {tensor.dtype}{list(tensor.shape)}, "
                f"its type is {value.type}")
    return chosen
