"""Arithmetic of the emitter: each operation on scalars or vectors as LLVM instructions.

f16 and bf16 are computed in float and rounded after each operation.
"""

import re

from bessemer.codegen.legalize import LIBM
from bessemer.codegen.llvm.conversions import Conversions
from bessemer.codegen.llvm.types import computed
from bessemer.codegen.llvm.values import Val
from bessemer.core.dtypes import DType, bf16, boolean, f16, f32, f64
from bessemer.core.errors import CodegenError

# `contract` lets LLVM fuse a product and a sum into one instruction with one rounding.
_FLOAT = {"+": "fadd contract", "-": "fsub contract", "*": "fmul contract", "/": "fdiv",
          "fmod": "frem", "rem": "frem"}
_INTEGER = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc",
             "sqrt": "sqrt", "abs": "fabs", "rounded": "arithmetic.fence"}
_MAX_SHARE = {"max": "ogt", "min": "olt"}


class Arithmetic(Conversions):
    """Binary and unary operations, reductions of lanes, calls of the C library."""

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


def _is_nan(literal_text: str) -> bool:
    """True for the literal (or splat of the literal) of a NaN."""
    found = re.search(r"0x([0-9A-F]{16})", literal_text)
    return found is not None and int(found[1], 16) & (2**63 - 1) > 0x7FF0000000000000
