"""Loop IR: buffers, loops, stores over the scalar expressions of `te`.

It prints as indented text that loop_parser.py reads back; loop_verifier.py checks it and
loop_interpreter.py says what it means.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bessemer.core.dtypes import DType
from bessemer.core.shapes import Dim, Shape, Sym, is_static
from bessemer.te.expr import Expr, Load, Var, text


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory a kernel touches. `strides` are in elements; `offset` too.

    `scope` is "global" (a kernel argument), "register" (accumulators; indices are constants after
    unrolling, the last dimension may be a vector) or "stack" (small scratch of one thread).
    """

    name: str
    dtype: DType
    shape: Shape
    strides: Shape
    scope: str = "global"
    offset: Dim = 0
    writable: bool = False

    @staticmethod
    def dense(name: str, dtype: DType, shape: Shape, scope: str, writable: bool = True
              ) -> "Buffer":
        """Row-major strides."""
        return Buffer(name, dtype, shape, dense_strides(shape), scope, 0, writable)

    @property
    def count(self) -> int:
        """Number of elements of the dense box; it must be static."""
        return math.prod(static(self.shape))

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense box."""
        return self.count * self.dtype.size_bytes

    def at(self, *indices: Expr) -> Load:
        """One element."""
        assert len(indices) == len(self.shape), (self.name, self.shape, indices)
        return Load(self, tuple(indices), self.dtype)

    def __str__(self) -> str:
        scope = self.scope if self.scope != "global" else "out" if self.writable else "in"
        result = f"{self.name}: {scope} {self.dtype}[{','.join(map(str, self.shape))}]"
        if self.strides != dense_strides(self.shape):
            result += f" strides [{','.join(map(str, self.strides))}]"
        return result + (f" offset {self.offset}" if self.offset else "")


def dense_strides(shape: Shape) -> Shape:
    """Row-major strides in elements."""
    strides: list[Dim] = []
    total: Dim = 1
    for size in reversed(shape):
        strides.append(total)
        total = total * (size if isinstance(size, Sym) else max(size, 1))
    return tuple(reversed(strides))


def static(dims: Sequence[Dim]) -> tuple[int, ...]:
    """The dimensions as integers; asserts that none is symbolic."""
    assert is_static(dims), f"{dims} is not static"
    return tuple(int(dim) for dim in dims)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class LaneReduce(Expr):
    """Combines the lanes of a register buffer (its last dimension) at the given leading indices."""

    kind: str
    buffer: Buffer
    indices: tuple[Expr, ...]
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return self.indices

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return LaneReduce(self.kind, self.buffer, children, self.dtype)

    def text(self) -> str:
        """Its form in loop IR."""
        return f"lanes.{self.kind}({self.buffer.name}[{', '.join(map(text, self.indices))}])"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Fma(Expr):
    """a * b + c, fused (rounded once) where the target can."""

    a: Expr
    b: Expr
    c: Expr
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return (self.a, self.b, self.c)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        a, b, c = children
        return Fma(a, b, c, self.dtype)

    def text(self) -> str:
        """Its form in loop IR."""
        return f"fma({text(self.a)}, {text(self.b)}, {text(self.c)})"


@dataclass(eq=False)
class For:
    """A loop from 0 to extent-1. `kind` is serial, parallel, unroll or vector."""

    var: Var
    extent: Dim
    kind: str
    body: "list[Stmt]"


@dataclass(eq=False)
class Let:
    """Names an index expression."""

    var: Var
    value: Expr


@dataclass(eq=False)
class Store:
    """buffer[indices] = value."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(eq=False)
class If:
    """Runs `body` where the condition holds, `otherwise` elsewhere (in a vector loop: masks)."""

    condition: Expr
    body: "list[Stmt]"
    otherwise: "list[Stmt]" = field(default_factory=list)


@dataclass(eq=False)
class Alloc:
    """Declares a register or stack buffer for the rest of the block."""

    buffer: Buffer


@dataclass(eq=False)
class Prefetch:
    """Asks for the cache line of an element, which may lie outside of the buffer; no more."""

    buffer: Buffer
    indices: tuple[Expr, ...]


TILE_SIDE = 16
"""Rows and columns of a tile of sums."""
TILE_DEPTH = 32
"""Steps of the sum that one product of tiles takes."""


