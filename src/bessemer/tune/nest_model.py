"""What the loops of a kernel do, counted: instructions by kind, and what its accesses touch.

The counts are those of one thread. They are rough: addresses are looked at from each loop by
itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bessemer.core.shapes import Dim, usual
from bessemer.lower.affine import plain_form
from bessemer.lower.kernel import EXPENSIVE
from bessemer.lower.loops import (
    TILE_SIDE,
    Alloc,
    Buffer,
    Fma,
    For,
    Function,
    If,
    Let,
    Stmt,
    Store,
    TileProduct,
    static,
)
from bessemer.targets.target import Target
from bessemer.te.expr import Binary, Cast, Const, Expr, Load, Select, Unary, Var, binary
from bessemer.te.walk import walk
from bessemer.tune.traffic import Access, Loop, Touched, buffer_bytes, missed

_TILE_FMAS = 32
"""Multiply-adds of vectors that take as long as one product of tiles: 16 cycles."""


@dataclass
class Counts:
    """Vector instructions of one thread, by kind, and what surrounds them."""

    fma: float = 0.0
    simple: float = 0.0
    costly: float = 0.0
    vector_loads: float = 0.0
    broadcasts: float = 0.0
    gathers: float = 0.0
    stores: float = 0.0
    guarded: float = 0.0
    turns: float = 0.0
    """Iterations of loops that are loops in the machine code."""
    code: float = 0.0
    """Instructions in the machine code."""
    accumulators: int = 0
    stack_bytes: int = 0
    chains: float = 0.0
    """Independent multiply-adds in the body that runs most often."""
    depth: float = 0.0
    """Iterations of the loop around that body."""
    parts: int = 1
    """Iterations of the loop that threads share."""
    imbalance: float = 1.0
    """The largest share of a thread by the mean share."""


@dataclass
class NestModel:
    """Counts of a kernel, and the loops from which traffic is found."""

    counts: Counts
    root: Loop
    _touched: Touched = field(default_factory=dict)

    def missed_bytes(self, capacity: int) -> float:
        """Bytes that one thread fetches from beyond a cache of that size."""
        return sum(missed(self.root, capacity, self._touched).values())


def model_of(function: Function, target: Target, threads: int,
             hints: Mapping[str, int] | None = None) -> NestModel:
    """The model of a kernel on some threads; symbolic extents are the usual ones."""
    walker = _Walker(target, threads, dict(hints or {}))
    walker.block(function.body, _Place((), 1.0, 1.0))
    return NestModel(walker.counts, walker.root)


@dataclass(frozen=True)
class _Place:
    """Where a statement stands: loops around it, how often it runs, share guarded by tests."""

    loops: tuple[Loop, ...]
    weight: float
    copies: float
    is_guarded: bool = False


class _Walker:
    def __init__(self, target: Target, threads: int, hints: dict[str, int]) -> None:
        self.target, self.threads, self.hints = target, threads, hints
        self.counts = Counts()
        self.root = Loop("", 1, "serial")
        self.lets: dict[str, Expr] = {}
        self.extents: dict[str, int] = {}
        self._let_forms: dict[str, tuple[Expr, dict[str, int] | None]] = {}
        self._most = 0.0

    def extent(self, dim: Dim) -> int:
        return max(usual(dim, self.hints), 0)

    def block(self, body: list[Stmt], place: _Place) -> None:
        for stmt in body:
            if isinstance(stmt, For):
                self._loop(stmt, place)
            elif isinstance(stmt, If):
                self._branch(stmt, place)
            elif isinstance(stmt, Let):
                self.lets[stmt.var.name] = stmt.value
            elif isinstance(stmt, Alloc):
                self._alloc(stmt.buffer)
            elif isinstance(stmt, Store):
                self._store(stmt, place)
            elif isinstance(stmt, TileProduct):
                self._tiles(stmt, place)

    def _loop(self, stmt: For, place: _Place) -> None:
        whole = self.extent(stmt.extent)
        if not whole:
            return
        loops = self._digits(stmt, whole)
        steps, copies = float(math.prod(loop.extent for loop in loops)), place.copies
        if stmt.kind == "parallel":
            steps = float(-(-whole // self.threads))
            self.counts.parts = max(self.counts.parts, whole)
            self.counts.imbalance = max(self.counts.imbalance, steps * self.threads / whole)
        elif stmt.kind == "unroll":
            copies *= whole
        elif stmt.kind == "vector":
            steps = float(-(-whole // self._lanes(stmt)))
            copies *= steps
        outside = place.loops
        for loop in loops:
            (outside[-1] if outside else self.root).children.append(loop)
            outside = (*outside, loop)
        if stmt.kind in ("serial", "parallel") and whole > 1:
            self.counts.turns += place.weight * steps
        self.block(stmt.body, replace(
            place, loops=outside, weight=place.weight * steps, copies=copies))

    def _digits(self, stmt: For, whole: int) -> list[Loop]:
        """A fused loop as those it was made of, for one thread: `a = v // 4` and `b = v % 4`."""
        digits = [(stmt.var.name, whole)]
        for let in stmt.body:
            if not isinstance(let, Let):
                break
            value = let.value
            if not (isinstance(value, Binary) and isinstance(value.a, Var) and isinstance(
                    value.b, Const) and value.op in ("//", "%") and value.b.value):
                continue
            count = int(value.b.value)
            at = next((k for k, (name, _) in enumerate(digits) if name == value.a.name), None)
            if at is None:
                continue
            name, extent = digits[at]
            inner = f"{name} % {count}"
            digits[at: at + 1] = [(f"{name} // {count}", -(-extent // count)),
                                  (inner, min(count, extent))]
            high, low = (Var(digits[at][0]), Var(inner))
            self.lets[name] = binary("+", binary("*", high, count), low)
        loops, shares = [], float(self.threads if stmt.kind == "parallel" else 1)
        for name, extent in digits:
            self.extents[name] = extent
            loops.append(Loop(name, max(extent / shares, 1.0), stmt.kind))
            shares = max(shares / extent, 1.0)
        return loops

    def _lanes(self, stmt: For) -> int:
        for inner in stmt.body:
            if isinstance(inner, Store):
                return self.target.lanes(inner.buffer.dtype)
        return self.target.vector_bits // 32

    def _branch(self, stmt: If, place: _Place) -> None:
        share = self._share(stmt.condition)
        self.block(stmt.body, replace(place, weight=place.weight * share,
                                      is_guarded=share == 1.0 or place.is_guarded))
        rest = 1.0 - share if stmt.otherwise else 0.0
        if rest:
            self.block(stmt.otherwise, replace(place, weight=place.weight * rest))

    def _share(self, condition: Expr) -> float:
        """How often a test holds: at one iteration, at all others, or always as far as known."""
        if isinstance(condition, Unary) and condition.op == "not":
            return 1.0 - self._share(condition.a)
        if not isinstance(condition, Binary) or condition.op != "==":
            return 1.0
        names = [v.name for v in walk(condition) if isinstance(v, Var)]
        return 1.0 / max([self.extents.get(name, 1) for name in names] or [1])

    def _alloc(self, buffer: Buffer) -> None:
        if buffer.scope == "register":
            wide = self.extent(buffer.shape[-1]) if buffer.shape else 1
            lanes = self.target.lanes(buffer.dtype)
            count = math.prod(map(self.extent, buffer.shape)) // max(wide, 1) * -(-wide // lanes)
            self.counts.accumulators = max(self.counts.accumulators, count)
        elif buffer.scope == "stack":
            self.counts.stack_bytes += buffer.size_bytes

    def _store(self, stmt: Store, place: _Place) -> None:
        counts, weight = self.counts, place.weight
        fma = simple = costly = 0
        for node in walk(stmt.value):
            if isinstance(node, Load):
                if node.tensor.scope != "register":
                    self._access(node.tensor, node.indices, place, False)
            elif isinstance(node, Fma):
                fma += 1
            elif isinstance(node, Unary | Binary | Select) and node.dtype.is_float:
                costly += getattr(node, "op", "") in EXPENSIVE
                simple += getattr(node, "op", "") not in EXPENSIVE
        counts.fma += fma * weight
        counts.simple += simple * weight
        counts.costly += costly * weight
        counts.guarded += weight * place.is_guarded
        counts.code += (fma + simple + 10 * costly) * place.copies
        if stmt.buffer.scope != "register":
            self._access(stmt.buffer, stmt.indices, place, True)
        if fma * weight > self._most:
            self._most = fma * weight
            unrolled = [loop for loop in place.loops if loop.kind == "unroll"]
            moving = self._moving(stmt.buffer, stmt.indices, place)
            counts.chains = math.prod(lp.extent for lp in unrolled if lp.var in moving)
            serial = [loop.extent for loop in place.loops if loop.is_loop]
            counts.depth = serial[-1] if serial else 1

    def _tiles(self, stmt: TileProduct, place: _Place) -> None:
        """Products of tiles as the multiply-adds that take as long, and the lines they read."""
        counts, cells = self.counts, stmt.rows * stmt.columns
        products = float(cells * stmt.steps * len(stmt.terms))
        counts.fma += products * _TILE_FMAS * place.weight
        counts.code += (cells + stmt.rows + stmt.columns) * len(stmt.terms) * place.copies
        counts.turns += stmt.steps * place.weight
        for buffer, at, tiles in ((stmt.a, stmt.a_at, stmt.rows), (stmt.b, stmt.b_at, stmt.columns),
                                  (stmt.sums, stmt.sums_at, stmt.rows)):
            shape, strides = static(buffer.shape), static(buffer.strides)
            lines = stmt.columns * TILE_SIDE if buffer is stmt.sums else \
                stmt.steps * math.prod(shape[2:4])
            steps = {name: step for index, stride in zip(at, strides, strict=False)
                     for name, step in self._tile_steps(index, stride, place).items()}
            self._lines(buffer, tiles, lines, steps, place)
        if products * _TILE_FMAS * place.weight > self._most:
            self._most = products * _TILE_FMAS * place.weight
            counts.chains, counts.depth = float(cells * TILE_SIDE), float(stmt.steps)

    def _tile_steps(self, index: Expr, stride: int, place: _Place) -> dict[str, int]:
        form = self._form(index) or {}
        return {loop.var: form[loop.var] * stride for loop in place.loops if loop.var in form}

    def _lines(self, buffer: Buffer, tiles: int, lines: int, steps: dict[str, int], place: _Place
               ) -> None:
        """Adds an access to so many lines of so many tiles."""
        row, line = (Loop(f"{buffer.name}.{name}", extent, "serial")
                     for name, extent in (("tile", tiles), ("line", lines)))
        width = self.target.vector_bytes // buffer.dtype.size_bytes
        inner = {**steps, row.var: static(buffer.strides)[0], line.var: width}
        line.accesses.append(Access(buffer, frozenset(inner), inner, buffer_bytes(buffer)))
        row.children.append(line)
        (place.loops[-1] if place.loops else self.root).children.append(row)
        self.counts.vector_loads += tiles * lines * place.weight

    def _access(self, buffer: Buffer, indices: tuple[Expr, ...], place: _Place, is_store: bool
                ) -> None:
        steps = self._moving(buffer, indices, place)
        access = Access(buffer, frozenset(steps), steps, buffer_bytes(buffer))
        (place.loops[-1] if place.loops else self.root).accesses.append(access)
        count, copies = place.weight, place.copies
        kind = "broadcast"
        for loop in place.loops:
            if loop.kind == "unroll" and loop.var not in steps:
                count /= loop.extent  # one load serves all copies
                copies /= loop.extent
            if loop.kind == "vector" and loop.var in steps:
                kind = "vector" if abs(steps[loop.var]) == 1 else "gather"
        counts = self.counts
        counts.code += copies
        if is_store:
            counts.stores += count
        elif kind == "vector":
            counts.vector_loads += count
        elif kind == "gather":
            counts.gathers += count
        else:
            counts.broadcasts += count

    def _moving(self, buffer: Buffer, indices: tuple[Expr, ...], place: _Place) -> dict[str, int]:
        """The loops that move an address, and by how many elements in one iteration."""
        steps: dict[str, int] = {}
        others: list[tuple[Expr, int]] = []
        for index, dim in zip(indices, buffer.strides, strict=True):
            stride = self.extent(dim)
            form = self._form(index)
            if form is None:
                others.append((index, stride))
            else:
                for name, coefficient in form.items():
                    steps[name] = steps.get(name, 0) + coefficient * stride
        steps = {loop.var: steps.get(loop.var, 0) if self.extents[loop.var] > 1 else 0
                 for loop in place.loops}
        if others:
            self._add_steps(steps, others)
        return {name: step for name, step in steps.items() if step}

    def _add_steps(self, steps: dict[str, int], others: list[tuple[Expr, int]]) -> None:
        """Adds what indices that are no plain sums move by, found by trying."""
        def address(values: dict[str, int]) -> int:
            memo: dict[str, int] = {}
            return sum(self._value(index, values, memo) * stride for index, stride in others)

        used = self._names(tuple(index for index, _ in others))
        base = address({})
        for name in steps:
            if name not in used:
                continue
            last = self.extents[name] - 1
            step = address({name: min(1, last)}) - base
            if not step and not steps[name] and last > 1:
                step = -(-(address({name: last}) - base) // last)
            steps[name] += step

    def _form(self, index: Expr) -> dict[str, int] | None:
        """Coefficients of loop variables in a plain sum of them; None for other expressions."""
        form = plain_form(index)
        if form is None:
            return None
        found: dict[str, int] = {}
        for name, _, coefficient in form.terms:
            parts = {name: 1}
            if name in self.lets:
                inner = self._let_form(name)
                if inner is None:
                    return None
                parts = inner
            for part, factor in parts.items():
                found[part] = found.get(part, 0) + coefficient * factor
        return found

    def _let_form(self, name: str) -> dict[str, int] | None:
        value = self.lets[name]
        known = self._let_forms.get(name)
        if known is None or known[0] is not value:
            known = self._let_forms[name] = value, self._form(value)
        return known[1]

    def _names(self, indices: tuple[Expr, ...]) -> set[str]:
        found: set[str] = set()
        todo: list[Expr] = list(indices)
        while todo:
            for node in walk(todo.pop()):
                if isinstance(node, Var) and node.name not in found:
                    found.add(node.name)
                    if node.name in self.lets:
                        todo.append(self.lets[node.name])
        return found

    def _value(self, expr: Expr, values: dict[str, int], memo: dict[str, int]) -> int:
        """An index where all loop variables but those given are 0."""
        match expr:
            case Const(value=value):
                return int(value)
            case Var(name=name):
                if name in values:
                    return values[name]
                if name in self.lets:
                    if name not in memo:
                        memo[name] = self._value(self.lets[name], values, memo)
                    return memo[name]
                return self.hints.get(name, 0)
            case Binary(op=op, a=a, b=b):
                return _apply(op, self._value(a, values, memo), self._value(b, values, memo))
            case Cast(a=a):
                return self._value(a, values, memo)
            case Select(condition=condition, a=a, b=b):
                return self._value(a if self._value(condition, values, memo) else b, values, memo)
        return 0  # read from memory: a table


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "//": lambda a, b: a // b if b else 0, "%": lambda a, b: a % b if b else 0,
    "min": min, "max": max, "<": lambda a, b: int(a < b), "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b), ">=": lambda a, b: int(a >= b), "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b), "&": lambda a, b: a & b, "|": lambda a, b: a | b,
}  # fmt: skip


def _apply(op: str, a: int, b: int) -> int:
    operation = _OPERATIONS.get(op)
    return operation(a, b) if operation is not None else 0
