"""The guard probe: a short run of multiply-adds whose time tells whether the machine was disturbed.

It has the form of a kernel, so it runs on the engine's threads between the kernels that are timed.
"""

from bessemer.core.dtypes import f32
from bessemer.targets.target import Target

GUARD = "tune_guard"
PART_BYTES = 32 * 64
"""Bytes of memory that each thread of the probe uses."""

_TURNS = 2500  # about 12 microseconds on a core that starts two multiply-adds a cycle


def guard_module(target: Target) -> str:
    """LLVM IR of the probe: independent chains of multiply-adds on each thread.

    Its only argument is the address of PART_BYTES for each thread.
    """
    lanes, chains = target.lanes(f32), min(24, target.vector_registers - 4)
    kind = f"<{lanes} x float>"
    fused = target.architecture != "x86_64" or "fma" in target.requires
    name = f"llvm.{'fma' if fused else 'fmuladd'}.v{lanes}f32"
    numbers = range(chains)
    phis = [f"  %a{k} = phi {kind} [%start, %entry], [%b{k}, %loop]" for k in numbers]
    steps = [f"  %b{k} = call {kind} @{name}({kind} %a{k}, {kind} %factor, {kind} %factor)"
             for k in numbers]
    sums = [f"  %s{k} = fadd {kind} {'%b0' if k == 1 else f'%s{k - 1}'}, %b{k}"
            for k in range(1, chains)]
    return "\n".join([
        f'target triple = "{target.triple}"',
        f"declare {kind} @{name}({kind}, {kind}, {kind})",
        f"define void @{GUARD}(ptr %arguments, i64 %part, i64 %parts) {{", "entry:",
        "  %base = load ptr, ptr %arguments", f"  %at = mul i64 %part, {PART_BYTES}",
        "  %data = getelementptr i8, ptr %base, i64 %at",
        f"  %start = load {kind}, ptr %data, align 4",
        f"  %second = getelementptr {kind}, ptr %data, i64 1",
        f"  %factor = load {kind}, ptr %second, align 4",
        "  br label %loop", "loop:", "  %i = phi i64 [0, %entry], [%next, %loop]", *phis, *steps,
        "  %next = add i64 %i, 1", f"  %more = icmp ult i64 %next, {_TURNS}",
        "  br i1 %more, label %loop, label %end", "end:", *sums,
        f"  %place = getelementptr {kind}, ptr %data, i64 2",
        f"  store {kind} %s{chains - 1}, ptr %place, align 4", "  ret void", "}",
    ])
