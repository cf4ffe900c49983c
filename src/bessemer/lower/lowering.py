"""Fusion group -> kernels: composes the tensor expressions of its nodes over operands in memory."""

from dataclasses import dataclass

from bessemer.core.errors import ScheduleError
from bessemer.ir.graph import Value
from bessemer.ir.types import TensorType
from bessemer.lower.aliases import is_alias
from bessemer.lower.collapse import simplify_axes
from bessemer.lower.groups import Group
from bessemer.lower.kernel import Kernel, Operand, inline_stages
from bessemer.lower.storage import StorageMap
from bessemer.ops.activation import Relu
from bessemer.ops.conv import Conv
from bessemer.ops.expression import lower_node
from bessemer.te.expr import Expr, Load
from bessemer.te.tensor import Tensor, compute, placeholder, tables
from bessemer.te.walk import rewrite, walk


@dataclass(eq=False)
class Temporary:
    """Memory between the kernels of one group."""

    name: str
    tensor: Tensor


def kernel_of(group: Group, storage: StorageMap) -> Kernel:
    """The kernel of a group, with operands where storage says the values lie."""
    tensors: dict[int, Tensor] = {}
    inputs: list[Operand] = []
    outputs: list[Operand] = []
    for node in group.nodes:
        operands: list[Tensor | None] = []
        for value in node.inputs:
            if value is None:
                operands.append(None)
                continue
            if id(value) not in tensors:
                tensor = placeholder(value.tensor.dtype, value.tensor.dims,
                                     f"x{len(inputs)}")
                tensors[id(value)] = tensor
                inputs.append(_operand(value, tensor, storage))
            operands.append(tensors[id(value)])
        results = lower_node(node, tuple(operands))
        inputs += [_table(node.name, tensor) for tensor in tables(results)]
        for value, tensor in zip(node.outputs, results, strict=True):
            tensors[id(value)] = tensor
    for value in group.last.outputs:
        if value.users or storage.graph.is_output(value) or len(group.last.outputs) == 1:
            outputs.append(_operand(value, tensors[id(value)], storage))
    kernel = Kernel(group.name, inputs, outputs, group.sources)
    if storage.usual:
        kernel.notes["usual"] = storage.usual
    sparse = tuple(operand.tensor.name for operand in inputs
                   if isinstance(operand.key, Value) and has_many_zeros(operand.key))
    if sparse:
        kernel.notes["sparse"] = sparse
    op = group.anchor.op
    if isinstance(op, Conv) and op.group > 1:
        weights = group.anchor.inputs[1]
        assert weights is not None
        kernel.notes["filters_per_group"] = weights.tensor.static_shape[0] // op.group
    return simplify_axes(_materialised(inline_stages(kernel)))


def has_many_zeros(value: Value) -> bool:
    """True if about half of the elements are likely zeros: the results of a Relu."""
    producer = value.producer
    while producer is not None and is_alias(producer):
        producer = producer.inputs[0].producer if producer.inputs[0] is not None else None
    return producer is not None and isinstance(producer.op, Relu)


def _table(name: str, tensor: Tensor) -> Operand:
    """Constants that an expression brings with it."""
    assert tensor.data is not None
    value = Value(f"{name}.{tensor.name}", TensorType.of(tensor.data), tensor.data)
    return Operand.dense(tensor, None, tensor.data, value)


def _operand(value: Value, tensor: Tensor, storage: StorageMap) -> Operand:
    if value.constant is not None:
        return Operand.dense(tensor, None, value.constant, value)
    where = storage.of(value)
    return Operand(tensor, where.layout, where.strides, 0, None, value)


def _materialised(kernel: Kernel) -> Kernel:
    """An output that is a placeholder (a node that only renames) becomes a copy."""
    outputs = []
    for operand in kernel.outputs:
        tensor = operand.tensor
        if tensor.body is None:
            copy = compute(tensor.dtype, tensor.shape, tensor.at, "copy")
            operand = Operand(copy, operand.layout, operand.strides, 0, None, operand.key)
        outputs.append(operand)
    return Kernel(kernel.name, kernel.inputs, outputs, kernel.sources, kernel.notes)


def split_stages(kernel: Kernel) -> list[Kernel]:
    """One kernel per compute that was not inlined, with temporaries between them.

    Raises: ScheduleError if there is nothing to split.
    """
    stages = kernel.stages
    if len(stages) < 2:
        raise ScheduleError(f"kernel {kernel.name} has one stage and cannot be split")
    operands = {id(o.tensor): o for o in (*kernel.inputs, *kernel.outputs)}
    result: list[Kernel] = []
    swapped: dict[int, Tensor] = {}
    for number, stage in enumerate(stages):
        fresh = _over_placeholders(stage, swapped)
        target = operands.get(id(stage))
        if target is None:
            temporary = Temporary(f"{kernel.name}.{stage.name}.{number}", stage)
            target = Operand.dense(stage, None, None, temporary)
        memory = placeholder(stage.dtype, stage.shape, f"s{number}")
        swapped[id(stage)] = memory
        operands[id(memory)] = Operand(memory, target.layout, target.strides, 0, None, target.key)
        out = Operand(fresh, target.layout, target.strides, 0, None, target.key)
        assert fresh.body is not None
        read = dict.fromkeys(id(n.tensor) for n in walk(fresh.body) if isinstance(n, Load))
        inputs = [operands[key] for key in read]
        part = Kernel(f"{kernel.name}.{number}", inputs, [out], kernel.sources, dict(kernel.notes))
        result.append(simplify_axes(part))
    return result


def _over_placeholders(stage: Tensor, swapped: dict[int, Tensor]) -> Tensor:
    def visit(node: Expr) -> Expr | None:
        if isinstance(node, Load) and id(node.tensor) in swapped:
            return Load(swapped[id(node.tensor)], node.indices, node.dtype, node.fill)
        return None

    assert stage.body is not None
    return Tensor(stage.name, stage.dtype, stage.shape, stage.axes, rewrite(stage.body, visit))
