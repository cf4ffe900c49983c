"""Arithmetic of the emitter: each operation on scalars or vectors as LLVM instructions.

bf16 is held as i16 bits and computed in float, because LLVM would call library functions that
the runtime does not have; f16 is computed in float as well and rounded after each operation.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bessemer.codegen.legalize import LIBM
from bessemer.codegen.llvm.types import computed, literal
from bessemer.core.dtypes import DType, bf16, boolean, f16, f32, f64, i32, i64
from bessemer.core.errors import CodegenError
from bessemer.targets.target import Target

if TYPE_CHECKING:
    from bessemer.codegen.llvm.emitter import _FunctionEmitter


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


# `contract` lets LLVM fuse a product and a sum into one instruction with one rounding.
_FLOAT = {"+": "fadd contract", "-": "fsub contract", "*": "fmul contract", "/": "fdiv",
          "fmod": "frem", "rem": "frem"}
_INTEGER = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_COMPARE_FLOAT = {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"}
_COMPARE_INTEGER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc",
             "sqrt": "sqrt", "abs": "fabs"}
_MAX_SHARE = {"max": "ogt", "min": "olt"}


class Arithmetic:
    """Emits operations through a function emitter."""

    def __init__(self, emitter: "_FunctionEmitter", target: Target) -> None:
        self.emitter = emitter
        self.target = target
        self.declarations: set[str] = set()

    # -- shapes ---------------------------------------------------------------------------------

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

    # -- memory ---------------------------------------------------------------------------------

    def from_memory(self, name: str, dtype: DType, lanes: int) -> Val:
        """A loaded element as a computed value (bool: byte to bit)."""
        if dtype != boolean:
            return Val(name, dtype, lanes)
        kind = f"<{lanes} x i8>" if lanes else "i8"
        zero = "zeroinitializer" if lanes else "0"
        return Val(self.emitter.value(f"icmp ne {kind} {name}, {zero}"), dtype, lanes)

    def to_memory(self, value: Val) -> Val:
        """A computed value as it is stored (bool: bit to byte)."""
        if value.dtype != boolean:
            return value
        kind = f"<{value.lanes} x i8>" if value.lanes else "i8"
        name = self.emitter.value(f"zext {value} to {kind}")
        return Val(name, _BYTE, value.lanes)

    def safe_pointer(self, pointer: str, base: str, mask: Val) -> str:
        """`pointer` if (any lane of) the mask is set, else the buffer's first element."""
        if mask.lanes:
            name = self.call(f"llvm.vector.reduce.or.v{mask.lanes}i1", "i1", [str(mask)])
            mask = Val(name, boolean)
        return self.emitter.value(f"select i1 {mask.name}, ptr {pointer}, ptr {base}")

    def prefetch(self, pointer: str, ahead_bytes: int) -> None:
        """Asks for the cache line so many bytes behind a pointer; never faults."""
        numbers = ", ".join(["i32 immarg"] * 3)
        self.declarations.add(f"declare void @llvm.prefetch.p0(ptr, {numbers})")
        place = self.emitter.value(f"getelementptr i8, ptr {pointer}, i64 {ahead_bytes}")
        self.emitter.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def masked_load(self, kind: str, lanes: int, pointer: str, mask: Val, align: int) -> str:
        """A contiguous load of the lanes whose mask is set; zero elsewhere."""
        mask = self.splat(mask, lanes)
        vector = f"<{lanes} x {kind}>"
        name = f"llvm.masked.load.v{lanes}{_mangled(kind)}.p0"
        self.declarations.add(
            f"declare {vector} @{name}(ptr, i32 immarg, <{lanes} x i1>, {vector})")
        return self.emitter.effect(f"call {vector} @{name}(ptr {pointer}, i32 {align}, "
                                   f"{mask}, {vector} zeroinitializer)")

    def masked_store(self, kind: str, lanes: int, value: str, pointer: str, mask: Val, align: int
                     ) -> None:
        """A contiguous store of the lanes whose mask is set."""
        mask = self.splat(mask, lanes)
        vector = f"<{lanes} x {kind}>"
        name = f"llvm.masked.store.v{lanes}{_mangled(kind)}.p0"
        self.declarations.add(f"declare void @{name}({vector}, ptr, i32 immarg, <{lanes} x i1>)")
        self.emitter.line(
            f"call void @{name}({vector} {value}, ptr {pointer}, i32 {align}, {mask})")

    def gather(self, kind: str, lanes: int, pointers: str, mask: Val | None, align: int) -> str:
        """Loads from a vector of pointers where the mask is set; zero elsewhere."""
        active = self.splat(mask or Val("true", boolean), lanes)
        vector = f"<{lanes} x {kind}>"
        name = f"llvm.masked.gather.v{lanes}{_mangled(kind)}.v{lanes}p0"
        self.declarations.add(
            f"declare {vector} @{name}(<{lanes} x ptr>, i32 immarg, <{lanes} x i1>, {vector})")
        return self.emitter.effect(f"call {vector} @{name}(<{lanes} x ptr> {pointers}, "
                                   f"i32 {align}, {active}, {vector} zeroinitializer)")

    def scatter(self, kind: str, lanes: int, value: str, pointers: str, mask: Val | None, align: int
                ) -> None:
        """Stores to a vector of pointers where the mask is set."""
        active = self.splat(mask or Val("true", boolean), lanes)
        vector = f"<{lanes} x {kind}>"
        name = f"llvm.masked.scatter.v{lanes}{_mangled(kind)}.v{lanes}p0"
        self.declarations.add(
            f"declare void @{name}({vector}, <{lanes} x ptr>, i32 immarg, <{lanes} x i1>)")
        self.emitter.line(f"call void @{name}({vector} {value}, <{lanes} x ptr> {pointers}, "
                          f"i32 {align}, {active})")

    # -- logic ----------------------------------------------------------------------------------

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

    # -- binary ---------------------------------------------------------------------------------

    def binary(self, op: str, a: Val, b: Val, dtype: DType, natural: bool = False) -> Val:
        """A binary operation; `natural` promises non-negative operands of // and %."""
        a, b = self.align(a, b)
        if a.dtype in (f16, bf16):
            wide = self.binary(op, self.cast(a, f32), self.cast(b, f32),
                               boolean if dtype == boolean else f32)
            return wide if dtype == boolean else self.cast(wide, dtype)
        if dtype == boolean and op in ("<", "<=", ">", ">=", "==", "!="):
            return self.compare(op, a, b)
        if op in ("min", "max"):
            return self.extreme(op, a, b)
        if op == "pow":
            return self.power(a, b)
        if a.dtype.is_float:
            return self.float_binary(op, a, b)
        if op in ("/", "//", "%", "rem", "fmod"):
            return self.divide(op, a, b, natural)
        if op in ("<<", ">>"):
            return self.shift(op, a, b)
        return self.emit(_INTEGER[op], a, b)

    def emit(self, instruction: str, a: Val, b: Val) -> Val:
        """One instruction on two values of equal type."""
        return Val(self.emitter.value(f"{instruction} {a}, {b.name}"), a.dtype, a.lanes)

    def float_binary(self, op: str, a: Val, b: Val) -> Val:
        """Floating-point arithmetic; // and % as numpy defines them."""
        if op == "//":
            return self.unary("floor", self.emit("fdiv", a, b))
        if op == "%":
            return self.float_modulo(a, b)
        if op in ("fmod", "rem"):
            return self.libm("fmod", [a, b])
        return self.emit(_FLOAT[op], a, b)

    def float_modulo(self, a: Val, b: Val) -> Val:
        """Fmod moved to the divisor's sign."""
        rest = self.libm("fmod", [a, b])
        zero = self.splat(self.constant(0.0, a.dtype), a.lanes)
        wrong = self.both(
            self.compare("!=", rest, zero),
            self.compare("!=", self.bit_sign(rest), self.bit_sign(b)))
        return self.select(wrong, self.emit("fadd", rest, b), rest)

    def bit_sign(self, a: Val) -> Val:
        """True where a float is below zero."""
        zero = self.splat(self.constant(0.0, a.dtype), a.lanes)
        return self.compare("<", a, zero)

    def compare(self, op: str, a: Val, b: Val) -> Val:
        """A comparison."""
        if a.dtype.is_float:
            if a.dtype in (f16, bf16):
                a, b = self.cast(a, f32), self.cast(b, f32)
            name = self.emitter.value(f"fcmp {_COMPARE_FLOAT[op]} {a}, {b.name}")
        elif op in ("==", "!="):
            name = self.emitter.value(f"icmp {'eq' if op == '==' else 'ne'} {a}, {b.name}")
        else:
            sign = "s" if a.dtype.kind == "int" else "u"
            name = self.emitter.value(f"icmp {sign}{_COMPARE_INTEGER[op]} {a}, {b.name}")
        return Val(name, boolean, a.lanes)

    def extreme(self, op: str, a: Val, b: Val) -> Val:
        """Min or max; NaN if either is NaN."""
        if a.dtype == boolean:
            return self.emit("and" if op == "min" else "or", a, b)
        if not a.dtype.is_float:
            sign = "s" if a.dtype.kind == "int" else "u"
            name = f"llvm.{sign}{op}.{self.suffix(a.dtype, a.lanes)}"
            return Val(self.call(name, a.type, [str(a), str(b)]), a.dtype, a.lanes)
        if not a.name.startswith("%"):
            a, b = b, a
        # `b > a ? b : a` gives a where a is NaN and is one instruction when b is a literal.
        pick = self.emitter.value(f"fcmp {_MAX_SHARE[op]} {b}, {a.name}")
        chosen = self.select(Val(pick, boolean, a.lanes), b, a)
        if not b.name.startswith("%") and not _is_nan(b.name):
            return chosen
        nan = self.emitter.value(f"fcmp uno {b}, {b.name}")
        return self.select(Val(nan, boolean, a.lanes), b, chosen)

    def divide(self, op: str, a: Val, b: Val, natural: bool) -> Val:
        """Integer division without traps: x / 0 is 0, and x / -1 is -x."""
        signed = a.dtype.kind == "int"
        literal_divisor = not b.name.startswith("%")
        if natural and literal_divisor:
            return self.emit("udiv" if op == "//" else "urem", a, b)
        zero = self.splat(self.constant(0, a.dtype), a.lanes)
        one = self.splat(self.constant(1, a.dtype), a.lanes)
        is_zero = self.compare("==", b, zero)
        unsafe = is_zero
        if signed:
            minus = self.splat(self.constant(-1, a.dtype), a.lanes)
            is_minus = self.compare("==", b, minus)
            unsafe = Val(self.emitter.value(f"or {is_zero}, {is_minus.name}"), boolean, a.lanes)
        safe = self.select(unsafe, one, b)
        quotient = self.emit("sdiv" if signed else "udiv", a, safe)
        if signed:
            quotient = self.select(is_minus, self.emit("sub", zero, a), quotient)
        quotient = self.select(is_zero, zero, quotient)
        if op == "/":
            return quotient
        rest = self.emit("sub", a, self.emit("mul", quotient, b))
        if op in ("rem", "fmod") or not signed:
            return quotient if op == "//" else self.select(is_zero, zero, rest)
        nonzero = self.compare("!=", rest, zero)
        signs = self.emitter.value(f"xor {rest}, {b.name}")
        differ = self.compare("<", Val(signs, a.dtype, a.lanes), zero)
        adjust = self.both(self.both(nonzero, differ), self.invert(is_zero))
        if op == "//":
            return self.select(adjust, self.emit("sub", quotient, one), quotient)
        return self.select(is_zero, zero, self.select(adjust, self.emit("add", rest, b), rest))

    def shift(self, op: str, a: Val, b: Val) -> Val:
        """Shifts; by the width or more gives 0 (or the sign)."""
        width = self.splat(self.constant(a.dtype.bits, a.dtype), a.lanes)
        last = self.splat(self.constant(a.dtype.bits - 1, a.dtype), a.lanes)
        fits = Val(self.emitter.value(f"icmp ult {b}, {width.name}"), boolean, a.lanes)
        zero = self.splat(self.constant(0, a.dtype), a.lanes)
        if op == ">>" and a.dtype.kind == "int":
            return self.emit("ashr", a, self.select(fits, b, last))
        amount = self.select(fits, b, zero)
        return self.select(fits, self.emit("shl" if op == "<<" else "lshr", a, amount), zero)

    def power(self, a: Val, b: Val) -> Val:
        """pow; integers by the floating-point function of double (exact below 2**53)."""
        if not a.dtype.is_float:
            wide = self.libm("pow", [self.cast(a, f64), self.cast(b, f64)])
            return self.cast(wide, a.dtype)
        return self.libm("pow", [a, b])

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        """A * b + c."""
        a, b, c = self.align(a, b, c)
        if a.dtype not in (f32, f64):
            return self.binary("+", self.binary("*", a, b, a.dtype), c, a.dtype)
        name = f"llvm.fmuladd.{self.suffix(a.dtype, a.lanes)}"
        return Val(self.call(name, a.type, [str(a), str(b), str(c)]), a.dtype, a.lanes)

    def lane_reduce(self, kind: str, a: Val) -> Val:
        """All lanes of a vector combined by halving, in a fixed order."""
        lanes = a.lanes
        while lanes > 1:
            half = lanes // 2
            if lanes % 2:
                raise CodegenError(f"cannot reduce {lanes} lanes")
            parts = []
            for start in (0, half):
                mask = ", ".join(f"i32 {start + k}" for k in range(half))
                name = self.emitter.value(
                    f"shufflevector {a}, {a.type} poison, <{half} x i32> <{mask}>")
                parts.append(Val(name, a.dtype, half))
            a = self.combine(kind, parts[0], parts[1])
            lanes = half
        return Val(self.emitter.value(f"extractelement {a}, i64 0"), a.dtype)

    def combine(self, kind: str, a: Val, b: Val) -> Val:
        """One step of a reduction."""
        op = {"sum": "+", "prod": "*", "max": "max", "min": "min"}[kind]
        return self.binary(op, a, b, a.dtype)

    # -- unary ----------------------------------------------------------------------------------

    def unary(self, op: str, a: Val) -> Val:
        """A function of one operand."""
        if op == "not":
            return self.invert(a)
        if op == "invert":
            ones = self.splat(self.constant(-1, a.dtype), a.lanes)
            return self.emit("xor", a, ones)
        if a.dtype in (f16, bf16):
            wide = self.unary(op, self.cast(a, f32))
            return wide if wide.dtype == boolean else self.cast(wide, a.dtype)
        if not a.dtype.is_float:
            return self.integer_unary(op, a)
        if op == "neg":
            return Val(self.emitter.value(f"fneg {a}"), a.dtype, a.lanes)
        if op in _ROUNDING:
            name = f"llvm.{_ROUNDING[op]}.{self.suffix(a.dtype, a.lanes)}"
            return Val(self.call(name, a.type, [str(a)]), a.dtype, a.lanes)
        if op == "isnan":
            return Val(self.emitter.value(f"fcmp uno {a}, {a.name}"), boolean, a.lanes)
        if op == "isinf":
            infinite = self.splat(self.constant(float("inf"), a.dtype), a.lanes)
            return self.compare("==", self.unary("abs", a), infinite)
        if op == "sign":
            zero, one, minus = (
                self.splat(self.constant(v, a.dtype), a.lanes) for v in (0.0, 1.0, -1.0))
            below = self.select(self.compare("<", a, zero), minus, a)
            return self.select(self.compare(">", a, zero), one, below)
        if op == "rsqrt":
            one = self.splat(self.constant(1.0, a.dtype), a.lanes)
            return self.emit("fdiv", one, self.unary("sqrt", a))
        if op == "sigmoid":
            one = self.splat(self.constant(1.0, a.dtype), a.lanes)
            power = self.libm("exp", [self.unary("neg", a)])
            return self.emit("fdiv", one, self.emit("fadd", one, power))
        return self.libm(op, [a])

    def integer_unary(self, op: str, a: Val) -> Val:
        """neg, abs, sign and the roundings of integers."""
        zero = self.splat(self.constant(0, a.dtype), a.lanes)
        if op == "neg":
            return self.emit("sub", zero, a)
        if op in ("floor", "ceil", "round", "trunc"):
            return a
        if a.dtype.kind == "uint" and op == "abs":
            return a
        one = self.splat(self.constant(1, a.dtype), a.lanes)
        above = self.compare("!=" if a.dtype.kind == "uint" else ">", a, zero)
        if op == "abs":
            return self.select(self.compare("<", a, zero), self.emit("sub", zero, a), a)
        if op == "sign":
            if a.dtype.kind == "uint":
                return self.select(above, one, zero)
            minus = self.splat(self.constant(-1, a.dtype), a.lanes)
            below = self.select(self.compare("<", a, zero), minus, zero)
            return self.select(above, one, below)
        raise CodegenError(f"no {op} of {a.dtype}")

    def libm(self, op: str, arguments: list[Val]) -> Val:
        """A call of the C mathematics library, lane by lane."""
        dtype = arguments[0].dtype
        symbol = LIBM[op, dtype]
        kind = computed(dtype)
        self.declarations.add(f"declare {kind} @{symbol}({', '.join([kind] * len(arguments))})")
        lanes = max(argument.lanes for argument in arguments)
        if not lanes:
            inside = ", ".join(map(str, arguments))
            return Val(self.emitter.value(f"call {kind} @{symbol}({inside})"), dtype)
        result = "poison"
        for k in range(lanes):
            parts = [self.emitter.value(f"extractelement {self.splat(argument, lanes)}, i64 {k}")
                     for argument in arguments]
            inside = ", ".join(f"{kind} {part}" for part in parts)
            one = self.emitter.value(f"call {kind} @{symbol}({inside})")
            result = self.emitter.value(
                f"insertelement <{lanes} x {kind}> {result}, {kind} {one}, i64 {k}")
        return Val(result, dtype, lanes)

    # -- conversions ----------------------------------------------------------------------------

    def bitcast(self, a: Val, dtype: DType) -> Val:
        """The same bits as another dtype."""
        if a.dtype == boolean:
            return self.bitcast(self.to_memory(a), dtype)
        if dtype == boolean:
            return self.cast(a, boolean)
        to = computed(dtype, a.lanes)
        if a.type == to:
            return Val(a.name, dtype, a.lanes)
        return Val(self.emitter.value(f"bitcast {a} to {to}"), dtype, a.lanes)

    def cast(self, a: Val, dtype: DType) -> Val:
        """Conversion of values."""
        if a.dtype == dtype:
            return a
        if a.dtype == bf16:
            return self.cast(self.float_from_bf16(a), dtype)
        if dtype == bf16:
            return self.bf16_from_float(self.cast(a, f32))
        if dtype == boolean:
            zero = self.splat(self.constant(0, a.dtype), a.lanes)
            return self.compare("!=", a, zero)
        if a.dtype == f16 and dtype not in (f32,):
            return self.cast(self.cast(a, f32), dtype)
        if dtype == f16 and a.dtype not in (f32,):
            return self.cast(self.cast(a, f32), dtype)
        if a.dtype.is_float and not dtype.is_float and (dtype.bits < 32 or dtype.name == "u32"):
            return self.cast(self.cast(a, i32 if dtype.bits < 32 else i64), dtype)
        return self.convert(self.conversion(a.dtype, dtype), a, dtype)

    def convert(self, instruction: str, a: Val, dtype: DType) -> Val:
        """One conversion instruction."""
        to = computed(dtype, a.lanes)
        if a.type == to:
            return Val(a.name, dtype, a.lanes)
        return Val(self.emitter.value(f"{instruction} {a} to {to}"), dtype, a.lanes)

    def conversion(self, source: DType, to: DType) -> str:
        """The LLVM instruction that converts between two dtypes."""
        if source.is_float and to.is_float:
            return "fpext" if to.bits > source.bits else "fptrunc"
        if source.is_float:
            return "fptoui" if to.kind == "uint" else "fptosi"
        if to.is_float:
            return "sitofp" if source.kind == "int" else "uitofp"
        if to.bits < source.bits and source != boolean:
            return "trunc"
        return "sext" if source.kind == "int" else "zext"

    def float_from_bf16(self, a: Val) -> Val:
        """bf16 bits are the upper half of a float."""
        wide = f"<{a.lanes} x i32>" if a.lanes else "i32"
        name = self.emitter.value(f"zext {a} to {wide}")
        shift = self.splat(self.constant(16, i32), a.lanes)
        return self.bitcast(self.emit("shl", Val(name, i32, a.lanes), shift), f32)

    def bf16_from_float(self, a: Val) -> Val:
        """Round to nearest even on the upper half; NaN stays NaN."""
        if not a.name.startswith("%"):
            raise CodegenError(f"bf16 literal {a}")
        bits = self.bitcast(a, i32)
        one, half, quiet, shift = (
            self.splat(self.constant(v, i32), a.lanes) for v in (1, 0x7FFF, 0x400000, 16))
        odd = self.emit("and", self.emit("lshr", bits, shift), one)
        rounded = self.emit("add", self.emit("add", bits, half), odd)
        nan = self.unary("isnan", a)
        chosen = self.select(nan, self.emit("or", bits, quiet), rounded)
        upper = self.emit("lshr", chosen, shift)
        narrow = f"<{a.lanes} x i16>" if a.lanes else "i16"
        return Val(self.emitter.value(f"trunc {upper} to {narrow}"), bf16, a.lanes)


_BYTE = DType("i8", 8, "int", boolean.numpy)


def _is_nan(literal_text: str) -> bool:
    """True for the literal (or splat of the literal) of a NaN."""
    found = re.search(r"0x([0-9A-F]{16})", literal_text)
    return found is not None and int(found[1], 16) & (2**63 - 1) > 0x7FF0000000000000


def _mangled(kind: str) -> str:
    return {"float": "f32", "double": "f64", "half": "f16"}.get(kind, kind)
