"""The loops of a Winograd convolution: transform tiles, multiply at every point, transform back.

A task takes some tiles of outputs, and some of the filters, through all three stages while its
scratch stays in the second cache.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.core.dtypes import f32, i64
from bessemer.ir.layout import Layout, Part
from bessemer.lower.kernel import Operand
from bessemer.lower.loops import Alloc, Buffer, Fma, For, If, Let, Stmt, Store
from bessemer.schedule.memory import Axes, Memory, physical
from bessemer.schedule.rules.convolution import balanced
from bessemer.schedule.rules.reduction import reduced_stage
from bessemer.schedule.winograd_division import Division, Window
from bessemer.schedule.winograd_transform import (
    transform_input,
    transform_output,
    transform_weights,
)
from bessemer.te.expr import Expr, Load, Reduce, Var, binary, cast, const, extent
from bessemer.te.functions import equal
from bessemer.te.tensor import Tensor, placeholder


class WinogradNest:
    """The loops of one convolution."""

    def __init__(
        self, window: Window, knobs: Mapping[str, Any], memory: Memory, lanes: int
    ) -> None:
        self.window, self.memory, self.lanes = window, memory, lanes
        self.kernel = memory.kernel
        self.stage = reduced_stage(self.kernel)
        self.cut = cut = Division.of(window, knobs, lanes)
        # An odd number of tiles, so that the points of one tile fall into different cache sets.
        self.inputs = Buffer.dense("tiles", f32, (cut.points, cut.tiles | 1, cut.channels), "stack")
        self.products = Buffer.dense(
            "products", f32, (cut.points, cut.tiles | 1, cut.filters), "stack"
        )
        self.weights = self._weights(int(knobs["prefetch"]))

    @property
    def text(self) -> str:
        """What the rule did, for people."""
        cut = self.cut
        (rows, columns), (high, wide) = cut.size, self.window.taps
        return (
            f"winograd F({rows}x{columns},{high}x{wide}): {cut.chunks} x {cut.tiles} tiles, "
            f"{cut.passes} x {cut.channels} channels, {cut.groups} x {cut.filters} filters; "
            f"errors up to {cut.error} of the largest output"
        )

    def _weights(self, ahead_bytes: int) -> Operand:
        """The transformed weights [points, filters, channels] in place of the weights."""
        old = self.kernel.operand(self.window.shape.w.tensor)
        assert old is not None
        assert old.constant is not None
        content = transform_weights(old.constant, *self.cut.size)
        width = self.cut.vectors * self.lanes
        parts = (
            Part(1, self.cut.filters),
            Part(2, self.cut.channels),
            Part(0),
            Part(1, width, self.cut.filters // width),
            Part(2, 1, self.cut.channels),
            Part(1, 1, width),
        )
        tensor = placeholder(f32, content.shape, f"{old.tensor.name}.winograd")
        fresh = Operand.dense(tensor, Layout(parts, ((0, 0),) * 3), content, old.key)
        self.kernel.replace_operand(old, fresh)
        if ahead_bytes:
            self.memory.prefetches[tensor.name] = ahead_bytes
        return fresh

    def build(self) -> list[Stmt]:
        """The statements."""
        task, part, chunk, group = (Var(n, i64) for n in ("task", "part", "chunk", "group"))
        each = self.cut.groups // self.cut.parts
        number = part * each + group
        inner: list[Stmt]
        if self.cut.passes == 1:
            inner = [
                *self._transform_inputs(chunk, const(0, i64)),
                For(
                    group,
                    each,
                    "serial",
                    [*self._multiply(number, const(0, i64)), *self._finish(chunk, number)],
                ),
            ]
        else:
            depth = Var("pass", i64)
            inner = [
                For(
                    group,
                    each,
                    "serial",
                    [
                        For(
                            depth,
                            self.cut.passes,
                            "serial",
                            [*self._transform_inputs(chunk, depth), *self._multiply(number, depth)],
                        ),
                        *self._finish(chunk, number),
                    ],
                )
            ]
        return [
            For(
                task,
                self.cut.parts * self.cut.chunks,
                "parallel",
                [
                    Let(part, task // self.cut.chunks),
                    Let(chunk, task % self.cut.chunks),
                    Alloc(self.inputs),
                    Alloc(self.products),
                    *inner,
                ],
            )
        ]

    # -- places -----------------------------------------------------------------------------------

    def _place(self, chunk: Expr, tile: Expr, clamp: bool) -> tuple[list[Stmt], list[Expr], Expr]:
        """Statements that find a tile, its image, row and column, and its number."""
        n, y, x, k = (Var(name, i64) for name in ("n", "ty", "tx", "t"))
        number = chunk * self.cut.tiles + tile
        if clamp:
            number = binary("min", number, const(self.cut.total - 1, i64))
        rows, columns = self.cut.grid
        return (
            [
                Let(k, number),
                Let(n, k // (rows * columns)),
                Let(y, k // columns % rows),
                Let(x, k % columns),
            ],
            [n, y * self.cut.size[0], x * self.cut.size[1]],
            k,
        )

    # -- inputs -----------------------------------------------------------------------------------

    def _transform_inputs(self, chunk: Expr, depth: Expr) -> list[Stmt]:
        """The tiles of some channels, at their points."""
        tile, block, lane = (Var(name, i64) for name in ("tile", "block", "lane"))
        places, (n, top, left), _ = self._place(chunk, tile, True)
        height, width = self.cut.span
        x = self.kernel.operand(self.window.shape.x.tensor)
        assert x is not None
        source = self.memory.buffer(x)
        channel = (depth * (self.cut.channels // self.lanes) + block) * self.lanes + lane
        # Rows and columns behind the last one are read by outputs that are not stored.
        ys = [self._inside(top, k, 0) for k in range(height)]
        xs = [self._inside(left, k, 1) for k in range(width)]
        half = Buffer.dense("half", f32, (height, width, self.lanes), "register")
        body: list[Stmt] = []
        for j, column in enumerate(xs):
            loads = [Load(source, physical(x.layout, (n, channel, row, column)), f32) for row in ys]
            body += [
                Store(half, (const(i, i64), const(j, i64), lane), value)
                for i, value in enumerate(transform_input(loads))
            ]
        for i in range(height):
            halves = [half.at(const(i, i64), const(j, i64), lane) for j in range(width)]
            body += [
                Store(
                    self.inputs, (const(i * width + j, i64), tile, block * self.lanes + lane), value
                )
                for j, value in enumerate(transform_input(halves))
            ]
        return [
            For(
                block,
                self.cut.channels // self.lanes,
                "serial",
                [
                    For(
                        tile,
                        self.cut.tiles,
                        "serial",
                        [*places, Alloc(half), For(lane, self.lanes, "vector", body)],
                    )
                ],
            )
        ]

    def _inside(self, start: Expr, offset: int, axis: int) -> Expr:
        """A row or column of the input, not beyond the last one that an output needs."""
        pad = self.window.pads[axis]
        size = (self.window.rows, self.window.columns)[axis]
        place = start + (offset - pad)
        return binary("min", place, const(size + self.window.taps[axis] - 2 - pad, i64))

    # -- products ---------------------------------------------------------------------------------

    def _multiply(self, group: Expr, depth: Expr) -> list[Stmt]:
        """The products of all tiles with a group of filters at every point."""
        point, column = Var("point", i64), Var("column", i64)
        body: list[Stmt] = []
        start = 0
        for number, (size, count) in enumerate(balanced(self.cut.tiles, self.cut.pixels)):
            row = Var(f"row{number}", i64)
            first = row * size + start
            body.append(
                For(
                    row,
                    count,
                    "serial",
                    self._register_tile(number, size, point, first, group, column, depth),
                )
            )
            start += size * count
        return [
            For(
                point,
                self.cut.points,
                "serial",
                [For(column, self.cut.filters // (self.cut.vectors * self.lanes), "serial", body)],
            )
        ]

    def _register_tile(
        self,
        number: int,
        size: int,
        point: Expr,
        first: Expr,
        group: Expr,
        column: Expr,
        depth: Expr,
    ) -> list[Stmt]:
        """One tile of accumulators, from the first to the last channel of a pass."""
        i, v, lane, c, u = (Var(name, i64) for name in ("i", "v", "l", "c", "u"))
        vectors, lanes = self.cut.vectors, self.lanes
        acc = Buffer.dense(f"acc{number}", f32, (size, vectors, lanes), "register")
        inside = (column * vectors + v) * lanes + lane
        target = (point, first + i, inside)

        def spread(stmt: Stmt) -> list[Stmt]:
            return [
                For(
                    i,
                    size,
                    "unroll",
                    [For(v, vectors, "unroll", [For(lane, lanes, "vector", [stmt])])],
                )
            ]

        old = acc.at(i, v, lane)
        zero = spread(Store(acc, (i, v, lane), const(0.0, f32)))
        start = (
            zero
            if self.cut.passes == 1
            else [
                If(
                    equal(depth, const(0, i64)),
                    zero,
                    spread(Store(acc, (i, v, lane), self.products.at(*target))),
                )
            ]
        )
        channel = c * self.cut.unroll + u
        weight = Load(
            self.memory.buffer(self.weights),
            physical(
                self.weights.layout,
                (point, group * self.cut.filters + inside, depth * self.cut.channels + channel),
            ),
            f32,
        )
        value = self.inputs.at(point, first + i, channel)
        step = spread(Store(acc, (i, v, lane), Fma(value, weight, old, f32)))
        return [
            Alloc(acc),
            *start,
            For(
                c,
                self.cut.channels // self.cut.unroll,
                "serial",
                [For(u, self.cut.unroll, "unroll", step)],
            ),
            *spread(Store(self.products, target, old)),
        ]

    # -- outputs ----------------------------------------------------------------------------------

    def _finish(self, chunk: Expr, group: Expr) -> list[Stmt]:
        """The outputs of a group of filters, with the epilogue."""
        tile, block, lane = (Var(name, i64) for name in ("tile", "block", "lane"))
        places, (n, top, left), number = self._place(chunk, tile, False)
        height, width = self.cut.span
        half = Buffer.dense("half", f32, (self.cut.size[0], width, self.lanes), "register")
        done = Buffer.dense("done", f32, (*self.cut.size, self.lanes), "register")
        body: list[Stmt] = []
        for j in range(width):
            products = [
                self.products.at(const(i * width + j, i64), tile, block * self.lanes + lane)
                for i in range(height)
            ]
            body += [
                Store(half, (const(i, i64), const(j, i64), lane), value)
                for i, value in enumerate(transform_output(products, self.cut.size[0]))
            ]
        for i in range(self.cut.size[0]):
            halves = [half.at(const(i, i64), const(j, i64), lane) for j in range(width)]
            body += [
                Store(done, (const(i, i64), const(j, i64), lane), value)
                for j, value in enumerate(transform_output(halves, self.cut.size[1]))
            ]
        channel = group * self.cut.filters + block * self.lanes + lane
        transform: list[Stmt] = [Alloc(half), Alloc(done), For(lane, self.lanes, "vector", body)]
        stores = self._pixels(done, (n, top, left), channel, lane)
        work = [*places, *transform, *stores]
        if self.cut.chunks * self.cut.tiles != self.cut.total:
            work = [*places[:1], If(number < extent(self.cut.total), work[1:])]
        return [
            For(
                block,
                self.cut.filters // self.lanes,
                "serial",
                [For(tile, self.cut.tiles, "serial", work)],
            )
        ]

    def _pixels(self, done: Buffer, place: Sequence[Expr], channel: Expr, lane: Var) -> list[Stmt]:
        """Epilogue and stores of the outputs of one tile that exist."""
        n, top, left = place
        result: list[Stmt] = []
        for i in range(self.cut.size[0]):
            row: list[Stmt] = []
            for j in range(self.cut.size[1]):
                value = done.at(const(i, i64), const(j, i64), lane)
                stores = self._outputs((n, channel, top + i, left + j), value)
                row += self._if_inside(left, j, 1, [For(lane, self.lanes, "vector", stores)])
            result += self._if_inside(top, i, 0, row)
        return result

    def _if_inside(self, start: Expr, offset: int, axis: int, body: list[Stmt]) -> list[Stmt]:
        size = (self.window.rows, self.window.columns)[axis]
        if offset < (size - 1) % self.cut.size[axis] + 1:
            return body
        return [If(start + offset < extent(size), body)]

    def _outputs(self, indices: tuple[Expr, ...], value: Expr) -> list[Stmt]:
        """Stores of all outputs at one place."""
        result: list[Stmt] = []
        assert isinstance(self.stage.body, Reduce)
        value = cast(value, self.stage.body.dtype)
        for operand in self.kernel.outputs:
            tensor = operand.tensor
            axes = self._axes(tensor, indices)
            if tensor is not self.stage:
                assert tensor.body is not None
                known = {id(self.stage): value}
                result += self.memory.store(
                    operand, axes, indices, self.memory.expression(tensor.body, axes, known)
                )
            else:
                result += self.memory.store(operand, axes, indices, value)
        return result

    def _axes(self, tensor: Tensor, indices: tuple[Expr, ...]) -> Axes:
        """The index variables of an output; its channels run over the padding of the blocks."""
        names = [axis.name for axis in tensor.axes]
        sizes = [int(axis.extent) for axis in tensor.axes]  # type: ignore[arg-type]
        room = -(-sizes[1] // self.lanes) * self.lanes
        ranges: dict[str, Any] = {
            name: (0, size - 1) for name, size in zip(names, sizes, strict=True)
        }
        padded = frozenset({names[1]} if room != sizes[1] else ())
        ranges[names[1]] = 0, room - 1
        return Axes(dict(zip(names, indices, strict=True)), ranges, padded)
