"""IR text of the driver's waiting: pauses, yields, sleep and waking.

Words in braces are filled in by `driver.py`.
"""

WAITING = """
; Lets the system make this thread sleep at the word while its low 32 bits are %value, or wake up
; to %value threads that sleep there.
define internal void @futex(ptr %pool, ptr %word, i64 %what, i64 %value) {
entry:
  %syscall_p = getelementptr i8, ptr %pool, i64 {POOL_SYSCALL}
  %syscall = load ptr, ptr %syscall_p
  %number_p = getelementptr i8, ptr %pool, i64 {POOL_FUTEX}
  %number = load i64, ptr %number_p
  %low = and i64 %value, 4294967295
  %ignored = call i64 (i64, ...) %syscall(i64 %number, ptr %word, i64 %what, i64 %low, ptr null,
                                           ptr null, i64 0)
  ret void
}

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

; One turn of waiting for parts to be done, of which %seen were: a pause at first, later sleep
; until a job is complete. Who only yielded would get less of a core that others want as well.
define internal void @await(ptr %pool, i64 %turn, i64 %seen) {
entry:
  %spins_p = getelementptr i8, ptr %pool, i64 {POOL_SPINS}
  %spins = load i64, ptr %spins_p
  %patient = icmp ult i64 %turn, %spins
  br i1 %patient, label %spin, label %announce
spin:
  {PAUSE}
  ret void
announce:
  %sleepers_p = getelementptr i8, ptr %pool, i64 {POOL_SLEEPERS}
  %others = atomicrmw add ptr %sleepers_p, i64 1 seq_cst
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  %now = load atomic i64, ptr %done_p seq_cst, align 8
  %same = icmp eq i64 %now, %seen
  br i1 %same, label %sleep, label %awake
sleep:
  call void @futex(ptr %pool, ptr %done_p, i64 {WAIT}, i64 %seen)
  br label %awake
awake:
  %still = atomicrmw sub ptr %sleepers_p, i64 1 seq_cst
  ret void
}

; Wakes all who wait for parts to be done.
define internal void @wake(ptr %pool) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  call void @futex(ptr %pool, ptr %done_p, i64 {WAKE}, i64 {MAX_THREADS})
  ret void
}
"""
