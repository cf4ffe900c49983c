"""LLVM IR of the native driver: walks a job table on several threads with barriers between.

The driver is compiled into every engine variant, so that running needs no compiler. It calls
the C library only through pointers that the runtime stores in the pool (`core.driver_abi`), which
keeps it free of inline assembly and equal on x86-64 and AArch64.

The barrier is a dissemination barrier: in round r thread i raises a flag of thread i + 2**r and
waits for its own. Each thread spins on its own cache line. Spinning turns into `sched_yield` after
a while: a pure spin loses a whole time slice whenever another process takes a core.
"""

from typing import Protocol

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

_BARRIER = """
; Returns when all threads have called it with this counter. Counters only grow.
define internal void @barrier(ptr %pool, i64 %tid, i64 %threads, i64 %counter) {
entry:
  %spins_p = getelementptr i8, ptr %pool, i64 {POOL_BARRIER_SPINS}
  %spins = load i64, ptr %spins_p
  %own_at = mul i64 %tid, {THREAD_BYTES}
  %own_flags = add i64 %own_at, {FLAGS_AT}
  %own = getelementptr i8, ptr %pool, i64 %own_flags
  br label %round
round:
  %distance = phi i64 [ 1, %entry ], [ %distance_next, %next ]
  %slot = phi i64 [ 0, %entry ], [ %slot_next, %next ]
  %more = icmp ult i64 %distance, %threads
  br i1 %more, label %signal, label %done
signal:
  %sum = add i64 %tid, %distance
  %wraps = icmp uge i64 %sum, %threads
  %wrapped = sub i64 %sum, %threads
  %partner = select i1 %wraps, i64 %wrapped, i64 %sum
  %partner_at = mul i64 %partner, {THREAD_BYTES}
  %partner_flags = add i64 %partner_at, {FLAGS_AT}
  %partner_slot = add i64 %partner_flags, %slot
  %raise = getelementptr i8, ptr %pool, i64 %partner_slot
  store atomic i64 %counter, ptr %raise release, align 8
  %watch = getelementptr i8, ptr %own, i64 %slot
  br label %wait
wait:
  %turn = phi i64 [ 0, %signal ], [ %turn_next, %spin ], [ %turn_next, %yield ]
  %seen = load atomic i64, ptr %watch acquire, align 8
  %arrived = icmp sge i64 %seen, %counter
  br i1 %arrived, label %next, label %again
again:
  %turn_next = add i64 %turn, 1
  %patient = icmp ult i64 %turn, %spins
  br i1 %patient, label %spin, label %yield
spin:
  {PAUSE}
  br label %wait
yield:
  %yield_p = getelementptr i8, ptr %pool, i64 {POOL_YIELD}
  %sched_yield = load ptr, ptr %yield_p
  %ignored = call i32 %sched_yield()
  br label %wait
next:
  %distance_next = shl i64 %distance, 1
  %slot_next = add i64 %slot, 8
  br label %round
done:
  ret void
}
"""

