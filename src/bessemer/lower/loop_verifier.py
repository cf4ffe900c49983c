"""Checks loop IR before machine code is made from it; all complaints come in one error."""

from collections.abc import Mapping

from bessemer.core.bounds import Bound, at_most, less
from bessemer.core.dtypes import bf16, boolean, f32, i64, u32
from bessemer.core.errors import VerifyError
from bessemer.core.shapes import Dim, Sym, is_static
from bessemer.lower.affine import Range, holds, linear
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
    Prefetch,
    Stmt,
    Store,
    TileProduct,
    statement_text,
)
from bessemer.te.expr import COMPARISONS, Binary, Const, Expr, Load, Select, SymbolVar, Var

KINDS = ("serial", "parallel", "unroll", "vector")
SCOPES = ("global", "register", "stack")
MAX_MESSAGES = 20


def verify_function(function: Function) -> None:
    """Checks names, ranks, dtypes, the nesting of loops and what can be proved of the bounds.

    Raises: VerifyError that lists every fault with its statement.
    """
    checker = _Checker(function)
    checker.run()
    if checker.faults:
        shown = "\n".join(f"  {fault}" for fault in checker.faults[:MAX_MESSAGES])
        more = len(checker.faults) - MAX_MESSAGES
        tail = f"\n  and {more} more" if more > 0 else ""
        raise VerifyError(f"kernel {function.name} is not sound:\n{shown}{tail}")


