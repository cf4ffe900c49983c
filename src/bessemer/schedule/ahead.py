"""What a loop asks for ahead of its use: the next block of a stream, the memory of the results."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bessemer.core.dtypes import i64
from bessemer.core.shapes import Sym, usual
from bessemer.lower.loops import If, Prefetch, Stmt, static
from bessemer.schedule.memory import physical
from bessemer.schedule.regions import Env
from bessemer.schedule.schedule import Stream
from bessemer.te.expr import Expr, const, extent

if TYPE_CHECKING:
    from bessemer.schedule.nest import Nest

LINE_BYTES = 64
"""A cache line, of all our targets."""


def asked_ahead(nest: "Nest", name: str, env: Env) -> list[Stmt]:
    """The prefetches of one iteration of a loop."""
    schedule = nest.schedule
    asked = [stmt for tensor, stream in schedule.streams.items()
             if stream.turns[-1] == name for stmt in _next_block(nest, tensor, stream, env)]
    if name in schedule.fetches[-1:]:
        asked += _results(nest, env)
    return asked


def _next_block(nest: "Nest", tensor: str, stream: Stream, env: Env) -> list[Stmt]:
    """The part of the next block that one iteration asks for."""
    load = nest.load_of(tensor)
    operand = nest.memory.kernel.operand(load.tensor)
    place = _turn(nest, stream.turns, env)
    if operand is None or place is None:
        return []
    turn, turns = place
    line = LINE_BYTES // operand.dtype.size_bytes
    each = -(-stream.count // (line * turns))
    after = env.bind(stream.block, env.values[stream.block] + 1)
    start = nest.start(stream.block, after)
    indices = physical(operand.layout, tuple(
        nest.memory.expression(index, start) for index in load.indices))
    buffer = nest.memory.buffer(operand)
    first = indices[-1] + turn * (each * line)
    return [Prefetch(buffer, (*indices[:-1], first + extent(k * line))) for k in range(each)]


def _results(nest: "Nest", env: Env) -> list[Stmt]:
    """The part of the results of a tile that one iteration asks for, until nothing is left.

    The iterations run through the widest loop of the tile.
    """
    inside = [name for name in nest.inner if name not in nest.schedule.reducing]
    kept = {name: static((nest.regions.size(name, env),))[0] for name in inside
            if nest.schedule.kinds.get(name) != "vector"}
    place = _turn(nest, nest.schedule.fetches, env)
    if nest.local is not None or not kept or place is None:
        return []
    turn, turns = place
    widest = max(kept, key=lambda name: kept[name])
    each = -(-kept[widest] // turns)
    first = turn * each
    places: list[dict[str, Expr]] = [{widest: first + extent(k)} for k in range(each)]
    for name in kept:
        if name != widest:
            places = [{**at, name: extent(k)} for at in places for k in range(kept[name])]
    asked: list[Stmt] = []
    for at in places:
        bound = env
        for name in inside:
            bound = bound.bind(name, at.get(name, const(0, i64)))
        for operand in nest.outputs:
            own = nest.renamed(nest.axes(bound), operand.tensor)
            indices = tuple(own.values[axis.name] for axis in operand.tensor.axes)
            buffer = nest.memory.buffer(operand, writable=True)
            asked.append(Prefetch(buffer, physical(operand.layout, indices)))
    return [If(first < extent(kept[widest]), asked)]


def _turn(nest: "Nest", loops: Sequence[str], env: Env) -> tuple[Expr, int] | None:
    """The number of this iteration of the loops together, and how many there usually are."""
    sizes = [nest.regions.size(name, env) for name in loops]
    if any(isinstance(size, Sym) for size in sizes[1:]):
        return None
    turn: Expr = const(0, i64)
    for name, size in zip(loops, sizes, strict=True):
        turn = turn * extent(size) + env.values[name]
    return turn, max(1, math.prod(map(usual, sizes)))