@dataclass(eq=False)
class TileProduct:
    """Products of tiles in the processor's matrix unit, summed in f32.

    sums[r + i, c + j] += the sum over `steps` of a[t + i] b[u + j], for i below `rows` and j below
    `columns`; with `is_first` the sums start from zero. `sums` is f32 scratch [.., .., 16, 16].
    `a` is bf16 [tiles, steps, parts, 16, 32]: 16 rows of 32 steps. `b` is u32 [tiles, steps, parts,
    16, 16]: 16 pairs of steps of 16 columns, as bf16 with the first in the lower half. Each number
    is the sum of its parts, of falling size; of their products those are taken whose parts' numbers
    add up to less than the number of parts.
    """

    sums: Buffer
    sums_at: tuple[Expr, Expr]
    a: Buffer
    a_at: tuple[Expr, Expr]
    b: Buffer
    b_at: tuple[Expr, Expr]
    rows: int
    columns: int
    steps: int
    is_first: bool

    @property
    def terms(self) -> list[tuple[int, int]]:
        """Which part of a is multiplied with which of b; neighbours have one of them in common."""
        parts = static(self.a.shape)[2]
        result: list[tuple[int, int]] = []
        for i in reversed(range(parts)):
            last = result[-1][1] if result else 0
            result += [(i, j) for j in sorted(range(parts - i), key=lambda j: j != last)]
        return result


Stmt = For | Let | Store | If | Alloc | Prefetch | TileProduct


@dataclass(eq=False)
class Function:
    """A kernel: parameters in the order of the argument array, and a body.

    `symbols` are extents that are known at run time only; their values follow the buffers in the
    argument array, as i64.
    """

    name: str
    params: tuple[Buffer, ...]
    body: list[Stmt]
    notes: dict[str, Any] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = [f"  note {key} = {self.notes[key]!r}" for key in sorted(self.notes)]
        symbols = [f"    symbols {' '.join(self.symbols)},"] if self.symbols else []
        head = [f"kernel {self.name}(", *(f"    {param}," for param in self.params), *symbols,
                ") {"]
        return "\n".join([*head, *notes, *_lines(self.body, 1), "}"])


def _lines(body: list[Stmt], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for stmt in body:
        match stmt:
            case For(var=var, extent=extent, kind=kind, body=inner):
                tag = "" if kind == "serial" else f" {kind}"
                yield f"{pad}for {var.name} in {extent}{tag}:"
                yield from _lines(inner, depth + 1)
            case Let(var=var, value=value):
                yield f"{pad}{var.name} = {text(value)}"
            case Store(buffer=buffer, indices=indices, value=value):
                yield f"{pad}{buffer.name}[{', '.join(map(text, indices))}] = {text(value)}"
            case If(condition=condition, body=inner, otherwise=otherwise):
                yield f"{pad}if {text(condition)}:"
                yield from _lines(inner, depth + 1)
                if otherwise:
                    yield f"{pad}else:"
                    yield from _lines(otherwise, depth + 1)
            case Alloc(buffer=buffer):
                yield f"{pad}alloc {buffer}"
            case Prefetch(buffer=buffer, indices=indices):
                yield f"{pad}prefetch {buffer.name}[{', '.join(map(text, indices))}]"
            case TileProduct():
                yield pad + _tile_text(stmt)


def _tile_text(stmt: TileProduct) -> str:
    sums, a, b = (f"{buffer.name}[{', '.join(map(text, at))}]" for buffer, at in (
        (stmt.sums, stmt.sums_at), (stmt.a, stmt.a_at), (stmt.b, stmt.b_at)))
    start = "first" if stmt.is_first else "more"
    return f"tiles {start} {stmt.rows} x {stmt.columns} x {stmt.steps}: {sums}, {a}, {b}"


def statement_text(stmt: Stmt) -> str:
    """The first line of a statement."""
    return next(_lines([stmt], 0))


def statements(body: list[Stmt]) -> Iterator[Stmt]:
    """Every statement, parents first."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, For):
            yield from statements(stmt.body)
        elif isinstance(stmt, If):
            yield from statements(stmt.body)
            yield from statements(stmt.otherwise)


def written(body: list[Stmt]) -> set[int]:
    """The buffers that the statements write, by identity."""
    return {id(stmt.buffer if isinstance(stmt, Store) else stmt.sums) for stmt in statements(body)
            if isinstance(stmt, Store | TileProduct)}


def expressions(body: list[Stmt]) -> Iterator[Expr]:
    """Every expression tree of the statements."""
    for stmt in statements(body):
        if isinstance(stmt, Store):
            yield from stmt.indices
            yield stmt.value
        elif isinstance(stmt, Prefetch):
            yield from stmt.indices
        elif isinstance(stmt, TileProduct):
            yield from (*stmt.sums_at, *stmt.a_at, *stmt.b_at)
        elif isinstance(stmt, Let):
            yield stmt.value
        elif isinstance(stmt, If):
            yield stmt.condition
