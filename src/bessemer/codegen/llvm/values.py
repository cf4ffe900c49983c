"""LLVM values with their dtype and lanes, and what every operation on them needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bessemer.codegen.llvm.types import computed, literal
from bessemer.core.dtypes import DType, boolean
from bessemer.targets.target import Target

if TYPE_CHECKING:
    from bessemer.codegen.llvm.expressions import ExpressionEmitter


@dataclass(frozen=True)
class Val:
    """An SSA value or literal; `lanes` 0 means scalar."""

    name: str
    dtype: DType
    lanes: int = 0

    @property
    def type(self) -> str:
        """Its LLVM type."""
        return computed(self.dtype, self.lanes)

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


_COMPARE_FLOAT = {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"}
_COMPARE_INTEGER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class ValueOps:
    """Splats, literals, conditions; emits through an expression emitter."""

    def __init__(self, emitter: "ExpressionEmitter", target: Target) -> None:
        self.emitter = emitter
        self.target = target
        self.declarations: set[str] = set()

    def suffix(self, dtype: DType, lanes: int) -> str:
        """The type suffix of an intrinsic name."""
        whole = "i1" if dtype == boolean else f"i{dtype.bits}"
        base = f"f{dtype.bits}" if dtype.is_float else whole
        return f"v{lanes}{base}" if lanes else base

    def call(self, name: str, result: str, arguments: list[str]) -> str:
        """A call of a pure intrinsic or function, declared on first use."""
        types = ", ".join(argument.rsplit(" ", 1)[0] if not argument.startswith("<") else
                          argument[: argument.index(">") + 1] for argument in arguments)
        self.declarations.add(f"declare {result} @{name}({types})")
        return self.emitter.value(f"call {result} @{name}({', '.join(arguments)})")

    def splat(self, value: Val, lanes: int) -> Val:
        """The value in every lane."""
        if value.lanes or not lanes:
            return value
        if not value.name.startswith("%"):
            return Val(f"splat ({value})", value.dtype, lanes)
        one = self.emitter.value(f"insertelement <{lanes} x {value.type}> poison, {value}, i64 0")
        name = self.emitter.value(
            f"shufflevector <{lanes} x {value.type}> {one}, <{lanes} x {value.type}> poison, "
            f"<{lanes} x i32> zeroinitializer")
        return Val(name, value.dtype, lanes)

    def align(self, *values: Val) -> list[Val]:
        """All values with the same number of lanes."""
        lanes = max(value.lanes for value in values)
        return [self.splat(value, lanes) for value in values]

    def constant(self, value: float | int | bool, dtype: DType) -> Val:
        """A literal."""
        return Val(literal(value, dtype), dtype)

    def emit(self, instruction: str, a: Val, b: Val) -> Val:
        """One instruction on two values of equal type."""
        return Val(self.emitter.value(f"{instruction} {a}, {b.name}"), a.dtype, a.lanes)

    def both(self, a: Val, b: Val) -> Val:
        """Conjunction of two conditions."""
        a, b = self.align(a, b)
        return Val(self.emitter.value(f"and {a}, {b.name}"), boolean, a.lanes)

    def invert(self, a: Val) -> Val:
        """Negation of a condition."""
        ones = self.splat(Val("true", boolean), a.lanes)
        return Val(self.emitter.value(f"xor {a}, {ones.name}"), boolean, a.lanes)

    def select(self, condition: Val, a: Val, b: Val) -> Val:
        """`a` where the condition holds, else `b`."""
        a, b = self.align(a, b)
        if condition.lanes:
            a, b = self.splat(a, condition.lanes), self.splat(b, condition.lanes)
        return Val(self.emitter.value(f"select {condition}, {a}, {b}"), a.dtype, a.lanes)

    def compare(self, op: str, a: Val, b: Val) -> Val:
        """A comparison."""
        if a.dtype.is_float:
            name = self.emitter.value(f"fcmp {_COMPARE_FLOAT[op]} {a}, {b.name}")
        elif op in ("==", "!="):
            name = self.emitter.value(f"icmp {'eq' if op == '==' else 'ne'} {a}, {b.name}")
        else:
            sign = "s" if a.dtype.kind == "int" else "u"
            name = self.emitter.value(f"icmp {sign}{_COMPARE_INTEGER[op]} {a}, {b.name}")
        return Val(name, boolean, a.lanes)