_WALK = """
define internal void @stamp(ptr %pool, i64 %tid, ptr %stamps, i64 %index) {
entry:
  %first = icmp eq i64 %tid, 0
  %wanted = icmp ne ptr %stamps, null
  %both = and i1 %first, %wanted
  br i1 %both, label %take, label %done
take:
  %clock_p = getelementptr i8, ptr %pool, i64 {POOL_CLOCK}
  %clock = load ptr, ptr %clock_p
  %at = mul i64 %index, {STAMP_BYTES}
  %where = getelementptr i8, ptr %stamps, i64 %at
  %ignored = call i32 %clock(i32 {CLOCK}, ptr %where)
  br label %done
done:
  ret void
}

; Runs all jobs as thread %tid of %threads; returns the counter of the last barrier.
define internal i64 @walk(ptr %pool, i64 %tid, i64 %threads, ptr %jobs, i64 %count, i64 %base,
                          ptr %stamps) {
entry:
  call void @stamp(ptr %pool, i64 %tid, ptr %stamps, i64 0)
  %alone = icmp eq i64 %threads, 1
  %first = icmp eq i64 %tid, 0
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %index_next, %tail ]
  %counter = phi i64 [ %base, %entry ], [ %counter_next, %tail ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %job, label %done
job:
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %entry_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %entry_p
  %arguments_p = getelementptr i8, ptr %entry_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  %flags_p = getelementptr i8, ptr %entry_p, i64 {JOB_FLAGS}
  %flags = load i64, ptr %flags_p
  %parallel_bit = and i64 %flags, {FLAG_PARALLEL}
  %parallel = icmp ne i64 %parallel_bit, 0
  br i1 %parallel, label %shared, label %serial
shared:
  call void %function(ptr %arguments, i64 %tid, i64 %threads)
  br label %after
serial:
  br i1 %first, label %one, label %after
one:
  call void %function(ptr %arguments, i64 0, i64 1)
  br label %after
after:
  %barrier_bit = and i64 %flags, {FLAG_BARRIER}
  %asked = icmp ne i64 %barrier_bit, 0
  %last = icmp eq i64 %index_next, %count
  %needed = or i1 %asked, %last
  %not_alone = xor i1 %alone, true
  %meet = and i1 %needed, %not_alone
  br i1 %meet, label %barrier, label %tail
barrier:
  %counter_met = add i64 %counter, 1
  call void @barrier(ptr %pool, i64 %tid, i64 %threads, i64 %counter_met)
  br label %tail
tail:
  %counter_next = phi i64 [ %counter, %after ], [ %counter_met, %barrier ]
  call void @stamp(ptr %pool, i64 %tid, ptr %stamps, i64 %index_next)
  br label %head
done:
  ret i64 %counter
}
"""

_RUN = """
; Starts worker %tid: bumps its go word and wakes it if it sleeps.
define internal void @start(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %block = add i64 %at, {POOL_HEADER_BYTES}
  %go = getelementptr i8, ptr %pool, i64 %block
  %old = atomicrmw add ptr %go, i32 1 seq_cst
  %sleeping_p = getelementptr i8, ptr %go, i64 {THREAD_SLEEPING}
  %sleeping = load atomic i32, ptr %sleeping_p seq_cst, align 4
  %asleep = icmp ne i32 %sleeping, 0
  br i1 %asleep, label %wake, label %done
wake:
  %syscall_p = getelementptr i8, ptr %pool, i64 {POOL_SYSCALL}
  %syscall = load ptr, ptr %syscall_p
  %futex_p = getelementptr i8, ptr %pool, i64 {POOL_FUTEX}
  %futex = load i64, ptr %futex_p
  %woken = call i64 (i64, ...) %syscall(i64 %futex, ptr %go, i64 {WAKE}, i64 1, ptr null,
                                         ptr null, i64 0)
  br label %done
done:
  ret void
}

; Runs a request's jobs; returns the number of threads used: 1 if another run has the pool.
define i64 @{RUN}(ptr %request) {
entry:
  %pool = load ptr, ptr %request
  %jobs_at = getelementptr i8, ptr %request, i64 {REQUEST_JOBS}
  %jobs = load ptr, ptr %jobs_at
  %count_at = getelementptr i8, ptr %request, i64 {REQUEST_COUNT}
  %count = load i64, ptr %count_at
  %threads_at = getelementptr i8, ptr %request, i64 {REQUEST_THREADS}
  %threads = load i64, ptr %threads_at
  %stamps_at = getelementptr i8, ptr %request, i64 {REQUEST_STAMPS}
  %stamps = load ptr, ptr %stamps_at
  %several = icmp ugt i64 %threads, 1
  br i1 %several, label %try, label %alone
try:
  %busy = getelementptr i8, ptr %pool, i64 {POOL_BUSY}
  %taken = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %taken, 1
  br i1 %mine, label %publish, label %alone
alone:
  %c1 = call i64 @walk(ptr %pool, i64 0, i64 1, ptr %jobs, i64 %count, i64 0, ptr %stamps)
  ret i64 1
publish:
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  store ptr %jobs, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  store i64 %count, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  store i64 %threads, ptr %threads_p
  %stamps_p = getelementptr i8, ptr %pool, i64 {POOL_STAMPS}
  store ptr %stamps, ptr %stamps_p
  %base_p = getelementptr i8, ptr %pool, i64 {POOL_BASE}
  %base = load i64, ptr %base_p
  br label %starting
starting:
  %tid = phi i64 [ 1, %publish ], [ %tid_next, %starting ]
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  %more = icmp ult i64 %tid_next, %threads
  br i1 %more, label %starting, label %working
working:
  %counter = call i64 @walk(ptr %pool, i64 0, i64 %threads, ptr %jobs, i64 %count, i64 %base,
                            ptr %stamps)
  store i64 %counter, ptr %base_p
  store atomic i32 0, ptr %busy release, align 4
  ret i64 %threads
}
"""

