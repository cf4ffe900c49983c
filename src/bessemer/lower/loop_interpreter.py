"""Runs loop IR on numpy arrays: the executable meaning of a kernel, slow and strict.

A vector loop runs all its lanes at once, statement by statement, as the machine does. Loops around
it that only spread one store over distinct elements join it, which changes nothing but the speed.
Every access is checked against the shape of its buffer, except in lanes that are masked off.
"""

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bessemer.core.dtypes import DType, bf16, boolean, f32, i64
from bessemer.core.errors import VerifyError
from bessemer.lower.loop_grids import MAX_GRID, grid_loops
from bessemer.lower.loops import (
    TILE_DEPTH,
    TILE_SIDE,
    Alloc,
    Buffer,
    Fma,
    For,
    Function,
    If,
    LaneReduce,
    Let,
    Stmt,
    Store,
    TileProduct,
    statement_text,
    static,
)
from bessemer.te.expr import Binary, Bitcast, Cast, Const, Expr, Load, Select, Unary, Var
from bessemer.te.interpreter import apply_binary, apply_bitcast, apply_cast, apply_unary
from bessemer.te.walk import walk

Array = np.ndarray[Any, Any]
Code = Callable[[], Any]
Address = Callable[[], tuple[Any, Any]]

_EXACT: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv,
    "%": operator.mod, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne, "&": operator.and_, "|": operator.or_,
}
"""Index arithmetic on Python integers."""

_COMBINE: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def run_function(function: Function, arrays: Sequence[Array], *, threads: int = 1,
                 backwards: bool = False) -> None:
    """Runs a kernel on flat arrays, one for each parameter; writes into those of the outputs.

    The threads run one after the other, each with its share of every parallel loop, as the machine
    code divides them. With `backwards` the last thread comes first and parallel loops run down:
    if the results stay the same, the iterations do not depend on each other.
    A symbolic kernel is first bound to extents (`lower.bind`).
    Raises: VerifyError on an access outside a buffer, on lanes that write one element, and on an
    array of another dtype or too small for its buffer.
    """
    machine = _Machine(function, arrays, threads, backwards)
    numbers = range(threads)
    with np.errstate(all="ignore"):
        for thread in reversed(numbers) if backwards else numbers:
            machine.thread = thread
            machine.block(function.body)


def buffer_extent(buffer: Buffer) -> int:
    """Elements that the memory of a buffer needs, its offset included."""
    offset, *shape = static((buffer.offset, *buffer.shape))
    if 0 in shape:
        return offset
    last = sum((n - 1) * stride for n, stride in zip(shape, static(buffer.strides), strict=True))
    return offset + last + 1


