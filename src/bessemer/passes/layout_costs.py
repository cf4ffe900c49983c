"""What each operator costs in each layout, and what it costs to change it: the model of layouts.

A tensor is plain, or its channels lie in blocks of one vector. Costs are bytes that a copy would
move in the same time. The rates are those of the schedule rules (measured on single layers: two
cores with AVX-512, 250 GFLOP/s, copies at 15 GB/s); only their order of magnitude matters, because
a wrong layout costs a multiple.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static, usual
from bessemer.ir.graph import Node, Value
from bessemer.ir.layout import Layout
from bessemer.ir.operator import FusionClass, Unlowerable
from bessemer.ir.types import TensorType
from bessemer.ops.conv import Conv, conv_window
from bessemer.ops.expression import NodeExpression, expression_of
from bessemer.ops.reshape import RESHAPES
from bessemer.passes.match import slice_range
from bessemer.te.expr import Load, Reduce, Var
from bessemer.te.tensor import Tensor, stages
from bessemer.te.walk import walk

FLOPS_PER_BYTE = 16
"""Arithmetic at full speed in the time that a copy needs for one byte."""

PLANE_RATE = 0.6
"""Speed of a convolution from a plain tensor to a blocked one, where blocked ones have 1."""

PLAIN_RATE = 1 / 12
"""Speed of windows over plain tensors, at stride 1."""

STEP = 1 << 14
"""What a step of its own costs beyond its work: about a microsecond."""

MOST_WASTE = 4
"""A convolution from a plain tensor fills blocks only if more than this part of one is used."""


@dataclass(frozen=True)
class Costs:
    """What it costs to compute a node on plain tensors, and on tensors in blocks.

    `reads` says which inputs lie in blocks if the outputs do: True, False, or None for either.
    `widening` is the cost of blocks written from plain inputs, for nodes that can do that.
    """

    plain: int
    blocked: int
    reads: tuple[bool | None, ...]
    widening: int | None = None


def costs_of(node: Node, block: int) -> Costs | None:
    """What a node costs in either layout; None if all its tensors must be plain."""
    if isinstance(node.op, Conv):
        return _convolution(node, block)
    if not _has_shapes(node) or any(value.tensor.rank < 3 for value in node.outputs):
        return None
    if node.op.op_name in ("Concat", "Split"):
        return _joined(node, block)
    if node.op.op_name == "Slice" and _takes_blocks(node, block):
        return Costs(0, 0, (True, *(False,) * (len(node.inputs) - 1)))
    return _same_channels(node, block)


def copy_cost(value: Value, source: bool, copied: bool, block: int) -> int:
    """What a copy into the layout `copied` costs: a tensor is read and written.

    Nothing, if the bytes are the same: they only get another name.
    """
    blocked = Layout.blocked(value.tensor.rank, 1, block)
    if source != copied and blocked.same_bytes(Layout.plain(value.tensor.rank), value.tensor.dims):
        return 0
    return STEP + size_in(value, source, block) + size_in(value, copied, block)


def size_in(value: Value, blocked: bool, block: int) -> int:
    """Bytes of a tensor, channels that fill up a block included."""
    dims = [usual(dim) for dim in value.tensor.dims]
    if blocked:
        dims[1] = _full(dims[1], block)
    return math.prod(dims) * value.tensor.dtype.size_bytes


# -- convolution --------------------------------------------------------------------------------


def halo_of(node: Node) -> tuple[tuple[int, int], ...]:
    """The zeros that a convolution on blocks wants around its input."""
    op, x, w = node.op, node.inputs[0], node.inputs[1]
    assert isinstance(op, Conv)
    assert x is not None
    assert w is not None
    window = conv_window(op, x.tensor.dims, w.tensor.dims)
    halo = ((0, 0), (0, 0), *zip(window.pad_lows, window.pad_highs, strict=True))
    return tuple((max(0, low), max(0, high)) for low, high in halo)


def _convolution(node: Node, block: int) -> Costs | None:
    op, w = node.op, node.inputs[1]
    assert isinstance(op, Conv)
    assert w is not None
    x = node.inputs[0]
    if w.constant is None or x is None or not _has_shapes(node) or x.tensor.dtype != f32 \
            or x.tensor.rank not in (3, 4, 5) or 0 in x.tensor.dims \
            or not isinstance(x.tensor.dims[1], int):
        return None
    window = conv_window(op, x.tensor.dims, w.tensor.dims)
    if not is_static((*window.lows, *window.highs)):
        return None
    filters, per_filter = w.tensor.static_shape[:2]
    channels = x.tensor.dims[1]
    is_depthwise = per_filter == 1 and filters == op.group
    if op.group != 1 and not is_depthwise and (
            per_filter % block or (filters // op.group) % block):
        return None
    pixels = math.prod(
        usual(dim) for dim in (node.output.tensor.dims[0], *node.output.tensor.dims[2:]))
    steps = 2 * pixels * math.prod(w.tensor.static_shape[2:]) / FLOPS_PER_BYTE
    width = _full(filters, block)
    plain = int(steps * filters * per_filter / PLAIN_RATE * window.strides[-1])
    reads = (True, *(False,) * (len(node.inputs) - 1))
    if op.group != 1:
        return Costs(plain, int(steps * width * per_filter), reads)
    widening = int(steps * width * channels / PLANE_RATE) \
        if filters * MOST_WASTE > block else None
    return Costs(plain, int(steps * width * _full(channels, block)), reads, widening)


def _full(channels: int, block: int) -> int:
    """Channels with those that fill up the last block."""
    return -(-channels // block) * block


# -- operators that keep channels apart ---------------------------------------------------------


def _same_channels(node: Node, block: int) -> Costs | None:
    """For nodes whose element [n, c, ..] reads only channel c of some inputs."""
    if node.op.fusion in (FusionClass.OPAQUE, FusionClass.COMPLEX_OUT) \
            or any(0 in value.tensor.dims for value in node.outputs):
        return None
    try:
        expression = expression_of(node)
    except Unlowerable:
        return None
    computed = stages(expression.outputs)
    reducing = [tensor for tensor in computed if isinstance(tensor.body, Reduce)]
    if any(tensor.rank != node.output.tensor.rank for tensor in computed) or len(reducing) > 1:
        return None
    own = [k for k, value in enumerate(node.inputs)
           if value is not None and value.constant is None and value.tensor.rank > 2
           and _reads_own_channel(expression, k)]
    if not own:
        return None
    reads = _reads(node, own)
    if node.op.op_name in RESHAPES:  # the same bytes under another shape
        return Costs(0, 0, reads)
    work = sum(map(_work, reducing)) / FLOPS_PER_BYTE
    rate = PLAIN_RATE if any(map(_has_window, reducing)) else 1
    return Costs(int(work / rate) + _traffic(node, reads, False, block),
                 int(work) + _traffic(node, reads, True, block), reads)


def _reads(node: Node, own: Sequence[int]) -> tuple[bool | None, ...]:
    """Blocks for the largest inputs read by channel, either layout for what is broadcast."""
    sizes = {k: math.prod(usual(dim) for dim in value.tensor.dims)
             for k, value in enumerate(node.inputs) if k in own and value is not None}
    return tuple(
        (True if sizes[k] == max(sizes.values()) else None) if k in sizes else False
        for k in range(len(node.inputs)))


def _traffic(node: Node, reads: Sequence[bool | None], blocked: bool, block: int) -> int:
    """Bytes of the tensors that have the layout."""
    read = [value for value, wants in zip(node.inputs, reads, strict=True)
            if wants and value is not None]
    return sum(size_in(value, blocked, block) for value in (*read, *node.outputs))


def _work(tensor: Tensor) -> int:
    """Steps of a reduction."""
    assert isinstance(tensor.body, Reduce)
    return math.prod(usual(axis.extent) for axis in (*tensor.axes, *tensor.body.axes))


def _has_window(tensor: Tensor) -> bool:
    """True if an index is made of an output axis and a reduced one."""
    assert isinstance(tensor.body, Reduce)
    summed = tensor.body.axes
    for node in walk(tensor.body.body):
        for index in node.indices if isinstance(node, Load) else ():
            moving = [part for part in walk(index) if isinstance(part, Var)]
            if any(a in summed for a in moving) and any(a not in summed for a in moving):
                return True
    return False


def _reads_own_channel(expression: NodeExpression, k: int) -> bool:
    """True if element [n, c, ..] of every compute reads input k only at channel c."""
    found = False
    for stage in stages(expression.outputs):
        assert stage.body is not None
        for node in walk(stage.body):
            if not isinstance(node, Load):
                continue
            if node.tensor is not expression.inputs[k] and node.tensor.body is None:
                continue
            if len(node.indices) < 2 or node.indices[1] is not stage.axes[1]:
                return False
            found |= node.tensor is expression.inputs[k]
    return found


# -- operators that cut and join ----------------------------------------------------------------


def _joined(node: Node, block: int) -> Costs | None:
    """Concat and Split keep blocks if no block is cut."""
    is_split = node.op.op_name == "Split"
    data = [value for value in (node.inputs[:1] if is_split else node.inputs) if value is not None]
    if node.op.attributes()["axis"] % node.output.tensor.rank == 1 and any(
            not isinstance(part.tensor.dims[1], int) or part.tensor.dims[1] % block
            for part in (node.outputs if is_split else data)):
        return None
    return Costs(0, 0, tuple(value in data for value in node.inputs))


def _takes_blocks(node: Node, block: int) -> bool:
    """True for a Slice that takes whole blocks of channels."""
    found, channels = slice_range(node), node.output.tensor.dims[1]
    return found is not None and found[0] == 1 and found[1] % block == 0 \
        and isinstance(channels, int) and channels % block == 0


# -- values -------------------------------------------------------------------------------------


def is_compiled(node: Node) -> bool:
    """False for nodes that run on the host: they know no halos."""
    if node.op.fusion is FusionClass.OPAQUE:
        return False
    try:
        expression_of(node)
    except Unlowerable:
        return False
    return True


def plain(value: Value) -> Layout | None:
    """The plain layout of a tensor; None for what is no tensor of known rank."""
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    return Layout.plain(value.type.rank)


def is_blocked(value: Value) -> bool:
    """True if the channels lie in blocks."""
    return value.layout is not None and value.layout.rank > 1 and value.layout.block_of(1) > 1


def _has_shapes(node: Node) -> bool:
    return all(
        isinstance(value.type, TensorType) and value.type.shape is not None
        for value in (*node.inputs, *node.outputs) if value is not None)