_WORKER = """
; The life of a worker: spin for work, then sleep; take part in a run; stop when told.
define void @{WORKER}(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %block = add i64 %at, {POOL_HEADER_BYTES}
  %go = getelementptr i8, ptr %pool, i64 %block
  %sleeping = getelementptr i8, ptr %go, i64 {THREAD_SLEEPING}
  %spins_p = getelementptr i8, ptr %pool, i64 {POOL_IDLE_SPINS}
  %spins = load i64, ptr %spins_p
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %now, %work ]
  br label %wait
wait:
  %turn = phi i64 [ 0, %idle ], [ %turn_next, %spin ], [ %turn, %awake ]
  %now = load atomic i32, ptr %go acquire, align 4
  %new = icmp ne i32 %now, %seen
  br i1 %new, label %check, label %again
again:
  %patient = icmp ult i64 %turn, %spins
  br i1 %patient, label %spin, label %sleep
spin:
  %turn_next = add i64 %turn, 1
  {PAUSE}
  br label %wait
sleep:
  store atomic i32 1, ptr %sleeping seq_cst, align 4
  %still = load atomic i32, ptr %go seq_cst, align 4
  %same = icmp eq i32 %still, %seen
  br i1 %same, label %block_here, label %awake
block_here:
  %syscall_p = getelementptr i8, ptr %pool, i64 {POOL_SYSCALL}
  %syscall = load ptr, ptr %syscall_p
  %futex_p = getelementptr i8, ptr %pool, i64 {POOL_FUTEX}
  %futex = load i64, ptr %futex_p
  %seen_wide = zext i32 %seen to i64
  %slept = call i64 (i64, ...) %syscall(i64 %futex, ptr %go, i64 {WAIT}, i64 %seen_wide,
                                         ptr null, ptr null, i64 0)
  br label %awake
awake:
  store atomic i32 0, ptr %sleeping seq_cst, align 4
  br label %wait
check:
  %stop_p = getelementptr i8, ptr %pool, i64 {POOL_STOP}
  %stop = load atomic i64, ptr %stop_p acquire, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %done, label %work
work:
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  %jobs = load ptr, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  %count = load i64, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  %threads = load i64, ptr %threads_p
  %stamps_p = getelementptr i8, ptr %pool, i64 {POOL_STAMPS}
  %stamps = load ptr, ptr %stamps_p
  %base_p = getelementptr i8, ptr %pool, i64 {POOL_BASE}
  %base = load i64, ptr %base_p
  %c = call i64 @walk(ptr %pool, i64 %tid, i64 %threads, ptr %jobs, i64 %count, i64 %base,
                      ptr %stamps)
  br label %idle
done:
  ret void
}

; Tells every worker to return.
define void @{STOP}(ptr %pool) {
entry:
  %stop_p = getelementptr i8, ptr %pool, i64 {POOL_STOP}
  store atomic i64 1, ptr %stop_p seq_cst, align 8
  %size_p = getelementptr i8, ptr %pool, i64 {POOL_SIZE}
  %size = load i64, ptr %size_p
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %tid_next, %body ]
  %more = icmp ult i64 %tid, %size
  br i1 %more, label %body, label %done
body:
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  br label %head
done:
  ret void
}
"""


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
        "FLAGS_AT": abi.POOL_HEADER_BYTES + abi.THREAD_FLAGS,
        "CLOCK": _CLOCK_MONOTONIC,
        "WAIT": _FUTEX_WAIT_PRIVATE,
        "WAKE": _FUTEX_WAKE_PRIVATE,
    }
    body = _BARRIER + _WALK + _RUN + _WORKER
    for name, value in numbers.items():
        body = body.replace("{" + name + "}", str(value))
    head = f'; bessemer driver, ABI {DRIVER_ABI}\ntarget triple = "{target.triple}"\n'
    return f"{head}{declaration}\n{body}"
