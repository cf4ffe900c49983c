"""Runs AArch64 kernels on any Linux machine: links them without a C library, runs them in QEMU.

The program reads all buffers from stdin, calls the kernel once per thread number, and writes the
buffers to stdout. It needs `qemu-aarch64` and the binutils for AArch64 (Debian: qemu-user,
binutils-aarch64-linux-gnu); on an AArch64 machine, the plain binutils.
"""

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import CodegenError

Array = np.ndarray[Any, Any]

_ALIGNMENT = 64
_GUARD_BYTES = 64
_GUARD = 0xA5

# System calls of AArch64 Linux: number in x8, arguments in x0..x2; 63 read, 64 write, 93 exit.
_START = """
    .text
    .global _start
_start:
    adrp x19, arena
    add x19, x19, :lo12:arena
    ldr x20, =SIZE
1:  cbz x20, 2f
    mov x0, #0
    mov x1, x19
    mov x2, x20
    mov x8, #63
    svc #0
    cmp x0, #0
    b.le 9f
    add x19, x19, x0
    sub x20, x20, x0
    b 1b
2:  mov x21, #0
3:  adrp x0, args
    add x0, x0, :lo12:args
    mov x1, x21
    ldr x2, =THREADS
    bl KERNEL
    add x21, x21, #1
    ldr x2, =THREADS
    cmp x21, x2
    b.lt 3b
    adrp x19, arena
    add x19, x19, :lo12:arena
    ldr x20, =SIZE
4:  cbz x20, 5f
    mov x0, #1
    mov x1, x19
    mov x2, x20
    mov x8, #64
    svc #0
    cmp x0, #0
    b.le 9f
    add x19, x19, x0
    sub x20, x20, x0
    b 4b
5:  mov x0, #0
    mov x8, #93
    svc #0
9:  mov x0, #99
    mov x8, #93
    svc #0

    .weak memcpy
memcpy:
    mov x3, #0
1:  cmp x3, x2
    b.hs 2f
    ldrb w4, [x1, x3]
    strb w4, [x0, x3]
    add x3, x3, #1
    b 1b
2:  ret
    .weak memset
memset:
    mov x3, #0
1:  cmp x3, x2
    b.hs 2f
    strb w1, [x0, x3]
    add x3, x3, #1
    b 1b
2:  ret

    .data
    .balign 16
args:
    ARGS
    .bss
    .balign 64
arena:
    .skip SIZE
"""


def _tools() -> dict[str, str | None]:
    """The command of each tool by role; the emulator is empty on an AArch64 machine."""
    native = platform.machine() == "aarch64"
    prefix = "" if native else "aarch64-linux-gnu-"
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    return {
        "assembler": shutil.which(f"{prefix}as"),
        "linker": shutil.which(f"{prefix}ld"),
        "emulator": "" if native else emulator,
    }


def missing_tools() -> str:
    """Why `run_on_qemu` cannot run here; empty if it can."""
    lacking = [role for role, command in _tools().items() if command is None]
    if not lacking:
        return ""
    return (
        f"no AArch64 {', '.join(lacking)} on this machine; install qemu-user and "
        "binutils-aarch64-linux-gnu"
    )


def run_on_qemu(
    objects: bytes | Sequence[bytes],
    symbol: str,
    buffers: Sequence[Array | bytes],
    writable: Sequence[int],
    *,
    threads: int = 1,
    timeout_s: float = 120.0,
) -> list[Array]:
    """Runs an AArch64 kernel `void symbol(ptr args, i64 thread, i64 threads)` on buffers.

    The kernel is called for thread 0 .. threads-1, one after the other. Buffers are copied; the
    contents of the writable ones after the run are returned in the order of `writable` (bytes as
    u8 arrays).
    Raises: CodegenError if a tool is missing, an object needs a library function, the program
    fails, or the kernel writes outside its writable buffers.
    """
    problem = missing_tools()
    if problem:
        raise CodegenError(problem)
    arrays = [
        np.frombuffer(b, np.uint8) if isinstance(b, bytes) else np.asarray(b, order="C")
        for b in buffers
    ]
    arena, offsets = _arena(arrays)
    parts = [objects] if isinstance(objects, bytes) else list(objects)
    with tempfile.TemporaryDirectory(prefix="bessemer-") as folder:
        program = _link(Path(folder), parts, symbol, arena.nbytes, offsets, threads)
        result = _execute(program, arena, symbol, timeout_s)
    _check_bounds(arena, result, arrays, offsets, set(writable), symbol)
    return [
        result[offsets[k] : offsets[k] + arrays[k].nbytes].view(arrays[k].dtype)
        .reshape(arrays[k].shape).copy()
        for k in writable
    ]


def _arena(arrays: list[Array]) -> tuple[Array, list[int]]:
    """All buffers in one array of bytes, with guards before, between and after them."""
    offsets, position = [], _GUARD_BYTES
    for array in arrays:
        offsets.append(position)
        position += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT + _GUARD_BYTES
    arena = np.full(position, _GUARD, np.uint8)
    for array, offset in zip(arrays, offsets):
        arena[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
    return arena, offsets


def _link(
    folder: Path, objects: list[bytes], symbol: str, size: int, offsets: list[int], threads: int
) -> Path:
    words = {
        "SIZE": str(size), "THREADS": str(threads), "KERNEL": symbol,
        "ARGS": "\n    ".join([f".xword arena + {offset}" for offset in offsets] or [".xword 0"]),
    }
    source = _START
    for word, value in words.items():
        source = source.replace(word, value)
    tools = _tools()
    start = folder / "start.s"
    start.write_text(source)
    names = []
    for number, body in enumerate(objects):
        name = folder / f"kernel{number}.o"
        name.write_bytes(body)
        names.append(str(name))
    program = folder / "program"
    _call([str(tools["assembler"]), "-o", str(folder / "start.o"), str(start)], symbol)
    _call([str(tools["linker"]), "-static", "-o", str(program), str(folder / "start.o"), *names],
          symbol)
    return program


def _call(command: list[str], symbol: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CodegenError(
            f"cannot link kernel {symbol} without a C library "
            f"(kernels that call libm cannot run here): {done.stderr.strip()[:1000]}"
        )


def _execute(program: Path, arena: Array, symbol: str, timeout_s: float) -> Array:
    emulator = _tools()["emulator"]
    command = [*([emulator] if emulator else []), str(program)]
    try:
        done = subprocess.run(
            command, input=arena.tobytes(), capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise CodegenError(f"kernel {symbol} ran longer than {timeout_s} s in QEMU") from error
    if done.returncode or len(done.stdout) != arena.nbytes:
        words = done.stderr.decode(errors="replace").strip()[:500]
        raise CodegenError(f"kernel {symbol} failed in QEMU (status {done.returncode}): {words}")
    return np.frombuffer(done.stdout, np.uint8)


def _check_bounds(
    before: Array, after: Array, arrays: list[Array], offsets: list[int], writable: set[int],
    symbol: str,
) -> None:
    allowed = np.zeros(before.size, bool)
    for number in writable:
        allowed[offsets[number] : offsets[number] + arrays[number].nbytes] = True
    changed = np.flatnonzero((before != after) & ~allowed)
    if changed.size:
        at = int(changed[0])
        number = max((k for k, offset in enumerate(offsets) if offset <= at), default=0)
        raise CodegenError(
            f"kernel {symbol} writes outside its writable buffers: at byte {at - offsets[number]} "
            f"of buffer {number}, which has {arrays[number].nbytes} bytes"
        )
