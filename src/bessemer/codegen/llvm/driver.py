"""LLVM IR of the native driver: walks a job table on several threads.

The driver is compiled into every engine variant, so that running needs no compiler. It calls the
C library only through pointers that the runtime stores in the pool (`core.driver_abi`), which
keeps it free of inline assembly and equal on x86-64 and AArch64.

A parallel job has as many parts as the run has threads. Each thread takes its own part first, by
raising the part's claim word to the number of the job, and then what others have not begun. So a
thread that lost its core to another process is not waited for unless it is inside a part, and a
run starts at once even while workers still wake up. A barrier waits until all parts so far are
done; it spins, then yields.

A worker touches a run's memory only between raising its `active` word and lowering it, and looks
after raising whether the run is still open. The caller closes the run and then waits for active
words to fall, so nothing is read after the caller has returned.
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

_PARTS = """
; One turn of waiting: a pause at first, later the core is offered to others.
define internal void @relax(ptr %pool, i64 %turn) {
entry:
  %spins_p = getelementptr i8, ptr %pool, i64 {POOL_SPINS}
  %spins = load i64, ptr %spins_p
  %patient = icmp ult i64 %turn, %spins
  br i1 %patient, label %spin, label %yield
spin:
  {PAUSE}
  ret void
yield:
  %yield_p = getelementptr i8, ptr %pool, i64 {POOL_YIELD}
  %sched_yield = load ptr, ptr %yield_p
  %ignored = call i32 %sched_yield()
  ret void
}

; True if this thread may run the part for the job of that number. Numbers only grow.
define internal i1 @claim(ptr %pool, i64 %part, i64 %number) {
entry:
  %at = mul i64 %part, {THREAD_BYTES}
  %claim_at = add i64 %at, {CLAIM_AT}
  %word = getelementptr i8, ptr %pool, i64 %claim_at
  %last = load atomic i64, ptr %word monotonic, align 8
  %taken = icmp uge i64 %last, %number
  br i1 %taken, label %no, label %try
try:
  %swap = cmpxchg ptr %word, i64 %last, i64 %number acq_rel monotonic
  %won = extractvalue { i64, i1 } %swap, 1
  ret i1 %won
no:
  ret i1 false
}

; Runs the parts of one job that this thread can claim, its own first, until all are done.
define internal void @work(ptr %pool, i64 %tid, i64 %threads, ptr %function, ptr %arguments,
                           i64 %number, i64 %target) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  br label %head
head:
  %tried = phi i64 [ 0, %entry ], [ %tried_next, %tail ]
  %part = phi i64 [ %tid, %entry ], [ %part_next, %tail ]
  %mine = call i1 @claim(ptr %pool, i64 %part, i64 %number)
  br i1 %mine, label %run, label %look
run:
  call void %function(ptr %arguments, i64 %part, i64 %threads)
  %before = atomicrmw add ptr %done_p, i64 1 acq_rel
  %after = add i64 %before, 1
  br label %tail
look:
  %seen = load atomic i64, ptr %done_p acquire, align 8
  br label %tail
tail:
  %done = phi i64 [ %after, %run ], [ %seen, %look ]
  %tried_next = add i64 %tried, 1
  %beyond = add i64 %part, 1
  %wraps = icmp eq i64 %beyond, %threads
  %part_next = select i1 %wraps, i64 0, i64 %beyond
  %complete = icmp uge i64 %done, %target
  %all = icmp eq i64 %tried_next, %threads
  %stop = or i1 %complete, %all
  br i1 %stop, label %end, label %head
end:
  ret void
}

define internal void @stamp(ptr %pool, ptr %stamps, i64 %index) {
entry:
  %wanted = icmp ne ptr %stamps, null
  br i1 %wanted, label %take, label %end
take:
  %clock_p = getelementptr i8, ptr %pool, i64 {POOL_CLOCK}
  %clock = load ptr, ptr %clock_p
  %at = mul i64 %index, {STAMP_BYTES}
  %where = getelementptr i8, ptr %stamps, i64 %at
  %ignored = call i32 %clock(i32 {CLOCK}, ptr %where)
  br label %end
end:
  ret void
}
"""

_LEAD = """
; All jobs on this thread alone.
define internal void @alone(ptr %pool, ptr %jobs, i64 %count, ptr %stamps) {
entry:
  call void @stamp(ptr %pool, ptr %stamps, i64 0)
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %index_next, %job ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %job, label %end
job:
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %job_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %job_p
  %arguments_p = getelementptr i8, ptr %job_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  call void %function(ptr %arguments, i64 0, i64 1)
  call void @stamp(ptr %pool, ptr %stamps, i64 %index_next)
  br label %head
end:
  ret void
}

