"""LLVM IR of the native driver: walks a job table on several threads.

The driver is compiled into every engine variant, so that running needs no compiler. It calls the
C library only through pointers that the runtime stores in the pool (`core.driver_abi`), which
keeps it free of inline assembly and equal on x86-64 and AArch64.

A parallel job has as many parts as the run has threads, and a long one cuts each part into pieces.
A thread takes the pieces of its own part in their order, so that it stays with the data it knows,
and then the last ones that others have not begun. So cores of unequal speed end together, a thread
that lost its core to another process is waited for by a piece at most, and a run starts at once
even while workers still wake up. A barrier waits until all pieces so far are done; it spins, then
sleeps until the last of them wakes it, so that it takes no time from others who share the core,
and gets that time back from the system afterwards.

A worker touches a run's memory only between raising its `active` word and lowering it, and looks
after raising whether the run is still open. The caller closes the run and then waits for active
words to fall, so nothing is read after the caller has returned.
"""

from typing import Protocol

from bessemer.codegen.llvm.driver_caller import LEAD, PARTS, RUN
from bessemer.codegen.llvm.driver_waiting import WAITING
from bessemer.codegen.llvm.driver_worker import FOLLOW, WORKER
from bessemer.core import driver_abi as abi
from bessemer.core.errors import CodegenError

DRIVER_ABI = abi.DRIVER_ABI


class HasTriple(Protocol):
    """What the driver needs to know of a target."""

    @property
    def triple(self) -> str:
        """The LLVM target triple."""


_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}

_FUTEX_WAIT_PRIVATE = 128
_FUTEX_WAKE_PRIVATE = 129
_CLOCK_MONOTONIC = 1


def driver_module(target: HasTriple) -> str:
    """LLVM IR text of the driver for that target.

    It defines the functions named in `core.driver_abi`: RUN (request) -> threads used,
    WORKER (pool, thread) and STOP (pool).

    Raises: CodegenError for an architecture without a pause instruction known here.
    """
    architecture = target.triple.split("-")[0]
    if architecture not in _PAUSE:
        known = ", ".join(sorted(_PAUSE))
        raise CodegenError(
            f"no native driver for the architecture {architecture!r} of the target triple "
            f"{target.triple!r}; there is one for {known}"
        )
    declaration, pause = _PAUSE[architecture]
    numbers: dict[str, object] = {
        name: value for name, value in vars(abi).items() if isinstance(value, int | str)
    }
    numbers |= {
        "PAUSE": pause,
        "CLAIM_AT": abi.POOL_HEADER_BYTES + abi.THREAD_CLAIM,
        "ACTIVE_AT": abi.POOL_HEADER_BYTES + abi.THREAD_ACTIVE,
        "CLOCK": _CLOCK_MONOTONIC,
        "WAIT": _FUTEX_WAIT_PRIVATE,
        "WAKE": _FUTEX_WAKE_PRIVATE,
        "LAST_PIECE": abi.SWEEP_PIECES - 1,
    }
    body = WAITING + PARTS + LEAD + RUN + FOLLOW + WORKER
    for name, value in numbers.items():
        body = body.replace("{" + name + "}", str(value))
    head = f'; bessemer driver, ABI {DRIVER_ABI}\ntarget triple = "{target.triple}"\n'
    return f"{head}{declaration}\n{body}"
