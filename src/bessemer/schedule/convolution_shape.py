"""What a kernel that is a convolution computes: its extents, input and weights."""

import math
from dataclasses import dataclass, replace

from bessemer.core.dtypes import f32
from bessemer.core.shapes import Sym, is_static
from bessemer.lower.kernel import Kernel, literal_index, product_of_loads
from bessemer.schedule.rules.reduction import reduced_stage
from bessemer.schedule.stash import ComputedProduct, computed_product
from bessemer.te.expr import Load, Reduce
from bessemer.te.tensor import Tensor
from bessemer.te.walk import walk


@dataclass(frozen=True)
class ConvolutionShape:
    """What the rule needs to know: extents, and whether the input is blocked."""

    x: Load
    w: Load
    filters: int
    channels: int
    kernel: tuple[int, ...]
    rows: int
    columns: int
    blocked_input: bool
    channel_axis: bool
    """False if there is one input channel, whose axis was dropped."""
    is_symbolic: bool
    """True if rows or columns are known at run time only; they are the usual ones then."""
    is_computed: bool = False
    """True if the input is computed from `x` and others, element by element."""


def convolution_of(kernel: Kernel) -> ConvolutionShape | str:
    """The convolution a kernel computes, or why it is none."""
    stage = reduced_stage(kernel)
    body = stage.body
    assert isinstance(body, Reduce)
    loads, computed = product_of_loads(body.body), computed_product(kernel, stage)
    if body.kind != "sum" or (loads is None and computed is None) or body.dtype != f32:
        return "not a sum of products of loads"
    if len(stage.axes) < 3 or not body.axes:
        return "not [n, channels, spatial]"
    if loads is None:
        assert computed is not None
        return _pointwise(kernel, stage, computed)
    for x, w in (loads, loads[::-1]):
        operand = kernel.operand(w.tensor)
        if operand is None or operand.constant is None or w.fill is not None:
            continue
        names = [stage.axes[1], *body.axes]
        moving = [index for index in w.indices if literal_index(index) != 0]
        if len(moving) == len(names) and all(
                a is b for a, b in zip(moving, names, strict=True)):
            if any(n is stage.axes[1] for n in walk(x.indices[1])) and \
                    w.indices[1] is not body.axes[0]:
                return "a depthwise convolution"
            return _shape(kernel, stage, body, x, w)
    return "no constant weights indexed [oc, ic, kernel]"


def _pointwise(kernel: Kernel, stage: Tensor, product: ComputedProduct) -> ConvolutionShape | str:
    """A convolution of one tap whose input is computed."""
    body, w = stage.body, product.w
    assert isinstance(body, Reduce)
    if len(w.indices) < 2 or w.indices[0] is not stage.axes[1] or w.indices[1] is not body.axes[0]:
        return "no constant weights indexed [oc, ic, kernel]"
    shape = _shape(kernel, stage, body, product.x, w)
    operand = kernel.operand(product.x.tensor)
    assert operand is not None
    if isinstance(shape, str) or not shape.blocked_input or shape.is_symbolic \
            or shape.channels % operand.layout.block_of(1):
        return "its input is computed, and not in whole blocks of channels, or of open extents"
    return replace(shape, is_computed=True)


def _shape(kernel: Kernel, stage: Tensor, body: Reduce, x: Load, w: Load
           ) -> ConvolutionShape | str:
    operand = kernel.operand(x.tensor)
    if operand is None:
        return "the input is not in memory"
    if any(isinstance(axis.extent, Sym) for axis in (stage.axes[1], *body.axes)):
        return "channels or the window have a symbolic extent"
    extents = [kernel.usual(axis.extent) for axis in (*stage.axes, *body.axes)]
    rank = len(stage.axes)
    has_channel = w.indices[1] is body.axes[0]
    first = rank + 1 if has_channel else rank
    return ConvolutionShape(
        x, w, extents[1], extents[rank] if has_channel else 1, tuple(extents[first:]),
        math.prod(extents[2: rank - 1]), extents[rank - 1],
        operand.layout.block_of(1) > 1 and has_channel, has_channel,
        not is_static([axis.extent for axis in stage.axes[2:]]))