; The caller's way through the jobs, as thread 0; job i has the number %run + i.
define internal void @lead(ptr %pool, i64 %threads, ptr %jobs, i64 %count, i64 %run,
                           ptr %stamps) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  call void @stamp(ptr %pool, ptr %stamps, i64 0)
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %index_next, %tail ]
  %target = phi i64 [ 0, %entry ], [ %target_next, %tail ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %job, label %end
job:
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %job_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %job_p
  %arguments_p = getelementptr i8, ptr %job_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  %flags_p = getelementptr i8, ptr %job_p, i64 {JOB_FLAGS}
  %flags = load i64, ptr %flags_p
  %parallel_bit = and i64 %flags, {FLAG_PARALLEL}
  %parallel = icmp ne i64 %parallel_bit, 0
  br i1 %parallel, label %shared, label %serial
shared:
  %number = add i64 %run, %index
  %target_shared = add i64 %target, %threads
  call void @work(ptr %pool, i64 0, i64 %threads, ptr %function, ptr %arguments, i64 %number,
                  i64 %target_shared)
  br label %after
serial:
  call void %function(ptr %arguments, i64 0, i64 1)
  %ignored = atomicrmw add ptr %done_p, i64 1 acq_rel
  %target_serial = add i64 %target, 1
  br label %after
after:
  %target_next = phi i64 [ %target_shared, %shared ], [ %target_serial, %serial ]
  %barrier_bit = and i64 %flags, {FLAG_BARRIER}
  %asked = icmp ne i64 %barrier_bit, 0
  %last = icmp eq i64 %index_next, %count
  %needed = or i1 %asked, %last
  br i1 %needed, label %wait, label %tail
wait:
  %turn = phi i64 [ 0, %after ], [ %turn_next, %again ]
  %done = load atomic i64, ptr %done_p acquire, align 8
  %complete = icmp uge i64 %done, %target_next
  br i1 %complete, label %tail, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @relax(ptr %pool, i64 %turn)
  br label %wait
tail:
  call void @stamp(ptr %pool, ptr %stamps, i64 %index_next)
  br label %head
end:
  ret void
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
  br i1 %asleep, label %wake, label %end
wake:
  %syscall_p = getelementptr i8, ptr %pool, i64 {POOL_SYSCALL}
  %syscall = load ptr, ptr %syscall_p
  %futex_p = getelementptr i8, ptr %pool, i64 {POOL_FUTEX}
  %futex = load i64, ptr %futex_p
  %woken = call i64 (i64, ...) %syscall(i64 %futex, ptr %go, i64 {WAKE}, i64 1, ptr null,
                                         ptr null, i64 0)
  br label %end
end:
  ret void
}

; Lets no worker enter any more and waits until none is inside.
define internal void @close(ptr %pool) {
entry:
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  store atomic i64 0, ptr %open_p seq_cst, align 8
  %size_p = getelementptr i8, ptr %pool, i64 {POOL_SIZE}
  %size = load atomic i64, ptr %size_p acquire, align 8
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %tid_next, %next ]
  %more = icmp ult i64 %tid, %size
  br i1 %more, label %look, label %end
look:
  %at = mul i64 %tid, {THREAD_BYTES}
  %active_at = add i64 %at, {ACTIVE_AT}
  %active_p = getelementptr i8, ptr %pool, i64 %active_at
  br label %wait
wait:
  %turn = phi i64 [ 0, %look ], [ %turn_next, %again ]
  %active = load atomic i32, ptr %active_p seq_cst, align 4
  %left = icmp eq i32 %active, 0
  br i1 %left, label %next, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @relax(ptr %pool, i64 %turn)
  br label %wait
next:
  %tid_next = add i64 %tid, 1
  br label %head
end:
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
  br i1 %several, label %try, label %single
try:
  %busy = getelementptr i8, ptr %pool, i64 {POOL_BUSY}
  %taken = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %taken, 1
  br i1 %mine, label %publish, label %single
single:
  call void @alone(ptr %pool, ptr %jobs, i64 %count, ptr %stamps)
  ret i64 1
publish:
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  store ptr %jobs, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  store i64 %count, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  store i64 %threads, ptr %threads_p
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  store atomic i64 0, ptr %done_p monotonic, align 8
  %run_p = getelementptr i8, ptr %pool, i64 {POOL_NEXT_RUN}
  %last = load i64, ptr %run_p
  %run = add i64 %last, 1
  %run_end = add i64 %run, %count
  store i64 %run_end, ptr %run_p
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  store atomic i64 %run, ptr %open_p seq_cst, align 8
  br label %starting
starting:
  %tid = phi i64 [ 1, %publish ], [ %tid_next, %starting ]
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  %more = icmp ult i64 %tid_next, %threads
  br i1 %more, label %starting, label %working
