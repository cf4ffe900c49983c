"""Scheduled kernels to machine code: equal kernels are compiled once and cached by their loops."""

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.codegen.cache import ObjectCache
from bessemer.codegen.llvm.emitter import module_text
from bessemer.codegen.llvm.pool import CompilePool
from bessemer.codegen.objects import compile_functions, name_by_content
from bessemer.core.errors import ScheduleError
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Function
from bessemer.lower.lowering import split_stages
from bessemer.schedule.rule import Scheduled, make_loops
from bessemer.targets.target import Target


@dataclass(eq=False)
class CompiledKernel:
    """One kernel of an engine at every stage."""

    name: str
    kernel: Kernel
    scheduled: Scheduled
    symbol: str = ""

    @property
    def function(self) -> Function:
        """Its loop IR."""
        return self.scheduled.function

    def llvm(self, target: Target) -> str:
        """Its LLVM IR."""
        return module_text([self.function], target)


def schedule_kernel(kernel: Kernel, target: Target) -> list[CompiledKernel]:
    """The kernel by the first rule that applies; else one kernel per stage."""
    try:
        return [CompiledKernel(kernel.name, kernel, make_loops(kernel, target, "kernel"))]
    except ScheduleError:
        parts = split_stages(kernel)
        return [CompiledKernel(p.name, p, make_loops(p, target, "kernel")) for p in parts]


def name_symbols(kernels: list[CompiledKernel]) -> None:
    """Names every kernel by the hash of its loops, so that equal ones share code."""
    for entry in kernels:
        entry.symbol = name_by_content(entry.function)


def compile_kernels(kernels: list[CompiledKernel], target: Target, cache: ObjectCache,
                    on_done: Callable[[int, int], None] | None = None,
                    extra: tuple[str, ...] = ()) -> list[bytes]:
    """Objects of the distinct kernels in order of first use, then of the extra LLVM modules."""
    unique = {entry.symbol: entry.function for entry in kernels}
    with CompilePool(target, cache=cache) as pool:
        return compile_functions(list(unique.values()), pool, cache, on_done, extra)
