"""Products of tiles by AMX, the matrix unit of x86.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. There
are eight tiles of 16 rows of 64 bytes; `tdpbf16ps` adds the product of two tiles of bf16 to one of
f32.
"""

from typing import TYPE_CHECKING

from bessemer.core.dtypes import i64
from bessemer.core.errors import CodegenError
from bessemer.lower.loops import Buffer, TileProduct, static
from bessemer.te.expr import Expr, const

if TYPE_CHECKING:
    from bessemer.codegen.llvm.expressions import ExpressionEmitter

_ROW_BYTES = 64
_A, _B = 4, 6
"""The first tiles that hold factors; the sums are in those before."""
_CONFIGURATION = (1, 0, 0x0040004000400040, 0x0040004000400040, 0, 0, 0x1010101010101010, 0)
"""Palette 1 and all eight tiles with 16 rows of 64 bytes, as words of 64 bits."""
_DECLARATIONS = (
    "declare void @llvm.x86.ldtilecfg(ptr)",
    "declare void @llvm.x86.tilerelease()",
    "declare void @llvm.x86.tilezero(i8 immarg)",
    "declare void @llvm.x86.tileloadd64(i8 immarg, ptr, i64)",
    "declare void @llvm.x86.tilestored64(i8 immarg, ptr, i64)",
    "declare void @llvm.x86.tdpbf16ps(i8 immarg, i8 immarg, i8 immarg)",
)


def emit_tile_product(emitter: "ExpressionEmitter", stmt: TileProduct) -> None:
    """The statement as a loop over its steps; the tiles are configured before it."""
    if emitter.lane is not None or not emitter.target.has_matrix_unit:
        raise CodegenError(f"target {emitter.target.name} cannot multiply tiles here")
    cells = [(i, j) for i in range(stmt.rows) for j in range(stmt.columns)]
    sums = [_pointer(emitter, stmt.sums, stmt.sums_at, cell) for cell in cells]
    a, b = (_pointer(emitter, buffer, at) for buffer, at in (
        (stmt.a, stmt.a_at), (stmt.b, stmt.b_at)))
    for tile, pointer in enumerate(sums):
        emitter.line(f"call void @llvm.x86.tilezero(i8 {tile})" if stmt.is_first
                     else _load(tile, pointer))
    number = emitter.counter = emitter.counter + 1
    emitter.line(f"br label %enter{number}")
    emitter.scopes[-1].body += [
        f"enter{number}:", f"  br label %loop{number}", f"loop{number}:",
        f"  %i{number} = phi i64 [ 0, %enter{number} ], [ %n{number}, %loop{number} ]"]
    _step(emitter, stmt, *(_moved(emitter, each, f"%i{number}") for each in (
        (stmt.a, a), (stmt.b, b))))
    emitter.scopes[-1].body += [
        f"  %n{number} = add nuw nsw i64 %i{number}, 1",
        f"  %c{number} = icmp ult i64 %n{number}, {stmt.steps}",
        f"  br i1 %c{number}, label %loop{number}, label %exit{number}", f"exit{number}:"]
    for tile, pointer in enumerate(sums):
        emitter.line(
            f"call void @llvm.x86.tilestored64(i8 {tile}, ptr {pointer}, i64 {_ROW_BYTES})")


def _step(emitter: "ExpressionEmitter", stmt: TileProduct, a: str, b: str) -> None:
    """All products of one step; a tile stays while it is used."""
    loaded: dict[int, tuple[str, int]] = {}

    def load(first: int, count: int, buffer: Buffer, pointer: str, part: int) -> None:
        tile_step, _, part_step = static(buffer.strides)[:3]
        for k in range(count):
            if loaded.get(first + k) != (pointer, part):
                loaded[first + k] = pointer, part
                place = _behind(emitter, buffer, pointer, k * tile_step + part * part_step)
                emitter.line(_load(first + k, place))

    for i, j in stmt.terms:
        load(_A, stmt.rows, stmt.a, a, i)
        load(_B, stmt.columns, stmt.b, b, j)
        for row in range(stmt.rows):
            for column in range(stmt.columns):
                emitter.line(f"call void @llvm.x86.tdpbf16ps(i8 {row * stmt.columns + column}, "
                             f"i8 {_A + row}, i8 {_B + column})")


def _load(tile: int, pointer: str) -> str:
    return f"call void @llvm.x86.tileloadd64(i8 {tile}, ptr {pointer}, i64 {_ROW_BYTES})"


def configure(emitter: "ExpressionEmitter") -> None:
    """Sets the shapes of all tiles, once for a kernel."""
    name = "%tiles"
    emitter.math.declarations.update(_DECLARATIONS)
    emitter.allocas.append(f"  {name} = alloca [{_ROW_BYTES} x i8], align {_ROW_BYTES}")
    for k, word in enumerate(_CONFIGURATION):
        place = emitter.effect(f"getelementptr i64, ptr {name}, i64 {k}")
        emitter.line(f"store i64 {word}, ptr {place}")
    emitter.line(f"call void @llvm.x86.ldtilecfg(ptr {name})")


def release(emitter: "ExpressionEmitter") -> None:
    """Ends the use of tiles: threads that hold none are switched faster."""
    emitter.line("call void @llvm.x86.tilerelease()")


def _pointer(emitter: "ExpressionEmitter", buffer: Buffer, at: tuple[Expr, Expr],
             cell: tuple[int, int] = (0, 0)) -> str:
    """Pointer to the first element of a tile, so many tiles from `at`."""
    zero = const(0, i64)
    first = (at[0] + cell[0], at[1] + cell[1], *(zero for _ in buffer.shape[2:]))
    scalar, _, _ = emitter.split_lane(emitter.address(buffer, first))
    return emitter.pointer(buffer, scalar)


def _moved(emitter: "ExpressionEmitter", factor: tuple[Buffer, str], step: str) -> str:
    """The pointer at a step of the loop."""
    buffer, pointer = factor
    stride = static(buffer.strides)[1] * buffer.dtype.size_bytes
    offset = emitter.effect(f"mul i64 {step}, {stride}")
    return emitter.effect(f"getelementptr i8, ptr {pointer}, i64 {offset}")


def _behind(emitter: "ExpressionEmitter", buffer: Buffer, pointer: str, elements: int) -> str:
    return emitter.effect(
        f"getelementptr i8, ptr {pointer}, i64 {elements * buffer.dtype.size_bytes}")