class _Checker:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.faults: list[str] = []
        self.buffers: dict[str, Buffer] = {}  # what each name stands for here
        self.ranges: dict[str, Range] = {}  # variables that are bound here
        self.kinds: dict[str, str] = {}
        self.loops: list[For] = []
        self.guards: list[Expr] = []
        self.current: Stmt | None = None

    def fault(self, message: str) -> None:
        where = f" in `{statement_text(self.current)}`" if self.current is not None else ""
        self.faults.append(message + where)

    def run(self) -> None:
        for buffer in self.function.params:
            if buffer.name in self.buffers:
                self.fault(f"two parameters are named {buffer.name}")
            if buffer.scope != "global":
                self.fault(f"parameter {buffer} is not global")
            self.declare(buffer)
        self.block(self.function.body)

    def declare(self, buffer: Buffer) -> None:
        if len(buffer.strides) != len(buffer.shape):
            self.fault(f"{buffer.name} has {len(buffer.shape)} dimensions and "
                       f"{len(buffer.strides)} strides")
        if buffer.scope not in SCOPES:
            self.fault(f"{buffer.name} has the unknown scope {buffer.scope!r}")
        self.buffers[buffer.name] = buffer

    # -- statements -----------------------------------------------------------------------------

    def block(self, body: list[Stmt]) -> None:
        buffers, ranges, kinds = dict(self.buffers), dict(self.ranges), dict(self.kinds)
        for stmt in body:
            self.current = stmt
            match stmt:
                case For():
                    self.loop(stmt)
                case Let(var=var, value=value):
                    self.expression(value)
                    if value.dtype != i64:
                        self.fault(f"{var.name} is an index, its value is {value.dtype}")
                    self.variable(var, linear(value, self.ranges).range(self.ranges), "let")
                case Store():
                    self.store(stmt)
                case If(condition=condition):
                    self.expression(condition)
                    if condition.dtype != boolean:
                        self.fault(f"the condition is {condition.dtype}")
                    self.branch(stmt)
                case Prefetch(buffer=buffer, indices=indices):
                    self.prefetch(buffer, indices)
                case TileProduct():
                    self.tiles(stmt)
                case Alloc(buffer=buffer):
                    if buffer.scope == "global":
                        self.fault(f"{buffer.name} is allocated with scope global")
                    self.declare(buffer)
        self.buffers, self.ranges, self.kinds = buffers, ranges, kinds

    def loop(self, loop: For) -> None:
        name = loop.var.name
        if loop.kind not in KINDS:
            self.fault(f"unknown kind of loop {loop.kind!r}")
        if not isinstance(loop.extent, Sym) and loop.extent < 0:
            self.fault(f"the extent {loop.extent} is negative")
        outer = next((each for each in self.loops if each.kind != "serial"), None)
        if loop.kind == "parallel" and outer is not None:
            self.fault(f"parallel loop {name} stands inside the {outer.kind} loop {outer.var.name}")
        if loop.kind == "vector" and "vector" in self.kinds.values():
            self.fault(f"vector loop {name} stands inside another one")
        self.variable(loop.var, (0, loop.extent - 1), loop.kind)
        self.loops.append(loop)
        if loop.extent != 0:  # the body of an empty loop never runs
            self.block(loop.body)
        self.loops.pop()
        del self.ranges[name], self.kinds[name]

    def variable(self, var: Var, bounds: Range, kind: str) -> None:
        if var.name in self.ranges:
            self.fault(f"{var.name} is bound already")
        if var.dtype != i64:
            self.fault(f"{var.name} is {var.dtype}, indices are i64")
        self.ranges[var.name], self.kinds[var.name] = bounds, kind

    def branch(self, stmt: If) -> None:
        decided = holds(stmt.condition, self.ranges)
        for taken, body in ((True, stmt.body), (False, stmt.otherwise)):
            if decided is not None and decided != taken:
                continue  # never runs
            before = self.ranges
            self.ranges = {**before, **_narrowed(stmt.condition, taken, before)}
            self.guards.append(stmt.condition)
            self.block(body)
            self.guards.pop()
            self.ranges = before

    def store(self, stmt: Store) -> None:
        buffer, value = stmt.buffer, stmt.value
        self.access(buffer, stmt.indices, "written")
        if not buffer.writable:
            self.fault(f"{buffer.name} is an input and is written")
        self.expression(value)
        if value.dtype != buffer.dtype:
            self.fault(f"{buffer.name} holds {buffer.dtype}, the value is {value.dtype}")

    def prefetch(self, buffer: Buffer, indices: tuple[Expr, ...]) -> None:
        """A place that is asked for need not be inside of the buffer."""
        if self.buffers.get(buffer.name) is not buffer or buffer.scope != "global":
            self.fault(f"{buffer.name} is no argument that could be asked for")
        if len(indices) != len(buffer.shape):
            self.fault(f"{buffer.name} has rank {len(buffer.shape)}, got {len(indices)} indices")
        for index in indices:
            self.expression(index)

    def tiles(self, stmt: TileProduct) -> None:
        """All tiles of a product are inside of their buffers, which have the right shapes."""
        for buffer, at, counts, dtype in (
                (stmt.sums, stmt.sums_at, (stmt.rows, stmt.columns), f32),
                (stmt.a, stmt.a_at, (stmt.rows, stmt.steps), bf16),
                (stmt.b, stmt.b_at, (stmt.columns, stmt.steps), u32)):
            parts = () if dtype == f32 else stmt.a.shape[2:3]
            tail = (*parts, TILE_SIDE, TILE_DEPTH if dtype == bf16 else TILE_SIDE)
            if self.buffers.get(buffer.name) is not buffer or buffer.dtype != dtype \
                    or buffer.shape[2:] != tail or not is_static(buffer.shape):
                self.fault(f"{buffer} is no buffer of tiles of {dtype}[{','.join(map(str, tail))}]")
                continue
            for position, (index, count) in enumerate(zip(at, counts, strict=True)):
                self.expression(index)
                for first in (index, index + (count - 1)):
                    self.bounds(buffer, position, first, buffer.shape[position], "used",
                                bool(self.guards))
        if stmt.sums.scope != "stack":
            self.fault(f"{stmt.sums.name} is no scratch memory")
        if not (0 < stmt.rows <= 2 and 0 < stmt.columns <= 2 and stmt.steps > 0):
            self.fault("products of tiles have one or two rows and columns, and some steps")

    # -- expressions ----------------------------------------------------------------------------

    def expression(self, expr: Expr, guarded: bool = False) -> None:
        """Checks an expression and its parts, each once per statement."""
        seen: set[tuple[int, bool]] = set()
        stack = [(expr, guarded or bool(self.guards))]
        while stack:
            node, under = stack.pop()
            if (id(node), under) in seen:
                continue
            seen.add((id(node), under))
            self.node(node, under)
            if isinstance(node, Select):
                stack += [(node.condition, under), (node.a, True), (node.b, True)]
            else:
                stack += [(child, under) for child in node.children()]

    def node(self, node: Expr, guarded: bool) -> None:
        match node:
            case SymbolVar(name=name):
                if name not in self.function.symbols:
                    self.fault(f"the symbol {name} is not declared")
            case Var(name=name):
                if name not in self.ranges:
                    self.fault(f"{name} is not bound")
            case Load(tensor=buffer, indices=indices):
                self.access(buffer, indices, "read", guarded)
                if node.dtype != buffer.dtype:
                    self.fault(f"{buffer.name} holds {buffer.dtype}, it is read as {node.dtype}")
            case LaneReduce(buffer=buffer, indices=indices):
                self.access(buffer, (*indices, Const(0, i64)), "read", guarded)
                if buffer.scope != "register":
                    self.fault(f"lanes of {buffer.name}, which is no register")
            case Binary(op=op, a=a, b=b, dtype=dtype):
                if a.dtype != b.dtype or dtype != (boolean if op in COMPARISONS else a.dtype):
                    self.fault(f"operands of {op} are {a.dtype} and {b.dtype}, the result {dtype}")
            case Select(condition=condition, a=a, b=b, dtype=dtype):
                if condition.dtype != boolean or a.dtype != dtype or b.dtype != dtype:
                    self.fault(f"select of {condition.dtype}, {a.dtype} and {b.dtype} is {dtype}")
            case Fma(a=a, b=b, c=c, dtype=dtype):
                if {a.dtype, b.dtype, c.dtype} != {dtype}:
                    self.fault(f"fma of {a.dtype}, {b.dtype} and {c.dtype} is {dtype}")

    def access(self, buffer: Buffer, indices: tuple[Expr, ...], what: str,
               guarded: bool = False) -> None:
        """One access: declared buffer, one index a dimension, bounds."""
        if self.buffers.get(buffer.name) is not buffer:
            self.fault(f"{buffer.name} is not declared here, or its name means another buffer")
        if len(indices) != len(buffer.shape):
            self.fault(f"{buffer.name} has rank {len(buffer.shape)}, got {len(indices)} indices")
            return
        for position, (index, extent) in enumerate(zip(indices, buffer.shape, strict=True)):
            if index.dtype != i64:
                self.fault(f"an index of {buffer.name} is {index.dtype}")
                continue
            if buffer.scope == "register" and position < len(indices) - 1:
                self.constant(buffer, index)
            self.bounds(buffer, position, index, extent, what, guarded or bool(self.guards))

    def constant(self, buffer: Buffer, index: Expr) -> None:
        """Registers have no address: their leading indices must be known when code is made."""
        for _, atom, _ in linear(index, self.ranges).terms:
            kind = self.kinds.get(atom.name) if isinstance(atom, Var) else "an expression"
            if kind != "unroll":
                self.fault(f"register {buffer.name} is indexed by {index}, which is {kind}")

    def bounds(self, buffer: Buffer, position: int, index: Expr, extent: Dim, what: str,
               guarded: bool) -> None:
        """An access that certainly leaves the buffer; conditions are taken to prevent it."""
        form = linear(index, self.ranges)
        low, high = form.range(self.ranges)
        if guarded or extent == 0 or (at_most(0, low) and less(high, extent)):
            return
        # Ranges of sums of independent variables are reached, others may be too wide.
        atoms = [atom for _, atom, _ in form.terms]
        exact = all(isinstance(atom, Var) and atom.name in self.kinds for atom in atoms) and \
            sum(self.kinds[atom.name] == "let" for atom in atoms if isinstance(atom, Var)) < 2
        # What holds for every extent may be beyond what can be proved of symbols.
        known = not any(isinstance(bound, Sym) for bound in (low, high, extent))
        if (exact and known) or at_most(extent, low) or less(high, 0):
            self.fault(f"{buffer.name} is {what} at index {position} = {index}, which runs over "
                       f"{_shown(low)}..{_shown(high)}, outside 0..{extent - 1}")


def _narrowed(condition: Expr, taken: bool, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges that a branch on `variable < literal` implies."""
    match condition:
        case Binary(op="<", a=Var(name=name), b=Const(value=bound)) if name in ranges:
            low, high = ranges[name]
            if taken:
                return {name: (low, high if at_most(high, bound - 1) else bound - 1)}
            return {name: (low if at_most(bound, low) else bound, high)}
    return {}


def _shown(bound: Bound) -> str:
    return str(bound) if isinstance(bound, Sym) else f"{bound:.0f}"
