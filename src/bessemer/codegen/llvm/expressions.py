"""Expressions and addresses of a kernel as LLVM values.

Addresses are split into a base pointer per loop level plus a constant, so that the addresses of a
register tile share one base register; equal values within a scope are emitted once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bessemer.codegen.legalize import expand_math
from bessemer.codegen.llvm.arithmetic import Arithmetic
from bessemer.codegen.llvm.types import computed, stored
from bessemer.codegen.llvm.values import Val
from bessemer.core.bounds import at_most
from bessemer.core.dtypes import boolean, i64
from bessemer.core.errors import CodegenError
from bessemer.core.shapes import Dim, Sym
from bessemer.lower.affine import (
    UNKNOWN,
    Linear,
    Range,
    extent_form,
    holds,
    linear,
    plain_form,
    times_dim,
)
from bessemer.lower.loops import Buffer, Fma, Function, LaneReduce, static, written
from bessemer.targets.target import Target
from bessemer.te.expr import Binary, Bitcast, Cast, Const, Expr, Load, Select, Unary, Var
from bessemer.te.walk import walk


@dataclass
class Scope:
    """Text of one loop body or branch, and the values it has emitted so far."""

    body: list[str] = field(default_factory=list)
    cache: dict[str | tuple[object, ...], str] = field(default_factory=dict)


_Strided = list[tuple[Expr, Dim]]


def _parts(buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[Linear, _Strided]:
    """An element's offset: a form that does not depend on ranges, and indices with strides."""
    total, others = extent_form(buffer.offset), []
    for index, stride in zip(indices, buffer.strides, strict=True):
        form = plain_form(index)
        if form is None or isinstance(stride, Sym):
            others.append((index, stride))
        else:
            total = total + form.scale(stride)
    return total, others