class _Machine:
    def __init__(self, function: Function, arrays: Sequence[Array], threads: int, backwards: bool
                 ) -> None:
        self.function = function
        self.threads, self.backwards, self.thread = threads, backwards, 0
        self.values: dict[str, Any] = {}  # variable -> integer, or one per lane
        self.marks: dict[str, Any] = {}  # what tells values apart: the integer, or the lanes' name
        self.shape: tuple[int, ...] = ()  # of the lanes that run now
        self.mask: Any = None
        self.memory = _bind(function, arrays)
        self.programs: dict[int, tuple[object, Any]] = {}
        self.grids: dict[int, list[For]] = {}
        self.current: Stmt | None = None

    def error(self, message: str) -> VerifyError:
        """An error that shows the statement."""
        where = statement_text(self.current) if self.current is not None else ""
        return VerifyError(f"kernel {self.function.name}: {message} in `{where}`")

    # -- statements -----------------------------------------------------------------------------

    def block(self, body: list[Stmt]) -> None:
        for stmt in body:
            self.current = stmt
            match stmt:
                case For():
                    self.loop(stmt)
                case Let(var=var, value=value):
                    self.bind(var.name, self.code(value)())
                case Store():
                    self.store(stmt)
                case If():
                    self.branch(stmt)
                case Alloc(buffer=buffer):
                    self.memory[id(buffer)] = np.full(
                        buffer.count, _poison(buffer.dtype), buffer.dtype.numpy)
                case TileProduct():
                    self.multiply_tiles(stmt)

    def multiply_tiles(self, stmt: TileProduct) -> None:
        """All products in the order of the machine: step by step, part by part."""
        a = self.tiles(stmt.a, stmt.a_at, (stmt.rows, stmt.steps)).astype(np.float32)
        pairs = self.tiles(stmt.b, stmt.b_at, (stmt.columns, stmt.steps))
        b = np.ascontiguousarray(pairs).view(bf16.numpy).astype(np.float32)
        b = b.reshape(*b.shape[:3], TILE_DEPTH // 2, TILE_SIDE, 2).swapaxes(4, 5)
        b = b.reshape(*b.shape[:3], TILE_DEPTH, TILE_SIDE)
        sums = self.tiles(stmt.sums, stmt.sums_at, (stmt.rows, stmt.columns))
        total = np.zeros_like(sums) if stmt.is_first else sums.copy()
        for step in range(stmt.steps):
            for i, j in stmt.terms:
                total += a[:, None, step, i] @ b[None, :, step, j]
        sums[...] = total

    def tiles(self, buffer: Buffer, at: tuple[Expr, Expr], counts: tuple[int, int]) -> Array:
        """The tiles from one place on, as a view."""
        whole = self.memory[id(buffer)][:buffer.count].reshape(static(buffer.shape))
        places = [self.code(index)() for index in at]
        for place, count, size in zip(places, counts, whole.shape, strict=False):
            if not 0 <= place <= size - count:
                raise self.error(f"tiles of {buffer.name}{list(buffer.shape)} at {places}")
        (first, second), (rows, columns) = places, counts
        return whole[first:first + rows, second:second + columns]

    def bind(self, name: str, value: Any) -> None:
        """Gives a variable its value."""
        self.values[name] = value
        self.marks[name] = value if isinstance(value, int) else object()

    def loop(self, loop: For) -> None:
        if loop.extent == 0:
            return
        joined = self.grid(loop)
        if joined:
            if self.shape:
                raise self.error(f"vector loop {loop.var.name} stands inside another one")
            self.run_lanes(joined)
            return
        (extent,) = static((loop.extent,))
        span = range(extent)
        if loop.kind == "parallel":
            span = span[extent * self.thread // self.threads:
                        extent * (self.thread + 1) // self.threads]
            span = span[::-1] if self.backwards else span
        name = loop.var.name
        for k in span:
            self.values[name] = self.marks[name] = k
            self.block(loop.body)

    def grid(self, loop: For) -> list[For]:
        """The loops, from this one inwards, that run as lanes; none for an ordinary loop."""
        if self.shape and loop.kind != "vector":
            return []
        found = self.grids.get(id(loop))
        if found is None:
            plain = [loop] if loop.kind == "vector" else []
            found = self.grids[id(loop)] = grid_loops(loop, self.function) or plain
        return found

    def run_lanes(self, loops: list[For]) -> None:
        self.shape = static([loop.extent for loop in loops])
        for k, loop in enumerate(loops):
            self.values[loop.var.name] = _numbers(k, self.shape)
            self.marks[loop.var.name] = (k, self.shape)
        self.block(loops[-1].body)
        self.shape = ()

    def branch(self, stmt: If) -> None:
        condition = self.code(stmt.condition)()
        if np.ndim(condition) == 0:
            self.block(stmt.body if condition else stmt.otherwise)
            return
        self.masked(condition, lambda: self.block(stmt.body))
        self.masked(~condition, lambda: self.block(stmt.otherwise))

    def masked(self, condition: Array, run: Code) -> Any:
        """Runs something in the lanes where the condition holds."""
        outer = self.mask
        self.mask = condition if outer is None else outer & condition
        result = run()
        self.mask = outer
        return result

    def store(self, stmt: Store) -> None:
        buffer = stmt.buffer
        code, address = self.program(stmt, lambda: (
            self.code(stmt.value), self.address(buffer, stmt.indices, "written")))
        value, (where, _) = code(), address()
        data = self.memory[id(buffer)]
        if not self.shape:
            data[where] = value
            return
        where, value = _spread(where, self.shape), _spread(value, self.shape)
        if self.mask is not None:
            active = _spread(self.mask, self.shape)
            where, value = where[active], value[active]
        if len(set(where.ravel().tolist())) != where.size:
            raise self.error(f"lanes write one element of {buffer.name}")
        data[where] = value

    # -- memory ---------------------------------------------------------------------------------

    def program(self, key: object, make: Callable[[], Any]) -> Any:
        """What was made for a statement or expression, once."""
        found = self.programs.get(id(key))
        if found is None:
            found = self.programs[id(key)] = (key, make())
        return found[1]

    def address(self, buffer: Buffer, indices: tuple[Expr, ...], what: str) -> Address:
        """Code for the element number, and the lanes that are outside the buffer (or False)."""
        parts = [self.part(index, extent, stride) for index, extent, stride
                 in zip(indices, static(buffer.shape), static(buffer.strides), strict=True)]
        (offset,) = static((buffer.offset,))

        def locate() -> tuple[Any, Any]:
            total, outside = offset, False
            for part in parts:
                step, beyond = part()
                total = total + step
                outside = beyond if outside is False else outside | beyond
            if outside is False:
                return total, False
            if np.any(outside if self.mask is None else outside & self.mask):
                values = ", ".join(str(self.code(index)()) for index in indices)
                raise self.error(f"{buffer.name}{list(buffer.shape)} is {what} at [{values}]")
            return np.where(outside, offset, total), outside

        return locate

    def part(self, index: Expr, extent: int, stride: int) -> Address:
        """Code for one index: elements from the start, and where it is outside (or False)."""
        code = self.code(index)
        names = sorted({node.name for node in walk(index) if isinstance(node, Var)})
        pure = not any(isinstance(node, Load) for node in walk(index))
        known: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        marks = self.marks

        def locate() -> tuple[Any, Any]:
            key = tuple([marks.get(name) for name in names])
            found = known.get(key) if pure else None
            if found is not None:
                return found
            value = code()
            if isinstance(value, int):
                found = value * stride, False if 0 <= value < extent else np.True_
            else:
                outside = (value < 0) | (value >= extent)
                found = value * stride, outside if outside.any() else False
            if pure and len(known) < MAX_GRID:
                known[key] = found
            return found

        return locate

    # -- expressions ----------------------------------------------------------------------------

    def code(self, expr: Expr) -> Code:
        """A function that computes the expression with the present values of its variables."""
        return self.program(expr, lambda: self.compile(expr))  # type: ignore[no-any-return]

    def compile(self, expr: Expr) -> Code:
        match expr:
            case Const(value=value, dtype=dtype):
                literal = value if dtype == i64 else np.asarray(value).astype(dtype.numpy)[()]
                return lambda: literal
            case Var(name=name):
                return lambda: self.values[name]
            case Binary():
                return self.compile_binary(expr)
            case Unary(op=op, a=a, dtype=dtype):
                operand = self.code(a)
                return lambda: apply_unary(op, np.asarray(operand()), dtype)
            case Select():
                return self.compile_select(expr)
            case Cast(a=a, dtype=dtype):
                operand = self.code(a)
                return lambda: apply_cast(np.asarray(operand()), dtype)
            case Bitcast(a=a, dtype=dtype):
                operand = self.code(a)
                return lambda: apply_bitcast(operand(), dtype)
            case Load():
                return self.compile_load(expr)
            case Fma(a=a, b=b, c=c, dtype=dtype):
                x, y, z = self.code(a), self.code(b), self.code(c)
                return lambda: _fma(x(), y(), z(), dtype)
            case LaneReduce():
                return self.compile_lane_reduce(expr)
        raise self.error(f"cannot run {expr}")

    def compile_binary(self, expr: Binary) -> Code:
        a, b, op, dtype = self.code(expr.a), self.code(expr.b), expr.op, expr.dtype
        exact = _EXACT.get(op)

        def run() -> Any:
            x, y = a(), b()
            if exact is not None and isinstance(x, int) and isinstance(y, int) \
                    and (y or op not in ("//", "%")):
                return exact(x, y)
            return apply_binary(op, np.asarray(x), np.asarray(y), dtype)

        return run

    def compile_select(self, expr: Select) -> Code:
        condition, a, b = self.code(expr.condition), self.code(expr.a), self.code(expr.b)

        def run() -> Any:
            chosen = condition()
            if np.ndim(chosen) == 0:
                return a() if chosen else b()
            return np.where(chosen, self.masked(chosen, a), self.masked(~chosen, b))

        return run

    def compile_load(self, expr: Load) -> Code:
        buffer: Buffer = expr.tensor
        address = self.address(buffer, expr.indices, "read")

        def run() -> Any:
            where, _ = address()
            data = self.memory[id(buffer)]
            return data[where] if data.size else np.zeros(np.shape(where), data.dtype)

        return run

    def compile_lane_reduce(self, expr: LaneReduce) -> Code:
        buffer = expr.buffer
        indices = [self.code(index) for index in expr.indices]
        combine = np.logical_or if buffer.dtype == boolean else _COMBINE[expr.kind]

        def run() -> Any:
            lanes = self.memory[id(buffer)].reshape(static(buffer.shape))
            row = lanes[tuple(index() for index in indices)]
            return combine.reduce(row, axis=-1, dtype=lanes.dtype)

        return run


@lru_cache(maxsize=256)
def _numbers(axis: int, shape: tuple[int, ...]) -> Array:
    """0, 1, 2 ... along one axis of the lanes."""
    view = [1] * len(shape)
    view[axis] = shape[axis]
    return np.arange(shape[axis], dtype=np.int64).reshape(view)


def _spread(value: Any, shape: tuple[int, ...]) -> Array:
    """A value in every lane."""
    return value if np.shape(value) == shape else np.broadcast_to(value, shape)


def _bind(function: Function, arrays: Sequence[Array]) -> dict[int, Array]:
    """The array of each parameter."""
    if len(arrays) != len(function.params):
        raise VerifyError(f"kernel {function.name} takes {len(function.params)} arrays, "
                          f"got {len(arrays)}")
    for buffer, array in zip(function.params, arrays, strict=True):
        if array.ndim != 1 or array.dtype != buffer.dtype.numpy \
                or array.size < buffer_extent(buffer):
            raise VerifyError(
                f"kernel {function.name}: {buffer} needs a flat array of at least "
                f"{buffer_extent(buffer)} elements, got {array.dtype}{list(array.shape)}")
    return {id(b): array for b, array in zip(function.params, arrays, strict=True)}


def _poison(dtype: DType) -> Any:
    """What fresh memory holds, so that a read before the first write shows."""
    if dtype == boolean:
        return True
    return np.nan if dtype.is_float else np.iinfo(dtype.numpy).max // 3


def _fma(a: Any, b: Any, c: Any, dtype: DType) -> Any:
    if dtype == f32:
        return (np.float64(a) * b + c).astype(np.float32)
    product = apply_binary("*", np.asarray(a), np.asarray(b), dtype)
    return apply_binary("+", product, np.asarray(c), dtype)
