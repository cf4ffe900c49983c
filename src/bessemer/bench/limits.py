"""Measures what this machine can do at best: f32 multiply-adds, and reading from each memory level.

Profiles and benchmarks state results as a share of these. Measured rather than computed, because
clock rates under vector load and the caches a virtual machine really gets are not written anywhere.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bessemer.codegen.llvm.emit import emit_object
from bessemer.core.dtypes import f32
from bessemer.runtime.linker import LinkedCode
from bessemer.targets import Target, host_target

_RUN_S = 0.008
_RUNS = 9
_LOADS = 8  # vectors in flight; two loads a cycle need about ten cycles of latency covered

Kernel = Callable[[int, int, int], None]
"""A compiled function: address of its data, of a place for its result, and a repeat count."""


@dataclass(frozen=True)
class Limits:
    """Measured peaks of some threads together; GB are 1e9 bytes, GFLOP 1e9 operations."""

    threads: int
    fma_gflops: float
    l1_gbps: float
    l2_gbps: float
    l3_gbps: float
    dram_gbps: float

    @property
    def flops_per_s(self) -> float:
        """Operations a second at best."""
        return self.fma_gflops * 1e9

    @property
    def bytes_per_s(self) -> float:
        """Bytes a second that can be read from memory at best."""
        return self.dram_gbps * 1e9

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.threads} threads: {self.fma_gflops:.0f} GFLOP/s f32, reading "
            f"L1 {self.l1_gbps:.0f}, L2 {self.l2_gbps:.0f}, L3 {self.l3_gbps:.0f}, "
            f"memory {self.dram_gbps:.1f} GB/s"
        )

    def attainable_gflops(self, flop_per_byte: float) -> float:
        """The roofline: the most that a kernel with that intensity reaches from memory.

        Source: Williams, Waterman, Patterson 2009.
        """
        return min(self.fma_gflops, self.dram_gbps * flop_per_byte)


def _chains(target: Target) -> int:
    # Latency 4-5 times 2 a cycle needs 10 chains; the two factors need registers too.
    return min(24, target.vector_registers - 4)


def _fma_text(target: Target) -> str:
    """LLVM IR of `fma(data, result, count)`: independent multiply-add chains in registers."""
    lanes, chains = target.lanes(f32), _chains(target)
    kind = f"<{lanes} x float>"
    fused = target.architecture != "x86_64" or "fma" in target.requires
    name = f"llvm.fma.v{lanes}f32" if fused else f"llvm.fmuladd.v{lanes}f32"
    numbers = range(chains)
    phis = [f"  %a{k} = phi {kind} [%start, %entry], [%b{k}, %loop]" for k in numbers]
    steps = [f"  %b{k} = call {kind} @{name}({kind} %a{k}, {kind} %factor, {kind} %term)"
             for k in numbers]
    stores = [f"  %s{k} = getelementptr {kind}, ptr %result, i64 {k}\n"
              f"  store {kind} %b{k}, ptr %s{k}, align 4" for k in numbers]
    return "\n".join([
        f"declare {kind} @{name}({kind}, {kind}, {kind})",
        "define void @fma(ptr %data, ptr %result, i64 %count) {", "entry:",
        f"  %start = load {kind}, ptr %data, align 4",
        f"  %p1 = getelementptr {kind}, ptr %data, i64 1",
        f"  %factor = load {kind}, ptr %p1, align 4",
        f"  %p2 = getelementptr {kind}, ptr %data, i64 2",
        f"  %term = load {kind}, ptr %p2, align 4",
        "  br label %loop", "loop:", "  %i = phi i64 [0, %entry], [%next, %loop]", *phis, *steps,
        "  %next = add i64 %i, 1", "  %more = icmp ult i64 %next, %count",
        "  br i1 %more, label %loop, label %end", "end:", *stores, "  ret void", "}",
    ])


def _read_text(target: Target, name: str, size_bytes: int) -> str:
    """LLVM IR of a function that reads `size_bytes` (whole blocks) `count` times."""
    lanes = target.lanes(f32)
    kind = f"<{lanes} x i32>"
    block = _LOADS * target.vector_bytes
    numbers = range(_LOADS)
    outer = [f"  %o{k} = phi {kind} [zeroinitializer, %entry], [%b{k}, %pass]" for k in numbers]
    inner = [f"  %a{k} = phi {kind} [%o{k}, %again], [%b{k}, %loop]" for k in numbers]
    steps = [
        f"  %p{k} = getelementptr i8, ptr %base, i64 {k * target.vector_bytes}\n"
        f"  %v{k} = load {kind}, ptr %p{k}, align 4\n  %b{k} = or {kind} %a{k}, %v{k}"
        for k in numbers
    ]
    stores = [f"  %s{k} = getelementptr {kind}, ptr %result, i64 {k}\n"
              f"  store {kind} %b{k}, ptr %s{k}, align 4" for k in numbers]
    return "\n".join([
        f"define void @{name}(ptr %data, ptr %result, i64 %count) {{", "entry:",
        "  br label %again", "again:", "  %i = phi i64 [0, %entry], [%next, %pass]", *outer,
        # A barrier for the compiler: the passes must not be merged into one.
        "  fence syncscope(\"singlethread\") seq_cst",
        "  br label %loop", "loop:", "  %j = phi i64 [0, %again], [%after, %loop]", *inner,
        "  %base = getelementptr i8, ptr %data, i64 %j", *steps,
        f"  %after = add i64 %j, {block}", f"  %inside = icmp ult i64 %after, {size_bytes}",
        "  br i1 %inside, label %loop, label %pass", "pass:",
        "  %next = add i64 %i, 1", "  %more = icmp ult i64 %next, %count",
        "  br i1 %more, label %again, label %end", "end:", *stores, "  ret void", "}",
    ])


def _working_sets(target: Target, threads: int) -> dict[str, int]:
    """Bytes that each thread reads for each level: half a private cache, a share of others."""
    block = _LOADS * target.vector_bytes
    l3 = max(2 * target.l2_bytes, min(target.l3_bytes // 4, 12 << 20) // threads)
    dram = max(2 * target.l3_bytes, 32 << 20) // threads
    wanted = {"l1": target.l1_bytes // 2, "l2": target.l2_bytes // 2, "l3": l3, "dram": dram}
    return {name: max(block, size // block * block) for name, size in wanted.items()}


def _rate(kernel: Kernel, data: list[int], results: list[int], work: float) -> float:
    """Work a second of all threads together, the best of some runs; `work` is that of one count."""
    count = 1
    while True:
        start = time.perf_counter()
        kernel(data[0], results[0], count)
        spent = time.perf_counter() - start
        if spent > _RUN_S / 8:
            break
        count *= 4
    count = max(1, round(count * _RUN_S / spent))
    threads = len(data)
    barrier = threading.Barrier(threads)
    times = np.zeros((_RUNS, threads))

    def run(thread: int) -> None:
        for number in range(_RUNS):
            barrier.wait()
            start = time.perf_counter()
            kernel(data[thread], results[thread], count)
            times[number, thread] = time.perf_counter() - start

    others = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(1, threads)]
    for other in others:
        other.start()
    run(0)
    for other in others:
        other.join()
    return float((count * work / times).sum(axis=1).max())


@lru_cache(maxsize=8)
def measure_limits(threads: int | None = None) -> Limits:
    """Measured peaks of this machine with that many threads; None is all processors.

    Takes about half a second; the result is kept for the life of the process. Other load on the
    machine lowers the numbers.
    """
    target = host_target()
    count = target.cores if threads is None else threads
    sets = _working_sets(target, count)
    texts = [_fma_text(target), *(_read_text(target, name, size) for name, size in sets.items())]
    code = LinkedCode([emit_object(text, target) for text in texts], "limits")
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    # Zeros would be one shared page of memory, so ones are written. 0.5 keeps the chains finite.
    data = [np.full(sets["dram"] // 4 + 16, 0.5, np.float32) for _ in range(count)]
    results = [np.zeros(32 * target.lanes(f32), np.float32) for _ in range(count)]
    # Aligned to a vector, so that no load crosses a cache line.
    starts = [-(-part.ctypes.data // 64) * 64 for part in data]
    ends = [part.ctypes.data for part in results]
    flop = 2.0 * target.lanes(f32) * _chains(target)
    peaks = {"fma": _rate(signature(code.address("fma")), starts, ends, flop) / 1e9}
    for name, size in sets.items():
        peaks[name] = _rate(signature(code.address(name)), starts, ends, float(size)) / 1e9
    code.close()
    return Limits(
        count, peaks["fma"], peaks["l1"], peaks["l2"], peaks["l3"], peaks["dram"])