class ExpressionEmitter:
    """The state of emitting one kernel, and the values of expressions in it."""

    def __init__(self, function: Function, target: Target) -> None:
        self.function = function
        self.target = target
        self.scopes = [Scope()]
        self.ranges: dict[str, Range] = {}
        # variable or symbol -> SSA name, scope depth
        self.scalars = {name: (f"%d{k}", 0) for k, name in enumerate(function.symbols)}
        self.lane: tuple[str, int] | None = None  # vector variable and its extent
        self.masks: list[Val] = []
        self.allocas: list[str] = []
        self.registers: dict[tuple[int, tuple[int, ...]], str] = {}
        self.prefetch = {id(function.params[k]): ahead
                         for k, ahead in function.notes.get("prefetch", ())}
        self.pointers = {id(b): f"%p{k}" for k, b in enumerate(function.params)}
        self.written = written(function.body)
        self.counter = 0
        # The expression is held, so that its id stays its own.
        self.memo: dict[tuple[int, tuple[str, ...]], tuple[Expr, Val]] = {}
        self.expanded: dict[int, tuple[Expr, Expr]] = {}
        self.addresses: dict[tuple[int, int], tuple[tuple[Expr, ...], Linear, _Strided]] = {}
        self.math = Arithmetic(self, target)

    def fresh(self) -> str:
        """A new SSA name."""
        self.counter += 1
        return f"%v{self.counter}"

    def line(self, text: str) -> None:
        """Adds an instruction without result."""
        self.scopes[-1].body.append("  " + text)

    def value(self, text: str) -> str:
        """The SSA name of an instruction's result; equal pure instructions are emitted once."""
        for scope in self.scopes:
            found = scope.cache.get(text)
            if found is not None:
                return found
        name = self.fresh()
        self.line(f"{name} = {text}")
        self.scopes[-1].cache[text] = name
        return name

    def effect(self, text: str) -> str:
        """The SSA name of an instruction that must not be merged with equal ones."""
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name


    # -- addresses ------------------------------------------------------------------------------

    def address(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Linear:
        """Element offset of an access as a linear form."""
        key = id(buffer), id(indices)
        if key not in self.addresses:
            # The indices are held, so that their id stays their own.
            self.addresses[key] = indices, *_parts(buffer, indices)
        _, plain, others = self.addresses[key]
        form = plain.with_known(self.ranges)
        for index, stride in others:
            form = form + times_dim(linear(index, self.ranges), stride)
        return form

    def split_lane(self, form: Linear) -> tuple[Linear, int, Linear | None]:
        """(part without the vector variable, its coefficient, other atoms that depend on it)."""
        if self.lane is None:
            return form, 0, None
        step, scalar, mixed = 0, [], []
        for key, atom, coef in form.terms:
            if key == self.lane[0]:
                step = coef
            elif self.is_vector(atom):
                mixed.append((key, atom, coef))
            else:
                scalar.append((key, atom, coef))
        return (Linear(tuple(scalar), form.constant), step,
                Linear(tuple(mixed), 0) if mixed else None)

    def is_vector(self, expr: Expr) -> bool:
        """True if the expression depends on the vector variable."""
        if self.lane is None:
            return False
        for node in walk(expr):
            if isinstance(node, Var) and node.name == self.lane[0]:
                return True
            if isinstance(node, Load) and node.tensor.scope == "register" \
                    and node.tensor.shape[-1] > 1 and node.tensor.shape:
                return True
        return False

    def pointer(self, buffer: Buffer, form: Linear) -> str:
        """Pointer to an element: one base per loop level, then a constant offset."""
        kind = stored(buffer.dtype)
        current = self.pointers[id(buffer)]
        plain = [t for t in form.terms if isinstance(t[1], Var) and t[0] in self.scalars]
        other = [t for t in form.terms if not (isinstance(t[1], Var) and t[0] in self.scalars)]
        for key, _, coef in sorted(plain, key=lambda t: self.scalars[t[0]][1]):
            name, depth = self.scalars[key]
            current = self.hoisted(depth, ("gep", current, name, coef),
                                   partial(self.step, kind, current, name, coef))
        for _, atom, coef in other:
            offset = self.eval(atom)
            scaled = self.value(f"mul i64 {offset.name}, {coef}") if coef != 1 else offset.name
            current = self.value(f"getelementptr {kind}, ptr {current}, i64 {scaled}")
        if form.constant:
            current = self.value(f"getelementptr {kind}, ptr {current}, i64 {form.constant}")
        return current

    def step(self, kind: str, pointer: str, name: str, coef: int) -> list[str]:
        """Instructions that add `coef * name` elements to a pointer; the last one is the result."""
        if coef == 1:
            return [f"getelementptr {kind}, ptr {pointer}, i64 {name}"]
        scaled = self.fresh()
        return [f"{scaled} = mul i64 {name}, {coef}",
                f"getelementptr {kind}, ptr {pointer}, i64 {scaled}"]

    def hoisted(self, depth: int, key: tuple[object, ...], lines: Callable[[], list[str]]) -> str:
        """A value at the end of the text so far of the scope at `depth`, emitted once."""
        scope = self.scopes[depth]
        found = scope.cache.get(key)
        if found is None:
            *before, last = lines()
            found = self.fresh()
            scope.body += ["  " + text for text in (*before, f"{found} = {last}")]
            scope.cache[key] = found
        return found

    def lane_pointers(self, buffer: Buffer, form: Linear) -> str:
        """A vector of pointers, one per lane."""
        assert self.lane is not None
        lanes = self.lane[1]
        offsets = self.math.splat(self.eval(form.expr()), lanes)
        kind = stored(buffer.dtype)
        base = self.pointers[id(buffer)]
        return self.value(f"getelementptr {kind}, ptr {base}, <{lanes} x i64> {offsets.name}")

    def scalar_index(self, form: Linear) -> str:
        """SSA name of a scalar linear form."""
        total = ""
        for _, atom, coef in form.terms:
            part = self.eval(atom).name
            part = self.value(f"mul i64 {part}, {coef}") if coef != 1 else part
            total = self.value(f"add i64 {total}, {part}") if total else part
        if form.constant or not total:
            total = self.value(f"add i64 {total}, {form.constant}") if total else str(form.constant)
        return total

    def register(self, buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[str, int]:
        """Slot of a register element and its vector width."""
        fixed = []
        for index in indices[:-1]:
            form = linear(index, self.ranges)
            if form.terms:
                raise CodegenError(f"{buffer.name} needs constant indices, got {index}")
            fixed.append(form.constant)
        (width,) = static(buffer.shape[-1:])
        key = (id(buffer), tuple(fixed))
        if key not in self.registers:
            slot = f"%r{len(self.registers)}"
            self.allocas.append(
                f"  {slot} = alloca {computed(buffer.dtype, width if width > 1 else 0)}")
            self.registers[key] = slot
        return self.registers[key], width

    def mask(self) -> Val | None:
        """The conjunction of the active masks."""
        result: Val | None = None
        for mask in self.masks:
            result = mask if result is None else self.math.both(result, mask)
        return result

    # -- expressions ----------------------------------------------------------------------------

    def legal(self, expr: Expr) -> Expr:
        """The expression with mathematical functions spelled out, once per expression."""
        found = self.expanded.get(id(expr))
        if found is None:
            found = self.expanded[id(expr)] = (expr, expand_math(expr))
        return found[1]

    def eval(self, expr: Expr) -> Val:
        """The SSA value of an expression; shared parts are evaluated once per statement."""
        found = self.known(expr)
        if found is None:
            found = self.evaluate(expr)
            # The expression is kept too: its id must not be used again by another one.
            self.memo[id(expr), tuple(mask.name for mask in self.masks)] = (expr, found)
        return found

    def known(self, expr: Expr) -> Val | None:
        """The value that an expression got under the active masks or fewer of them."""
        names = tuple(mask.name for mask in self.masks)
        for count in range(len(names), -1, -1):
            found = self.memo.get((id(expr), names[:count]))
            if found is not None:
                return found[1]
        return None

    def evaluate(self, expr: Expr) -> Val:
        """The SSA value of one node."""
        match expr:
            case Const(value=value, dtype=dtype):
                return self.math.constant(value, dtype)
            case Var(name=name):
                return self.variable(name)
            case Load():
                return self.load(expr)
            case Binary(op="&", a=a, b=b, dtype=dtype) if dtype == boolean:
                return self.conjunction(a, b)
            case Binary(op=op, a=a, b=b, dtype=dtype):
                if dtype == i64 and op in ("+", "-", "*", "//", "%"):
                    return self.index_value(expr)
                return self.math.binary(op, self.eval(a), self.eval(b), dtype)
            case Unary(op=op, a=a):
                return self.math.unary(op, self.eval(a))
            case Select():
                return self.select(expr)
            case Cast(a=a, dtype=dtype):
                return self.math.cast(self.eval(a), dtype)
            case Bitcast(a=a, dtype=dtype):
                return self.math.bitcast(self.eval(a), dtype)
            case Fma(a=a, b=b, c=c):
                return self.math.fma(self.eval(a), self.eval(b), self.eval(c))
            case LaneReduce(kind=kind, buffer=buffer, indices=indices):
                slot, width = self.register(buffer, (*indices, expr))
                loaded = self.effect(f"load {computed(buffer.dtype, width)}, ptr {slot}")
                return self.math.lane_reduce(kind, Val(loaded, buffer.dtype, width))
        raise CodegenError(f"cannot emit {expr}")

    def conjunction(self, a: Expr, b: Expr) -> Val:
        """A & b without the parts that the ranges prove."""
        if holds(a, self.ranges):
            return self.eval(b)
        if holds(b, self.ranges):
            return self.eval(a)
        return self.math.both(self.eval(a), self.eval(b))

    def variable(self, name: str) -> Val:
        """A loop variable: a literal, an SSA name, or the lane numbers."""
        if self.lane is not None and name == self.lane[0]:
            lanes = self.lane[1]
            return Val(f"<{', '.join(f'i64 {k}' for k in range(lanes))}>", i64, lanes)
        low, high = self.ranges.get(name, UNKNOWN)
        if low == high and not isinstance(low, Sym):
            return Val(str(int(low)), i64)
        return Val(self.scalars[name][0], i64)

    def index_value(self, expr: Expr) -> Val:
        """Index arithmetic through its linear form."""
        form = linear(expr, self.ranges)
        if len(form.terms) == 1 and form.constant == 0 and form.terms[0][2] == 1:
            atom = form.terms[0][1]
            if isinstance(atom, Binary):
                low, _ = linear(atom.a, self.ranges).range(self.ranges)
                return self.math.binary(atom.op, self.eval(atom.a), self.eval(atom.b), i64,
                                        natural=at_most(0, low))
            return self.eval(atom)
        total: Val | None = None
        for _, atom, coef in form.terms:
            part = self.eval(atom)
            if coef != 1:
                part = self.math.binary("*", part, self.math.constant(coef, i64), i64)
            total = part if total is None else self.math.binary("+", total, part, i64)
        literal = self.math.constant(form.constant, i64)
        if total is None:
            return literal
        return self.math.binary("+", total, literal, i64) if form.constant else total

    def select(self, expr: Select) -> Val:
        """A select; loads of a side that may be out of bounds are masked by the condition."""
        decided = holds(expr.condition, self.ranges)
        if decided is not None:
            return self.eval(expr.a if decided else expr.b)
        condition = self.eval(expr.condition)
        sides = []
        for side, mask in ((expr.a, condition), (expr.b, None)):
            # An element that has been read already needs no mask.
            guarded = any(
                isinstance(n, Load) and n.tensor.scope != "register" and self.known(n) is None
                for n in walk(side))
            if guarded:
                self.masks.append(mask if mask is not None else self.math.invert(condition))
                sides.append(self.eval(side))
                self.masks.pop()
            else:
                sides.append(self.eval(side))
        return self.math.select(condition, *sides)

    def load(self, expr: Load) -> Val:
        """A load; uniform ones are scalar, strided ones gathered, masked ones safe."""
        buffer: Buffer = expr.tensor
        if buffer.scope == "register":
            slot, width = self.register(buffer, expr.indices)
            if width > 1 and not (self.lane and self.lane[1] == width):
                raise CodegenError(f"{buffer.name} is a vector of {width}, used elsewhere")
            wide = width if width > 1 else 0
            name = self.effect(f"load {computed(buffer.dtype, wide)}, ptr {slot}")
            return Val(name, buffer.dtype, wide)
        make = self.effect if id(buffer) in self.written else self.value
        form = self.address(buffer, expr.indices)
        scalar, step, mixed = self.split_lane(form)
        kind, align = stored(buffer.dtype), buffer.dtype.size_bytes
        mask = self.mask()
        lanes = self.lane[1] if self.lane else 0
        if step == 0 and mixed is None:
            pointer = self.pointer(buffer, scalar)
            if mask is not None:
                pointer = self.math.safe_pointer(pointer, self.pointers[id(buffer)], mask)
            return self.math.from_memory(make(f"load {kind}, ptr {pointer}, align {align}"),
                                         buffer.dtype, 0)
        if step == 1 and mixed is None:
            pointer = self.pointer(buffer, scalar)
            if mask is None:
                before = self.counter
                name = make(f"load <{lanes} x {kind}>, ptr {pointer}, align {align}")
                if id(buffer) in self.prefetch and self.counter != before:
                    self.math.prefetch(pointer, self.prefetch[id(buffer)])
            else:
                name = self.math.masked_load(kind, lanes, pointer, mask, align)
            return self.math.from_memory(name, buffer.dtype, lanes)
        if mixed is None and mask is None:
            return self.math.from_memory(
                self.strided_load(buffer, scalar, step, lanes, make), buffer.dtype, lanes)
        pointers = self.lane_pointers(buffer, form)
        name = self.math.gather(kind, lanes, pointers, mask, align)
        return self.math.from_memory(name, buffer.dtype, lanes)

    def strided_load(self, buffer: Buffer, scalar: Linear, step: int, lanes: int,
                     make: Callable[[str], str]) -> str:
        """Lanes at a constant distance: scalar loads put together."""
        kind = stored(buffer.dtype)
        result = "poison"
        for k in range(lanes):
            pointer = self.pointer(buffer, scalar + Linear((), k * step))
            element = make(f"load {kind}, ptr {pointer}, align {buffer.dtype.size_bytes}")
            result = self.value(
                f"insertelement <{lanes} x {kind}> {result}, {kind} {element}, i64 {k}")
        return result
