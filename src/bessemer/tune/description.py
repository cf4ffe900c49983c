"""Kernels as text that stays the same while the compiler changes: what tuning records are kept for.

Names are given anew in order of appearance, so neither the names of a model's nodes nor those that
lowering makes up matter. `parse_kernel` reads the text back, so that records are enough to learn
from.
"""

import hashlib
import re
from dataclasses import replace

import numpy as np

from bessemer.core.dtypes import DTYPES, DType, i64
from bessemer.core.errors import ModelFormatError
from bessemer.ir.parser import parse_layout
from bessemer.ir.printer import print_layout
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.loops import static
from bessemer.targets.target import Target
from bessemer.te.expr import Expr, Load, Reduce, Var, text
from bessemer.te.parser import parse_expr
from bessemer.te.tensor import IterVar, Tensor, placeholder
from bessemer.te.walk import rewrite


def describe_kernel(kernel: Kernel) -> str:
    """What a kernel computes, over which shapes and layouts.

    Contents of constants are left out: they decide no schedule.
    """
    names: dict[int, Tensor] = {}
    for number, operand in enumerate(kernel.inputs):
        names[id(operand.tensor)] = replace(operand.tensor, name=f"i{number}")
    stages = kernel.stages
    for number, stage in enumerate(stages):
        names[id(stage)] = replace(stage, name=f"s{number}")
    lines = [_operand("in", operand, names) for operand in kernel.inputs]
    lines += [_stage(stage, names) for stage in stages]
    lines += [_operand("out", operand, names) for operand in kernel.outputs]
    group = kernel.notes.get("filters_per_group")
    if group:
        lines.append(f"filters_per_group {group}")
    return "\n".join(lines)


def describe_chip(target: Target) -> str:
    """What timings depend on of a chip."""
    caches = "/".join(f"{size >> 10}K" for size in (
        target.l1_bytes, target.l2_bytes, target.l3_bytes))
    return f"{target.cpu} {target.vector_bits} {caches}"


def kernel_key(kernel: Kernel, target: Target, threads: int) -> str:
    """The name under which a kernel's timings are kept."""
    content = f"{describe_chip(target)}\n{threads}\n{describe_kernel(kernel)}"
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _operand(role: str, operand: Operand, names: dict[int, Tensor]) -> str:
    name = names[id(operand.tensor)].name
    line = f"{role} {name} {operand.dtype}[{','.join(map(str, operand.shape))}]"
    if operand.constant is not None:
        return f"{line} constant"
    strides = ",".join(map(str, operand.strides))
    return f"{line} {print_layout(operand.layout)} strides {strides} offset {operand.offset}"


def _stage(stage: Tensor, names: dict[int, Tensor]) -> str:
    assert stage.body is not None
    variables: dict[str, str] = {axis.name: f"a{k}" for k, axis in enumerate(stage.axes)}

    def visit(node: Expr) -> Expr | None:
        if isinstance(node, Load):
            tensor = names.get(id(node.tensor))
            return None if tensor is None else Load(tensor, node.indices, node.dtype, node.fill)
        if isinstance(node, Reduce):
            axes = tuple(IterVar(_name(variables, a.name), a.dtype, a.extent) for a in node.axes)
            return Reduce(node.kind, node.body, axes, node.dtype, node.last)
        if isinstance(node, Var) and node.name in variables:
            return Var(variables[node.name], node.dtype)
        return None

    body = stage.body
    if isinstance(body, Reduce):
        for axis in body.axes:
            _name(variables, axis.name)
    axes = ",".join(f"a{k}:{axis.extent}" for k, axis in enumerate(stage.axes))
    return f"{names[id(stage)].name}[{axes}] {stage.dtype} = {text(rewrite(body, visit))}"


def _name(variables: dict[str, str], name: str) -> str:
    return variables.setdefault(name, f"r{len(variables)}")


_OPERAND = re.compile(r"(in|out) (\w+) (\w+)\[([\d,]*)\] (?:(constant)|(.+) strides ([\d,]*) "
                      r"offset (\d+))")
_STAGE = re.compile(r"(\w+)\[([\w:,]*)\] (\w+) = (.+)")


def parse_kernel(description: str) -> Kernel:
    """The kernel of a description; its constants are zeros.

    Raises: ModelFormatError for other texts, also for kernels with symbolic extents.
    """
    tensors: dict[str, Tensor] = {}
    inputs: list[Operand] = []
    outputs: list[Operand] = []
    notes: dict[str, int] = {}
    for line in description.splitlines():
        if line.startswith("filters_per_group "):
            notes["filters_per_group"] = int(line.split()[1])
        elif (found := _OPERAND.fullmatch(line)) is not None:
            role, name, dtype, shape = found.groups()[:4]
            if role == "out" and name not in tensors:
                raise ModelFormatError(f"a kernel's description computes no {name!r}")
            if role == "in":
                tensors[name] = placeholder(_dtype(dtype), _numbers(shape), name)
            (inputs if role == "in" else outputs).append(_parsed_operand(found, tensors[name]))
        elif (found := _STAGE.fullmatch(line)) is not None:
            tensors[found[1]] = _parsed_stage(found, tensors)
        else:
            raise ModelFormatError(f"not a line of a kernel's description: {line!r}")
    return Kernel("recorded", inputs, outputs, (), dict(notes))


def _dtype(name: str) -> DType:
    if name not in DTYPES:
        raise ModelFormatError(f"a kernel's description names the unknown dtype {name!r}")
    return DTYPES[name]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _parsed_operand(found: re.Match[str], tensor: Tensor) -> Operand:
    if found[5]:
        zeros = np.broadcast_to(np.zeros((), tensor.dtype.numpy), static(tensor.shape))
        return Operand.dense(tensor, None, zeros)
    return Operand(tensor, parse_layout(found[6]), _numbers(found[7]), int(found[8]))


def _parsed_stage(found: re.Match[str], tensors: dict[str, Tensor]) -> Tensor:
    name, spelled, dtype, body = found.groups()
    pairs = [part.split(":") for part in spelled.split(",") if part]
    axes = tuple(IterVar(axis, i64, int(extent)) for axis, extent in pairs)
    expression = parse_expr(body, tensors, {axis.name: axis for axis in axes})
    return Tensor(name, _dtype(dtype), tuple(axis.extent for axis in axes), axes, expression)
