"""Loads and stores of vectors as LLVM intrinsics: masked, gathered, scattered, prefetched."""

from bessemer.codegen.llvm.values import Val, ValueOps
from bessemer.core.dtypes import DType, boolean

_BYTE = DType("i8", 8, "int", boolean.numpy)


class MemoryAccess(ValueOps):
    """Memory operations; element types are LLVM type names."""

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
        if kind in ("i8", "i16", "i32") and "avx512f" in self.target.requires:
            mask = self._hidden(mask, lanes)
        vector = f"<{lanes} x {kind}>"
        name = f"llvm.masked.store.v{lanes}{_mangled(kind)}.p0"
        self.declarations.add(f"declare void @{name}({vector}, ptr, i32 immarg, <{lanes} x i1>)")
        self.emitter.line(
            f"call void @{name}({vector} {value}, ptr {pointer}, i32 {align}, {mask})")

    def _hidden(self, mask: Val, lanes: int) -> Val:
        """The mask as something that LLVM cannot know to be constant.

        For AVX-512, LLVM 22.1 turns a store of truncated integers whose mask is a constant with
        one lane set into a store of the element before truncation: it writes beyond the element.
        """
        width = max(lanes, 32)
        bits = self.emitter.value(f"bitcast {mask} to i{lanes}")
        if lanes < width:
            bits = self.emitter.value(f"zext i{lanes} {bits} to i{width}")
        bits = self.emitter.value(f'call i{width} asm "", "=r,0"(i{width} {bits})')
        if lanes < width:
            bits = self.emitter.value(f"trunc i{width} {bits} to i{lanes}")
        return Val(self.emitter.value(f"bitcast i{lanes} {bits} to {mask.type}"), boolean, lanes)

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


def _mangled(kind: str) -> str:
    return {"float": "f32", "double": "f64", "half": "f16"}.get(kind, kind)