working:
  call void @lead(ptr %pool, i64 %threads, ptr %jobs, i64 %count, i64 %run, ptr %stamps)
  call void @close(ptr %pool)
  store atomic i32 0, ptr %busy release, align 4
  ret i64 %threads
}
"""

_FOLLOW = """
; True, with the active word raised, if the run of that number is still open.
define internal i1 @enter(ptr %pool, ptr %active_p, i64 %run) {
entry:
  store atomic i32 1, ptr %active_p seq_cst, align 4
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  %open = load atomic i64, ptr %open_p seq_cst, align 8
  %same = icmp eq i64 %open, %run
  br i1 %same, label %yes, label %no
yes:
  ret i1 true
no:
  store atomic i32 0, ptr %active_p release, align 4
  ret i1 false
}

; A worker's way through the open run, if there is one that has a part for it.
define internal void @follow(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %active_at = add i64 %at, {ACTIVE_AT}
  %active_p = getelementptr i8, ptr %pool, i64 %active_at
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  %run = load atomic i64, ptr %open_p seq_cst, align 8
  %none = icmp eq i64 %run, 0
  br i1 %none, label %end, label %join
join:
  %joined = call i1 @enter(ptr %pool, ptr %active_p, i64 %run)
  br i1 %joined, label %read, label %end
read:
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  %jobs = load ptr, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  %count = load i64, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  %threads = load i64, ptr %threads_p
  %wanted = icmp ult i64 %tid, %threads
  br i1 %wanted, label %job, label %leave
job:
  %index = phi i64 [ 0, %read ], [ %index_next, %next ]
  %target = phi i64 [ 0, %read ], [ %target_next, %next ]
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %job_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %job_p
  %arguments_p = getelementptr i8, ptr %job_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  %flags_p = getelementptr i8, ptr %job_p, i64 {JOB_FLAGS}
  %flags = load i64, ptr %flags_p
  %parallel_bit = and i64 %flags, {FLAG_PARALLEL}
  %parallel = icmp ne i64 %parallel_bit, 0
  %parts = select i1 %parallel, i64 %threads, i64 1
  %target_next = add i64 %target, %parts
  br i1 %parallel, label %shared, label %after
shared:
  %number = add i64 %run, %index
  call void @work(ptr %pool, i64 %tid, i64 %threads, ptr %function, ptr %arguments, i64 %number,
                  i64 %target_next)
  br label %after
after:
  %last = icmp eq i64 %index_next, %count
  br i1 %last, label %leave, label %meet
meet:
  %barrier_bit = and i64 %flags, {FLAG_BARRIER}
  %asked = icmp ne i64 %barrier_bit, 0
  br i1 %asked, label %early, label %next
early:
  %now = load atomic i64, ptr %done_p acquire, align 8
  %ready = icmp uge i64 %now, %target_next
  br i1 %ready, label %next, label %outside
outside:
  store atomic i32 0, ptr %active_p release, align 4
  br label %wait
wait:
  %turn = phi i64 [ 0, %outside ], [ %turn_next, %again ]
  %open = load atomic i64, ptr %open_p acquire, align 8
  %gone = icmp ne i64 %open, %run
  br i1 %gone, label %end, label %check
check:
  %done = load atomic i64, ptr %done_p acquire, align 8
  %complete = icmp uge i64 %done, %target_next
  br i1 %complete, label %return, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @relax(ptr %pool, i64 %turn)
  br label %wait
return:
  %back = call i1 @enter(ptr %pool, ptr %active_p, i64 %run)
  br i1 %back, label %next, label %end
next:
  br label %job
leave:
  store atomic i32 0, ptr %active_p release, align 4
  br label %end
end:
  ret void
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
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %now, %work ]
  %spins = load i64, ptr %spins_p
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
  br i1 %same, label %rest, label %awake
rest:
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
  br i1 %stopping, label %end, label %work
work:
  call void @follow(ptr %pool, i64 %tid)
  br label %idle
end:
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
  br i1 %more, label %body, label %end
body:
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  br label %head
end:
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
        "CLAIM_AT": abi.POOL_HEADER_BYTES + abi.THREAD_CLAIM,
        "ACTIVE_AT": abi.POOL_HEADER_BYTES + abi.THREAD_ACTIVE,
        "CLOCK": _CLOCK_MONOTONIC,
        "WAIT": _FUTEX_WAIT_PRIVATE,
        "WAKE": _FUTEX_WAKE_PRIVATE,
    }
    body = _PARTS + _LEAD + _RUN + _FOLLOW + _WORKER
    for name, value in numbers.items():
        body = body.replace("{" + name + "}", str(value))
    head = f'; bessemer driver, ABI {DRIVER_ABI}\ntarget triple = "{target.triple}"\n'
    return f"{head}{declaration}\n{body}"
