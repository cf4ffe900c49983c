"""Factors of a sum of products that are computed: found, and kept in scratch memory by tasks.

A pointwise convolution reads each input once per filter. If its input is computed element by
element, say normalised, each task computes the pixels it needs once, into memory near it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.dtypes import f32, i64
from bessemer.core.errors import ScheduleError
from bessemer.lower.kernel import Kernel, literal_index
from bessemer.lower.loops import Alloc, Buffer, For, Stmt, Store
from bessemer.schedule.memory import Axes
from bessemer.te.expr import Binary, Expr, Load, Reduce, Var
from bessemer.te.tensor import Tensor
from bessemer.te.walk import loads

MAX_STASH_BYTES = 512 * 1024
"""Scratch of one thread, on its stack of at least a megabyte."""


@dataclass(frozen=True)
class ComputedProduct:
    """value * w: `value` is computed from `x` and others, element by element; `w` are weights."""

    value: Expr
    x: Load
    w: Load


def computed_product(kernel: Kernel, stage: Tensor) -> ComputedProduct | None:
    """The parts of `sum over c of value[n, c, ..] * w[k, c]`, if it has that form."""
    body = stage.body
    assert isinstance(body, Reduce)
    if len(body.axes) != 1 or stage.rank < 2 or not isinstance(body.body, Binary) \
            or body.body.op != "*":
        return None
    pixel = (stage.axes[0], body.axes[0], *stage.axes[2:])
    for value, w in ((body.body.a, body.body.b), (body.body.b, body.body.a)):
        operand = kernel.operand(w.tensor) if isinstance(w, Load) else None
        if operand is None or operand.constant is None or isinstance(value, Load):
            continue
        found = loads(value)
        if any(load.fill is not None or not all(
                literal_index(index) is not None or any(index is axis for axis in pixel)
                for index in load.indices) for load in found):
            return None
        for load in found:
            source = kernel.operand(load.tensor)
            if source is not None and source.constant is None and load.indices == pixel:
                assert isinstance(w, Load)
                return ComputedProduct(value, load, w)
    return None


@dataclass(frozen=True)
class Pixels:
    """One axis of the pixels of a task: its first position, how many there are, and at most."""

    axis: Var
    start: Expr
    count: int
    most: int


def fill(product: ComputedProduct, pixels: list[Pixels], channel: Var, blocks: int, lanes: int,
         compute: Callable[[dict[str, Expr]], Expr]
         ) -> tuple[list[Stmt], Callable[[Axes], Expr]]:
    """Statements that compute a task's pixels, and the element to read in place of the factor.

    `compute` gives the factor for values of its index variables. Raises: ScheduleError if the
    pixels do not fit.
    """
    shape = (blocks, *(each.most for each in pixels), lanes)
    stash = Buffer.dense("stash", f32, shape, "stack")
    if stash.size_bytes > MAX_STASH_BYTES:
        raise ScheduleError(f"the computed factor takes {stash.size_bytes} bytes for each task")
    block, lane = Var("block", i64), Var("lane", i64)
    places = [Var(f"pixel{k}", i64) for k in range(len(pixels))]
    values = {each.axis.name: each.start + place
              for each, place in zip(pixels, places, strict=True)}
    value = compute({**values, channel.name: block * lanes + lane})
    body: list[Stmt] = [For(lane, lanes, "vector", [Store(stash, (block, *places, lane), value)])]
    for place, each in zip(reversed(places), reversed(pixels), strict=True):
        body = [For(place, each.count, "serial", body)]

    def read(axes: Axes) -> Expr:
        c = axes.values[channel.name]
        near = (axes.values[each.axis.name] - each.start for each in pixels)
        return stash.at(c // lanes, *near, c % lanes)

    return [Alloc(stash), For(block, blocks, "serial", body)], read
