"""Conversions between dtypes as LLVM instructions.

bf16 is held as i16 bits and converted by hand, because LLVM would call library functions that the
runtime does not have.
"""

from bessemer.codegen.llvm.memory_access import MemoryAccess
from bessemer.codegen.llvm.types import computed
from bessemer.codegen.llvm.values import Val
from bessemer.core.dtypes import DType, bf16, boolean, f16, f32, i32, i64
from bessemer.core.errors import CodegenError


class Conversions(MemoryAccess):
    """Casts and bit casts."""

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
        nan = Val(self.emitter.value(f"fcmp uno {a}, {a.name}"), boolean, a.lanes)
        chosen = self.select(nan, self.emit("or", bits, quiet), rounded)
        upper = self.emit("lshr", chosen, shift)
        narrow = f"<{a.lanes} x i16>" if a.lanes else "i16"
        return Val(self.emitter.value(f"trunc {upper} to {narrow}"), bf16, a.lanes)
